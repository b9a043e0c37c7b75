//! Answers those who follow: a task's attempts, which its home finds, and the events of a home.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use magpie_core::ids::{PeerId, TaskId};
use magpie_core::lease::Fence;
use magpie_core::limits;
use magpie_core::progress::AttemptRecord;
use magpie_core::queue::{Following, LedgerReply, LedgerRequest, NextRead, Refusal, TaskView};
use magpie_core::stream::{Ask, Piece, StreamEpoch};
use magpie_core::task::TaskState;
use tokio::time::Instant;

use super::attempt_streams::AttemptStreams;
use super::routes::Routes;
use crate::messages::ledger::LedgerMsg;
use crate::messages::stream::{AttemptPiece, EventsAsk, StreamReply, StreamRequest, TaskPiece, Unread};
use crate::messages::{Answer, Body};

/// What a node may take to answer beyond the wait.
const SLACK: Duration = Duration::from_secs(2);

pub struct Streams {
    pub routes: Routes,
    pub attempts: AttemptStreams,
    readers: Readers,
}

impl Streams {
    pub fn new(routes: Routes, attempts: AttemptStreams) -> Self {
        Self { routes, attempts, readers: Readers::default() }
    }

    /// Answers when there is something new; `from` is the peer that asks, if one does.
    ///
    /// # Errors
    /// Why there is no answer; what cannot be reached just now may be asked again.
    pub async fn answer(
        &self,
        from: Option<PeerId>,
        owner: Arc<str>,
        request: StreamRequest,
    ) -> Result<StreamReply, Refusal> {
        let _place = self.readers.admit(from)?;
        match request {
            StreamRequest::Task { id, ask, said_by, ended, wait_ms } => {
                let own = self.routes.peers.own_ledger().is_some_and(|(own, _)| own.tag() == id.ledger);
                match from {
                    _ if own => self.task(id, owner, Following::new(ask, said_by, ended), until(wait_ms)).await,
                    None => {
                        let last_seen = self.routes.peers.homes().last_seen(id.ledger);
                        let unreachable = || Refusal::HomeUnreachable { id, last_seen, known: None };
                        let home = self.routes.peers.home_of(id.ledger).ok_or_else(unreachable)?;
                        let request = StreamRequest::Task { id, ask, said_by, ended, wait_ms };
                        self.forward(home, request, patience(wait_ms) + SLACK)
                            .await
                            .map_err(|away| away.unwrap_or_else(unreachable))
                    }
                    Some(_) => Err(Refusal::NotHome { id, home: self.routes.peers.home_of(id.ledger) }),
                }
            }
            StreamRequest::Attempt { fence, ask, wait_ms } => {
                let ask = within_bounds(ask);
                self.attempts.read(fence, &ask, until(wait_ms)).await.map(StreamReply::Attempt)
            }
            StreamRequest::Events(ask) => self.events(from, ask).await,
        }
    }

    /// Asks another node. `Err(None)`: it does not answer.
    async fn forward(
        &self,
        to: PeerId,
        request: StreamRequest,
        patience: Duration,
    ) -> Result<StreamReply, Option<Refusal>> {
        match self.routes.peers.ask(to, Body::Stream(request), patience).await {
            Ok(Answer::Stream(reply)) => Ok(reply),
            Ok(Answer::Refused(refusal)) => Err(Some(refusal)),
            Ok(_) | Err(_) => Err(None),
        }
    }

