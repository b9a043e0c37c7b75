//! Blobs here and at peers: what a task names is fetched, what an outcome names is there before the outcome.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie_core::ids::{LedgerTag, PeerId};
use magpie_core::lease::Completion;
use magpie_core::limits;
use magpie_core::payload::{BlobRef, Payload};
use magpie_core::peer_metrics::Measured;
use magpie_core::queue::Refusal;
use magpie_core::task::AttemptResult;

use super::peers::Peers;
use crate::executor::{BlobAccess, BlobError, BoxFuture};
use crate::messages::blob::{BlobReply, BlobRequest};
use crate::messages::{Answer, Body};
use crate::store::arriving_blobs::{ArrivingBlobs, Sender};
use crate::store::blobs::{Blobs, PutBlobError};

const PIECE_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct PeerBlobs {
    store: Blobs,
    peers: Peers,
    arriving: ArrivingBlobs,
}

impl PeerBlobs {
    pub fn new(store: Blobs, peers: Peers) -> Self {
        Self { arriving: ArrivingBlobs::new(store.clone()), store, peers }
    }

    /// Answers a request about this node's blobs.
    ///
    /// # Errors
    /// If the disk refuses, or a piece does not continue what arrived.
    pub async fn answer(
        &self,
        from: Option<PeerId>,
        owner: Arc<str>,
        request: BlobRequest,
    ) -> Result<BlobReply, Refusal> {
        self.answer_unless_here(Sender { peer: from, owner }, request, true).await
    }

    /// As [`PeerBlobs::answer`], but that what is put is written although it is here already: the time that it takes tells
    /// nobody what others have.
    ///
    /// # Errors
    /// The same.
    pub async fn answer_apart(&self, owner: Arc<str>, request: BlobRequest) -> Result<BlobReply, Refusal> {
        self.answer_unless_here(Sender { peer: None, owner }, request, false).await
    }

    async fn answer_unless_here(&self, from: Sender, request: BlobRequest, spares: bool) -> Result<BlobReply, Refusal> {
        let blobs = self.clone();
        let answered = tokio::task::spawn_blocking(move || blobs.answer_blocking(&from, request, spares)).await;
        answered.unwrap_or_else(|error| Err(refused(&error)))
    }

    /// `spares`: what is here already is not written again.
    fn answer_blocking(&self, from: &Sender, request: BlobRequest, spares: bool) -> Result<BlobReply, Refusal> {
        match request {
            BlobRequest::Stat { cid } => {
                let blob = self.store.stat(cid).map_err(|error| refused(&error))?;
                Ok(BlobReply::Stat { blob })
            }
            BlobRequest::Get { cid, offset, bytes_max } => {
                let len = (bytes_max as usize).min(limits::BLOB_CHUNK_BYTES_MAX);
                let piece = self.store.read_range(cid, offset, len).map_err(|error| refused(&error))?;
                Ok(piece.map_or(BlobReply::Missing { cid }, |piece| BlobReply::Piece { piece }))
            }
            BlobRequest::Put { blob, .. } if spares && matches!(self.store.stat(blob.cid), Ok(Some(_))) => {
                Ok(BlobReply::Put { next: blob.bytes })
            }
            BlobRequest::Put { blob, offset, piece } => self.take_piece(from, blob, offset, &piece),
        }
    }

    fn take_piece(&self, from: &Sender, blob: BlobRef, offset: u64, piece: &[u8]) -> Result<BlobReply, Refusal> {
        if piece.len() > limits::BLOB_CHUNK_BYTES_MAX || blob.bytes > limits::BLOB_BYTES_MAX {
            let fix = format!("send pieces of at most {} bytes", limits::BLOB_CHUNK_BYTES_MAX);
            return Err(Refusal::invalid("/piece", "a piece or a blob that is too large", fix));
        }
        let taken = self.arriving.take(from, blob, offset, piece);
        taken.map(|next| BlobReply::Put { next }).map_err(|error| refused(&error))
    }

    /// Brings every blob that outcomes name to their home, which has it fsynced before it commits.
    ///
    /// # Errors
    /// If the home cannot be reached or refuses a piece: the outcomes are then offered again.
    pub async fn upload_outputs(&self, home: LedgerTag, outputs: &[BlobRef]) -> Result<(), Refusal> {
        let peer = self.home_peer(home)?;
        if peer != self.peers.me() {
            for blob in outputs {
                self.upload(peer, *blob).await?;
            }
        }
        Ok(())
    }

    fn home_peer(&self, home: LedgerTag) -> Result<PeerId, Refusal> {
        self.peers.home_of(home).ok_or_else(|| Refusal::Unavailable { what: format!("home {home} is not known") })
    }

