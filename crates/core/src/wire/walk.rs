//! A look over MessagePack bytes before anything is made of them.
//!
//! The deserialiser recurses with the input, believes a header's count when it reserves memory, and lets an element of
//! one byte become a string of twenty-four. So depth, counts and number of values are checked here, without recursion.

use super::DecodeError;
use crate::limits;

/// Passes if `body` is exactly one MessagePack value of at most `items_max` values, nested ones included.
///
/// # Errors
/// The first thing wrong with it, and where.
pub(super) fn check(body: &[u8], items_max: usize) -> Result<(), DecodeError> {
    let mut rest = body;
    let mut items = 0;
    // Values that the innermost open container still lacks, then those around it; the body is as one of a single value.
    let mut lacking = 1u64;
    let mut around = [0u64; limits::DEPTH_MAX];
    let mut depth = 0;
    loop {
        while lacking == 0 {
            if depth == 0 {
                return if rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { bytes: rest.len() }) };
            }
            depth -= 1;
            lacking = around[depth];
        }
        lacking -= 1;
        items += 1;
        if items > items_max {
            return Err(DecodeError::TooManyItems { items_max });
        }
        let at = body.len() - rest.len();
        let Some(step) = take(&mut rest) else { return Err(DecodeError::Truncated) };
        match step {
            Step::Scalar => {}
            Step::Container(children) if depth < limits::DEPTH_MAX => {
                around[depth] = lacking;
                lacking = children;
                depth += 1;
            }
            Step::Container(_) => return Err(DecodeError::TooDeep { depth_max: limits::DEPTH_MAX }),
            Step::Reserved => return Err(DecodeError::Reserved { at }),
        }
    }
}

enum Step {
    Scalar,
    /// Values that follow as its elements, or as its keys and values.
    Container(u64),
    Reserved,
}

/// Takes one value's header, and its bytes if it is a scalar. None: they are not all there.
#[inline]
fn take(rest: &mut &[u8]) -> Option<Step> {
    let marker = *rest.split_off_first()?;
    let length = match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 0,
        0x80..=0x8f => return Some(Step::Container(2 * u64::from(marker & 0x0f))),
        0x90..=0x9f => return Some(Step::Container(u64::from(marker & 0x0f))),
        0xa0..=0xbf => u64::from(marker & 0x1f),
        0xc1 => return Some(Step::Reserved),
        0xc4 | 0xd9 => number::<1>(rest)?,
        0xc5 | 0xda => number::<2>(rest)?,
        0xc6 | 0xdb => number::<4>(rest)?,
        0xc7 => number::<1>(rest)? + 1,
        0xc8 => number::<2>(rest)? + 1,
        0xc9 => number::<4>(rest)? + 1,
        0xcc | 0xd0 => 1,
        0xcd | 0xd1 => 2,
        0xca | 0xce | 0xd2 => 4,
        0xcb | 0xcf | 0xd3 => 8,
        // fixext: one byte of type, then 1, 2, 4, 8 or 16.
        0xd4..=0xd8 => 1 + (1 << (marker - 0xd4)),
        0xdc => return Some(Step::Container(number::<2>(rest)?)),
        0xdd => return Some(Step::Container(number::<4>(rest)?)),
        0xde => return Some(Step::Container(2 * number::<2>(rest)?)),
        0xdf => return Some(Step::Container(2 * number::<4>(rest)?)),
    };
    rest.split_off(..usize::try_from(length).ok()?)?;
    Some(Step::Scalar)
}

