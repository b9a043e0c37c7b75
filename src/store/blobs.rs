//! Values too large for a record: files named by their sha256, written once, whole or not at all.
//!
//! Every call blocks. A blob that a call has returned a [`BlobRef`] for survives a power loss.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use magpie_core::ids::ContentId;
use magpie_core::limits;
use magpie_core::payload::BlobRef;
use sha2::{Digest, Sha256};

use super::{DiskFailure, disk};

/// Bytes that are read or hashed at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// The blobs of a node did not open.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {failure}", dir.display())]
pub struct OpenBlobsError {
    pub dir: PathBuf,
    pub failure: DiskFailure,
}

/// A blob is not kept for certain.
#[derive(Debug, thiserror::Error)]
pub enum PutBlobError {
    #[error("a blob has at most {} bytes", limits::BLOB_BYTES_MAX)]
    Oversize,
    #[error("the bytes of blob {expected} are those of {presented}")]
    WrongDigest { expected: ContentId, presented: ContentId },
    #[error("the source of the blob failed: {0}")]
    Source(io::Error),
    #[error("cannot write {}: {failure}", file.display())]
    Disk { file: PathBuf, failure: DiskFailure },
}

/// A blob that is there was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadBlobError {
    #[error("blob {cid} has {bytes} bytes, the reader takes {bytes_max}")]
    Oversize { cid: ContentId, bytes: u64, bytes_max: u64 },
    #[error("{} is damaged: its bytes are not those of blob {cid}; put the blob again or remove the file", file.display())]
    Damaged { cid: ContentId, file: PathBuf },
    #[error("cannot read {}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
}

/// The blobs of one node. Clones are the same blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Held while a file gets its name, so that each is counted once.
    bytes: Mutex<u64>,
    /// Numbers the files that are being written.
    writers: AtomicU64,
}

