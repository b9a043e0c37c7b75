//! The newest lines of this process's log, for those who ask a node over the mesh or MCP.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use magpie_core::time::Wall;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::messages::node::{LogLevel, LogLine, LogsAsk};

const LINES_MAX: usize = 2_000;
const LINE_BYTES_MAX: usize = 1_024;

static LINES: Mutex<VecDeque<LogLine>> = Mutex::new(VecDeque::new());

/// The lines that `ask` wants, the newest first.
pub fn recent(ask: &LogsAsk) -> Vec<LogLine> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    select(lines.iter().rev(), ask)
}

fn select<'a>(newest_first: impl Iterator<Item = &'a LogLine>, ask: &LogsAsk) -> Vec<LogLine> {
    let words: Vec<String> = ask.words.iter().map(|word| word.to_lowercase()).collect();
    let has = |line: &LogLine, word: &String| {
        line.message.to_lowercase().contains(word.as_str()) || line.target.to_lowercase().contains(word.as_str())
    };
    newest_first
        .filter(|line| ask.level.is_none_or(|least| line.level >= least))
        .filter(|line| ask.since.is_none_or(|since| line.at >= since))
        .filter(|line| ask.target.as_ref().is_none_or(|part| line.target.contains(part.as_str())))
        .filter(|line| words.iter().all(|word| has(line, word)))
        .skip(ask.skip)
        .take(ask.limit.min(LINES_MAX))
        .cloned()
        .collect()
}

/// Keeps what passes the filter of the process.
pub struct Keeper;

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let Words { mut message, fields } = words;
        message.push_str(&fields);
        let metadata = event.metadata();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let line = LogLine {
            at: Wall(since.map_or(0, |since| since.as_millis() as u64)),
            level: level(*metadata.level()),
            target: metadata.target().to_owned(),
            message: cut(message),
        };
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        while lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warning,
        Level::INFO => LogLevel::Info,
        Level::DEBUG | Level::TRACE => LogLevel::Debug,
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LINE_BYTES_MAX {
        let mut end = LINE_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An event in one line: its message, then its fields.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            // Writing to a string does not fail.
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, level: LogLevel, target: &str, message: &str) -> LogLine {
        LogLine { at: Wall(at), level, target: target.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn the_newest_lines_that_match_come_first() {
        let lines = [
            line(3, LogLevel::Error, "magpie::ledger", "the disk refuses"),
            line(2, LogLevel::Info, "magpie::swarm", "a peer came"),
            line(1, LogLevel::Warning, "magpie::ledger", "The Disk is slow"),
        ];
        let found = |ask: LogsAsk| select(lines.iter(), &ask).iter().map(|line| line.at.0).collect::<Vec<u64>>();
        let all = LogsAsk { limit: 10, ..LogsAsk::default() };
        assert_eq!(found(all.clone()), [3, 2, 1]);
        assert_eq!(found(LogsAsk { level: Some(LogLevel::Warning), ..all.clone() }), [3, 1]);
        assert_eq!(found(LogsAsk { words: vec!["disk".to_owned(), "ledger".to_owned()], ..all.clone() }), [3, 1]);
        assert_eq!(found(LogsAsk { target: Some("swarm".to_owned()), ..all.clone() }), [2]);
        assert_eq!(found(LogsAsk { since: Some(Wall(2)), ..all.clone() }), [3, 2]);
        assert_eq!(found(LogsAsk { skip: 1, limit: 1, ..all }), [2]);
    }

    #[test]
    fn an_event_is_kept_with_its_fields_and_a_long_one_is_cut() {
        let subscriber = tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), Keeper);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "recent-test", what = "x", n = 7, "it happened");
            tracing::info!(target: "recent-test", "{}", "é".repeat(LINE_BYTES_MAX));
        });
        let ask = LogsAsk { target: Some("recent-test".to_owned()), limit: 10, ..LogsAsk::default() };
        let found = recent(&ask);
        assert_eq!(found[1].message, r#"it happened what="x" n=7"#);
        assert!(found[0].message.len() <= LINE_BYTES_MAX + '…'.len_utf8() && found[0].message.ends_with('…'));
    }
}
