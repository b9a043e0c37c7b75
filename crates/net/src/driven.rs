//! A multiplexed connection that a task of its own drives, as quinn's are.
//!
//! libp2p's task of a connection asks all protocols what they want, and lists what they offer, each time it is woken. Left to
//! drive a yamux connection too, it does so for every frame of every stream; here it is woken for a new stream, for the end, and for
//! what its own protocols read of theirs.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

/// Streams of the peer that wait to be taken. While there are so many the rest is left to the multiplexer, which has a bound, too.
const ARRIVED_MAX: usize = 32;

/// Dropped, it ends the connection.
pub(crate) struct Driven<M: StreamMuxer>(Arc<Mutex<Connection<M>>>);

struct Connection<M: StreamMuxer> {
    muxer: M,
    arrived: VecDeque<M::Substream>,
    /// Why it ended, for who owns it.
    failed: Option<M::Error>,
    /// Nobody drives it any more: it failed, or its owner closes it.
    is_over: bool,
    /// Who owns the connection, and waits for what arrives.
    owner: Option<Waker>,
    driver: Option<Waker>,
}

impl<M> Driven<M>
where
    M: StreamMuxer + Unpin + Send + 'static,
    M::Substream: Send,
    M::Error: Send,
{
    /// Needs a tokio runtime. The task that drives it holds nothing of it, and ends with it.
    pub fn start(muxer: M) -> Self {
        let arrived = VecDeque::new();
        let connection = Connection { muxer, arrived, failed: None, is_over: false, owner: None, driver: None };
        let connection = Arc::new(Mutex::new(connection));
        tokio::spawn(drive(Arc::downgrade(&connection)));
        Self(connection)
    }
}

impl<M: StreamMuxer> Driven<M> {
    fn lock(&self) -> MutexGuard<'_, Connection<M>> {
        lock(&self.0)
    }
}

impl<M: StreamMuxer> Drop for Driven<M> {
    fn drop(&mut self) {
        // The driver finds nothing to drive any more.
        self.lock().end();
    }
}

async fn drive<M: StreamMuxer + Unpin>(connection: Weak<Mutex<Connection<M>>>) {
    poll_fn(|context| match connection.upgrade() {
        Some(connection) => lock(&connection).poll_driven(context),
        None => Poll::Ready(()),
    })
    .await;
}

impl<M: StreamMuxer> Connection<M> {
    fn poll_driven(&mut self, context: &mut Context<'_>) -> Poll<()>
    where
        M: Unpin,
    {
        while !self.is_over {
            let has_room = self.arrived.len() < ARRIVED_MAX;
            let polled = if has_room {
                Pin::new(&mut self.muxer).poll_inbound(context).map_ok(Some)
            } else {
                Pin::new(&mut self.muxer).poll(context).map_ok(|_| None)
            };
            match polled {
                Poll::Pending => {
                    keep(&mut self.driver, context);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(stream)) => self.arrived.extend(stream),
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    self.is_over = true;
                }
            }
            self.owner.take().into_iter().for_each(Waker::wake);
        }
        Poll::Ready(())
    }

    /// What the connection ended with, once.
    fn poll_failed<T>(&mut self, context: &mut Context<'_>) -> Poll<Result<T, M::Error>> {
        match self.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => {
                keep(&mut self.owner, context);
                Poll::Pending
            }
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        self.wake_driver();
    }

    fn wake_driver(&mut self) {
        self.driver.take().into_iter().for_each(Waker::wake);
    }
}

impl<M> StreamMuxer for Driven<M>
where
    M: StreamMuxer + Unpin,
{
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        let mut connection = self.lock();
        let was_full = connection.arrived.len() == ARRIVED_MAX;
        let Some(stream) = connection.arrived.pop_front() else { return connection.poll_failed(context) };
        if was_full {
            connection.wake_driver();
        }
        Poll::Ready(Ok(stream))
    }

    fn poll_outbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        let mut connection = self.lock();
        let opened = Pin::new(&mut connection.muxer).poll_outbound(context);
        // It has a stream more to look after.
        connection.wake_driver();
        opened
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let mut connection = self.lock();
        connection.end();
        Pin::new(&mut connection.muxer).poll_close(context)
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        self.lock().poll_failed(context)
    }
}

