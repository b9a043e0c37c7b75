//! The audit on the disk: calls of tools, a line of JSON each, in two files that take turns.
//!
//! The newer file is written to until it is full; then it takes the place of the older one, which goes. So what is kept
//! has a bound, and the newest half of it is always there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk;
use crate::messages::audit::{AuditAsk, AuditFound, CALLS_READ_MAX, CallLine};

/// Of each of the two files: some 40,000 calls.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
const NEWER: &str = "calls.jsonl";
const OLDER: &str = "calls.older.jsonl";
/// What the first line of a file says.
const FORMAT: u32 = 1;
const HEAD_BYTES_MAX: u64 = 256;

#[derive(Serialize, Deserialize)]
struct Head {
    audit_format: u32,
}

/// A file of another version's, or one that the disk does not give.
#[derive(Debug, thiserror::Error)]
pub enum ReadAuditError {
    #[error("{} is of another format than {FORMAT}: read it with the version that wrote it", file.display())]
    Format { file: PathBuf },
    #[error("{} cannot be read: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
}

/// Where the two files are.
#[derive(Debug, Clone)]
pub struct AuditDir {
    dir: PathBuf,
    file_bytes_max: u64,
}

/// The newer file, open.
pub struct AuditWriter {
    place: AuditDir,
    open: Option<(File, u64)>,
}

impl AuditDir {
    /// Nothing is made until the first call is written.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, file_bytes_max: FILE_BYTES_MAX }
    }

    pub fn writer(&self) -> AuditWriter {
        AuditWriter { place: self.clone(), open: None }
    }

    /// The newest calls that `ask` wants.
    ///
    /// # Errors
    /// If a file is there that cannot be read.
    pub fn read(&self, ask: &AuditAsk) -> Result<AuditFound, ReadAuditError> {
        let mut newest = Newest::new(ask);
        for name in [OLDER, NEWER] {
            let file = self.dir.join(name);
            match read(&file, &mut newest) {
                Err(ReadAuditError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                read => read?,
            }
        }
        newest.cut();
        Ok(newest.found)
    }
}

impl AuditWriter {
    /// Appends lines; those that a crash tears are left out by readers.
    ///
    /// # Errors
    /// What the disk says. It is asked again with the next lines.
    pub fn append(&mut self, lines: &[CallLine]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        let appended = self.append_bytes(&text);
        if appended.is_err() {
            // What is in the file now is found out anew.
            self.open = None;
        }
        appended
    }

    fn append_bytes(&mut self, text: &[u8]) -> io::Result<()> {
        let (mut file, mut len) = match self.open.take() {
            Some(open) => open,
            None => self.place.open()?,
        };
        if len + text.len() as u64 > self.place.file_bytes_max {
            (file, len) = self.place.turn(&file)?;
        }
        file.write_all(text)?;
        self.open = Some((file, len + text.len() as u64));
        Ok(())
    }
}

