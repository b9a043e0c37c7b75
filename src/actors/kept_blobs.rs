//! Which blobs a namespace has, asked of the disk by doors whose callers are kept to one.

use std::io;

use magpie_core::ids::ContentId;
use magpie_core::queue::Refusal;

use crate::client::ClientError;
use crate::store::namespace_blobs::NamespaceBlobs;

/// The first of these that it does not have.
pub async fn lacks(
    kept: &NamespaceBlobs,
    namespace: &str,
    blobs: Vec<ContentId>,
) -> Result<Option<ContentId>, ClientError> {
    let (kept, namespace) = (kept.clone(), namespace.to_owned());
    on_disk(move || {
        for cid in blobs {
            if !kept.has(&namespace, cid)? {
                return Ok(Some(cid));
            }
        }
        Ok(None)
    })
    .await
}

/// It has these from now on.
pub async fn give(kept: &NamespaceBlobs, namespace: &str, blobs: Vec<ContentId>) -> Result<(), ClientError> {
    let (kept, namespace) = (kept.clone(), namespace.to_owned());
    on_disk(move || blobs.into_iter().try_for_each(|cid| kept.give(&namespace, cid))).await
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, ClientError> {
    let ended = tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    ended.map_err(|error| {
        let what = format!("which blobs a namespace has cannot be read or kept: {error}");
        ClientError::Refused(Refusal::Unavailable { what })
    })
}