fn number<const BYTES: usize>(rest: &mut &[u8]) -> Option<u64> {
    let bytes = rest.split_off(..BYTES)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    const ITEMS_MAX: usize = 1_000;

    /// The deserialiser's own opinion of bytes that are known to be shallow.
    fn deserialises(body: &[u8]) -> bool {
        let mut deserializer = rmp_serde::Deserializer::new(std::io::Cursor::new(body));
        let read = serde::Deserialize::deserialize(&mut deserializer).map(|IgnoredAny| ());
        read.is_ok() && deserializer.position() == body.len() as u64
    }

    /// A random byte; in two of three draws one that starts a container or a scalar with a length.
    fn byte_with_more_headers(draw: u16) -> u8 {
        let byte = draw as u8;
        match draw >> 8 {
            0..85 => byte,
            85..170 => 0x80 + byte % 0x14,
            _ => 0xc0 + byte % 0x20,
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            ".{0,300}".prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 60, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Into::into),
                proptest::collection::hash_map(".{0,40}", inner, 0..20).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_the_serialiser_writes_passes_and_no_part_of_it_does(value in value(), cut: prop::sample::Index) {
            let body = rmp_serde::to_vec_named(&value).unwrap();
            prop_assert_eq!(check(&body, ITEMS_MAX), Ok(()));
            prop_assert_eq!(check(&body[..cut.index(body.len())], ITEMS_MAX), Err(DecodeError::Truncated));
            prop_assert_eq!(check(&[&body[..], &[0]].concat(), ITEMS_MAX), Err(DecodeError::Trailing { bytes: 1 }));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn random_bytes_pass_exactly_where_the_deserialiser_reads_them(
            draws in proptest::collection::vec(any::<u16>(), 0..40),
        ) {
            let body: Vec<u8> = draws.into_iter().map(byte_with_more_headers).collect();
            prop_assert_eq!(check(&body, ITEMS_MAX).is_ok(), deserialises(&body));
        }
    }

    #[test]
    fn what_starts_no_value_or_cannot_end_is_refused() {
        for (body, verdict) in [
            (&[][..], Err(DecodeError::Truncated)),
            (&[0xc1], Err(DecodeError::Reserved { at: 0 })),
            (&[0x91, 0xc1], Err(DecodeError::Reserved { at: 1 })),
            (&[0xd8, 9, 1], Err(DecodeError::Truncated)),
            (&[0xdf, 0xff, 0xff, 0xff, 0xff], Err(DecodeError::Truncated)),
            (&[0xdb, 0xff, 0xff, 0xff, 0xff, b'x'], Err(DecodeError::Truncated)),
        ] {
            assert_eq!(check(body, ITEMS_MAX), verdict, "{body:02x?}");
        }
    }

    #[test]
    fn every_length_field_is_read_whole() {
        for whole in [
            &[0xc4, 1, 0][..],
            &[0xc5, 0, 1, 0],
            &[0xc6, 0, 0, 0, 1, 0],
            &[0xc7, 1, 9, 0],
            &[0xc8, 0, 1, 9, 0],
            &[0xc9, 0, 0, 0, 1, 9, 0],
            &[0xd4, 9, 0],
            &[0xd5, 9, 0, 0],
            &[0xd9, 1, b'x'],
            &[0xda, 0, 1, b'x'],
            &[0xdb, 0, 0, 0, 1, b'x'],
            &[0xdc, 0, 1, 0],
            &[0xdd, 0, 0, 0, 1, 0],
            &[0xde, 0, 1, 0xa0, 0],
            &[0xdf, 0, 0, 0, 1, 0xa0, 0],
        ] {
            assert!(check(whole, ITEMS_MAX).is_ok() && deserialises(whole), "{whole:02x?}");
            let (_, short) = whole.split_last().unwrap();
            assert_eq!(check(short, ITEMS_MAX), Err(DecodeError::Truncated), "{short:02x?}");
        }
    }

    #[test]
    fn nesting_ends_at_its_limit_whatever_nests() {
        for opening in [&[0x91][..], &[0x81, 0xa1, b'a'], &[0xdc, 0, 1]] {
            let nested = |depth| [opening.repeat(depth), vec![0xc0]].concat();
            assert_eq!(check(&nested(limits::DEPTH_MAX), ITEMS_MAX), Ok(()));
            let too_deep = Err(DecodeError::TooDeep { depth_max: limits::DEPTH_MAX });
            assert_eq!(check(&nested(limits::DEPTH_MAX + 1), ITEMS_MAX), too_deep);
            assert_eq!(check(&nested(300), usize::MAX), too_deep);
        }
    }

    #[test]
    fn values_are_counted_with_those_inside_them() {
        let body = [&[0x93, 1, 2, 0x81, 3][..], &[4]].concat();
        assert_eq!(check(&body, 6), Ok(()));
        assert_eq!(check(&body, 5), Err(DecodeError::TooManyItems { items_max: 5 }));
    }
}
