//! The two ends of a local socket, each woken by what it waits for alone.
//!
//! The kernel wakes who is registered for writing whenever the other side has read. A socket that is registered as a whole
//! would wake its reader with that, once more for each message, between a question and its answer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use tokio::net::unix::pipe;

/// How long a writer that cannot be told when there is room waits before it looks.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// A pipe's end is registered for its direction alone.
type Socket = Arc<pipe::Receiver>;

/// What comes from the other side.
pub struct Reader(Socket);

/// Dropped, it tells the other side that no more comes.
pub struct Writer(Socket);

/// # Errors
/// The operating system's.
pub fn split(stream: tokio::net::UnixStream) -> io::Result<(Reader, Writer)> {
    let socket = Arc::new(pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(stream.into_std()?))?);
    Ok((Reader(socket.clone()), Writer(socket)))
}

impl Reader {
    /// Waits for something, and puts so much of it into `chunk` as there is room for; 0 at the end of the stream.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(chunk) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

impl Writer {
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::net::send(&*self.0, bytes, SendFlags::NOSIGNAL) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::AGAIN) => self.has_room().await?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Registered for this one time, with a descriptor of its own.
    async fn has_room(&self) -> io::Result<()> {
        let Ok(copy) = rustix::io::fcntl_dupfd_cloexec(&*self.0, 0) else {
            // None is left: that is no reason to leave an answer unsaid.
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            return Ok(());
        };
        pipe::Sender::from_owned_fd_unchecked(copy)?.writable().await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The other side may have gone.
        let _ = rustix::net::shutdown(&*self.0, Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
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
