//! What an executor needs of the blob store: inputs as local files, outputs kept.

use std::path::PathBuf;
use std::time::Duration;

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

/// The disk is asked so often whether it takes an output now.
const STORE_AGAIN_AFTER: Duration = Duration::from_millis(limits::WORK_ROOM_LOOK_EVERY_MS);

/// An output: inline if it is small, else kept as a blob.
///
/// The work is done, so a disk that does not take it is waited for: whoever calls sets a bound to that.
pub(super) async fn output(text: String, blobs: &dyn BlobAccess) -> Result<Payload, AttemptError> {
    if text.len() > limits::PAYLOAD_INLINE_BYTES_MAX {
        let bytes = text.into_bytes();
        loop {
            match blobs.store(bytes.clone()).await {
                Ok(blob) => return Ok(Payload::Blob(blob)),
                Err(BlobError::Io(error)) => tracing::error!(%error, "an output waits for the disk to take it"),
                Err(error @ BlobError::Unavailable { .. }) => return Err(error.into()),
            }
            tokio::time::sleep(STORE_AGAIN_AFTER).await;
        }
    }
    let text = JsonText::parse(&text)
        .map_err(|error| AttemptError::permanent("bad_output", format!("the output is not JSON: {error}")))?;
    Ok(Payload::Inline(text))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Takes nothing until it was asked so often.
    struct Full(AtomicU32);

    impl BlobAccess for Full {
        fn fetch(&self, blob: BlobRef, from: LedgerTag) -> BoxFuture<'_, Result<PathBuf, BlobError>> {
            let error = BlobError::Unavailable { cid: blob.cid, from, why: "nothing is here".to_owned() };
            Box::pin(async { Err(error) })
        }

        fn store(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<BlobRef, BlobError>> {
            let full = self.0.fetch_sub(1, Ordering::Relaxed) > 1;
            let blob = BlobRef { cid: ContentId::of(&bytes), bytes: bytes.len() as u64 };
            let full = full.then(|| BlobError::Io(std::io::ErrorKind::StorageFull.into()));
            Box::pin(async move { full.map_or(Ok(blob), Err) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_output_waits_until_the_disk_takes_it() {
        let text = "1".repeat(limits::PAYLOAD_INLINE_BYTES_MAX + 1);
        let begin = tokio::time::Instant::now();
        let kept = output(text.clone(), &Full(AtomicU32::new(4))).await.unwrap();
        assert_eq!(Payload::blob(&kept).map(|blob| blob.cid), Some(ContentId::of(text.as_bytes())));
        assert_eq!(begin.elapsed(), 3 * STORE_AGAIN_AFTER);
    }
}
