//! Room on the disk that new work never gets: with it, what follows from accepted work goes on when the disk is full.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::process::{Resource, getrlimit};

/// At most this part of what is free becomes the reserve of a small disk.
const PART_OF_FREE: u64 = 8;
/// Before it is taken back, this many times as much must be free: else the next record would ask for it again.
const TIMES_FREE: u64 = 2;
/// A smaller one would not last for anything: then the disk is full from the start.
const BYTES_MIN: u64 = 256 * 1024;
/// What a node needs to open its files, and takes from the reserve if nothing else is left.
const START_BYTES: u64 = 1024 * 1024;
const FILE: &str = "reserve";

/// A file that holds room, or the memory of having held it.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    bytes_max: u64,
    held: bool,
}

/// Gives a node that starts on a full disk the room to do so. Its directory must be locked.
pub(super) fn make_room_to_start(dir: &Path) -> io::Result<()> {
    let path = dir.join(FILE);
    let held_bytes = path.metadata().map_or(0, |metadata| metadata.len());
    if held_bytes == 0 || free_bytes(&path)? >= START_BYTES {
        return Ok(());
    }
    OpenOptions::new().write(true).open(&path)?.set_len(held_bytes.saturating_sub(START_BYTES))
}

impl Reserve {
    /// Takes up to `bytes_max` in the directory `dir`, and no less than an earlier life held.
    pub(super) fn open(dir: &Path, bytes_max: u64) -> Self {
        let path = dir.join(FILE);
        let bytes_max = bytes_max.min(getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX));
        let held_bytes = path.metadata().map_or(0, |metadata| metadata.len());
        let free_bytes = free_bytes(&path).unwrap_or(0);
        let bytes = bytes_max.min(held_bytes.max((free_bytes + held_bytes) / PART_OF_FREE));
        let held = bytes >= BYTES_MIN.min(bytes_max) && allocate(&path, bytes).is_ok();
        Self { path, bytes, bytes_max, held }
    }

    /// Of no room, so never given up.
    pub(super) fn none() -> Self {
        Self { path: PathBuf::new(), bytes: 0, bytes_max: 0, held: true }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Gives the room to whoever writes next; whether there was any.
    pub(super) fn give_up(&mut self) -> bool {
        let given =
            self.bytes > 0 && self.held && OpenOptions::new().write(true).truncate(true).open(&self.path).is_ok();
        self.held &= !given;
        given
    }

    /// Takes the room back if there is enough again.
    pub(super) fn take_back(&mut self) -> bool {
        if self.held {
            return true;
        }
        let free_bytes = free_bytes(&self.path).unwrap_or(0);
        let bytes = self.bytes_max.min(self.bytes.max(free_bytes / PART_OF_FREE).max(BYTES_MIN));
        if free_bytes >= TIMES_FREE * bytes && allocate(&self.path, bytes).is_ok() {
            (self.bytes, self.held) = (bytes, true);
        }
        self.held
    }
}

fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path.parent().unwrap_or(Path::new(".")))?;
    Ok(disk.f_bavail * disk.f_frsize)
}

/// Makes `path` hold exactly `bytes` of the disk, or nothing.
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let allocated = file.set_len(bytes).and_then(|()| match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(&file, bytes),
        done => Ok(done?),
    });
    allocated.inspect_err(|_| drop(file.set_len(0)))
}

fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; 1024 * 1024];
    let mut at = 0;
    while at < bytes {
        let piece = zeros.len().min((bytes - at) as usize);
        file.write_all_at(&zeros[..piece], at)?;
        at += piece as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn len(path: &Path) -> u64 {
        path.metadata().unwrap().len()
    }

    #[test]
    fn a_reserve_is_given_up_once_and_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("reserve");
        let mut reserve = Reserve::open(root.path(), 100_000);
        assert!(reserve.is_held());
        assert_eq!(len(&path), 100_000);
        assert!(reserve.give_up() && !reserve.give_up());
        assert_eq!((reserve.is_held(), len(&path)), (false, 0));
        assert!(reserve.take_back() && reserve.take_back());
        assert_eq!(len(&path), 100_000);
        assert!(Reserve::open(root.path(), 50_000).is_held());
        assert_eq!(len(&path), 50_000);
    }

    #[test]
    fn a_node_that_starts_on_a_disk_with_room_takes_nothing_from_its_reserve() {
        let root = tempfile::tempdir().unwrap();
        make_room_to_start(root.path()).unwrap();
        Reserve::open(root.path(), 3_000_000);
        make_room_to_start(root.path()).unwrap();
        assert_eq!(len(&root.path().join("reserve")), 3_000_000);
    }

    #[test]
    fn a_file_of_zeros_stands_for_an_allocation() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("reserve");
        write_zeros(&File::create(&path).unwrap(), 2_500_000).unwrap();
        assert_eq!(len(&path), 2_500_000);
    }

    #[test]
    fn a_disk_that_takes_no_file_has_no_reserve() {
        let root = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::open(&root.path().join("absent"), 1_000);
        assert!(!reserve.is_held() && !reserve.give_up() && !reserve.take_back());
    }
}
