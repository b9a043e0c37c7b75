//! A ledger that moves to another node, and one that comes from there: what is sealed and served is the core's to say.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use magpie_core::homes::{Handover, SignedHandover};
use magpie_core::ids::{LedgerTag, PeerId};
use magpie_core::queue::{Event, Ledger, LedgerReply, LedgerRequest, Refusal, Seal};
use ractor::{ActorProcessingErr, RpcReplyPort};
use tokio::sync::OwnedSemaphorePermit;

use super::LedgerState;
use crate::actors::peers::Peers;
use crate::messages::ledger::{LedgerMsg, StagedLedger};
use crate::messages::node::HomeMove;
use crate::messages::worker::WorkerMsg;
use crate::messages::{Answer, Body};
use crate::store::data_dir::DataDir;
use crate::store::handover::{self, Contents, ImportError, PlaceError};

/// How a move ended, for whoever asked for it.
pub type MovePort = RpcReplyPort<Result<HomeMove, Refusal>>;

/// Who waits for the seal, and where its file goes.
pub struct Export {
    pub file: PathBuf,
    pub reply: MovePort,
    pub permit: OwnedSemaphorePermit,
}

/// A ledger that is to be served from the next start on.
pub struct Incoming {
    staged: StagedLedger,
    /// The ledger that gives way, where it is kept.
    keep: Option<LedgerTag>,
    reply: MovePort,
}

/// Between a life of the ledger that gives way and the one that begins.
#[derive(Default)]
pub struct Handing(Mutex<Option<Incoming>>);

impl Handing {
    /// Puts what came in the place of what is there, before that is opened. Blocks.
    ///
    /// # Errors
    /// The disk's refusal; the next start tries again.
    pub fn install(&self, dir: &DataDir) -> Result<(), ActorProcessingErr> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(incoming) => Ok(handover::install(dir, &incoming.staged.path, incoming.keep)?),
            None => Ok(()),
        }
    }

    /// The ledger is open: whoever brought it hears so.
    pub fn opened(&self, core: &Ledger) {
        let Some(incoming) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let Incoming { staged: StagedLedger { handover, moved, .. }, reply, .. } = incoming;
        tracing::info!(ledger = %handover.handover.ledger, from = %handover.handover.from, term = ?core.term(), "a ledger moved here");
        // Who asked may have given up.
        let _ = reply.send(Ok(moved));
    }
}

impl LedgerState {
    /// Looks whether this ledger can go to `to` by way of a file, before anything is sealed; if so,
    /// [`LedgerMsg::Seal`] follows. What is sealed is only written again.
    pub(super) fn export(&mut self, to: PeerId, export: Export) {
        if let Err(refusal) = self.core.may_hand_over(to) {
            let _ = export.reply.send(Err(refusal));
            return;
        }
        if self.core.seal().is_some() {
            return self.seal(to, export);
        }
        let (peers, dir, ledger) = (self.arguments.peers.clone(), self.arguments.dir.clone(), self.me.clone());
        self.arguments.peers.errand(async move {
            let checked = match check_place(&export.file, dir).await {
                Ok(()) => check_next_home(&peers, to).await,
                Err(refusal) => Err(refusal),
            };
            let Export { file, reply, permit } = export;
            match checked {
                Ok(()) => drop(ledger.cast(LedgerMsg::Seal { to, file, permit, reply })),
                Err(refusal) => drop(reply.send(Err(refusal))),
            }
        });
    }

    /// Seals this ledger for `to`, then writes it to a file.
    pub(super) fn seal(&mut self, to: PeerId, export: Export) {
        if let Err(refusal) = self.core.may_hand_over(to) {
            let _ = export.reply.send(Err(refusal));
            return;
        }
        let handover = self.arguments.peers.sign_handover(self.core.handover_to(to));
        self.exports.push(export);
        self.event(Event::HandOver(handover));
    }

    /// The seal is on the disk: who asks here is sent on, and the files that wait for it are written.
    pub(super) fn handed_over(&mut self, seal: Seal) {
        let peers = &self.arguments.peers;
        peers.hand_over_ledger(self.core.id(), self.core.term(), seal.handover.handover);
        tracing::warn!(ledger = %self.core.id(), to = %seal.handover.handover.to, "this node's ledger was handed over: it serves none");
        for Export { file, reply, permit } in std::mem::take(&mut self.exports) {
            let (log, blobs) = (self.log.reader(), self.arguments.blobs.clone());
            peers.errand(async move {
                let write = move || {
                    let contents = handover::export(&file, &log, &blobs, &seal);
                    contents.map(|contents| moved(&seal.handover, &file, contents)).map_err(|error| not_written(&error))
                };
                let written = tokio::task::spawn_blocking(write).await;
                let _ = reply.send(written.unwrap_or_else(|error| Err(not_written(&error))));
                drop(permit);
            });
        }
    }

    /// Reads a ledger from a file beside this one; what follows from it comes as [`LedgerMsg::Staged`].
    pub(super) fn import(&mut self, file: PathBuf, permit: OwnedSemaphorePermit, reply: MovePort) {
        if std::mem::replace(&mut self.imports, true) {
            let refusal = Refusal::Overloaded { retry_after_ms: 1_000, what: "another import is under way".to_owned() };
            let _ = reply.send(Err(refusal));
            return;
        }
        let (dir, blobs, me) = (self.arguments.dir.clone(), self.arguments.blobs.clone(), self.arguments.me);
        let ledger = self.me.clone();
        self.arguments.peers.errand(async move {
            let staged = tokio::task::spawn_blocking(move || stage(&file, &dir, &blobs, me)).await;
            let staged = staged.unwrap_or_else(|error| Err(Refusal::Unavailable { what: error.to_string() }));
            let _ = ledger.cast(LedgerMsg::Staged { staged, reply });
            drop(permit);
        });
    }