impl Blobs {
    /// Opens `dir`, creating it where it is missing, removes what unfinished writers left, and counts what is there.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, OpenBlobsError> {
        let dir = dir.into();
        let failed = |error: io::Error| OpenBlobsError { dir: dir.clone(), failure: error.into() };
        let unfinished = dir.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        disk::create_dir(&unfinished).map_err(failed)?;
        let bytes = count_bytes(&dir).map_err(failed)?;
        Ok(Self { inner: Arc::new(Inner { dir, bytes: Mutex::new(bytes), writers: AtomicU64::new(0) }) })
    }

    /// The bytes of all blobs.
    pub fn bytes(&self) -> u64 {
        *self.count()
    }

    fn count(&self) -> MutexGuard<'_, u64> {
        self.inner.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Where the blob `cid` is, if it is.
    pub fn path(&self, cid: ContentId) -> PathBuf {
        let name = HEXLOWER.encode(&cid.0);
        let (first, rest) = name.split_at(2);
        self.dir().join(first).join(rest)
    }

    /// Keeps `bytes`. A blob that is there already, unharmed, is not written again.
    ///
    /// # Errors
    /// See [`PutBlobError`].
    pub fn put(&self, bytes: &[u8]) -> Result<BlobRef, PutBlobError> {
        let blob = BlobRef { cid: ContentId::of(bytes), bytes: bytes.len() as u64 };
        let file = self.path(blob.cid);
        if holds(&file, bytes) {
            // Its writer may not have come as far as syncing the name.
            self.sync_name(&file).map_err(|error| disk_error(&file, error))?;
            return Ok(blob);
        }
        let mut writer = self.open_writer()?;
        writer.write(bytes)?;
        writer.finish(blob.cid)
    }

    /// Keeps all that `source` gives.
    ///
    /// # Errors
    /// See [`PutBlobError`].
    pub fn put_reader(&self, mut source: impl Read) -> Result<BlobRef, PutBlobError> {
        let mut writer = self.open_writer()?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match source.read(&mut chunk) {
                Ok(0) => return writer.finish_as_is(),
                Ok(read) => writer.write(&chunk[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PutBlobError::Source(error)),
            }
        }
    }

    /// Starts a blob that arrives in pieces. It exists once the writer is finished; a dropped writer leaves nothing.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn open_writer(&self) -> Result<BlobWriter, PutBlobError> {
        let name = self.inner.writers.fetch_add(1, Ordering::Relaxed).to_string();
        let path = self.dir().join(UNFINISHED).join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| disk_error(&path, error))?;
        Ok(BlobWriter { blobs: self.clone(), unfinished: Unfinished(path), file, hash: Sha256::new(), bytes: 0 })
    }

    /// The blob's id and length, if it is there.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn stat(&self, cid: ContentId) -> Result<Option<BlobRef>, ReadBlobError> {
        let file = self.path(cid);
        match found(fs::metadata(&file)) {
            Ok(metadata) => Ok(metadata.map(|metadata| BlobRef { cid, bytes: metadata.len() })),
            Err(source) => Err(ReadBlobError::Io { file, source }),
        }
    }

    /// The whole blob, its digest checked, if it is there.
    ///
    /// # Errors
    /// Larger than `bytes_max`, damaged, or the disk's refusal.
    pub fn read(&self, cid: ContentId, bytes_max: u64) -> Result<Option<Vec<u8>>, ReadBlobError> {
        let Some(BlobRef { bytes, .. }) = self.stat(cid)? else { return Ok(None) };
        if bytes > bytes_max {
            return Err(ReadBlobError::Oversize { cid, bytes, bytes_max });
        }
        let file = self.path(cid);
        match found(fs::read(&file)) {
            Ok(Some(content)) if ContentId::of(&content) == cid => Ok(Some(content)),
            Ok(Some(_)) => Err(ReadBlobError::Damaged { cid, file }),
            Ok(None) => Ok(None),
            Err(source) => Err(ReadBlobError::Io { file, source }),
        }
    }

    /// Up to `len` bytes from `offset` on, if the blob is there; fewer at its end and past
    /// [`limits::BLOB_CHUNK_BYTES_MAX`]. The digest is not checked: whoever gathers the pieces does, when it has all.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn read_range(&self, cid: ContentId, offset: u64, len: usize) -> Result<Option<Vec<u8>>, ReadBlobError> {
        let path = self.path(cid);
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let len = len.min(limits::BLOB_CHUNK_BYTES_MAX);
            let mut bytes = Vec::with_capacity(len);
            file.take(len as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        found(read()).map_err(|source| ReadBlobError::Io { file: path.clone(), source })
    }

    /// Checks the digest of a blob of any size, if it is there.
    ///
    /// # Errors
    /// Damaged, or the disk's refusal.
    pub fn verify(&self, cid: ContentId) -> Result<Option<BlobRef>, ReadBlobError> {
        let path = self.path(cid);
        match found(File::open(&path).and_then(hash_all)) {
            Ok(Some(blob)) if blob.cid == cid => Ok(Some(blob)),
            Ok(Some(_)) => Err(ReadBlobError::Damaged { cid, file: path }),
            Ok(None) => Ok(None),
            Err(source) => Err(ReadBlobError::Io { file: path, source }),
        }
    }

    /// Moves a synced file to its name and makes the name last.
    fn publish(&self, unfinished: &Path, blob: BlobRef) -> io::Result<()> {
        let file = self.path(blob.cid);
        let first = file.parent().unwrap_or(self.dir());
        match DirBuilder::new().mode(0o700).create(first) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // A blob of that name is replaced: these bytes are known to be right, and those may be damaged.
        let mut count = self.count();
        let replaced = found(fs::metadata(&file))?.map_or(0, |metadata| metadata.len());
        fs::rename(unfinished, &file)?;
        *count = (*count + blob.bytes).saturating_sub(replaced);
        drop(count);
        self.sync_name(&file)
    }

    fn sync_name(&self, file: &Path) -> io::Result<()> {
        disk::sync_dir(file.parent().unwrap_or(self.dir()))?;
        disk::sync_dir(self.dir())
    }
}

/// The directory of blobs that are being written.
const UNFINISHED: &str = "unfinished";

/// Removed when it is dropped; a finished blob has left it by then.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

