//! Reads the log for those who follow it, beside the ledger: what is synced, and nothing before.

use std::time::Duration;

use magpie_core::ids::{LedgerTag, LogIndex};
use magpie_core::limits;
use magpie_core::queue::{EventView, Refusal};
use magpie_core::stream::{CheckpointError, Piece, Window};
use ractor::RpcReplyPort;
use tokio::time::{Instant, timeout_at};

use super::LedgerState;
use crate::messages::stream::{EVENTS_EPOCH, EventsAsk};
use crate::store::log::{LogReader, ReadLogError};

impl LedgerState {
    /// The ledger goes on meanwhile: the log has a reader of its own.
    pub(super) fn read_events(&self, ask: EventsAsk, reply: RpcReplyPort<Result<Option<Piece<EventView>>, Refusal>>) {
        let until = Instant::now() + Duration::from_millis(ask.wait_ms.min(limits::STREAM_WAIT_MS_MAX));
        let (reader, tag, mut synced) = (self.log.reader(), self.tag, self.synced.subscribe());
        self.arguments.peers.errand(async move {
            let read = loop {
                synced.borrow_and_update();
                let (reader, asked) = (reader.clone(), ask.clone());
                let read = tokio::task::spawn_blocking(move || read(&reader, tag, &asked)).await;
                let read = read.unwrap_or_else(|error| Err(Refusal::Unavailable { what: error.to_string() }));
                if !matches!(read, Ok(None)) {
                    break read;
                }
                match timeout_at(until, synced.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => break Err(Refusal::Unavailable { what: "the ledger is restarting".to_owned() }),
                    Err(_) => break Ok(None),
                }
            };
            // The asker may have given up.
            let _ = reply.send(read);
        });
    }
}

/// What follows the reader's checkpoint. `None`: nothing yet.
fn read(reader: &LogReader, tag: LedgerTag, ask: &EventsAsk) -> Result<Option<Piece<EventView>>, Refusal> {
    let newest = reader.synced();
    let after = taken(reader, newest, ask)?;
    let kept_from = reader.first().max(LogIndex(1));
    let first = kept_from.max(after.next());
    match views(reader, tag, first, ask.ask.window) {
        // One that named a place from the end hears which that is: it would move until something comes.
        Ok(records) if records.is_empty() && ask.ask.after.is_some() => Ok(None),
        Ok(records) => {
            let (first, kept_from) = (first.0, kept_from.0);
            Ok(Some(Piece { epoch: EVENTS_EPOCH, first, kept_from, records, ended: false }))
        }
        // It was cut off while it was read.
        Err(ReadError::Log(ReadLogError::Pruned { .. })) => read(reader, tag, ask),
        Err(ReadError::Log(error @ ReadLogError::Disk { .. })) => Err(Refusal::Unavailable { what: error.to_string() }),
        Err(ReadError::Record(what)) => Err(Refusal::Unavailable { what }),
    }
}

/// The last record that the reader has. It must be this ledger's: another copy may have gone on, and lost.
fn taken(reader: &LogReader, newest: LogIndex, ask: &EventsAsk) -> Result<LogIndex, Refusal> {
    let anew = "begin anew: leave --after out";
    let Some(at) = ask.ask.after else {
        return Ok(LogIndex(ask.last.map_or(0, |last| newest.0.saturating_sub(last))));
    };
    if at.epoch != EVENTS_EPOCH {
        let problem = format!("events are of epoch {EVENTS_EPOCH}, not {}", at.epoch);
        return Err(Refusal::invalid("/ask/after/epoch", problem, anew));
    }
    if at.seq > newest.0 {
        let error = CheckpointError::Ahead { held: newest.0, presented: at.seq };
        return Err(Refusal::invalid("/ask/after", error.to_string(), anew));
    }
    let index = LogIndex(at.seq);
    let held = ask.event.and_then(|_| reader.read(index, 1).ok()?.first().map(|entry| entry.event));
    match (held, ask.event) {
        (Some(held), Some(presented)) if held != presented => {
            let problem =
                format!("record {index} is event {held}, not {presented}: another copy of the ledger went on");
            Err(Refusal::invalid("/event", problem, anew))
        }
        _ => Ok(index),
    }
}

enum ReadError {
    Log(ReadLogError),
    /// In words.
    Record(String),
}

fn views(reader: &LogReader, tag: LedgerTag, first: LogIndex, window: Window) -> Result<Vec<EventView>, ReadError> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    loop {
        let from = LogIndex(first.0 + records.len() as u64);
        let entries = reader.read(from, limits::EVENTS_READ_LEN_MAX).map_err(ReadError::Log)?;
        if entries.is_empty() {
            return Ok(records);
        }
        for entry in entries {
            let view = EventView::of(tag, entry.index, &entry.body, entry.event).map_err(ReadError::Record)?;
            bytes += view.bytes();
            let is_full = records.len() >= window.len_max as usize || bytes > window.bytes_max as usize;
            // The first is given whatever it takes: a reader with a small window must get on, too.
            if is_full && !records.is_empty() {
                return Ok(records);
            }
            records.push(view);
        }
    }
}