fn keep(kept: &mut Option<Waker>, context: &Context<'_>) {
    if !kept.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
        *kept = Some(context.waker().clone());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
    use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
    use libp2p::yamux;
    use tokio::io::DuplexStream;
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;

    type Yamux = yamux::Muxer<Compat<DuplexStream>>;

    /// Who dialled, and who was dialled.
    fn connected() -> (Driven<Yamux>, Driven<Yamux>) {
        let (near, far) = tokio::io::duplex(4_096);
        let near = yamux::Config::default().upgrade_outbound(near.compat(), "").now_or_never().unwrap().unwrap();
        let far = yamux::Config::default().upgrade_inbound(far.compat(), "").now_or_never().unwrap().unwrap();
        (Driven::start(near), Driven::start(far))
    }

    async fn open(connection: &mut Driven<Yamux>) -> yamux::Stream {
        poll_fn(|context| Pin::new(&mut *connection).poll_outbound(context)).await.unwrap()
    }

    async fn accept(connection: &mut Driven<Yamux>) -> yamux::Stream {
        poll_fn(|context| Pin::new(&mut *connection).poll_inbound(context)).await.unwrap()
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn its_owner_is_woken_for_a_new_stream_and_not_for_what_streams_carry() {
        let (mut near, mut far) = connected();
        let mut out = open(&mut near).await;
        out.write_all(b"?").await.unwrap();
        let mut into = accept(&mut far).await;
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        assert!(Pin::new(&mut far).poll_inbound(&mut Context::from_waker(&waker)).is_pending());
        assert!(Pin::new(&mut far).poll(&mut Context::from_waker(&waker)).is_pending());
        let mut byte = [0];
        for _ in 0..100 {
            into.read_exact(&mut byte).await.unwrap();
            into.write_all(b"!").await.unwrap();
            out.read_exact(&mut byte).await.unwrap();
            out.write_all(b"?").await.unwrap();
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        let mut another = open(&mut near).await;
        another.write_all(b"?").await.unwrap();
        let woken = async {
            while wakes.0.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), woken).await.unwrap();
        assert!(Pin::new(&mut far).poll_inbound(&mut Context::from_waker(&waker)).is_ready());
    }

    #[tokio::test]
    async fn streams_that_find_no_room_come_when_there_is_some() {
        let (mut near, mut far) = connected();
        let mut streams = Vec::new();
        for _ in 0..2 * ARRIVED_MAX {
            let mut stream = open(&mut near).await;
            stream.write_all(b"?").await.unwrap();
            streams.push(stream);
        }
        let full = async {
            while far.lock().arrived.len() < ARRIVED_MAX {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), full).await.unwrap();
        for _ in 0..2 * ARRIVED_MAX {
            assert!(far.lock().arrived.len() <= ARRIVED_MAX);
            accept(&mut far).await;
        }
    }

    #[tokio::test]
    async fn the_end_of_one_side_is_told_to_the_owner_of_the_other() {
        let (near, mut far) = connected();
        drop(near);
        let ended = poll_fn(|context| Pin::new(&mut far).poll(context));
        assert!(tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn who_closes_it_says_so_to_the_other_side() {
        let (mut near, mut far) = connected();
        let mut out = open(&mut near).await;
        out.write_all(b"?").await.unwrap();
        accept(&mut far).await;
        let closing = poll_fn(|context| Pin::new(&mut near).poll_close(context));
        tokio::time::timeout(Duration::from_secs(10), closing).await.unwrap().unwrap();
        let ended = poll_fn(|context| Pin::new(&mut far).poll(context));
        assert!(tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().is_err());
    }
}