    /// Gives way to a ledger that was read, if this one may: it is opened with the next start.
    pub(super) fn staged(&mut self, staged: Result<StagedLedger, Refusal>, reply: MovePort) {
        self.imports = false;
        let allowed = staged.and_then(|staged| match self.core.may_give_way_to(&staged.handover.handover) {
            Ok(()) => Ok(staged),
            Err(refusal) => {
                handover::discard(&staged.path);
                Err(refusal)
            }
        });
        match allowed {
            Ok(staged) => {
                let keep = self.core.seal().map(|_| self.core.id().tag());
                let incoming = Incoming { staged, keep, reply };
                *self.arguments.handing.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(incoming);
                self.me.stop(Some("another ledger takes its place".to_owned()));
            }
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    /// Others are told which ledger this node serves, or where the one went that it served.
    pub(super) fn tell_home(&self) {
        let (peers, core) = (&self.arguments.peers, &self.core);
        match core.seal() {
            Some(seal) => peers.hand_over_ledger(core.id(), core.term(), seal.handover.handover),
            None => peers.serve_ledger(core.id(), core.term(), core.handovers()),
        }
        let _ = self.arguments.addresses.worker.cast(WorkerMsg::HomeOpened { home: self.tag });
    }
}

/// How long the next home may take to say how it stands.
const NEXT_HOME_PATIENCE: Duration = Duration::from_secs(5);
const NOT_SEALED: &str = "nothing was sealed";

async fn check_place(file: &Path, dir: Arc<DataDir>) -> Result<(), Refusal> {
    let place = file.to_owned();
    let look = move || {
        // Its blobs are not in it: which of them the log names is known once it was read.
        let bytes = fs::metadata(dir.ledger_db()).map_or(0, |ledger| ledger.len());
        handover::check_place(&place, bytes)
    };
    let looked = tokio::task::spawn_blocking(look).await;
    let looked = looked.map_err(|error| Refusal::Unavailable { what: error.to_string() })?;
    looked.map_err(|error| {
        let fix = match &error {
            PlaceError::NoFile | PlaceError::InUse => "name a file that is not there yet",
            PlaceError::NoDirectory { .. } => "make it, or name another file",
            PlaceError::Disk(failure) => failure.remedy(),
        };
        Refusal::invalid("/file", format!("{}: {error}; {NOT_SEALED}", file.display()), fix)
    })
}

/// A ledger that its next home could not take in would be served by nobody.
async fn check_next_home(peers: &Peers, to: PeerId) -> Result<(), Refusal> {
    let asked = Body::Ledger(LedgerRequest::Stats);
    match peers.ask(to, asked, NEXT_HOME_PATIENCE).await {
        Ok(Answer::Ledger(LedgerReply::Stats(stats))) => match stats.keeps_other_ledgers_out() {
            None => Ok(()),
            Some(why) => {
                let problem = format!("{to} could not import it: {why}; {NOT_SEALED}");
                let fix = "name a node whose ledger never held anything, or export that one's first";
                Err(Refusal::invalid("/to", problem, fix))
            }
        },
        Ok(Answer::Ledger(LedgerReply::Refused(refusal))) | Err(refusal) => {
            let what =
                format!("{to}, which is to serve the ledger, must be there, and is not: {refusal}; {NOT_SEALED}");
            Err(Refusal::Unavailable { what })
        }
        Ok(_) => {
            let what = format!("{to} does not say whether it could import the ledger; {NOT_SEALED}");
            Err(Refusal::Unavailable { what })
        }
    }
}

fn stage(file: &Path, dir: &DataDir, blobs: &crate::store::blobs::Blobs, me: PeerId) -> Result<StagedLedger, Refusal> {
    let staged = handover::stage(file, dir, blobs, me).map_err(|error| not_taken(&error))?;
    let moved = moved(&staged.handover, file, staged.contents);
    Ok(StagedLedger { path: staged.path, handover: staged.handover, moved })
}

fn moved(handover: &SignedHandover, file: &Path, contents: Contents) -> HomeMove {
    let Handover { ledger, from, to, tenure, .. } = handover.handover;
    let Contents { records, blobs, bytes } = contents;
    HomeMove { ledger, from, to, tenure, file: file.display().to_string(), records, blobs, bytes }
}

fn not_written(error: &dyn std::fmt::Display) -> Refusal {
    let what = format!(
        "the ledger is sealed, and its file is not written: {error}; once that is mended, the same `home export` \
         makes it again"
    );
    Refusal::Unsupported { what }
}

fn not_taken(error: &ImportError) -> Refusal {
    let fix = match error {
        ImportError::File { .. } => "name a file that the node can read",
        ImportError::NotALedger { .. } => "make the file again: `nodectl home export` on the node that had the ledger",
        ImportError::ForAnother { .. } => "a ledger moves to the one node that it was exported for",
        ImportError::Former { .. } => "import the newest file of it, at the node that it is for",
        ImportError::Disk(_) | ImportError::Blob(_) => "mend the disk, then import again",
    };
    Refusal::invalid("/file", error.to_string(), fix)
}
