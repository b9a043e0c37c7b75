//! Watching a resource for those who subscribed to it. What has an end is asked for with the node's own waits, so that
//! its end is heard of at once; what changes in between is seen within `LOOK_MS`.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use magpie_core::ids::{ContextId, Epoch, TaskId, WorkflowId};
use magpie_core::queue::{LedgerReply, LedgerRequest, TaskView, WorkflowView};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

use super::Resource;
use super::events::EventReader;
use super::log::LogReader;
use crate::mcp::answer::ToolError;
use crate::mcp::link::{self, NodeLink, PATIENCE};
use crate::mcp::tools::context;
use crate::messages::node::NodeStatus;

/// How long the node waits for a change before it shows what there is.
const LOOK_MS: u64 = 2_000;
/// As long as that for streams, which tell of everything that comes.
const STREAM_LOOK_MS: u64 = 4_000;
/// What the node may take beyond the wait.
const SLACK: Duration = Duration::from_secs(5);
/// The least time between two tellings of one resource: what changes oftener is told together.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How often something is looked at that has ended, and may begin again.
const ENDED_LOOK: Duration = Duration::from_secs(5);
/// How long a node that does not answer is left alone.
const AWAY_PAUSE_MS: std::ops::RangeInclusive<u64> = 500..=5_000;
/// Pieces of a stream that are taken before its reader is told.
const PIECES_MAX: usize = 64;

/// One subscription to one resource. Dropped, it is over.
pub struct Watch {
    link: NodeLink,
    eye: Eye,
    told: Told,
    /// When it may tell again.
    quiet_until: Instant,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    /// Looks at the resource for the first time.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub async fn begin(
        resource: Resource,
        link: NodeLink,
        (principal, place): (&Arc<str>, OwnedSemaphorePermit),
    ) -> Result<Self, ToolError> {
        let mut eye = Eye::on(resource, principal);
        let mut told = Told::default();
        told.take(eye.look(&link, 0).await?);
        Ok(Self { link, eye, told, quiet_until: Instant::now(), _place: place })
    }

    /// Comes back when the resource has changed; `false`: nothing will change any more, and all was told. What had ended
    /// before the watch began is told, too: its reader may have read it before.
    pub async fn changed(&mut self) -> bool {
        loop {
            if std::mem::take(&mut self.told.has_news) {
                sleep_until(self.quiet_until).await;
                self.quiet_until = Instant::now() + TELL_EVERY;
                return true;
            }
            match self.told.last {
                Some(Seen { end: End::ForGood, .. }) => return false,
                Some(Seen { end: End::UntilRetried, .. }) => sleep(ENDED_LOOK).await,
                Some(Seen { end: End::NotYet, .. }) | None => {}
            }
            match self.eye.look(&self.link, self.eye.wait_ms()).await {
                Ok(seen) => self.told.take(seen),
                Err(error) if error.retryable => sleep(pause(&error)).await,
                // It is gone, and whoever reads it is told why.
                Err(_) => self.told.take(Seen { mark: 0, end: End::ForGood }),
            }
        }
    }
}

fn pause(error: &ToolError) -> Duration {
    let (least, most) = AWAY_PAUSE_MS.into_inner();
    Duration::from_millis(error.retry_after_ms.unwrap_or(least).clamp(least, most))
}

/// What was seen last, and whether its reader is to be told.
#[derive(Debug, Default)]
struct Told {
    last: Option<Seen>,
    has_news: bool,
}

/// What one look shows of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Of two looks at the same it is the same.
    mark: u64,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    /// A workflow that has ended goes on when it is retried.
    UntilRetried,
    ForGood,
}

impl Told {
    fn take(&mut self, seen: Seen) {
        let is_news = match self.last {
            Some(last) => last != seen,
            None => seen.end != End::NotYet,
        };
        self.has_news |= is_news;
        self.last = Some(seen);
    }
}

/// What a resource is looked at with, and where that is.
#[derive(Debug)]
enum Eye {
    Status,
    Events(EventReader),
    /// With the attempt that was seen last.
    Task(TaskId, Epoch),
    Workflow(WorkflowId),
    Log(LogReader),
    Session(ContextId, Arc<str>),
}

impl Eye {
    fn on(resource: Resource, principal: &Arc<str>) -> Self {
        match resource {
            Resource::Status => Self::Status,
            Resource::Events => Self::Events(EventReader::before_newest(0)),
            Resource::Task(id) => Self::Task(id, Epoch(0)),
            Resource::Workflow(id) | Resource::Graph(id) => Self::Workflow(id),
            Resource::Log(id) => Self::Log(LogReader::new(id)),
            Resource::Session(id) => Self::Session(id, principal.clone()),
        }
    }

    fn wait_ms(&self) -> u64 {
        match self {
            Self::Events(_) | Self::Log(_) => STREAM_LOOK_MS,
            Self::Status | Self::Task(..) | Self::Workflow(_) | Self::Session(..) => LOOK_MS,
        }
    }

