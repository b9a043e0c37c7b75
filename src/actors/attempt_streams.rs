//! What the attempts of this node say: their executors write it, those who follow read it, and no mailbox is between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use magpie_core::lease::Fence;
use magpie_core::limits;
use magpie_core::progress::AttemptRecord;
use magpie_core::queue::Refusal;
use magpie_core::stream::{Ask, Shelf, ShelfBounds, StreamEpoch};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::messages::stream::AttemptPiece;

#[derive(Clone)]
pub struct AttemptStreams(Arc<Mutex<Kept>>);

struct Kept {
    shelf: Shelf<Fence, AttemptRecord>,
    /// Those who wait for more, by what they wait for.
    waiting: HashMap<Fence, Arc<Notify>>,
}

impl Default for AttemptStreams {
    fn default() -> Self {
        let bounds = ShelfBounds {
            stream_bytes_max: limits::ATTEMPT_STREAM_BYTES_MAX,
            bytes_max: limits::ATTEMPT_STREAMS_BYTES_MAX,
            ended_len_max: limits::ATTEMPT_STREAMS_ENDED_MAX,
        };
        Self(Arc::new(Mutex::new(Kept { shelf: Shelf::new(bounds), waiting: HashMap::new() })))
    }
}

impl AttemptStreams {
    /// An attempt begins. A fence is started once: its epoch is that of the stream.
    pub fn begin(&self, fence: Fence) {
        self.kept().shelf.begin(fence, StreamEpoch(fence.epoch.0));
    }

    pub fn push(&self, fence: Fence, record: AttemptRecord) {
        let bytes = record.bytes();
        let mut kept = self.kept();
        kept.shelf.push(fence, record, bytes);
        kept.wake(&fence);
    }

    /// Nothing of the attempt runs any more.
    pub fn end(&self, fence: Fence) {
        let mut kept = self.kept();
        kept.shelf.end(fence);
        kept.wake(&fence);
    }

    /// What follows what a reader has, as soon as there is something, at the latest at `until`.
    ///
    /// # Errors
    /// If the reader's checkpoint is none of this stream.
    pub async fn read(&self, fence: Fence, ask: &Ask, until: Instant) -> Result<AttemptPiece, Refusal> {
        let waiting = self.wait(fence);
        loop {
            let mut more = std::pin::pin!(waiting.more.notified());
            more.as_mut().enable();
            match self.kept().shelf.read(fence, ask) {
                None => return Ok(AttemptPiece::NotKept),
                Some(Ok(Some(piece))) => return Ok(AttemptPiece::Said(piece)),
                Some(Ok(None)) => {}
                Some(Err(error)) => {
                    let fix = "leave --after out, to begin with what is kept";
                    return Err(Refusal::invalid("/ask/after", error.to_string(), fix));
                }
            }
            if timeout_at(until, more).await.is_err() {
                return Ok(AttemptPiece::NothingNew);
            }
        }
    }

    fn wait(&self, fence: Fence) -> Waiting<'_> {
        let more = self.kept().waiting.entry(fence).or_default().clone();
        Waiting { streams: self, fence, more }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn wake(&self, fence: &Fence) {
        if let Some(more) = self.waiting.get(fence) {
            more.notify_waiters();
        }
    }
}

/// A reader that waits; dropped, the last of its stream leaves nothing behind.
struct Waiting<'a> {
    streams: &'a AttemptStreams,
    fence: Fence,
    more: Arc<Notify>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut kept = self.streams.kept();
        // One is in the table, one here.
        if Arc::strong_count(&self.more) <= 2 {
            kept.waiting.remove(&self.fence);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use magpie_core::ids::{Epoch, LedgerTag, TaskId};
    use magpie_core::stream::{Inlet, Window};

    use super::*;

    const WINDOW: Window = Window { len_max: 100, bytes_max: 10_000 };

    fn fence(n: u64) -> Fence {
        Fence { task: TaskId { ulid: 1, ledger: LedgerTag([3; 5]) }, epoch: Epoch(n) }
    }

    fn log(text: &str) -> AttemptRecord {
        AttemptRecord::Log(text.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_hears_what_comes_when_it_comes_and_the_end() {
        let streams = AttemptStreams::default();
        streams.begin(fence(1));
        let (reading, later) = (streams.clone(), Instant::now() + Duration::from_secs(3_600));
        let reader = tokio::spawn(async move {
            let (mut inlet, mut heard) = (Inlet::new(None), Vec::new());
            loop {
                let AttemptPiece::Said(piece) = reading.read(fence(1), &inlet.ask(WINDOW), later).await.unwrap() else {
                    panic!("there is an hour")
                };
                let taken = inlet.take(piece).unwrap();
                heard.extend(taken.records);
                if taken.ended {
                    return heard;
                }
            }
        });
        for n in 0..10 {
            streams.push(fence(1), log(&n.to_string()));
            tokio::task::yield_now().await;
        }
        streams.end(fence(1));
        let heard = reader.await.unwrap();
        assert_eq!(heard, (0..10).map(|n| log(&n.to_string())).collect::<Vec<_>>());
        assert!(streams.kept().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn without_news_a_reader_is_told_so_in_time_and_of_another_attempt_at_once() {
        let streams = AttemptStreams::default();
        streams.begin(fence(1));
        let (begin, ask) = (Instant::now(), Inlet::new(None).ask(WINDOW));
        let until = begin + Duration::from_secs(4);
        assert_eq!(streams.read(fence(1), &ask, until).await, Ok(AttemptPiece::NothingNew));
        assert_eq!(begin.elapsed(), Duration::from_secs(4));
        assert_eq!(streams.read(fence(2), &ask, until).await, Ok(AttemptPiece::NotKept));
        assert!(streams.kept().waiting.is_empty(), "who is gone waits no more");
    }
}