    async fn events(&self, from: Option<PeerId>, ask: EventsAsk) -> Result<StreamReply, Refusal> {
        let own = self.routes.peers.own_ledger().map(|(own, _)| own.tag());
        match ask.home.filter(|home| Some(*home) != own) {
            None => {
                let ledger = &self.routes.addresses.ledger;
                let (permit, wait_ms) = (ledger.admit()?, ask.wait_ms);
                let ask = EventsAsk { ask: within_bounds(ask.ask), ..ask };
                let read = ledger.ask(patience(wait_ms), |reply| LedgerMsg::ReadEvents { ask, permit, reply }).await?;
                read.map(StreamReply::Events)
            }
            Some(home) => {
                let last_seen = self.routes.peers.homes().last_seen(home);
                let away = || Refusal::HomeAway { home, last_seen };
                let peer = self.routes.peers.home_of(home).filter(|_| from.is_none()).ok_or_else(away)?;
                let wait_ms = ask.wait_ms;
                let told = self.forward(peer, StreamRequest::Events(ask), patience(wait_ms) + SLACK).await;
                told.map_err(|refusal| refusal.unwrap_or_else(away))
            }
        }
    }

    /// As the home of a task.
    async fn task(
        &self,
        id: TaskId,
        owner: Arc<str>,
        mut following: Following,
        until: Instant,
    ) -> Result<StreamReply, Refusal> {
        let mut view = self.ask_ledger(&owner, LedgerRequest::GetTask { id }).await?;
        let mut missed = None;
        loop {
            match following.next(&view) {
                NextRead::Over => return Ok(over(&view, missed.map(|missed| unread(&following, &view, missed)))),
                NextRead::Begin { .. } if Instant::now() >= until => return Ok(nothing_new(&view)),
                NextRead::Begin { after } => {
                    let timeout_ms = until.duration_since(Instant::now()).as_millis().max(1) as u64;
                    view = self.ask_ledger(&owner, LedgerRequest::WaitAttempt { id, after, timeout_ms }).await?;
                }
                NextRead::Attempt { fence, worker, is_newest } => {
                    let until = if is_newest { until } else { Instant::now() };
                    let read = self.attempt(worker, fence, within_bounds(following.ask), until).await?;
                    missed = match read {
                        Read::Piece(AttemptPiece::Said(piece)) => return Ok(said(&view, worker, piece)),
                        Read::Piece(AttemptPiece::NothingNew) if is_newest => return Ok(nothing_new(&view)),
                        Read::Away(what) if is_newest && view.state == TaskState::Running => {
                            return Err(Refusal::Unavailable { what });
                        }
                        Read::Piece(AttemptPiece::NotKept | AttemptPiece::NothingNew) => {
                            Some((NOT_KEPT.to_owned(), false))
                        }
                        Read::Away(why) => Some((why, true)),
                    };
                    following.pass(fence.epoch);
                }
            }
        }
    }

    async fn ask_ledger(&self, owner: &Arc<str>, request: LedgerRequest) -> Result<TaskView, Refusal> {
        match self.routes.own_ledger(self.routes.peers.me(), owner.clone(), request).await? {
            LedgerReply::Task(view) => Ok(*view),
            LedgerReply::Refused(refusal) => Err(refusal),
            _ => Err(Refusal::Unavailable { what: "the ledger answered something else".to_owned() }),
        }
    }

    /// What an attempt says, from its worker: this node or another.
    async fn attempt(&self, worker: PeerId, fence: Fence, ask: Ask, until: Instant) -> Result<Read, Refusal> {
        if worker == self.routes.peers.me() {
            return self.attempts.read(fence, &ask, until).await.map(Read::Piece);
        }
        let wait_ms = until.saturating_duration_since(Instant::now()).as_millis() as u64;
        match self.forward(worker, StreamRequest::Attempt { fence, ask, wait_ms }, patience(wait_ms)).await {
            Ok(StreamReply::Attempt(piece)) => Ok(Read::Piece(piece)),
            Ok(_) | Err(None) => Ok(Read::Away(format!("{worker}, which ran it last, does not answer"))),
            Err(Some(refusal @ (Refusal::Overloaded { .. } | Refusal::Invalid { .. }))) => Err(refusal),
            Err(Some(refusal)) => Ok(Read::Away(format!("{worker}, which ran it last, does not tell: {refusal}"))),
        }
    }
}

