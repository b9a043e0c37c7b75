//! The worker: runs what homes grant to this node. It translates between mailboxes, the core and the executors.

mod attempts;
mod room;
mod spooling;
mod voice;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use magpie_core::homes::Term;
use magpie_core::ids::{Incarnation, LedgerTag};
use magpie_core::lease::{Completion, Fence, Grant, Slots};
use magpie_core::queue::{LedgerReply, LedgerRequest, Refusal, WorkerNotice};
use magpie_core::time::Wall;
use magpie_core::worker::{Worker, WorkerEffect, WorkerEvent};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::runtime::Handle;

use self::attempts::{Attempts, tell, tell_begin};
use self::room::Room;
use self::spooling::completions_of;
use self::voice::Voice;
use super::alarm::Alarm;
use super::attempt_streams::AttemptStreams;
use super::blobs::{PeerBlobs, outputs_of};
use super::readings::now;
use super::routes::Routes;
use crate::executor::{Attempt, Executors, NotStarted};
use crate::messages::registry::RegistryMsg;
use crate::messages::worker::{WorkerBrief, WorkerMsg, WorkerReply, WorkerRequest};
use crate::store::spool::Spool;

pub struct WorkerActor;

#[derive(Clone)]
pub struct WorkerArguments {
    pub routes: Routes,
    pub executors: Arc<Executors>,
    /// Where attempts run: not beside the actors, whose thread renews their leases.
    pub executing: Handle,
    pub blobs: PeerBlobs,
    pub spool: Arc<Spool>,
    /// What attempts say goes there.
    pub attempts: AttemptStreams,
    /// Where attempts work, if a kind that this node offers needs room there.
    pub work_dir: Option<PathBuf>,
    pub slots: Slots,
}

pub struct WorkerState {
    core: Worker,
    me: ActorRef<WorkerMsg>,
    attempts: Attempts,
    room: Room,
    arguments: WorkerArguments,
    brief: Option<WorkerBrief>,
    alarm: Alarm<WorkerMsg>,
    /// What is spooled and what is taken out again reach the disk in the order in which they were decided.
    spooling: Arc<tokio::sync::Mutex<()>>,
}

/// How often a worker started in this process: the low bits of its incarnations, whose high bits are the generation.
static STARTS: AtomicU64 = AtomicU64::new(0);
const START_BITS: u32 = 20;

impl Actor for WorkerActor {
    type Msg = WorkerMsg;
    type State = WorkerState;
    type Arguments = WorkerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let (own, Term { generation, .. }) =
            arguments.routes.peers.opened_ledger().ok_or("the ledger is not open yet")?;
        let start = STARTS.fetch_add(1, Ordering::Relaxed);
        let incarnation = Incarnation(u64::from(generation.0) << START_BITS | start);
        let mut core = Worker::new(own.tag(), incarnation, arguments.slots, now());
        let spool = arguments.spool.clone();
        let at = Wall(now().wall_ms);
        let spooled = tokio::task::spawn_blocking(move || spool.load(at)).await??;
        core.handle(now(), WorkerEvent::Recovered { completions: completions_of(spooled) });
        core.handle(now(), WorkerEvent::HomeSeen { home: own.tag(), backlog: Slots::default() });
        let room = Room::new(arguments.work_dir.clone(), &myself);
        let (attempts, alarm) = (Attempts::default(), Alarm::default());
        let mut state =
            WorkerState { core, me: myself, attempts, room, arguments, brief: None, alarm, spooling: Arc::default() };
        state.perform();
        state.tell_brief();
        state.set_alarm();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WorkerMsg::Request { request, permit: _permit, reply } => {
                let answer = state.request(request);
                let _ = reply.send(answer);
            }
            WorkerMsg::HomeSeen { home, backlog } => state.event(WorkerEvent::HomeSeen { home, backlog }),
            WorkerMsg::HomeOpened { home } => state.event(WorkerEvent::HomeOpened { home }),
            WorkerMsg::HomeLost { home } => state.event(WorkerEvent::HomeLost { home }),
            WorkerMsg::Progressed { fence, news } => state.event(WorkerEvent::Progressed { fence, news }),
            WorkerMsg::Begun { fence } => state.event(WorkerEvent::Begun { fence }),
            WorkerMsg::NotStarted { fence, why } => state.not_started(fence, why),
            WorkerMsg::RegistryStarted => state.tell_registry(),
            WorkerMsg::LookForRoom => state.look_for_room(),
            WorkerMsg::Room(none) => state.room_seen(none),
            WorkerMsg::Finished { fence, outcome } => state.event(WorkerEvent::Finished { fence, outcome }),
            WorkerMsg::RenewAnswered { home, sent_ms, answers } => {
                state.event(WorkerEvent::RenewAnswered { home, sent_ms, answers });
            }
            WorkerMsg::CompleteAnswered { home, answers } => {
                state.event(WorkerEvent::CompleteAnswered { home, answers });
            }
            WorkerMsg::CompleteFailed { home } => state.event(WorkerEvent::CompleteFailed { home }),
            WorkerMsg::SpoolAnswered { fences, refused } => state.spool_answered(fences, refused),
            WorkerMsg::DeviceSlots(device) => {
                let slots = Slots { device, ..state.arguments.slots };
                state.event(WorkerEvent::SlotsChanged { slots });
            }
            WorkerMsg::Tick => {
                state.alarm.rang();
                state.event(WorkerEvent::Tick);
                state.tell_brief();
            }
        }
        state.set_alarm();
        Ok(())
    }
}

