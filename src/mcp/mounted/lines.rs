//! What a mounted server writes, line by line; a line without an end is an error and not a growing buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// A reader that fails at the first line of more than `bytes_max` bytes.
pub struct BoundedLines<R> {
    inner: R,
    bytes_max: usize,
    /// Bytes since the last line ended.
    bytes: usize,
}

impl<R> BoundedLines<R> {
    pub fn new(inner: R, bytes_max: usize) -> Self {
        Self { inner, bytes_max, bytes: 0 }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for BoundedLines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let fresh = &buffer.filled()[before..];
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn lines_pass_and_one_without_an_end_fails() {
        let text = b"12345\n1234\n".repeat(100);
        let mut read = Vec::new();
        BoundedLines::new(&text[..], 5).read_to_end(&mut read).await.unwrap();
        assert_eq!(read, text);
        let error = BoundedLines::new(&text[..], 4).read_to_end(&mut Vec::new()).await;
        assert!(error.is_ok(), "within one reading only what stays open counts");
        let endless = tokio::io::repeat(b'x');
        let error = BoundedLines::new(endless, 1_000).read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
