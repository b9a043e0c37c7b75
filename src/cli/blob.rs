//! `nodectl blob`.

use std::path::PathBuf;

use clap::Subcommand;
use magpie_core::ids::ContentId;
use magpie_core::limits;
use magpie_core::payload::BlobRef;
use tokio::io::AsyncWriteExt;

use super::args::Context;
use super::connection::{NodeLink, unexpected};
use super::exit::{CommandError, Exit};
use super::{human, output, upload};
use crate::messages::blob::{BlobReply, BlobRequest};

#[derive(Debug, Subcommand)]
pub enum BlobCommand {
    /// Put a file into the node's blob store
    Put { file: PathBuf },
    /// Print a blob, or write it to a file
    Get {
        cid: ContentId,
        /// Write it here, not to standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Show the length of a blob, if the node has it
    Stat { cid: ContentId },
}

impl BlobCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Put { file } => {
                let by = context.link.submission_deadline(None).await?;
                let blob = upload::file(&context.link, &file, by).await?;
                context.document(&blob, || format!("{}\n", blob.cid))?;
            }
            Self::Get { cid, to: None } => {
                let blob = stat(&context.link, cid).await?;
                let mut offset = 0;
                while offset < blob.bytes {
                    let piece = piece(&context.link, blob, offset).await?;
                    output::print_bytes(&piece)?;
                    offset += piece.len() as u64;
                }
            }
            Self::Get { cid, to: Some(path) } => get(context, cid, path).await?,
            Self::Stat { cid } => {
                let blob = stat(&context.link, cid).await?;
                context.document(&blob, || format!("{}  {}\n", blob.cid, human::bytes(blob.bytes)))?;
            }
        }
        Ok(Exit::Ok)
    }
}

async fn get(context: &Context, cid: ContentId, path: PathBuf) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| CommandError::usage(format!("cannot write {}: {error}", path.display()));
    let blob = stat(&context.link, cid).await?;
    let mut file = tokio::fs::File::create(&path).await.map_err(failed)?;
    let mut offset = 0;
    while offset < blob.bytes {
        let piece = piece(&context.link, blob, offset).await?;
        file.write_all(&piece).await.map_err(failed)?;
        offset += piece.len() as u64;
    }
    file.flush().await.map_err(failed)?;
    context.document(&blob, || format!("{}  {}\n", path.display(), human::bytes(blob.bytes)))
}

async fn stat(link: &NodeLink, cid: ContentId) -> Result<BlobRef, CommandError> {
    match link.blob(BlobRequest::Stat { cid }).await? {
        BlobReply::Stat { blob: Some(blob) } => Ok(blob),
        BlobReply::Stat { blob: None } | BlobReply::Missing { .. } => Err(missing(cid)),
        BlobReply::Piece { .. } | BlobReply::Put { .. } => Err(unexpected()),
    }
}

fn missing(cid: ContentId) -> CommandError {
    CommandError::new(Exit::NotFound, format!("this node has no blob {cid}; another may"))
}

/// The part of a blob at `offset`, never empty.
///
/// # Errors
/// Exit code 3 if this node does not have it.
pub async fn piece(link: &NodeLink, blob: BlobRef, offset: u64) -> Result<Vec<u8>, CommandError> {
    let bytes_max = limits::BLOB_CHUNK_BYTES_MAX as u32;
    match link.blob(BlobRequest::Get { cid: blob.cid, offset, bytes_max }).await? {
        BlobReply::Piece { piece } if !piece.is_empty() => Ok(piece),
        BlobReply::Missing { cid } => Err(missing(cid)),
        _ => Err(unexpected()),
    }
}
