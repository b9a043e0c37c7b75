//! What a command says of itself while it runs: lines that it writes into a pipe with a name, `MAGPIE_PROGRESS`.
//!
//! A pipe with a name asks nothing of a command but to open a file, and holds nothing up: it is read about as fast as lines
//! come, and the newest replaces the others. Only one that floods it waits, and for a moment.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::time::Duration;

use magpie_core::limits;
use magpie_core::progress::AttemptNews;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::retry_on_intr;
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::sync::watch;

const READ_BYTES: usize = 16 * 1024;
/// After so much at once, whatever else there is to do for the attempt has its turn: a command that never stops writing would
/// otherwise never be stopped.
const FLOOD_PAUSE: Duration = Duration::from_millis(1);
/// The most that a pipe holds: who still writes into it is no part of the attempt any more.
const PIPE_BYTES_MAX: usize = 1024 * 1024;

/// The reading end, and what came through it.
pub struct Progress {
    pipe: Receiver,
    line: Vec<u8>,
    /// The line that comes is too long: the rest of it is passed over.
    overlong: bool,
    lines: u64,
    /// Why the first line that was not taken was not.
    complaint: Option<String>,
    says: watch::Sender<AttemptNews>,
}

impl Progress {
    /// Makes the pipe at `path`, which must not be there.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(path: &Path, says: watch::Sender<AttemptNews>) -> io::Result<Self> {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // Open for writing too: neither does an end come when a command closes it, nor does one wait that opens it.
        let pipe = OpenOptions::new().read_write(true).open_receiver(path)?;
        Ok(Self { pipe, line: Vec::new(), overlong: false, lines: 0, complaint: None, says })
    }

    /// Takes what comes. It never ends by itself.
    pub async fn listen(&mut self) -> Infallible {
        loop {
            if self.pipe.readable().await.is_err() {
                // Nothing is heard of the command any more; it runs all the same.
                return std::future::pending().await;
            }
            while self.take_some() {
                tokio::time::sleep(FLOOD_PAUSE).await;
            }
        }
    }

    /// Takes what there is, up to [`READ_BYTES`] or a little more: whether there may be more yet.
    fn take_some(&mut self) -> bool {
        let (mut bytes, mut read) = ([0; READ_BYTES], 0);
        while let Ok(len @ 1..) = self.pipe.try_read(&mut bytes) {
            self.take_bytes(&bytes[..len]);
            read += len;
            if read >= READ_BYTES {
                return true;
            }
        }
        false
    }

    /// Takes what the command wrote before it ended; says why a line was not taken, if one was not.
    pub fn close(mut self) -> Option<String> {
        // The runtime may not have heard yet that there is something: it is read whatever that believes.
        let (mut bytes, mut read) = ([0; READ_BYTES], 0);
        while read < PIPE_BYTES_MAX
            && let Ok(len @ 1..) = retry_on_intr(|| rustix::io::read(&self.pipe, &mut bytes))
        {
            self.take_bytes(&bytes[..len]);
            read += len;
        }
        if !self.line.is_empty() {
            self.take_line();
        }
        self.complaint
    }

    fn take_bytes(&mut self, bytes: &[u8]) {
        bytes.split_inclusive(|byte| *byte == b'\n').for_each(|piece| self.take_piece(piece));
    }

    fn take_piece(&mut self, piece: &[u8]) {
        let (text, whole) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
        let room = limits::PROGRESS_LINE_BYTES_MAX - self.line.len();
        self.overlong |= text.len() > room;
        self.line.extend_from_slice(&text[..text.len().min(room)]);
        if whole {
            self.take_line();
        }
    }

    fn take_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.lines += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let read = match std::mem::take(&mut self.overlong) {
            true => Err(format!("it is longer than {} bytes", limits::PROGRESS_LINE_BYTES_MAX)),
            false => AttemptNews::read_line(&String::from_utf8_lossy(&line)),
        };
        match read {
            Ok(news) => self.says.send_modify(|said| said.update(news)),
            Err(why) => {
                let lines = self.lines;
                self.complaint.get_or_insert_with(|| format!("line {lines} of MAGPIE_PROGRESS is not taken: {why}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn after(text: &[u8]) -> (AttemptNews, Option<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("progress");
        let (says, said) = watch::channel(AttemptNews::default());
        let mut progress = Progress::open(&path, says).unwrap();
        let (text, writer) = (text.to_owned(), path.clone());
        let writing = tokio::task::spawn_blocking(move || {
            std::fs::OpenOptions::new().append(true).open(writer).unwrap().write_all(&text).unwrap();
        });
        tokio::select! {
            never = progress.listen() => match never {},
            written = writing => written.unwrap(),
        }
        let complaint = progress.close();
        (said.borrow().clone(), complaint)
    }

    #[tokio::test]
    async fn the_newest_of_many_lines_is_what_is_said() {
        let lines: String = (0..10_000).map(|n| format!("{{\"progress\": {}}}\n", f64::from(n) / 10_000.0)).collect();
        let (news, complaint) = after(format!("{lines}{{\"checkpoint\": 7}}").as_bytes()).await;
        assert_eq!(news.progress.unwrap().fraction, Some(0.9999));
        assert_eq!((news.checkpoint.unwrap().as_str(), complaint), ("7", None), "also of a line without its end");
    }

    #[tokio::test]
    async fn the_first_line_that_is_not_taken_is_told_and_the_others_are_taken() {
        let (news, complaint) = after(b"{\"progress\": 0.5}\n\nhalf\n{\"progress\": 7}\n{\"checkpoint\": 1}\n").await;
        assert_eq!((news.progress.unwrap().fraction, news.checkpoint.unwrap().as_str()), (Some(0.5), "1"));
        assert!(complaint.unwrap().starts_with("line 3 of MAGPIE_PROGRESS is not taken: "));
    }

    /// What is written before anybody listens is there when the pipe is closed: a command may say all at its end.
    #[tokio::test]
    async fn what_a_command_said_right_before_its_end_is_taken_though_nobody_listened_since() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("progress");
        let (says, said) = watch::channel(AttemptNews::default());
        let progress = Progress::open(&path, says).unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"checkpoint\": 1}\n").unwrap();
        assert_eq!(progress.close(), None);
        assert_eq!(said.borrow().checkpoint.as_ref().unwrap().as_str(), "1");
    }

    #[tokio::test]
    async fn an_endless_line_takes_no_memory_and_no_other_line_with_it() {
        let mut text = vec![b'x'; 3 * limits::PROGRESS_LINE_BYTES_MAX];
        text.extend_from_slice(b"\n{\"checkpoint\": 1}\n");
        let (news, complaint) = after(&text).await;
        assert_eq!(news.checkpoint.unwrap().as_str(), "1");
        assert!(complaint.unwrap().contains("longer than"));
    }
}