enum Read {
    Piece(AttemptPiece),
    /// Its worker does not answer, in words.
    Away(String),
}

const NOT_KEPT: &str = "its worker has not kept what it said";

fn said(view: &TaskView, worker: PeerId, piece: Piece<AttemptRecord>) -> StreamReply {
    let (said_by, piece) = (Some(worker), Some(piece));
    StreamReply::Task(TaskPiece { state: view.state, said_by, piece, over: false, unread: None })
}

fn nothing_new(view: &TaskView) -> StreamReply {
    StreamReply::Task(TaskPiece { state: view.state, said_by: None, piece: None, over: false, unread: None })
}

fn over(view: &TaskView, unread: Option<Unread>) -> StreamReply {
    StreamReply::Task(TaskPiece { state: view.state, said_by: None, piece: None, over: true, unread })
}

fn unread(following: &Following, view: &TaskView, (why, away): (String, bool)) -> Unread {
    let log_tail = if following.has_begun(view.epoch) { String::new() } else { view.log_tail.clone() };
    Unread { epoch: StreamEpoch(view.epoch.0), why, away, log_tail }
}

/// What an answer may take: its wait, and something beyond.
fn patience(wait_ms: u64) -> Duration {
    Duration::from_millis(wait_ms.min(limits::STREAM_WAIT_MS_MAX)) + SLACK
}

fn until(wait_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(wait_ms.min(limits::STREAM_WAIT_MS_MAX))
}

fn within_bounds(mut ask: Ask) -> Ask {
    ask.window.len_max = ask.window.len_max.min(limits::STREAM_PIECE_LEN_MAX);
    ask.window.bytes_max = ask.window.bytes_max.min(limits::STREAM_PIECE_BYTES_MAX);
    ask
}

/// Who reads just now: this node's clients, and peers each by itself.
#[derive(Clone, Default)]
struct Readers(Arc<Mutex<HashMap<Option<PeerId>, usize>>>);

impl Readers {
    /// # Errors
    /// If so many of one peer, or of this node's clients, or of all read already.
    fn admit(&self, who: Option<PeerId>) -> Result<ReaderPlace, Refusal> {
        let mut reading = self.lock();
        let all: usize = reading.values().sum();
        let own = reading.get(&who).copied().unwrap_or_default();
        if own >= limits::STREAM_READERS_MAX || all >= limits::STREAMS_READERS_MAX {
            let what = format!("{own} readers of streams, {all} of all who ask");
            return Err(Refusal::Overloaded { retry_after_ms: 1_000, what });
        }
        *reading.entry(who).or_default() += 1;
        Ok(ReaderPlace { readers: self.clone(), who })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<PeerId>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ReaderPlace {
    readers: Readers,
    who: Option<PeerId>,
}

impl Drop for ReaderPlace {
    fn drop(&mut self) {
        let mut reading = self.readers.lock();
        if let Some(count) = reading.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                reading.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i13_one_peer_that_reads_much_leaves_places_to_others() {
        let readers = Readers::default();
        let (greedy, other) = (Some(PeerId([1; 32])), Some(PeerId([2; 32])));
        let mut places: Vec<_> = (0..limits::STREAM_READERS_MAX).map(|_| readers.admit(greedy).unwrap()).collect();
        assert!(matches!(readers.admit(greedy), Err(Refusal::Overloaded { .. })));
        assert!(readers.admit(other).is_ok() && readers.admit(None).is_ok());
        places.pop();
        assert!(readers.admit(greedy).is_ok());
        places.clear();
        assert!(readers.lock().is_empty());
        for n in 0..limits::STREAMS_READERS_MAX {
            places.push(readers.admit(Some(PeerId([(n / limits::STREAM_READERS_MAX) as u8; 32]))).unwrap());
        }
        assert!(readers.admit(Some(PeerId([9; 32]))).is_err(), "all have a bound");
    }
}
