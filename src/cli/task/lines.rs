//! Tasks that come one by one: JSON lines of standard input, or one specification many times.

use std::io;
use std::sync::Arc;

use magpie_core::dag::{self, SpecError};
use magpie_core::limits;
use magpie_core::queue::SubmitItem;
use magpie_core::task::{Durability, TaskSpec};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin};

use crate::cli::exit::CommandError;

/// Bytes of the lines of one batch: their request then fits a frame.
const BATCH_BYTES_MAX: usize = limits::FRAME_BYTES_MAX / 2;
/// What is read of standard input at a time.
const READ_BYTES: usize = 1024 * 1024;

/// One line, or a run of equal tasks.
#[derive(Debug)]
pub enum Entry {
    Task { line: u64, item: SubmitItem },
    Wrong { line: u64, error: String },
}

#[derive(Debug, Default)]
pub struct Batch {
    pub entries: Vec<Entry>,
    bytes: usize,
}

impl Batch {
    pub fn items(&self) -> Vec<SubmitItem> {
        let items = self.entries.iter().filter_map(|entry| match entry {
            Entry::Task { item, .. } => Some(item.clone()),
            Entry::Wrong { .. } => None,
        });
        items.collect()
    }

    /// Tasks that are never written stand in batches of their own.
    fn takes(&self, entry: &Entry, bytes: usize) -> bool {
        let in_memory = |entry: &Entry| match entry {
            Entry::Task { item, .. } => Some(item.spec.durability == Durability::Memory),
            Entry::Wrong { .. } => None,
        };
        let class = self.entries.iter().find_map(in_memory);
        let same_class = class.is_none() || in_memory(entry).is_none_or(|in_memory| Some(in_memory) == class);
        let has_room = self.entries.len() < limits::SUBMIT_LEN_MAX && self.bytes + bytes <= BATCH_BYTES_MAX;
        self.entries.is_empty() || (same_class && has_room)
    }

    fn push(&mut self, entry: Entry, bytes: usize) {
        self.bytes += bytes;
        self.entries.push(entry);
    }
}

/// Where the tasks come from.
pub struct Lines {
    source: Source,
    durability: Option<Durability>,
    /// Lines read so far.
    line: u64,
    /// Read, and of the next batch.
    held: Option<(Entry, usize)>,
}

enum Source {
    Stdin(BufReader<Stdin>),
    Repeated { spec: Arc<TaskSpec>, left: u32 },
}

impl Lines {
    pub fn of_stdin(durability: Option<Durability>) -> Self {
        let source = Source::Stdin(BufReader::with_capacity(READ_BYTES, tokio::io::stdin()));
        Self { source, durability, line: 0, held: None }
    }

    pub fn repeated(spec: TaskSpec, count: u32) -> Self {
        let source = Source::Repeated { spec: Arc::new(spec), left: count };
        Self { source, durability: None, line: 0, held: None }
    }

    /// The next tasks: as many as fit one request, and as there are without waiting for more.
    ///
    /// # Errors
    /// If standard input cannot be read, or a line is too long to be a task.
    pub async fn next_batch(&mut self) -> Result<Option<Batch>, CommandError> {
        let mut batch = Batch::default();
        if let Some((entry, bytes)) = self.held.take() {
            batch.push(entry, bytes);
        }
        while batch.entries.is_empty() || self.has_more_at_hand() {
            let Some((entry, bytes)) = self.next_entry().await? else { break };
            if !batch.takes(&entry, bytes) {
                self.held = Some((entry, bytes));
                break;
            }
            batch.push(entry, bytes);
        }
        Ok(Some(batch).filter(|batch| !batch.entries.is_empty()))
    }

    fn has_more_at_hand(&self) -> bool {
        match &self.source {
            // Half a line may take as long as its writer likes.
            Source::Stdin(reader) => reader.buffer().contains(&b'\n'),
            // A run of equal tasks is a batch.
            Source::Repeated { .. } => false,
        }
    }

