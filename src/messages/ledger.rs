//! To the ledger actor. Its words are those of [`magpie_core::queue`].

use magpie_core::clock::Head;
use magpie_core::clock_alarm::PeerClocks;
use magpie_core::homes::{SignedHandover, Term};
use magpie_core::ids::{LedgerTag, LogIndex, PeerId};
use magpie_core::limiter::{PermitAnswer, PermitAsk};
use magpie_core::matching::Capabilities;
use magpie_core::queue::{BindingId, Bound, Caller, ClockRoot, Disk, EventView, Watermark};
pub use magpie_core::queue::{LedgerReply, LedgerRequest, Refusal};
use magpie_core::stream::Piece;
use magpie_core::task::TaskError;
use ractor::RpcReplyPort;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

use super::clock::{ChainPiece, Link};
use super::node::HomeMove;
use super::stream::EventsAsk;

/// Where an answer goes: it takes it at once, and never waits.
pub type LedgerPort = Box<dyn FnOnce(LedgerReply) + Send>;

/// A ledger that was read from a file, whole and checked.
pub struct StagedLedger {
    pub path: PathBuf,
    pub handover: SignedHandover,
    pub moved: HomeMove,
}

pub enum LedgerMsg {
    Request {
        caller: Caller,
        request: LedgerRequest,
        /// Mailboxes have no bound: the door took this before it spoke.
        permit: OwnedSemaphorePermit,
        reply: LedgerPort,
    },
    WorkerSeen {
        worker: PeerId,
        capabilities: Arc<Capabilities>,
        alive: bool,
    },
    WorkerForgotten {
        worker: PeerId,
    },
    ClockRoot(ClockRoot),
    /// This node ends soon: new work is refused with the reason.
    Draining {
        why: String,
    },
    /// It knows nothing of this ledger's backlog yet.
    RegistryStarted,
    PeerClocks(PeerClocks),
    /// A peer has said what it holds of this ledger.
    PeerCompared {
        peer: PeerId,
    },
    /// Somebody holds this head of this ledger, rightly signed, and it was not published lately.
    HeadSeen(Head),
    /// Someone with this node's key has announced its ledger in a later term.
    TermSeen(Term),
    Bound {
        id: BindingId,
        bound: Result<Bound, TaskError>,
    },
    MarkerOut {
        marker: u64,
    },
    PermitsAnswered {
        home: LedgerTag,
        ask: PermitAsk,
        answer: Result<PermitAnswer, Refusal>,
    },
    Durable(Watermark),
    /// The next piece of the log is to be followed along its chain.
    CheckChain {
        after: Option<Link>,
        upto: Option<LogIndex>,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<Result<ChainPiece, Refusal>>,
    },
    /// This ledger is handed over to `to`, and written to `file`.
    Export {
        to: PeerId,
        file: PathBuf,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<Result<HomeMove, Refusal>>,
    },
    /// It can be written there, and `to` can serve it.
    Seal {
        to: PeerId,
        file: PathBuf,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<Result<HomeMove, Refusal>>,
    },
    /// The ledger in `file` takes the place of this one.
    Import {
        file: PathBuf,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<Result<HomeMove, Refusal>>,
    },
    /// It was read, and waits beside this one.
    Staged {
        staged: Result<StagedLedger, Refusal>,
        reply: RpcReplyPort<Result<HomeMove, Refusal>>,
    },
    /// Somebody follows the synced records.
    ReadEvents {
        ask: EventsAsk,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<Result<Option<Piece<EventView>>, Refusal>>,
    },
    /// How the log's disk stands from now on.
    Disk(Disk),
    Tick,
}
