//! What an attempt says of itself while it runs: how far it is, and from where the next attempt may go on.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::payload::{JsonText, Payload};

/// How far an attempt is, as it says itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Hash for Progress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.fraction.map(f64::to_bits), &self.message).hash(state);
    }
}

/// The newest of what a running attempt said; what is not said again stays.
#[derive(Debug, Clone, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct AttemptNews {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// At most [`limits::CHECKPOINT_BYTES_MAX`] bytes of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<JsonText>,
}

/// The words of a line that an attempt may write.
const FORMS: &str = r#"write {"progress": 0 to 1, "message": "..."} or {"checkpoint": ...}, one a line"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    progress: Option<f64>,
    message: Option<String>,
    checkpoint: Option<JsonText>,
}

impl AttemptNews {
    /// Reads one line that an attempt wrote.
    ///
    /// # Errors
    /// In words, why it is not taken.
    pub fn read_line(line: &str) -> Result<Self, String> {
        let Line { progress, message, checkpoint } =
            serde_json::from_str(line).map_err(|error| format!("{error}: {FORMS}"))?;
        if let Some(wrong) = progress.filter(|fraction| !(0.0..=1.0).contains(fraction)) {
            return Err(format!("a progress of {wrong}: {FORMS}"));
        }
        if progress.is_none() && message.is_none() && checkpoint.is_none() {
            return Err(format!("it says nothing: {FORMS}"));
        }
        let says_how_far = progress.is_some() || message.is_some();
        let message = cut(message.unwrap_or_default());
        let news = Self { progress: says_how_far.then_some(Progress { fraction: progress, message }), checkpoint };
        news.check().map(|()| news)
    }

    /// # Errors
    /// In words, which bound of [`limits`] it is beyond.
    pub fn check(&self) -> Result<(), String> {
        match &self.checkpoint {
            Some(text) if !Payload::fits_inline(text) => Err(format!(
                "a checkpoint of {} bytes: at most {} are kept; put more into a file or a blob and name it",
                text.as_str().len(),
                limits::CHECKPOINT_BYTES_MAX
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// What came later replaces what it speaks of.
    pub fn update(&mut self, later: Self) {
        self.progress = later.progress.or(self.progress.take());
        self.checkpoint = later.checkpoint.or(self.checkpoint.take());
    }

    /// Bytes in a message, more or less.
    pub fn bytes(&self) -> usize {
        let message = self.progress.as_ref().map_or(0, |progress| progress.message.len());
        message + self.checkpoint.as_ref().map_or(0, |text| text.as_str().len())
    }
}

/// What an attempt says, one after the other, to those who follow it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptRecord {
    /// What came of its log at a time: one after the other they are the log.
    Log(String),
    Progress(Progress),
}

impl AttemptRecord {
    /// Bytes in memory, more or less.
    pub fn bytes(&self) -> usize {
        let text = match self {
            Self::Log(text) => text,
            Self::Progress(progress) => &progress.message,
        };
        limits::STREAM_RECORD_BYTES + text.len()
    }
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(limits::PROGRESS_MESSAGE_BYTES_MAX));
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_says_how_far_from_where_or_both() {
        let read = |line: &str| AttemptNews::read_line(line).unwrap();
        let news = read(r#"{"progress": 0.4, "message": "page 4"}"#);
        assert_eq!(news.progress, Some(Progress { fraction: Some(0.4), message: "page 4".to_owned() }));
        assert_eq!(news.checkpoint, None);
        assert_eq!(read(r#"{"message": "loading"}"#).progress.unwrap().fraction, None);
        let news = read(r#"{"checkpoint": {"page": 4}, "progress": 1}"#);
        assert_eq!(news.checkpoint.unwrap().to_value(), serde_json::json!({"page": 4}));
        assert_eq!(news.progress.unwrap().fraction, Some(1.0));
    }

    #[test]
    fn anything_else_is_refused_and_told_the_forms() {
        for line in [
            "",
            "0.4",
            "{}",
            r#"{"progress": 40}"#,
            r#"{"progress": -0.1}"#,
            r#"{"percent": 4}"#,
            r#"{"progress": null}"#,
        ] {
            assert!(AttemptNews::read_line(line).unwrap_err().contains(r#""checkpoint""#), "{line}");
        }
    }

    #[test]
    fn a_checkpoint_has_a_bound_and_a_message_is_cut() {
        let line = |bytes: usize| format!(r#"{{"checkpoint": "{}"}}"#, "x".repeat(bytes - 2));
        assert!(AttemptNews::read_line(&line(limits::CHECKPOINT_BYTES_MAX)).is_ok());
        let refused = AttemptNews::read_line(&line(limits::CHECKPOINT_BYTES_MAX + 1)).unwrap_err();
        assert!(refused.contains("65537 bytes"), "{refused}");
        let long = AttemptNews::read_line(&format!(r#"{{"message": "{}"}}"#, "ä".repeat(2_000))).unwrap();
        assert_eq!(long.progress.unwrap().message.len(), limits::PROGRESS_MESSAGE_BYTES_MAX);
    }

    #[test]
    fn the_newest_wins_and_what_is_not_said_again_stays() {
        let mut news = AttemptNews::read_line(r#"{"progress": 0.1, "checkpoint": 1}"#).unwrap();
        news.update(AttemptNews::read_line(r#"{"progress": 0.2}"#).unwrap());
        assert_eq!(news.checkpoint.as_ref().map(JsonText::as_str), Some("1"));
        news.update(AttemptNews::read_line(r#"{"checkpoint": 2}"#).unwrap());
        assert_eq!((news.progress.unwrap().fraction, news.checkpoint.unwrap().as_str()), (Some(0.2), "2"));
    }

    proptest! {
        #[test]
        fn no_line_panics_and_what_is_read_is_within_its_bounds(line in ".{0,200}") {
            if let Ok(news) = AttemptNews::read_line(&line) {
                prop_assert!(news.check().is_ok());
            }
        }
    }
}