impl AuditDir {
    /// The newer file, with its end on a line of its own. One of another format is read by whoever wrote it.
    fn open(&self) -> io::Result<(File, u64)> {
        disk::create_dir(&self.dir)?;
        let path = self.dir.join(NEWER);
        if File::open(&path).is_ok_and(|file| format_of(&mut BufReader::new(file)).is_ok_and(|format| format != FORMAT))
        {
            std::fs::rename(&path, self.dir.join(OLDER))?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let len = file.metadata()?.len();
        if len == 0 {
            return begin(file);
        }
        file.seek(SeekFrom::Start(len - 1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last == *b"\n" {
            return Ok((file, len));
        }
        file.write_all(b"\n")?;
        Ok((file, len + 1))
    }

    /// The full file becomes the older one.
    fn turn(&self, full: &File) -> io::Result<(File, u64)> {
        full.sync_data()?;
        std::fs::rename(self.dir.join(NEWER), self.dir.join(OLDER))?;
        self.open()
    }
}

fn begin(mut file: File) -> io::Result<(File, u64)> {
    let mut head = serde_json::to_vec(&Head { audit_format: FORMAT })?;
    head.push(b'\n');
    file.write_all(&head)?;
    Ok((file, head.len() as u64))
}

/// Reads the first line. One that a crash tore is ours: another version would have written more behind it.
fn format_of(file: &mut impl BufRead) -> io::Result<u32> {
    let mut head = Vec::new();
    file.take(HEAD_BYTES_MAX).read_until(b'\n', &mut head)?;
    Ok(serde_json::from_slice(&head).map_or(FORMAT, |Head { audit_format }| audit_format))
}

fn read(file: &Path, newest: &mut Newest<'_>) -> Result<(), ReadAuditError> {
    let failed = |source| ReadAuditError::Io { file: file.to_owned(), source };
    let mut reader = BufReader::new(File::open(file).map_err(failed)?);
    if format_of(&mut reader).map_err(failed)? != FORMAT {
        return Err(ReadAuditError::Format { file: file.to_owned() });
    }
    for line in reader.split(b'\n') {
        // A line that a crash tore has no meaning.
        let Ok(call) = serde_json::from_slice(&line.map_err(failed)?) else { continue };
        newest.take(call);
    }
    Ok(())
}

/// Keeps the newest calls that are wanted.
struct Newest<'a> {
    ask: &'a AuditAsk,
    limit: usize,
    found: AuditFound,
}

impl<'a> Newest<'a> {
    fn new(ask: &'a AuditAsk) -> Self {
        let limit = ask.limit.clamp(1, CALLS_READ_MAX);
        Self { ask, limit, found: AuditFound { calls: Vec::new(), more: false } }
    }

    fn take(&mut self, call: CallLine) {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let AuditAsk { since, principal, tool, outcome, .. } = self.ask;
        let wanted = since.is_none_or(|since| call.at >= since)
            && is(principal, &call.principal)
            && (is(tool, &call.tool) || is(tool, &call.called))
            && is(outcome, &call.outcome);
        if !wanted {
            return;
        }
        self.found.calls.push(call);
        // In large steps: those that stay are moved each time.
        if self.found.calls.len() >= self.limit * 2 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let beyond = self.found.calls.len().saturating_sub(self.limit);
        self.found.more |= beyond > 0;
        self.found.calls.drain(..beyond);
    }
}

#[cfg(test)]
mod tests {
    use magpie_core::time::Wall;

    use super::*;

    fn call(at: u64, tool: &str, outcome: &str) -> CallLine {
        let text = |text: &str| text.to_owned();
        let [principal, client, called] = ["local:http", "test", tool].map(text);
        let (tool, arguments, outcome) = (text(tool), text("0011223344556677"), text(outcome));
        let (us, route, trace) = (None, None, None);
        CallLine { at: Wall(at), principal, client, tool, called, arguments, outcome, ms: 3, us, route, trace, lost: 0 }
    }

    fn times(dir: &AuditDir, ask: AuditAsk) -> (Vec<u64>, bool) {
        let found = dir.read(&ask).unwrap();
        (found.calls.iter().map(|call| call.at.0).collect(), found.more)
    }

    fn all() -> AuditAsk {
        AuditAsk { limit: CALLS_READ_MAX, ..AuditAsk::default() }
    }

    #[test]
    fn nothing_is_made_before_there_is_a_call_and_nothing_is_found() {
        let root = tempfile::tempdir().unwrap();
        let dir = AuditDir::new(root.path().join("audit"));
        drop(dir.writer());
        assert_eq!(times(&dir, all()), (vec![], false));
        assert!(!root.path().join("audit").exists());
    }

    #[test]
    fn calls_are_read_again_by_the_next_process_and_filtered() {
        let root = tempfile::tempdir().unwrap();
        let dir = AuditDir::new(root.path().join("audit"));
        dir.writer().append(&[call(1, "list_peers", "ok"), call(2, "queue_pause", "low_scope")]).unwrap();
        dir.writer().append(&[call(3, "list_peers", "timeout")]).unwrap();
        assert_eq!(times(&dir, all()), (vec![1, 2, 3], false));
        assert_eq!(times(&dir, AuditAsk { limit: 2, ..all() }), (vec![2, 3], true));
        assert_eq!(times(&dir, AuditAsk { since: Some(Wall(2)), ..all() }).0, [2, 3]);
        assert_eq!(times(&dir, AuditAsk { tool: Some("list_peers".to_owned()), ..all() }).0, [1, 3]);
        assert_eq!(times(&dir, AuditAsk { outcome: Some("ok".to_owned()), ..all() }).0, [1]);
        assert_eq!(times(&dir, AuditAsk { principal: Some("token:ci".to_owned()), ..all() }).0, [0; 0]);
    }

    #[test]
    fn what_is_kept_has_a_bound_and_the_newest_is_there() {
        let root = tempfile::tempdir().unwrap();
        let dir = AuditDir { dir: root.path().join("audit"), file_bytes_max: 2_000 };
        let mut writer = dir.writer();
        for at in 0..200 {
            writer.append(&[call(at, "list_peers", "ok")]).unwrap();
            let bytes: u64 =
                std::fs::read_dir(&dir.dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
            assert!(bytes <= 4_000, "{bytes}");
        }
        let (found, _) = times(&dir, all());
        let newest: Vec<u64> = (200 - found.len() as u64..200).collect();
        assert!(found.len() >= 9 && found == newest, "{found:?}");
    }

    #[test]
    fn a_line_that_a_crash_tore_is_left_out_and_the_next_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let dir = AuditDir::new(root.path().join("audit"));
        dir.writer().append(&[call(1, "list_peers", "ok"), call(2, "list_peers", "ok")]).unwrap();
        let file = dir.dir.join(NEWER);
        let whole = std::fs::read(&file).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&file, &whole[..len]).unwrap();
            dir.writer().append(&[call(9, "list_peers", "ok")]).unwrap();
            let (found, _) = times(&dir, all());
            let expected: &[&[u64]] = &[&[9], &[1, 9], &[1, 2, 9]];
            assert!(expected.contains(&found.as_slice()), "cut at {len}: {found:?}");
        }
    }

    #[test]
    fn a_file_of_a_later_format_is_neither_read_nor_written_to() {
        let root = tempfile::tempdir().unwrap();
        let dir = AuditDir::new(root.path().join("audit"));
        disk::create_dir(&dir.dir).unwrap();
        let later = "{\"audit_format\":2}\nsomething\n";
        std::fs::write(dir.dir.join(NEWER), later).unwrap();
        assert!(dir.read(&all()).unwrap_err().to_string().contains("another format than 1"));
        dir.writer().append(&[call(1, "list_peers", "ok")]).unwrap();
        assert_eq!(std::fs::read_to_string(dir.dir.join(OLDER)).unwrap(), later);
    }
}