    /// Looks when there is something new, at the latest after `wait_ms`.
    async fn look(&mut self, link: &NodeLink, wait_ms: u64) -> Result<Seen, ToolError> {
        let patience = Duration::from_millis(wait_ms) + SLACK;
        match self {
            Self::Status => {
                sleep(Duration::from_millis(wait_ms)).await;
                Ok(Seen { mark: mark_of_status(&link.status(PATIENCE).await?)?, end: End::NotYet })
            }
            Self::Task(id, epoch) => {
                let request = LedgerRequest::WaitAttempt { id: *id, after: *epoch, timeout_ms: wait_ms };
                let LedgerReply::Task(view) = link.ledger(request, patience).await? else {
                    return Err(link::unexpected());
                };
                *epoch = view.epoch;
                seen_of_task(&view)
            }
            Self::Workflow(id) => {
                let request = LedgerRequest::WaitWorkflow { id: *id, timeout_ms: wait_ms };
                match link.ledger(request, patience).await? {
                    LedgerReply::Workflow(view) => seen_of_workflow(&view),
                    _ => Err(link::unexpected()),
                }
            }
            Self::Session(id, principal) => {
                sleep(Duration::from_millis(wait_ms)).await;
                let view = context::read(link, *id, principal).await?;
                Ok(Seen { mark: mark(&view)?, end: End::NotYet })
            }
            Self::Log(reader) => look_at_log(reader, link, wait_ms).await,
            Self::Events(reader) => {
                if !reader.next(link, wait_ms).await?.is_empty() {
                    // All that came with it is told with it.
                    *reader = reader.again();
                    reader.next(link, 0).await?;
                }
                Ok(Seen { mark: reader.shown(), end: End::NotYet })
            }
        }
    }
}

async fn look_at_log(reader: &mut LogReader, link: &NodeLink, wait_ms: u64) -> Result<Seen, ToolError> {
    let mut wait_ms = wait_ms;
    for _ in 0..PIECES_MAX {
        let said = reader.next(link, wait_ms).await?;
        if said.over {
            return Ok(Seen { mark: mark(&reader.at())?, end: End::ForGood });
        }
        if said.taken.is_none() {
            break;
        }
        wait_ms = 0;
    }
    Ok(Seen { mark: mark(&reader.at())?, end: End::NotYet })
}

fn seen_of_task(view: &TaskView) -> Result<Seen, ToolError> {
    let end = if view.state.is_terminal() { End::ForGood } else { End::NotYet };
    Ok(Seen { mark: mark(view)?, end })
}

/// The critical path moves with the time alone, so it is no news.
fn seen_of_workflow(view: &WorkflowView) -> Result<Seen, ToolError> {
    let end = if view.summary.state.is_terminal() { End::UntilRetried } else { End::NotYet };
    Ok(Seen { mark: mark(&(&view.summary, &view.steps, &view.error, view.retries, &view.current))?, end })
}

/// Of what people look for in a status; counters that always move are left out.
fn mark_of_status(status: &NodeStatus) -> Result<u64, ToolError> {
    let peers: Vec<_> = status.peers.iter().map(|peer| (peer.peer_id, &peer.state)).collect();
    let devices: Vec<_> = status.devices.iter().map(|device| (&device.name, &device.state, &device.models)).collect();
    let worker = &status.worker;
    let worker = (worker.running, worker.queued, &worker.free, worker.draining);
    mark(&(&status.queue.counts, status.queue.workflows_running, peers, devices, worker, &status.notices))
}

/// Tells what it is of from what it was before.
fn mark(value: &impl Serialize) -> Result<u64, ToolError> {
    let mut digest = Digest(DefaultHasher::new());
    serde_json::to_writer(&mut digest, value).map_err(|error| ToolError::internal(&error))?;
    Ok(digest.0.finish())
}

struct Digest(DefaultHasher);

impl io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mark: u64, end: End) -> Seen {
        Seen { mark, end }
    }

    #[test]
    fn a_change_and_an_end_are_news_and_the_same_twice_is_none() {
        let mut told = Told::default();
        let mut is_news = |seen: Seen| {
            told.take(seen);
            std::mem::take(&mut told.has_news)
        };
        assert!(!is_news(seen(1, End::NotYet)), "its reader reads it now");
        assert!(!is_news(seen(1, End::NotYet)));
        assert!(is_news(seen(2, End::NotYet)));
        assert!(is_news(seen(2, End::UntilRetried)), "an end is news whatever else is the same");
        assert!(!is_news(seen(2, End::UntilRetried)));
        assert!(is_news(seen(3, End::NotYet)));
        assert!(is_news(seen(3, End::ForGood)));
    }

    #[test]
    fn what_had_ended_before_it_was_looked_at_is_told_once() {
        let mut told = Told::default();
        told.take(seen(1, End::ForGood));
        assert!(told.has_news);
    }

    #[test]
    fn news_that_were_not_told_yet_stay_news() {
        let mut told = Told::default();
        for mark in [1, 2, 2] {
            told.take(seen(mark, End::NotYet));
        }
        assert!(told.has_news);
    }

    #[test]
    fn a_mark_tells_values_apart() {
        assert_eq!(mark(&("a", 1)).unwrap(), mark(&("a", 1)).unwrap());
        assert_ne!(mark(&("a", 1)).unwrap(), mark(&("a", 2)).unwrap());
    }

    #[test]
    fn a_node_that_is_away_is_asked_again_neither_at_once_nor_never() {
        for (asked, waits) in [(0, 500), (1_000, 1_000), (60_000, 5_000)] {
            assert_eq!(pause(&ToolError::passing("c", "m", "f", asked)).as_millis(), waits);
        }
    }
}