/// A blob on its way to the disk.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: Blobs,
    unfinished: Unfinished,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl BlobWriter {
    /// The bytes that have arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// Oversize, or the disk's refusal; the writer is of no use afterwards.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), PutBlobError> {
        let bytes = self.bytes + piece.len() as u64;
        if bytes > limits::BLOB_BYTES_MAX {
            return Err(PutBlobError::Oversize);
        }
        self.file.write_all(piece).map_err(|error| disk_error(&self.unfinished.0, error))?;
        self.hash.update(piece);
        self.bytes = bytes;
        Ok(())
    }

    /// Keeps the blob if it is the `expected` one.
    ///
    /// # Errors
    /// Wrong digest, or the disk's refusal; nothing of the blob is left then.
    pub fn finish(self, expected: ContentId) -> Result<BlobRef, PutBlobError> {
        let presented = ContentId(self.hash.clone().finalize().into());
        if presented != expected {
            return Err(PutBlobError::WrongDigest { expected, presented });
        }
        self.finish_as_is()
    }

    /// Keeps the blob under the digest that it has.
    ///
    /// # Errors
    /// The disk's refusal; nothing of the blob is left then.
    pub fn finish_as_is(self) -> Result<BlobRef, PutBlobError> {
        let Self { blobs, unfinished, file, hash, bytes } = self;
        let blob = BlobRef { cid: ContentId(hash.finalize().into()), bytes };
        let published = file.sync_all().and_then(|()| blobs.publish(&unfinished.0, blob));
        published.map_err(|error| disk_error(&blobs.path(blob.cid), error))?;
        Ok(blob)
    }
}

fn disk_error(file: &Path, error: io::Error) -> PutBlobError {
    PutBlobError::Disk { file: file.to_path_buf(), failure: error.into() }
}

/// A missing file is an answer, not an error.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `file` can be read and has exactly these bytes.
fn holds(file: &Path, bytes: &[u8]) -> bool {
    let same_len = fs::metadata(file).is_ok_and(|metadata| metadata.len() == bytes.len() as u64);
    same_len && fs::read(file).is_ok_and(|content| content == bytes)
}

fn hash_all(mut file: File) -> io::Result<BlobRef> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(BlobRef { cid: ContentId(hash.finalize().into()), bytes });
        }
        hash.update(&chunk[..read]);
        bytes += read as u64;
    }
}

