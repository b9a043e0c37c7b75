//! The ledger: this node's home. It translates between mailboxes, the core and the log, and decides nothing.

mod chain;
mod events;
mod log_feed;
mod moving;
mod permits;

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use magpie_core::clock::{Head, Position};
use magpie_core::homes::Term;
use magpie_core::ids::{LedgerId, LedgerTag, LogIndex, PeerId};
use magpie_core::limits;
use magpie_core::payload::Payload;
use magpie_core::queue::{
    Caller, CompactionPolicy, Effect, Event, Ledger, LedgerIdentity, LedgerReply, LedgerRequest, QueueSettings,
    Refusal, Replay, ReplyTo, RetentionPolicy, ShapeBacklog, WorkerNotice,
};
use magpie_core::task::AttemptResult;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;

use self::log_feed::LogFeed;
use self::moving::Export;
pub use self::moving::Handing;
use super::Addresses;
use super::alarm::Alarm;
use super::peers::Peers;
use super::readings::now;
use crate::messages::Body;
use crate::messages::clock::ClockMsg;
use crate::messages::ledger::{LedgerMsg, LedgerPort};
use crate::messages::registry::RegistryMsg;
use crate::messages::scheduler::SchedulerMsg;
use crate::messages::swarm::SwarmMsg;
use crate::messages::worker::{WorkerMsg, WorkerRequest};
use crate::store::blobs::Blobs;
use crate::store::data_dir::DataDir;

pub struct LedgerActor;

#[derive(Clone)]
pub struct LedgerArguments {
    pub dir: Arc<DataDir>,
    pub me: PeerId,
    /// The id of a ledger that is made here, where there is none.
    pub fresh: LedgerId,
    pub settings: QueueSettings,
    pub blobs: Blobs,
    pub retention: RetentionPolicy,
    pub compaction: CompactionPolicy,
    pub addresses: Addresses,
    pub peers: Peers,
    /// Whose word of this ledger is heard before the first start acts; taken by that.
    pub compare_with: Arc<Mutex<BTreeSet<PeerId>>>,
    /// A ledger that takes the place of the one that is there, with the next start.
    pub handing: Arc<Handing>,
}

pub struct LedgerState {
    core: Ledger,
    log: LogFeed,
    ports: HashMap<u64, LedgerPort>,
    next_port: u64,
    /// What the event at hand leads to.
    replies: Replies,
    tag: LedgerTag,
    /// What the registry was last told.
    backlog: Vec<ShapeBacklog>,
    alarm: Alarm<LedgerMsg>,
    /// Who waits for the seal.
    exports: Vec<Export>,
    /// Whether a file is read.
    imports: bool,
    /// Wakes those who follow the log when more of it is synced.
    synced: watch::Sender<LogIndex>,
    me: ActorRef<LedgerMsg>,
    arguments: LedgerArguments,
}

/// Replies that have yet to leave: dropped, they do.
#[derive(Default)]
struct Replies(Vec<(LedgerPort, LedgerReply)>);

impl Drop for Replies {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(port, reply)| port(reply));
    }
}

