//! What becomes of a client when the process has no file descriptor left: one is kept aside, with which each is told so.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags};

/// How long accepting waits when not even the descriptor that was kept aside could be used.
pub const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// What a client is told to do about it.
pub const NO_DESCRIPTOR: &str = "this node has no file descriptor left for another connection; raise its limit (`ulimit -n`, `LimitNOFILE=`), or close some";
/// A request may be as long; what is left unread when a connection is closed takes the answer with it.
const HEARD_BYTES_MAX: usize = 64 * 1024;

/// Whether nobody can be accepted before something is closed elsewhere.
pub fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// Whether only the client that was to be accepted has left.
pub fn is_the_clients(error: &io::Error) -> bool {
    let of_one = [Errno::CONNABORTED, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|errno| of_one.contains(&errno))
}

/// One descriptor for the time when there is no other.
#[derive(Debug)]
pub struct Spare(Option<File>);

impl Spare {
    pub fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// For after a shortage: another thread may have been faster when it was to be taken back.
    pub fn refill(&mut self) {
        if self.0.is_none() {
            *self = Self::new();
        }
    }

    /// Takes the next client that waits at `listener`, which does not block, says `words` to it and lets it go. False if nobody waits, or
    /// another thread was faster.
    pub fn turn_away(&mut self, listener: impl AsFd, words: &[u8]) -> bool {
        // Given up only where somebody waits: in the meantime others would take it.
        if !is_waited_at(&listener) {
            return false;
        }
        drop(self.0.take());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let taken = rustix::net::accept_with(listener, flags).map(|client| say(&client, words));
        *self = Self::new();
        taken.is_ok()
    }
}

fn is_waited_at(listener: &impl AsFd) -> bool {
    let mut listeners = [PollFd::new(listener, PollFlags::IN)];
    rustix::event::poll(&mut listeners, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Tells a client why it is let go, if that can be told at once.
pub fn say(client: impl AsFd, words: &[u8]) {
    let client = client.as_fd();
    let _ = rustix::io::read(client, &mut vec![0; HEARD_BYTES_MAX][..]);
    let _ = rustix::io::write(client, words);
    let _ = rustix::net::shutdown(client, Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn who_waits_is_told_and_let_go_and_nobody_who_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut spare = Spare::new();
        assert!(!spare.turn_away(&listener, b"full"));
        let mut client = UnixStream::connect(dir.path().join("sock")).unwrap();
        client.write_all(b"a question").unwrap();
        assert!(spare.turn_away(&listener, b"full"));
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "full");
        assert!(spare.0.is_some(), "there is one again for the next");
    }
}