impl WorkerState {
    fn set_alarm(&mut self) {
        self.alarm.set(&self.me, self.core.next_tick(now()), || WorkerMsg::Tick);
    }

    fn request(&mut self, request: WorkerRequest) -> WorkerReply {
        match request {
            WorkerRequest::Notice { home, notice: WorkerNotice::Grants(grants), .. } => {
                self.event(WorkerEvent::Granted { home, grants });
            }
            WorkerRequest::Notice { notice: WorkerNotice::Recall(fences), .. } => {
                self.event(WorkerEvent::Recalled { fences });
            }
            WorkerRequest::Notice { notice: WorkerNotice::Stop(fences), .. } => {
                self.event(WorkerEvent::Stopped { fences });
            }
            WorkerRequest::Stats => return WorkerReply::Stats(self.core.stats()),
            WorkerRequest::Drain { within_ms } => self.event(WorkerEvent::Drain { within_ms }),
            WorkerRequest::Resume => self.event(WorkerEvent::Resume),
        }
        WorkerReply::Noted
    }

    fn event(&mut self, event: WorkerEvent) {
        self.core.handle(now(), event);
        self.perform();
    }

    fn perform(&mut self) {
        // An attempt that ends at once is an event again, so this goes on until nothing is left to do.
        loop {
            let effects = self.core.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.effect(effect);
            }
        }
    }

    fn effect(&mut self, effect: WorkerEffect) {
        match effect {
            WorkerEffect::Start { grant, ends_ms } => self.start(grant, ends_ms),
            WorkerEffect::LeaseExtended { fence, ends_ms } => self.attempts.extend(&fence, ends_ms),
            WorkerEffect::Stop { fence, cause } => self.attempts.stop(&fence, cause),
            WorkerEffect::Offer { home, offer } => {
                self.ask(home, LedgerRequest::Credit(offer), move |me, reply| {
                    if let Ok(LedgerReply::Credited { backlog }) = reply {
                        let _ = me.cast(WorkerMsg::HomeSeen { home, backlog });
                    }
                });
            }
            WorkerEffect::Renew { home, sent_ms, renewals } => {
                let fences: Vec<Fence> = renewals.iter().map(|renewal| renewal.fence).collect();
                self.ask(home, LedgerRequest::Renew(renewals), move |me, reply| {
                    if let Ok(LedgerReply::Renewed(answers)) = reply {
                        let answers = fences.into_iter().zip(answers).collect();
                        let _ = me.cast(WorkerMsg::RenewAnswered { home, sent_ms, answers });
                    }
                });
            }
            WorkerEffect::Complete { home, completions } => self.complete(home, completions),
            WorkerEffect::Release { home, releases } => self.ask(home, LedgerRequest::Release(releases), |_, _| {}),
            WorkerEffect::Spool { completions } => self.spool(completions),
            WorkerEffect::Unspool { fences } => self.unspool(fences),
        }
    }

    fn start(&mut self, grant: Grant, ends_ms: Option<u64>) {
        let (fence, me) = (grant.fence, self.me.clone());
        let mut attempt =
            Attempt { number: grant.attempt, checkpoint: grant.checkpoint, ..Attempt::new(fence, grant.spec) };
        if let Some(outcome) = self.arguments.executors.run_at_once(&attempt) {
            self.core.handle(now(), WorkerEvent::Finished { fence, outcome });
            return;
        }
        let signal = self.attempts.begin(&mut attempt, ends_ms);
        let (executors, mut voice) = (self.arguments.executors.clone(), Voice::begin(&self.arguments.attempts, fence));
        attempt.log = voice.log();
        self.arguments.routes.peers.errand_on(&self.arguments.executing, async move {
            let (said, begun) = (attempt.says.subscribe(), attempt.begun.subscribe());
            let telling = tell(said, |news| {
                voice.tell(&news);
                let _ = me.cast(WorkerMsg::Progressed { fence, news });
            });
            let running = telling.while_running(executors.run(attempt, signal));
            let ended = tell_begin(begun, running, || drop(me.cast(WorkerMsg::Begun { fence }))).await;
            // Who follows has heard all before the home hears of the end.
            drop(voice);
            let _ = me.cast(match ended {
                Ok(outcome) => WorkerMsg::Finished { fence, outcome },
                Err(NotStarted { why }) => WorkerMsg::NotStarted { fence, why },
            });
        });
    }

    /// Blobs go up before the outcomes that name them.
    fn complete(&self, home: LedgerTag, completions: Vec<Completion>) {
        let (routes, me) = (self.arguments.routes.clone(), self.me.clone());
        let fences: Vec<Fence> = completions.iter().map(|completion| completion.fence).collect();
        let told = move |reply| {
            let message = match reply {
                Ok(LedgerReply::Completed(answers)) => {
                    WorkerMsg::CompleteAnswered { home, answers: fences.into_iter().zip(answers).collect() }
                }
                Ok(_) | Err(_) => WorkerMsg::CompleteFailed { home },
            };
            let _ = me.cast(message);
        };
        let outputs = outputs_of(&completions);
        if outputs.is_empty() {
            return routes.tell_home(home, LedgerRequest::Complete(completions), told);
        }
        let blobs = self.arguments.blobs.clone();
        self.arguments.routes.peers.errand(async move {
            match blobs.upload_outputs(home, &outputs).await {
                Ok(()) => routes.tell_home(home, LedgerRequest::Complete(completions), told),
                Err(refusal) => told(Err(refusal)),
            }
        });
    }

    fn ask(
        &self,
        home: LedgerTag,
        request: LedgerRequest,
        then: impl FnOnce(&ActorRef<WorkerMsg>, Result<LedgerReply, Refusal>) + Send + 'static,
    ) {
        let me = self.me.clone();
        self.arguments.routes.tell_home(home, request, move |reply| then(&me, reply));
    }

    /// With the tick, not with each attempt: heartbeats are rarer still.
    fn tell_brief(&mut self) {
        let brief = WorkerBrief::of(&self.core.stats());
        if self.brief != Some(brief) {
            self.brief = Some(brief);
            let _ = self.arguments.routes.addresses.registry.cast(RegistryMsg::Worker(brief));
        }
    }

    fn tell_registry(&mut self) {
        self.brief = None;
        self.tell_brief();
        self.tell_room();
    }
}
