//! Parts of a file, and the digest of all that went by.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Head = 1,
    Entry = 2,
    Blob = 3,
    End = 4,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Head, Self::Entry, Self::Blob, Self::End].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Writes parts, and knows the digest of what it wrote.
pub(super) struct PartWriter<W> {
    out: W,
    digest: Sha256,
    pub bytes: u64,
}

impl<W: Write> PartWriter<W> {
    pub fn new(out: W) -> Self {
        Self { out, digest: Sha256::new(), bytes: 0 }
    }

    pub fn begin(&mut self, kind: Kind, len: u64) -> io::Result<()> {
        self.write_all(&[kind as u8])?;
        self.write_all(&len.to_be_bytes())
    }

    pub fn part(&mut self, kind: Kind, pieces: &[&[u8]]) -> io::Result<()> {
        self.begin(kind, pieces.iter().map(|piece| piece.len() as u64).sum())?;
        pieces.iter().try_for_each(|piece| self.write_all(piece))
    }

    /// The last part. Gives back what was written to.
    pub fn end(mut self) -> io::Result<(W, u64)> {
        let digest = self.digest.clone().finalize();
        self.part(Kind::End, &[&digest])?;
        self.out.flush()?;
        Ok((self.out, self.bytes))
    }
}

impl<W: Write> Write for PartWriter<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(piece)?;
        self.digest.update(&piece[..taken]);
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads parts, and knows the digest of what it read.
pub(super) struct PartReader<R> {
    source: R,
    digest: Sha256,
    pub bytes: u64,
}

impl<R: Read> PartReader<R> {
    pub fn new(source: R) -> Self {
        Self { source, digest: Sha256::new(), bytes: 0 }
    }

    /// The kind and the length of the next part; what comes before its content is checked against the bounds by the
    /// caller, who knows them.
    pub fn begin(&mut self) -> io::Result<(Kind, u64)> {
        let mut head = [0; 9];
        self.read_exact(&mut head)?;
        let [kind, len @ ..] = head;
        let kind = Kind::of(kind).ok_or_else(|| wrong("it holds a part of a kind that is not known"))?;
        Ok((kind, u64::from_be_bytes(len)))
    }

    /// The whole content of a part.
    pub fn content(&mut self, len: u64, len_max: usize) -> io::Result<Vec<u8>> {
        if len > len_max as u64 {
            return Err(wrong("it holds a part that is too large"));
        }
        let mut content = vec![0; len as usize];
        self.read_exact(&mut content)?;
        Ok(content)
    }

    /// Whether the last part, which begins here, ends the file rightly.
    pub fn ends(&mut self, len: u64, before: &[u8]) -> io::Result<bool> {
        let content = self.content(len, 32)?;
        let is_over = self.source.read(&mut [0])? == 0;
        Ok(is_over && content == before)
    }

    pub fn digest(&self) -> Vec<u8> {
        self.digest.clone().finalize().to_vec()
    }
}

impl<R: Read> Read for PartReader<R> {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(place)?;
        self.digest.update(&place[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

pub(super) fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
