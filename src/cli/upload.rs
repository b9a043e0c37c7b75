//! Files on their way into the node's blob store, before anything names them.

use std::io;
use std::path::Path;

use magpie_core::ids::ContentId;
use magpie_core::limits;
use magpie_core::payload::BlobRef;
use magpie_net::regular_file;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::connection::{ANSWER_PATIENCE, NodeLink, unexpected};
use super::deadline::Deadline;
use super::exit::CommandError;
use crate::messages::blob::{BlobReply, BlobRequest, PUT_BEGINNINGS_MAX};
use crate::messages::{Answer, Body};

/// Puts the file at `path` into the node's blob store; one that is there already is not sent.
///
/// # Errors
/// Exit code 2 if it cannot be read, is too large or changes meanwhile; else why the node does not take it.
pub async fn file(link: &NodeLink, path: &Path, deadline: Deadline) -> Result<BlobRef, CommandError> {
    let unreadable = |error: io::Error| CommandError::usage(format!("cannot read {}: {error}", path.display()));
    let named = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || regular_file::open(&named)).await;
    let mut file = File::from_std(opened.map_err(io::Error::other).flatten().map_err(unreadable)?);
    let blob = content_of(&mut file).await.map_err(unreadable)?;
    if blob.bytes > limits::BLOB_BYTES_MAX {
        let most = limits::BLOB_BYTES_MAX;
        return Err(CommandError::usage(format!("{} has {} bytes, at most {most}", path.display(), blob.bytes)));
    }
    if let BlobReply::Stat { blob: Some(_) } = ask(link, BlobRequest::Stat { cid: blob.cid }, deadline).await? {
        return Ok(blob);
    }
    let changed = || CommandError::usage(format!("{} changes while it is read; try once more", path.display()));
    let (mut offset, mut beginnings) = (0, 0);
    loop {
        let piece = piece_at(&mut file, offset).await.map_err(unreadable)?;
        if offset + piece.len() as u64 > blob.bytes || (piece.is_empty() && offset < blob.bytes) {
            return Err(changed());
        }
        let BlobReply::Put { next } = ask(link, BlobRequest::Put { blob, offset, piece }, deadline).await? else {
            return Err(unexpected());
        };
        if next >= blob.bytes {
            return Ok(blob);
        }
        beginnings += u32::from(next <= offset);
        if beginnings > PUT_BEGINNINGS_MAX {
            return Err(unexpected());
        }
        offset = next;
    }
}

async fn ask(link: &NodeLink, request: BlobRequest, deadline: Deadline) -> Result<BlobReply, CommandError> {
    match link.insist(&Body::Blob(request), ANSWER_PATIENCE, deadline).await? {
        Answer::Blob(reply) => Ok(reply),
        _ => Err(unexpected()),
    }
}

async fn content_of(file: &mut File) -> io::Result<BlobRef> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; limits::BLOB_CHUNK_BYTES_MAX];
    loop {
        let len = file.read(&mut chunk).await?;
        if len == 0 {
            return Ok(BlobRef { cid: ContentId(hash.finalize().into()), bytes });
        }
        hash.update(&chunk[..len]);
        bytes += len as u64;
    }
}

async fn piece_at(file: &mut File, offset: u64) -> io::Result<Vec<u8>> {
    file.seek(io::SeekFrom::Start(offset)).await?;
    let mut piece = Vec::new();
    file.take(limits::BLOB_CHUNK_BYTES_MAX as u64).read_to_end(&mut piece).await?;
    Ok(piece)
}
