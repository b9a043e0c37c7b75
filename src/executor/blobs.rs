//! What an executor needs of the blob store: inputs as local files, outputs kept.

use std::path::PathBuf;

use magpie_core::ids::{ContentId, LedgerTag};
use magpie_core::limits;
use magpie_core::payload::{BlobRef, JsonText, Payload};

use super::{AttemptError, BoxFuture};

/// A blob cannot be read or kept. Both may pass: another attempt may find it.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("blob {cid} cannot be fetched from ledger {from}: {why}")]
    Unavailable { cid: ContentId, from: LedgerTag, why: String },
    #[error("blob store: {0}")]
    Io(#[from] std::io::Error),
}

/// The node's blobs, as the executors see them: the local store with the peers behind it.
pub trait BlobAccess: Send + Sync {
    /// Gives a local, verified file with the blob's bytes; it stays readable as long as the attempt runs.
    /// `from` is the ledger whose task names the blob.
    ///
    /// # Errors
    /// [`BlobError`] if the blob is neither here nor at a reachable peer.
    fn fetch(&self, blob: BlobRef, from: LedgerTag) -> BoxFuture<'_, Result<PathBuf, BlobError>>;

    /// Keeps an output in the local store.
    ///
    /// # Errors
    /// [`BlobError::Io`] if the disk refuses.
    fn store(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<BlobRef, BlobError>>;
}

impl From<BlobError> for AttemptError {
    fn from(error: BlobError) -> Self {
        Self::retryable("blob_unavailable", error.to_string())
    }
}

/// The JSON text of a value, fetched if it is a blob, at most `bytes_max` long.
pub(super) async fn read_text(
    payload: &Payload,
    bytes_max: u64,
    from: LedgerTag,
    blobs: &dyn BlobAccess,
) -> Result<String, AttemptError> {
    let blob = match payload {
        Payload::Inline(text) => return Ok(text.as_str().to_owned()),
        Payload::Blob(blob) => *blob,
    };
    if blob.bytes > bytes_max {
        let message = format!("the input, blob {}, has {} bytes; at most {bytes_max} are read", blob.cid, blob.bytes);
        return Err(AttemptError::permanent("input_too_large", message));
    }
    let path = blobs.fetch(blob, from).await?;
    tokio::fs::read_to_string(&path)
        .await
        .map_err(|error| AttemptError::retryable("blob_unavailable", format!("cannot read blob {}: {error}", blob.cid)))
}

/// An output: inline if it is small, else kept as a blob.
pub(super) async fn output(text: String, blobs: &dyn BlobAccess) -> Result<Payload, AttemptError> {
    if text.len() > limits::PAYLOAD_INLINE_BYTES_MAX {
        return Ok(Payload::Blob(blobs.store(text.into_bytes()).await?));
    }
    let text = JsonText::parse(&text)
        .map_err(|error| AttemptError::permanent("bad_output", format!("the output is not JSON: {error}")))?;
    Ok(Payload::Inline(text))
}
