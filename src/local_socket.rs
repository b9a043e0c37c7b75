//! The two ends of a local socket, each woken by what it waits for alone.
//!
//! The kernel wakes who is registered for writing whenever the other side has read. A socket that is registered as a whole
//! would wake its reader with that, once more for each message, between a question and its answer.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use tokio::net::unix::pipe;

/// A pipe's end is registered for its direction alone.
pub type Reader = pipe::Receiver;

/// Dropped, it tells the other side that no more comes.
pub struct Writer(UnixStream);

/// # Errors
/// The operating system's, if it has no descriptor left.
pub fn split(stream: tokio::net::UnixStream) -> io::Result<(Reader, Writer)> {
    let stream = stream.into_std()?;
    let reader = pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(stream.try_clone()?))?;
    Ok((reader, Writer(stream)))
}

impl Writer {
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.has_room().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Registered for this one time.
    async fn has_room(&self) -> io::Result<()> {
        pipe::Sender::from_owned_fd_unchecked(OwnedFd::from(self.0.try_clone()?))?.writable().await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The other side may have gone.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_is_more_than_the_socket_holds_arrives_whole_and_then_the_end() {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let ((reader, mut writer), (mut other, _held)) = (split(ours).unwrap(), split(theirs).unwrap());
        let sent: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
        let writing = async {
            writer.write_all(&sent).await.unwrap();
            drop(writer);
        };
        let reading = async {
            let (mut came, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
            loop {
                match other.read(&mut chunk).await.unwrap() {
                    0 => return came,
                    len => came.extend_from_slice(&chunk[..len]),
                }
            }
        };
        let ((), came) = tokio::join!(writing, reading);
        assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
        drop(reader);
    }

    #[tokio::test]
    async fn writing_to_who_has_gone_is_an_error() {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let (_reader, mut writer) = split(ours).unwrap();
        drop(theirs);
        assert!(writer.write_all(b"anybody?").await.is_err());
    }
}