    async fn upload(&self, peer: PeerId, blob: BlobRef) -> Result<(), Refusal> {
        if let BlobReply::Stat { blob: Some(_) } = self.ask(peer, BlobRequest::Stat { cid: blob.cid }).await? {
            return Ok(());
        }
        let mut offset = 0;
        while offset < blob.bytes {
            let store = self.store.clone();
            let read = move || store.read_range(blob.cid, offset, limits::BLOB_CHUNK_BYTES_MAX);
            let piece = tokio::task::spawn_blocking(read).await.map_err(|error| refused(&error))?;
            let piece = piece.map_err(|error| refused(&error))?;
            let piece = piece.ok_or_else(|| Refusal::Unavailable { what: format!("blob {} is gone", blob.cid) })?;
            let (bytes, sent) = (piece.len() as u64, Instant::now());
            match self.ask(peer, BlobRequest::Put { blob, offset, piece }).await? {
                BlobReply::Put { next } if next > offset => {
                    let took_us = sent.elapsed().as_micros() as u64;
                    self.peers.measure(peer, Measured::Sent { bytes, took_us });
                    offset = next;
                }
                _ => return Err(Refusal::Unavailable { what: format!("{peer} did not take blob {}", blob.cid) }),
            }
        }
        Ok(())
    }

    async fn ask(&self, peer: PeerId, request: BlobRequest) -> Result<BlobReply, Refusal> {
        match self.peers.ask(peer, Body::Blob(request), PIECE_PATIENCE).await? {
            Answer::Blob(reply) => Ok(reply),
            Answer::Refused(refusal) => Err(refusal),
            _ => Err(Refusal::Unavailable { what: format!("{peer} answered something else") }),
        }
    }

    /// What this node's disk does not take is told apart from what the peer does not give.
    async fn download(&self, peer: PeerId, blob: BlobRef, from: LedgerTag) -> Result<PathBuf, BlobError> {
        let unavailable = |why: String| BlobError::Unavailable { cid: blob.cid, from, why };
        let kept = |error| match error {
            PutBlobError::Disk { .. } => BlobError::Io(io::Error::other(error)),
            PutBlobError::Oversize | PutBlobError::WrongDigest { .. } | PutBlobError::Source(_) => {
                unavailable(error.to_string())
            }
        };
        let store = self.store.clone();
        let mut writer = on_disk(move || store.open_writer()).await.map_err(kept)?;
        while writer.bytes() < blob.bytes {
            let bytes_max = limits::BLOB_CHUNK_BYTES_MAX as u32;
            let request = BlobRequest::Get { cid: blob.cid, offset: writer.bytes(), bytes_max };
            let asked = Instant::now();
            let piece = match self.ask(peer, request).await.map_err(|refusal| unavailable(refusal.to_string()))? {
                BlobReply::Piece { piece } if !piece.is_empty() => piece,
                _ => return Err(unavailable(format!("{peer} has no blob {}", blob.cid))),
            };
            let (bytes, took_us) = (piece.len() as u64, asked.elapsed().as_micros() as u64);
            self.peers.measure(peer, Measured::Received { bytes, took_us });
            writer = on_disk(move || writer.write(&piece).map(|()| writer)).await.map_err(kept)?;
        }
        on_disk(move || writer.finish(blob.cid)).await.map_err(kept)?;
        Ok(self.store.path(blob.cid))
    }
}

impl BlobAccess for PeerBlobs {
    fn fetch(&self, blob: BlobRef, from: LedgerTag) -> BoxFuture<'_, Result<PathBuf, BlobError>> {
        Box::pin(async move {
            let store = self.store.clone();
            let here = tokio::task::spawn_blocking(move || store.verify(blob.cid)).await;
            if matches!(here, Ok(Ok(Some(_)))) {
                return Ok(self.store.path(blob.cid));
            }
            let unavailable = |why: String| BlobError::Unavailable { cid: blob.cid, from, why };
            let peer = self.peers.home_of(from).filter(|peer| *peer != self.peers.me());
            let peer = peer.ok_or_else(|| unavailable("its home is not known, or is this node".to_owned()))?;
            self.download(peer, blob, from).await
        })
    }

    fn store(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<BlobRef, BlobError>> {
        Box::pin(async move {
            let store = self.store.clone();
            on_disk(move || store.put(&bytes)).await.map_err(|error| BlobError::Io(io::Error::other(error)))
        })
    }
}

/// The blobs that outcomes name.
pub fn outputs_of(completions: &[Completion]) -> Vec<BlobRef> {
    let named = completions.iter().filter_map(|completion| match &completion.outcome.result {
        AttemptResult::Succeeded { output } => Payload::blob(output),
        AttemptResult::Failed { .. } => None,
    });
    named.collect()
}

/// Runs what blocks on the disk.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PutBlobError> + Send + 'static,
) -> Result<T, PutBlobError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|panic| Err(PutBlobError::Source(io::Error::other(panic))))
}

fn refused(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::Unavailable { what: error.to_string() }
}
