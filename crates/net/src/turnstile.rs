//! A connection whose peer opens only so many substreams a second. Those beyond wait, as many as an honest peer may have
//! under way; the rest is reset before anything is negotiated.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use crate::share::Share;

/// Substreams that are taken from a connection before others may run.
const TAKEN_AT_ONCE_MAX: usize = 32;

pub(crate) struct Turnstile<M: StreamMuxer> {
    inner: M,
    share: Arc<Share>,
    /// Bounded by the places that the peer has for them.
    waiting: VecDeque<(M::Substream, OwnedSemaphorePermit)>,
    /// Until the next one may pass.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<M: StreamMuxer + Unpin> Turnstile<M> {
    pub fn new(inner: M, share: Arc<Share>) -> Self {
        Self { inner, share, waiting: VecDeque::new(), pause: None }
    }

    /// Takes what the connection has, or resets it.
    fn take_in(&mut self, context: &mut Context<'_>) -> Result<(), M::Error> {
        for _ in 0..TAKEN_AT_ONCE_MAX {
            match Pin::new(&mut self.inner).poll_inbound(context)? {
                Poll::Ready(stream) => self.waiting.extend(self.share.waits().map(|place| (stream, place))),
                Poll::Pending => return Ok(()),
            }
        }
        context.waker().wake_by_ref();
        Ok(())
    }

    fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<M::Substream> {
        while !self.waiting.is_empty() {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            match self.share.stream_passes() {
                Ok(()) => {
                    if let Some((stream, _)) = self.waiting.pop_front() {
                        return Poll::Ready(stream);
                    }
                }
                Err(wait_ns) => self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_nanos(wait_ns)))),
            }
        }
        Poll::Pending
    }
}

impl<M> StreamMuxer for Turnstile<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        self.take_in(context)?;
        self.poll_passed(context).map(Ok)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.inner).poll_outbound(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.inner).poll_close(context)
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.inner).poll(context)
    }
}
