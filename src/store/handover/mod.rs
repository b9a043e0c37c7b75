//! The file in which a ledger moves to another node: its signed handover, its whole log, and the blobs that it names.
//!
//! ```text
//! "magpie-ledger-1\n"  then parts: kind (1 byte), length (8 bytes, highest first), content
//!   1 head    the handover and where the log begins, as a frame of magpie_core::wire
//!   2 entry   index (8), event (32), record
//!   3 blob    content id (32), bytes
//!   4 end     sha2-256 of all before this part
//! ```

mod export;
mod import;
mod install;
mod kept;
mod part;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use magpie_core::homes::SignedHandover;
use magpie_core::ids::{ContentId, LogIndex};
use serde::{Deserialize, Serialize};

pub use export::{check_place, export};
pub use import::{Staged, discard, stage};
pub use install::install;

use super::DiskFailure;
use super::log::ReadLogError;

const MAGIC: &[u8; 16] = b"magpie-ledger-1\n";

/// The first part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    handover: SignedHandover,
    /// The first entry, and the event of the one before it, which the chain goes on from.
    first: LogIndex,
    after: Option<ContentId>,
    /// The seal.
    last: LogIndex,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    pub records: u64,
    pub blobs: u64,
    pub bytes: u64,
}

/// A place where no ledger can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error("it is there, and no regular file")]
    NoFile,
    #[error("it is there, and no exported ledger: it would be lost")]
    InUse,
    #[error("there is no directory {}", dir.display())]
    NoDirectory { dir: PathBuf },
    #[error("it cannot be written: {0}")]
    Disk(#[from] DiskFailure),
}

/// A ledger that was not written to a file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("cannot write {}: {source}", file.display())]
    File { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Log(#[from] ReadLogError),
    #[error("blob {cid} cannot be read: {why}")]
    Blob { cid: ContentId, why: String },
}

/// A file that was not taken in; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read {}: {source}", file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{} is no exported ledger: {what}", file.display())]
    NotALedger { file: PathBuf, what: String },
    #[error("it is for {to}, and this node is {me}: import it there")]
    ForAnother { to: magpie_core::ids::PeerId, me: magpie_core::ids::PeerId },
    #[error("it is of a time before this node handed the same ledger over to {to}")]
    Former { to: magpie_core::ids::PeerId },
    #[error("it does not fit on this node's disk: {0}")]
    Disk(DiskFailure),
    #[error("a blob is not kept: {0}")]
    Blob(String),
}
