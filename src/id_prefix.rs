//! The beginning of an id, and where what begins so stands among the ids of a home.

use magpie_core::ids::{LedgerTag, TaskId};

const ULID_LEN: usize = 26;
const TAG_LEN: usize = 8;

/// The letters as ids write them; `None` if no id begins so.
pub fn normalized(typed: &str) -> Option<String> {
    let (ulid, tag) = typed.split_once('-').map_or((typed, None), |(ulid, tag)| (ulid, Some(tag)));
    let ulid_fits = if tag.is_some() { ulid.len() == ULID_LEN } else { (1..=ULID_LEN).contains(&ulid.len()) };
    let tag_fits = tag.is_none_or(|tag| tag.len() <= TAG_LEN && tag.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let letters = ulid.to_ascii_uppercase();
    let known = letters.bytes().all(|byte| byte.is_ascii_alphanumeric() && !b"ILOU".contains(&byte));
    let in_range = letters.as_bytes().first().is_some_and(|first| (b'0'..=b'7').contains(first));
    let tag = tag.map(|tag| format!("-{}", tag.to_ascii_lowercase())).unwrap_or_default();
    (ulid_fits && tag_fits && known && in_range).then_some(letters + &tag)
}

/// The last possible id before all that begin with `prefix`: homes list in the order of ids, which is that of their
/// letters.
pub fn before(prefix: &str) -> Option<TaskId> {
    let ulid = prefix.split('-').next().unwrap_or_default();
    let least: TaskId = format!("{ulid:0<ULID_LEN$}-{}", LedgerTag([0; 5])).parse().ok()?;
    Some(TaskId { ulid: least.ulid.checked_sub(1)?, ledger: LedgerTag([u8::MAX; 5]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_no_id_begins_with_is_not_looked_up() {
        for wrong in
            ["", "8", "01O", "x y", "01J-abc", &"0".repeat(27), "../etc", "01JD0Z8V3N5Q7R9T1W3Y5A7C9E-abcdefghi"]
        {
            assert_eq!(normalized(wrong), None, "{wrong}");
        }
        assert_eq!(normalized("01jd"), Some("01JD".to_owned()));
    }

    proptest! {
        #[test]
        fn every_id_lies_behind_the_cursor_of_each_of_its_prefixes(ulid: u128, tag: [u8; 5], len in 1usize..=26) {
            let id = TaskId { ulid, ledger: LedgerTag(tag) };
            let text = id.to_string();
            let prefix = normalized(&text[..len]).unwrap();
            prop_assert!(before(&prefix).is_none_or(|cursor| cursor < id));
            if let Some(cursor) = before(&prefix) {
                prop_assert!(!cursor.to_string().starts_with(&prefix));
            }
        }
    }
}
