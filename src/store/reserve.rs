//! Room on the disk that new work never gets: with it, what follows from accepted work goes on when the disk is full.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// At most this part of what is free becomes the reserve of a small disk.
const PART_OF_FREE: u64 = 8;
/// Before it is taken back, this many times as much must be free: else the next record would ask for it again.
const TIMES_FREE: u64 = 2;

/// A file that holds room, or the memory of having held it.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// Takes up to `bytes_max` in `path`. A disk without that much room is full from the start.
    pub(super) fn open(path: PathBuf, bytes_max: u64) -> Self {
        let held_bytes = path.metadata().map_or(0, |metadata| metadata.len());
        let free_bytes = free_bytes(&path).unwrap_or(0);
        let bytes = bytes_max.min((free_bytes + held_bytes) / PART_OF_FREE);
        let held = bytes > 0 && allocate(&path, bytes).is_ok();
        Self { path, bytes, held }
    }

    /// Of no room, so never given up.
    pub(super) fn none() -> Self {
        Self { path: PathBuf::new(), bytes: 0, held: true }
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
        let enough = || free_bytes(&self.path).is_ok_and(|free| free >= TIMES_FREE * self.bytes);
        self.held = self.held || (enough() && allocate(&self.path, self.bytes).is_ok());
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
        let mut reserve = Reserve::open(path.clone(), 100_000);
        assert!(reserve.is_held());
        assert_eq!(len(&path), 100_000);
        assert!(reserve.give_up() && !reserve.give_up());
        assert_eq!((reserve.is_held(), len(&path)), (false, 0));
        assert!(reserve.take_back() && reserve.take_back());
        assert_eq!(len(&path), 100_000);
        assert!(Reserve::open(path.clone(), 50_000).is_held());
        assert_eq!(len(&path), 50_000);
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
        let mut reserve = Reserve::open(root.path().join("absent/reserve"), 1_000);
        assert!(!reserve.is_held() && !reserve.give_up() && !reserve.take_back());
    }
}
