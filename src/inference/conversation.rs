//! Requests and replies over one stream, matched by id.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;

use magpie_core::device::{DeviceReply, DeviceRequest};
use magpie_core::limits::FRAME_BYTES_MAX;
use magpie_core::wire::{DecodeError, FrameBuffer, FrameError, decode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

const READ_BYTES: usize = 64 * 1024;

/// Why a stream carries no more replies.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    #[error("the stream ended")]
    Ended,
    #[error("the stream broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the stream carries no frames: {0}")]
    Frame(#[from] FrameError),
    #[error("a frame holds no reply: {0}")]
    Decode(#[from] DecodeError),
}

/// Who waits for which reply. Without an entry a reply is dropped: its request was given up.
#[derive(Debug, Default)]
pub struct Pending(Mutex<HashMap<u64, oneshot::Sender<DeviceReply>>>);

impl Pending {
    /// Waits for the reply to request `id`.
    pub fn expect(&self, id: u64) -> oneshot::Receiver<DeviceReply> {
        let (sender, receiver) = oneshot::channel();
        self.map().insert(id, sender);
        receiver
    }

    pub fn forget(&self, id: u64) {
        self.map().remove(&id);
    }

    /// Wakes all who wait, with nothing.
    pub fn forget_all(&self) {
        self.map().clear();
    }

    fn settle(&self, reply: DeviceReply) {
        let waiting = reply_id(&reply).and_then(|id| self.map().remove(&id));
        if let Some(waiting) = waiting {
            // A receiver that is gone no longer wants it.
            let _ = waiting.send(reply);
        }
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<DeviceReply>>> {
        // No code that holds it can panic.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reads replies one by one.
pub struct ReplyReader<R> {
    input: R,
    buffer: FrameBuffer,
    read: Box<[u8]>,
}

impl<R: AsyncRead + Unpin> ReplyReader<R> {
    pub fn new(input: R) -> Self {
        Self { input, buffer: FrameBuffer::new(FRAME_BYTES_MAX), read: vec![0; READ_BYTES].into() }
    }

    /// The next reply. Loses nothing when it is dropped half-way.
    ///
    /// # Errors
    /// A stream that ends, breaks, or carries no replies.
    pub async fn next_reply(&mut self) -> Result<DeviceReply, ConversationError> {
        loop {
            if let Some(frame) = self.buffer.next_frame()? {
                return Ok(decode(frame)?);
            }
            match self.input.read(&mut self.read).await? {
                0 => return Err(ConversationError::Ended),
                length => self.buffer.push(&self.read[..length]),
            }
        }
    }

    /// Hands every reply to who waits for it, until the stream fails.
    pub async fn settle_all(&mut self, pending: &Pending) -> ConversationError {
        loop {
            match self.next_reply().await {
                Ok(reply) => pending.settle(reply),
                Err(error) => return error,
            }
        }
    }
}

/// Writes the frames it is given, one whole frame after the other, until no more can come.
///
/// # Errors
/// The stream's.
pub async fn write_all(mut output: impl AsyncWrite + Unpin, frames: &mut mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        output.write_all(&frame).await?;
    }
    output.shutdown().await
}

/// `request` under another id.
pub fn with_id(mut request: DeviceRequest, number: u64) -> DeviceRequest {
    match &mut request {
        DeviceRequest::Load { id, .. } | DeviceRequest::Unload { id, .. } | DeviceRequest::Embed { id, .. } => {
            *id = number
        }
    }
    request
}

fn reply_id(reply: &DeviceReply) -> Option<u64> {
    match reply {
        DeviceReply::Ready { .. } => None,
        DeviceReply::Loaded { id, .. }
        | DeviceReply::Unloaded { id }
        | DeviceReply::Embedded { id, .. }
        | DeviceReply::Failed { id, .. } => Some(*id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::wire::encode;

    fn frame(id: u64) -> Vec<u8> {
        encode(&DeviceReply::Unloaded { id }, FRAME_BYTES_MAX).unwrap()
    }

    #[tokio::test]
    async fn replies_in_any_order_reach_who_waits_for_them() {
        let pending = Pending::default();
        let (one, two, given_up) = (pending.expect(1), pending.expect(2), pending.expect(3));
        pending.forget(3);
        let stream = [frame(3), frame(2), frame(9), frame(1)].concat();
        let end = ReplyReader::new(stream.as_slice()).settle_all(&pending).await;
        assert!(matches!(end, ConversationError::Ended));
        assert_eq!(one.await.unwrap(), DeviceReply::Unloaded { id: 1 });
        assert_eq!(two.await.unwrap(), DeviceReply::Unloaded { id: 2 });
        assert!(given_up.await.is_err());
    }

    #[tokio::test]
    async fn a_stream_of_something_else_is_an_error() {
        let pending = Pending::default();
        let http = ReplyReader::new(b"HTTP/1.1 400 Bad Request\r\n".as_slice()).settle_all(&pending).await;
        assert!(matches!(http, ConversationError::Frame(_)), "{http}");
        let request = encode(&DeviceRequest::Unload { id: 1, model: "m".to_owned() }, FRAME_BYTES_MAX).unwrap();
        let echo = ReplyReader::new(request.as_slice()).settle_all(&pending).await;
        assert!(matches!(echo, ConversationError::Decode(_)), "{echo}");
    }

    #[tokio::test]
    async fn all_who_wait_are_woken_when_nothing_more_comes() {
        let pending = Pending::default();
        let waiting = [pending.expect(1), pending.expect(2)];
        pending.forget_all();
        for receiver in waiting {
            assert!(receiver.await.is_err());
        }
    }
}