fn count_bytes(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for first in fs::read_dir(dir)? {
        let first = first?;
        if first.file_type()?.is_dir() {
            for blob in fs::read_dir(first.path())? {
                bytes += blob?.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path().join("blobs")).unwrap();
        (root, blobs)
    }

    fn unfinished(blobs: &Blobs) -> usize {
        fs::read_dir(blobs.dir().join(UNFINISHED)).unwrap().count()
    }

    #[test]
    fn a_blob_stands_under_its_digest_and_reads_back() {
        let (_root, blobs) = blobs();
        let blob = blobs.put(b"hello").unwrap();
        assert_eq!(blob, BlobRef { cid: ContentId::of(b"hello"), bytes: 5 });
        let expected = "2c/f24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(blobs.path(blob.cid), blobs.dir().join(expected));
        assert_eq!(blobs.read(blob.cid, 5).unwrap().unwrap(), b"hello");
        assert_eq!(blobs.stat(blob.cid).unwrap(), Some(blob));
        assert_eq!(blobs.verify(blob.cid).unwrap(), Some(blob));
        assert_eq!(unfinished(&blobs), 0);
    }

    #[test]
    fn an_absent_blob_is_an_answer_and_not_an_error() {
        let (_root, blobs) = blobs();
        let cid = ContentId::of(b"never put");
        assert_eq!(blobs.stat(cid).unwrap(), None);
        assert_eq!(blobs.read(cid, 1).unwrap(), None);
        assert_eq!(blobs.read_range(cid, 0, 1).unwrap(), None);
        assert_eq!(blobs.verify(cid).unwrap(), None);
    }

    #[test]
    fn a_blob_put_twice_is_there_once() {
        let (_root, blobs) = blobs();
        let first = blobs.put(b"same").unwrap();
        assert_eq!(blobs.put(b"same").unwrap(), first);
        assert_eq!(blobs.put_reader(&b"same"[..]).unwrap(), first);
        assert_eq!(blobs.bytes(), 4);
    }

    #[test]
    fn the_same_blob_from_many_threads_is_counted_once() {
        let (_root, blobs) = blobs();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| blobs.put(b"popular").unwrap());
            }
        });
        assert_eq!(blobs.read(ContentId::of(b"popular"), 7).unwrap().unwrap(), b"popular");
        assert_eq!(blobs.bytes(), 7);
    }

    #[test]
    fn a_piecewise_blob_with_another_digest_leaves_nothing() {
        let (_root, blobs) = blobs();
        let mut writer = blobs.open_writer().unwrap();
        writer.write(b"hel").unwrap();
        writer.write(b"lo").unwrap();
        assert_eq!(writer.bytes(), 5);
        let refused = writer.finish(ContentId::of(b"other")).unwrap_err();
        assert!(matches!(refused, PutBlobError::WrongDigest { presented, .. } if presented == ContentId::of(b"hello")));
        assert_eq!((unfinished(&blobs), blobs.bytes()), (0, 0));
        assert_eq!(blobs.stat(ContentId::of(b"hello")).unwrap(), None);
    }

    #[test]
    fn a_dropped_writer_and_a_failed_source_leave_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let (_root, blobs) = blobs();
        blobs.open_writer().unwrap().write(b"half").unwrap();
        let refused = blobs.put_reader(b"half".chain(Broken)).unwrap_err();
        assert!(matches!(refused, PutBlobError::Source(_)));
        assert_eq!((unfinished(&blobs), blobs.bytes()), (0, 0));
    }

    #[test]
    fn opening_removes_what_a_crash_left_and_counts_the_rest() {
        let (_root, blobs) = blobs();
        blobs.put(b"kept").unwrap();
        let left = blobs.dir().join(UNFINISHED).join("0");
        fs::write(&left, "half").unwrap();
        let reopened = Blobs::open(blobs.dir()).unwrap();
        assert!(!left.exists());
        assert_eq!(reopened.bytes(), 4);
    }

    #[test]
    fn a_damaged_blob_is_named_and_putting_it_again_repairs_it() {
        let (_root, blobs) = blobs();
        let blob = blobs.put(b"hello").unwrap();
        fs::write(blobs.path(blob.cid), "jello").unwrap();
        let file = blobs.path(blob.cid).display().to_string();
        for refused in [blobs.read(blob.cid, 5).unwrap_err(), blobs.verify(blob.cid).unwrap_err()] {
            assert!(refused.to_string().starts_with(&format!("{file} is damaged")), "{refused}");
        }
        blobs.put(b"hello").unwrap();
        assert_eq!(blobs.read(blob.cid, 5).unwrap().unwrap(), b"hello");
        assert_eq!(blobs.bytes(), 5);
    }

    #[test]
    fn a_reader_takes_no_more_than_it_asked_for() {
        let (_root, blobs) = blobs();
        let blob = blobs.put(&[1; 100]).unwrap();
        assert!(matches!(blobs.read(blob.cid, 99), Err(ReadBlobError::Oversize { bytes: 100, .. })));
        let large = blobs.put(&vec![2; limits::BLOB_CHUNK_BYTES_MAX + 1]).unwrap();
        let piece = blobs.read_range(large.cid, 0, usize::MAX).unwrap().unwrap();
        assert_eq!(piece.len(), limits::BLOB_CHUNK_BYTES_MAX);
        assert!(blobs.read_range(large.cid, large.bytes, 1).unwrap().unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pieces_put_and_read_make_the_whole(content: Vec<u8>, pieces in 1usize..9, offset in 0u64..120, len in 0usize..120) {
            let (_root, blobs) = blobs();
            let mut writer = blobs.open_writer().unwrap();
            for piece in content.chunks(content.len() / pieces + 1) {
                writer.write(piece).unwrap();
            }
            let blob = writer.finish(ContentId::of(&content)).unwrap();
            let start = content.len().min(offset as usize);
            let end = content.len().min(start + len);
            let range = blobs.read_range(blob.cid, offset, len).unwrap().unwrap();
            prop_assert_eq!(range, &content[start..end]);
            prop_assert_eq!(blobs.read(blob.cid, u64::MAX).unwrap().unwrap(), content);
        }
    }
}
