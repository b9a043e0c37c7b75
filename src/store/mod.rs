//! What a node keeps on disk: its data directory, the ledger's log, blobs, and outcomes that wait for a home.
//!
//! Architecture invariant: everything here blocks and nothing here is async. An actor calls the log's `append`, which
//! only queues, from anywhere; all else belongs on a blocking thread (`spawn_blocking`).
//! Architecture invariant: SQLite is named in this room only.

pub mod arriving_blobs;
pub mod audit;
pub mod audit_queue;
pub mod blobs;
pub mod data_dir;
pub mod disk;
#[cfg(test)]
mod faults;
pub mod handover;
pub mod log;
mod log_file;
#[cfg(test)]
mod log_probe;
mod log_queue;
mod log_writer;
pub mod namespace_blobs;
pub mod recovery;
mod reserve;
pub mod revocations;
pub mod spool;
mod spool_format;
mod sqlite;
mod sync_witness;

pub use disk::DiskFailure;
