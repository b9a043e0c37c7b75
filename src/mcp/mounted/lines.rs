//! What a mounted server writes, line by line: a line without an end is an error and not a growing buffer, and one that
//! writes without an end is read at a pace that leaves the node's thread to the node.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use magpie_core::limits;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A reader that keeps to its [`Pace`], and fails at the first line of more than `bytes_max` bytes.
pub struct PacedLines<R> {
    inner: R,
    bytes_max: usize,
    /// Bytes since the last line ended.
    bytes: usize,
    pace: Pace,
    rest: Option<Pin<Box<Sleep>>>,
}

impl<R> PacedLines<R> {
    pub fn new(inner: R, bytes_max: usize, pace: Pace) -> Self {
        Self { inner, bytes_max, bytes: 0, pace, rest: None }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for PacedLines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(context));
            self.rest = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let fresh = &buffer.filled()[before..];
        self.rest = self.pace.spend(fresh).map(|rest| Box::pin(tokio::time::sleep(rest)));
        self.bytes = match fresh.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => fresh.len() - end - 1,
            None => self.bytes + fresh.len(),
        };
        if self.bytes > self.bytes_max {
            buffer.set_filled(before);
            let why = format!("a line of more than {} bytes", self.bytes_max);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        Poll::Ready(Ok(()))
    }
}

/// How much is read in a time. A clone is the same pace: all that keep to it read so much together.
#[derive(Clone)]
pub struct Pace(Arc<Mutex<Instant>>);

impl Default for Pace {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Pace {
    /// How long the reader has to rest. A line costs what it takes to look at it, however short it is.
    fn spend(&self, read: &[u8]) -> Option<Duration> {
        let lines = read.iter().filter(|byte| **byte == b'\n').count();
        let spent = read.len() + lines * limits::MOUNT_LINE_COST_BYTES;
        // When all that was read would have been read at the pace.
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        *due = now.max(*due) + Duration::from_secs_f64(spent as f64 / limits::MOUNT_READ_BYTES_PER_S as f64);
        (*due - now).checked_sub(Duration::from_millis(limits::MOUNT_READ_AHEAD_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn lines_pass_and_one_without_an_end_fails() {
        let text = b"12345\n1234\n".repeat(100);
        let mut read = Vec::new();
        PacedLines::new(&text[..], 5, Pace::default()).read_to_end(&mut read).await.unwrap();
        assert_eq!(read, text);
        let error = PacedLines::new(&text[..], 4, Pace::default()).read_to_end(&mut Vec::new()).await;
        assert!(error.is_ok(), "within one reading only what stays open counts");
        let endless = tokio::io::repeat(b'x');
        let error = PacedLines::new(endless, 1_000, Pace::default()).read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test(start_paused = true)]
    async fn who_writes_without_an_end_is_read_at_a_pace_alone_or_with_others() {
        let rate = limits::MOUNT_READ_BYTES_PER_S;
        for (readers, line) in [(1, 1), (1, 100_000), (2, 1_000)] {
            let lines = 8 * rate / readers / (line + limits::MOUNT_LINE_COST_BYTES);
            let text = [vec![b'x'; line - 1], vec![b'\n']].concat().repeat(lines);
            let (began, pace) = (Instant::now(), Pace::default());
            let read = || async { PacedLines::new(&text[..], line, pace.clone()).read_to_end(&mut Vec::new()).await };
            tokio::try_join!(read(), async { if readers > 1 { read().await } else { Ok(0) } }).unwrap();
            let took = began.elapsed().as_secs_f64();
            assert!((7.0..=8.0).contains(&took), "{readers} times {} bytes in lines of {line}: {took} s", text.len());
        }
    }
}
