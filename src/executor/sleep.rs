//! `sleep`: waits, and answers `null`.

use std::time::Duration;

use magpie_core::payload::Payload;
use magpie_core::task::TaskSpec;
use magpie_core::time::DurationMs;
use serde::Deserialize;
use serde_json::Value;

use super::AttemptError;

const FORMS: &str = r#"sleep takes {"for": "2s"}, "2s" or a number of milliseconds"#;

pub(super) async fn run(spec: &TaskSpec) -> Result<Payload, AttemptError> {
    let DurationMs(length_ms) = parse(&spec.input)?;
    tokio::time::sleep(Duration::from_millis(length_ms)).await;
    Ok(Payload::null())
}

fn parse(input: &Payload) -> Result<DurationMs, AttemptError> {
    let (length, shown) = match input {
        Payload::Blob(_) => (None, "a blob"),
        Payload::Inline(text) => (read_length(text.as_str()), text.as_str()),
    };
    length.ok_or_else(|| {
        let shown: String = shown.chars().take(80).collect();
        AttemptError::permanent("bad_input", format!("{FORMS}, not {shown}"))
    })
}

fn read_length(text: &str) -> Option<DurationMs> {
    let value: Value = serde_json::from_str(text).ok()?;
    let length = match &value {
        Value::Object(entries) if entries.len() == 1 => entries.get("for")?,
        bare => bare,
    };
    DurationMs::deserialize(length).ok()
}

#[cfg(test)]
mod tests {
    use magpie_core::payload::JsonText;

    use super::*;

    fn inline(text: &str) -> Payload {
        Payload::Inline(JsonText::parse(text).unwrap())
    }

    #[test]
    fn a_length_reads_in_each_form() {
        for (text, ms) in [(r#"{"for": "2s"}"#, 2_000), (r#"{"for": 7}"#, 7), (r#""5m""#, 300_000), ("0", 0)] {
            assert_eq!(parse(&inline(text)).unwrap(), DurationMs(ms), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_for_good_and_told_the_forms() {
        for text in [
            "null",
            "-1",
            "1.5",
            r#""soon""#,
            r#"{"until": "2s"}"#,
            r#"{"for": null}"#,
            "[]",
            r#"["2s"]"#,
            r#"{"for": 1, "x": 2}"#,
        ] {
            let error = parse(&inline(text)).unwrap_err();
            assert!(!error.retryable, "{text}");
            assert!(error.error.message.contains(r#"{"for": "2s"}"#), "{error}");
        }
    }
}
