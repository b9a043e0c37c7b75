//! Text that others wrote, made harmless to a terminal and to a reader's eye.

use serde_json::{Map, Value};

/// Takes control characters, escape sequences and invisible characters out of every text of a document.
pub fn clean_value(value: Value) -> Value {
    // Nearly all are, and then nothing is made anew.
    if is_clean(&value) { value } else { cleaned(value) }
}

fn cleaned(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(items) => items.into_iter().map(cleaned).collect(),
        Value::Object(fields) => {
            let fields: Map<String, Value> =
                fields.into_iter().map(|(key, value)| (clean(key), cleaned(value))).collect();
            Value::Object(fields)
        }
        other => other,
    }
}

fn is_clean(value: &Value) -> bool {
    let is_clean_text = |text: &str| !text.chars().any(is_unwanted);
    match value {
        Value::String(text) => is_clean_text(text),
        Value::Array(items) => items.iter().all(is_clean),
        Value::Object(fields) => fields.iter().all(|(key, value)| is_clean_text(key) && is_clean(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// `text` without what a terminal acts on and what nobody sees; lines and tabs stay.
pub fn clean(text: String) -> String {
    if !text.chars().any(is_unwanted) {
        return text;
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' && letters.next_if_eq(&'[').is_some() {
            // The sequence ends with its first letter from @ to ~.
            while letters.next().is_some_and(|letter| !('@'..='~').contains(&letter)) {}
        } else if !is_unwanted(letter) {
            cleaned.push(letter);
        }
    }
    cleaned
}

fn is_unwanted(letter: char) -> bool {
    let is_line = matches!(letter, '\n' | '\t');
    (letter.is_control() && !is_line)
        || matches!(letter,
            '\u{200b}' | '\u{feff}' | '\u{2060}'..='\u{2064}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{e0000}'..='\u{e01ef}')
}

/// The beginning of `text`, at most `bytes_max` bytes, ending between two characters.
pub fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A value as an error shows it: its JSON, cut short.
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    let short = beginning(&text, 80);
    if short.len() < text.len() { format!("{short}…") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_a_terminal_acts_on_goes_and_what_a_person_reads_stays() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m\r\nline\ttab\u{7}".to_owned()), "red\nline\ttab");
        assert_eq!(clean("a\u{202e}b\u{200b}c\u{e0041}d\u{9b}e".to_owned()), "abcde");
        assert_eq!(clean("naïve 日本語 👩‍💻".to_owned()), "naïve 日本語 👩‍💻");
        assert_eq!(clean_value(json!({"k\u{0}": ["\u{1b}[2J"]})), json!({"k": [""]}));
    }

    proptest! {
        #[test]
        fn nothing_unwanted_is_left(text in "\\PC{0,20}[\\x00-\\x1f\u{1b}\\[0-9;m\u{200b}]{0,20}") {
            prop_assert!(!clean(text).chars().any(is_unwanted));
        }

        #[test]
        fn a_beginning_is_one(text in "\\PC{0,40}", bytes_max in 0usize..60) {
            let short = beginning(&text, bytes_max);
            prop_assert!(text.starts_with(short) && short.len() <= bytes_max);
        }
    }
}