impl Actor for LedgerActor {
    type Msg = LedgerMsg;
    type State = LedgerState;
    type Arguments = LedgerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let feed = myself.clone();
        let (dir, handing) = (arguments.dir.clone(), arguments.handing.clone());
        let (me, fresh) = (arguments.me, arguments.fresh);
        let (settings, compaction) = (arguments.settings.clone(), arguments.compaction);
        let compare_with = mem::take(&mut *arguments.compare_with.lock().unwrap_or_else(PoisonError::into_inner));
        let prepare = move |replay: Replay| {
            replay.with_settings(settings).with_compaction(compaction).comparing_with(compare_with)
        };
        let opened = tokio::task::spawn_blocking(move || {
            handing.install(&dir)?;
            open(&dir, (me, fresh), prepare, feed)
        });
        let opened = opened.await??;
        let (mut core, log) = opened;
        core.set_retention(arguments.retention);
        let tag = core.id().tag();
        tracing::info!(ledger = %core.id(), generation = %core.generation(), "ledger open");
        let mut state = LedgerState {
            core,
            log,
            ports: HashMap::new(),
            next_port: 0,
            replies: Replies::default(),
            tag,
            backlog: Vec::new(),
            alarm: Alarm::default(),
            exports: Vec::new(),
            imports: false,
            synced: watch::Sender::new(LogIndex(0)),
            me: myself,
            arguments,
        };
        state.tell_home();
        state.arguments.handing.opened(&state.core);
        state.perform();
        state.alarm.set(&state.me, state.core.next_deadline(), || LedgerMsg::Tick);
        let _ = state.arguments.addresses.scheduler.cast(SchedulerMsg::LedgerStarted);
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LedgerMsg::Request { caller, request, permit: _permit, reply } => state.request(caller, request, reply),
            LedgerMsg::WorkerSeen { worker, capabilities, alive } => {
                state.event(Event::WorkerSeen { worker, capabilities, alive });
            }
            LedgerMsg::WorkerForgotten { worker } => state.event(Event::WorkerForgotten { worker }),
            LedgerMsg::Draining { why } => state.event(Event::Draining { why }),
            LedgerMsg::ClockRoot(root) => state.event(Event::ClockRoot(root)),
            LedgerMsg::RegistryStarted => state.tell_registry(),
            LedgerMsg::PeerClocks(clocks) => state.event(Event::PeerClocks(clocks)),
            LedgerMsg::PeerCompared { peer } => state.event(Event::PeerCompared { peer }),
            LedgerMsg::HeadSeen(head) => state.head_seen(&head),
            LedgerMsg::TermSeen(term) => state.copy_seen(Event::TermSeen(term)),
            LedgerMsg::Bound { id, bound } => state.event(Event::Bound { id, bound }),
            LedgerMsg::MarkerOut { marker } => state.event(Event::MarkerOut { marker }),
            LedgerMsg::PermitsAnswered { home, ask, answer } => {
                state.event(Event::PermitsAnswered { home, ask, answer });
            }
            LedgerMsg::Durable(watermark) => {
                state.event(Event::Durable(watermark));
                state.synced.send_replace(watermark.synced);
            }
            LedgerMsg::ReadEvents { ask, permit: _permit, reply } => state.read_events(ask, reply),
            LedgerMsg::CheckChain { after, upto, permit, reply } => state.check_chain((after, upto), permit, reply),
            LedgerMsg::Export { to, file, permit, reply } => state.export(to, Export { file, reply, permit }),
            LedgerMsg::Seal { to, file, permit, reply } => state.seal(to, Export { file, reply, permit }),
            LedgerMsg::Import { file, permit, reply } => state.import(file, permit, reply),
            LedgerMsg::Staged { staged, reply } => state.staged(staged, reply),
            LedgerMsg::Disk(disk) => state.event(Event::Disk(disk)),
            LedgerMsg::Tick => {
                state.alarm.rang();
                state.event(Event::Tick);
                state.tell_backlog();
            }
        }
        state.log.flush()?;
        state.alarm.set(&state.me, state.core.next_deadline(), || LedgerMsg::Tick);
        Ok(())
    }
}

/// Reads the whole log, then serves.
fn open(
    dir: &DataDir,
    (me, fresh): (PeerId, LedgerId),
    prepare: impl FnOnce(Replay) -> Replay,
    feed: ActorRef<LedgerMsg>,
) -> Result<(Ledger, LogFeed), ActorProcessingErr> {
    let recovery = crate::store::log::LedgerLog::open(dir, fresh)?.with_reserve(limits::DISK_RESERVE_BYTES);
    let identity = LedgerIdentity { ledger: recovery.ledger(), home: me, secret: rand::random() };
    let replay = match recovery.start() {
        Some(start) => Replay::resume(identity, start),
        None => Replay::new(identity),
    };
    let mut replay = prepare(replay);
    let log = recovery
        .replay(log_feed::callbacks(feed, dir.path()), |entry| replay.apply(entry.index, &entry.body, entry.event))?;
    replay.check()?;
    Ok((replay.open(now()), LogFeed::new(log)))
}

impl LedgerState {
    fn request(&mut self, caller: Caller, request: LedgerRequest, reply: LedgerPort) {
        if let Err(refusal) = self.admit(&request) {
            return reply(LedgerReply::Refused(refusal));
        }
        self.next_port += 1;
        self.ports.insert(self.next_port, reply);
        self.event(Event::Request { caller, request, reply: ReplyTo(self.next_port) });
    }