    async fn next_entry(&mut self) -> Result<Option<(Entry, usize)>, CommandError> {
        match &mut self.source {
            Source::Repeated { left: 0, .. } => Ok(None),
            Source::Repeated { spec, left } => {
                let count = (*left).min(limits::SUBMIT_LEN_MAX as u32);
                *left -= count;
                let line = self.line + 1;
                self.line += u64::from(count);
                Ok(Some((Entry::Task { line, item: SubmitItem { spec: spec.clone(), count } }, 0)))
            }
            Source::Stdin(reader) => loop {
                let Some(bytes) = next_line(reader, self.line + 1).await? else { return Ok(None) };
                self.line += 1;
                if !bytes.trim_ascii().is_empty() {
                    return Ok(Some((entry(self.line, &bytes, self.durability), bytes.len())));
                }
            },
        }
    }
}

async fn next_line(reader: &mut BufReader<Stdin>, line: u64) -> Result<Option<Vec<u8>>, CommandError> {
    let most = limits::SPEC_BYTES_MAX;
    let mut bytes = Vec::new();
    let failed = |error: io::Error| CommandError::usage(format!("cannot read standard input: {error}"));
    reader.take(most as u64 + 1).read_until(b'\n', &mut bytes).await.map_err(failed)?;
    if bytes.len() > most {
        let what = format!("line {line} has more than {most} bytes; the lines before it are submitted");
        return Err(CommandError::usage(what));
    }
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

fn entry(line: u64, text: &[u8], durability: Option<Durability>) -> Entry {
    match task(text) {
        Ok(mut spec) => {
            spec.durability = durability.unwrap_or(spec.durability);
            Entry::Task { line, item: SubmitItem::one(spec) }
        }
        Err(error) => Entry::Wrong { line, error },
    }
}

fn task(text: &[u8]) -> Result<TaskSpec, String> {
    let document: Value = serde_json::from_slice(text).map_err(|error| format!("not a line of JSON: {error}"))?;
    let names_files =
        document.get("files").and_then(Value::as_array).is_some_and(|files| files.iter().any(Value::is_string));
    if names_files {
        return Err("a line of JSON names no files of this machine: put them first with `nodectl blob put`".to_owned());
    }
    dag::parse_task(&document).map_err(|errors| in_words(&errors))
}

fn in_words(errors: &[SpecError]) -> String {
    errors.iter().map(SpecError::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::task::TaskKind;

    fn of(line: u64, text: &str) -> Entry {
        entry(line, text.as_bytes(), None)
    }

    fn error(entry: Entry) -> String {
        match entry {
            Entry::Wrong { error, .. } => error,
            Entry::Task { .. } => panic!("it is accepted"),
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told_in_one() {
        assert!(error(of(1, "{")).starts_with("not a line of JSON: EOF"));
        assert!(error(of(1, r#"{"kind": "noop", "colour": 1}"#)).contains("/colour"));
        assert!(error(of(1, r#"{"kind": "process", "run": ["a"], "files": ["b.py"]}"#)).contains("nodectl blob put"));
    }

    #[test]
    fn memory_tasks_stand_in_batches_of_their_own() {
        let mut batch = Batch::default();
        let noop = || of(1, r#"{"kind": "noop"}"#);
        let in_memory = || of(2, r#"{"kind": "noop", "durability": "memory"}"#);
        assert!(batch.takes(&in_memory(), 10));
        batch.push(noop(), 10);
        assert!(batch.takes(&noop(), 10));
        assert!(batch.takes(&of(3, "{"), 1));
        assert!(!batch.takes(&in_memory(), 10));
    }

    #[test]
    fn a_batch_fits_a_frame() {
        let mut batch = Batch::default();
        let noop = || of(1, r#"{"kind": "noop"}"#);
        assert!(batch.takes(&noop(), BATCH_BYTES_MAX + 1), "one always fits");
        batch.push(noop(), BATCH_BYTES_MAX);
        assert!(!batch.takes(&noop(), 1));
    }

    #[tokio::test]
    async fn a_count_is_sent_in_runs_of_equal_tasks() {
        let mut lines = Lines::repeated(TaskSpec::new(TaskKind::Noop), 25_000);
        let mut counts = Vec::new();
        while let Some(batch) = lines.next_batch().await.unwrap() {
            for entry in batch.entries {
                let Entry::Task { line, item } = entry else { panic!("all are tasks") };
                counts.push((line, item.count));
            }
        }
        assert_eq!(counts, [(1, 10_000), (10_001, 10_000), (20_001, 5_000)]);
    }
}