    /// What the disk must be able to take before the core decides: room in the log, blobs that outcomes name.
    fn admit(&self, request: &LedgerRequest) -> Result<(), Refusal> {
        match request {
            LedgerRequest::Submit { .. } | LedgerRequest::SubmitWorkflow { .. } | LedgerRequest::RetryTasks { .. } => {
                self.log.admit()
            }
            LedgerRequest::Complete(completions) => {
                let named = completions.iter().filter_map(|completion| match &completion.outcome.result {
                    AttemptResult::Succeeded { output } => Payload::blob(output),
                    AttemptResult::Failed { .. } => None,
                });
                for blob in named {
                    if !matches!(self.arguments.blobs.stat(blob.cid), Ok(Some(_))) {
                        return Err(Refusal::Unavailable { what: format!("blob {} is not here yet", blob.cid) });
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn event(&mut self, event: Event) {
        self.core.handle(now(), event);
        self.perform();
    }

    /// What the log has in the place of a head that somebody holds of this ledger.
    fn head_seen(&mut self, head: &Head) {
        let (position, event) = (head.position(), head.event);
        let recorded = self.log.event_at(LogIndex(head.count));
        self.copy_seen(Event::HeadSeen { position, event, recorded });
    }

    /// What may show another copy of this ledger.
    fn copy_seen(&mut self, seen: Event) {
        let (suspended, shown) = (self.core.is_suspended(), format!("{seen:?}"));
        self.event(seen);
        if !suspended && self.core.is_suspended() {
            tracing::error!(
                shown,
                "another copy of this ledger has gone on: this home stands still until one is claimed"
            );
        }
    }

    /// Thieves hear of it with the next heartbeat.
    fn tell_backlog(&mut self) {
        let backlog = self.core.backlog();
        if backlog != self.backlog {
            self.backlog = backlog;
            self.tell_registry();
        }
    }

    fn tell_registry(&self) {
        let _ = self.arguments.addresses.registry.cast(RegistryMsg::Backlog(self.backlog.clone()));
    }

    /// Persist, then send, then reply: entries go to the log first; the core keeps back what waits for them.
    fn perform(&mut self) {
        self.log.append(self.core.take_entries());
        let effects = self.core.take_effects();
        let me = self.arguments.me;
        let sends = effects.iter().any(|effect| matches!(effect, Effect::Notify { worker, .. } if *worker != me));
        effects.into_iter().for_each(|effect| self.effect(effect));
        self.reply(sends);
    }

    /// A reply wakes a client, who may take this core: what workers are told is on the wire before.
    fn reply(&mut self, after_sending: bool) {
        let replies = std::mem::take(&mut self.replies);
        if after_sending && !replies.0.is_empty() {
            self.arguments.peers.errand(async move {
                tokio::task::yield_now().await;
                drop(replies);
            });
        }
    }

    fn effect(&mut self, effect: Effect) {
        let addresses = &self.arguments.addresses;
        let sent = match effect {
            Effect::Reply { to, reply } => {
                self.replies.0.extend(self.ports.remove(&to.0).map(|port| (port, reply)));
                Ok(())
            }
            Effect::Notify { worker, notice } => {
                self.notify(worker, notice);
                Ok(())
            }
            Effect::Bind { id, spec, steps } => addresses.scheduler.cast(SchedulerMsg::Bind { id, spec, steps }),
            Effect::AskPermits { home, ask } => {
                permits::ask(&self.arguments.peers, &self.me, home, ask);
                Ok(())
            }
            Effect::LendPermits { home, answer } => {
                permits::lend(&self.arguments.peers, home, answer);
                Ok(())
            }
            Effect::PlaceMarker { marker } => addresses.swarm.cast(SwarmMsg::PlaceMarker { marker }),
            Effect::Cut { before } => {
                self.log.cut(before);
                Ok(())
            }
            Effect::PublishHead { count, event } => {
                let Term { tenure, generation } = self.core.term();
                let position = Position { tenure, generation, count: count.0 };
                addresses.clock.cast(ClockMsg::PublishHead { position, event })
            }
            Effect::HandedOver { seal } => {
                self.handed_over(seal);
                Ok(())
            }
            Effect::StartAnew => {
                self.me.stop(Some("its ledger was claimed, and is opened again".to_owned()));
                Ok(())
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "an effect of the ledger reached nobody");
        }
    }

    fn notify(&self, worker: PeerId, notice: WorkerNotice) {
        let request = WorkerRequest::Notice { home: self.tag, term: self.core.term(), notice };
        if worker == self.arguments.me {
            let (reply, _) = tokio::sync::oneshot::channel();
            let message = WorkerMsg::Request { request, permit: None, reply: reply.into() };
            let _ = self.arguments.addresses.worker.cast(message);
        } else {
            self.arguments.peers.notify(worker, Body::Worker(request));
        }
    }
}
