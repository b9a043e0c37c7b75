//! The kernel's side of a file system, spoken over `/dev/fuse`: as much of it as a node and SQLite use.
//!
//! The crate fuser would read the requests, but a `Filesystem` with its long signatures is no shorter than this, and when
//! the connection ends would be its decision: here it ends with [`Mounted`], whoever still waits.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::apart::{apart, given, use_disk};
use super::recorded::{Disk, Faults};
use super::run::Said;
use super::tree::{Ino, Io, Kind, Node};

const WRITE_BYTES_MAX: u32 = 1024 * 1024;
const BUFFER_BYTES: usize = WRITE_BYTES_MAX as usize + 64 * 1024;
const HEADER_BYTES: usize = 40;
/// Nothing changes but through this mount, so what the kernel knows it may keep.
const VALID_SECONDS: u64 = 3_600;
const BIG_WRITES: u32 = 1 << 5;
const MAX_PAGES: u32 = 1 << 22;
const SET_MODE: u32 = 1;
const SET_SIZE: u32 = 1 << 3;
const RENAME_NOREPLACE: u32 = 1;

/// A disk, mounted until this is dropped. This process may use no file of it.
pub struct Mounted {
    pub root: PathBuf,
    pub disk: Disk,
    serving: Option<(JoinHandle<()>, PipeWriter)>,
    _dir: tempfile::TempDir,
}

impl Mounted {
    /// Mounts `disk`. `None`, said aloud, where this process may not.
    pub fn new(disk: Disk) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let Ok(device) = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open("/dev/fuse") else {
            println!("SKIPPED: /dev/fuse cannot be opened here");
            return None;
        };
        let root = dir.path().join("disk");
        std::fs::create_dir(&root).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = CString::new(options).unwrap();
        if let Err(errno) = mount("magpie-test", &root, "fuse", MountFlags::empty(), options.as_c_str()) {
            println!("SKIPPED: no file system of our own can be mounted here: {errno}");
            return None;
        }
        let served = disk.clone();
        let (ended, end) = std::io::pipe().unwrap();
        let serving = std::thread::spawn(move || serve(device, &ended, &served));
        Some(Self { root, disk, serving: Some((serving, end)), _dir: dir })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        detach(&self.root);
        if let Some((serving, end)) = self.serving.take() {
            drop(end);
            let served = serving.join();
            assert!(served.is_ok() || std::thread::panicking());
        }
    }
}

fn detach(root: &Path) {
    let _ = unmount(root, UnmountFlags::DETACH);
}

/// Answers until the other end of `ended` is dropped, or nobody has anything of the file system open any more. With the
/// device goes the connection: whoever still waits for an answer gets an error.
fn serve(mut device: File, ended: &PipeReader, disk: &Disk) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let mut ready = [PollFd::new(&device, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) if !ready[1].revents().is_empty() => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => panic!("{errno}"),
        }
        match device.read(&mut buffer) {
            Ok(len) => {
                if let Some(reply) = answer(disk, &buffer[..len]) {
                    // A request whose sender was killed meanwhile takes no answer.
                    let _ = device.write(&reply);
                }
            }
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return,
            Err(error) => {
                let passes = [Errno::INTR, Errno::NOENT, Errno::AGAIN];
                assert!(passes.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())), "{error}");
            }
        }
    }
}

/// A request's body, read from the front.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take(8).try_into().unwrap())
    }

    fn name(&mut self) -> String {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let name = String::from_utf8(self.take(len).to_vec()).unwrap();
        self.0 = self.0.get(1..).unwrap_or_default();
        name
    }
}

/// An answer's body.
#[derive(Default)]
struct Reply(Vec<u8>);

impl Reply {
    fn u16(mut self, number: u16) -> Self {
        self.0.extend(number.to_ne_bytes());
        self
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_ne_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_ne_bytes());
        self
    }

    fn zeros(mut self, len: usize) -> Self {
        self.0.resize(self.0.len() + len, 0);
        self
    }

    fn attributes(self, ino: Ino, node: &Node) -> Self {
        let kind = match node.kind {
            Kind::File => 0o100_000,
            Kind::Dir => 0o040_000,
            Kind::Socket => 0o140_000,
            Kind::Fifo => 0o010_000,
        };
        let len = node.content.len();
        let times = self.u64(ino).u64(len).u64(len.div_ceil(512)).zeros(3 * 8 + 3 * 4);
        // Mode, links, owner, group, device, block size, flags.
        times.u32(kind | node.mode).u32(1).u32(0).u32(0).u32(0).u32(4_096).u32(0)
    }

    fn entry(self, ino: Ino, node: &Node) -> Self {
        self.u64(ino).u64(0).u64(VALID_SECONDS).u64(VALID_SECONDS).u32(0).u32(0).attributes(ino, node)
    }
}

fn answer(disk: &Disk, request: &[u8]) -> Option<Vec<u8>> {
    let mut header = Body(request);
    let (_len, opcode, unique, node) = (header.u32(), header.u32(), header.u64(), header.u64());
    let body = Body(&request[HEADER_BYTES..]);
    // Forgotten nodes, interrupts and the end want no answer.
    if matches!(opcode, 2 | 36 | 42) {
        return None;
    }
    let (errno, reply) = match perform(disk, opcode, node, body) {
        Ok(reply) => (0, reply.0),
        Err(errno) => (-errno.raw_os_error(), Vec::new()),
    };
    let mut message = Vec::with_capacity(16 + reply.len());
    message.extend((16 + reply.len() as u32).to_ne_bytes());
    message.extend(errno.to_ne_bytes());
    message.extend(unique.to_ne_bytes());
    message.extend(reply);
    Some(message)
}

fn perform(disk: &Disk, opcode: u32, node: Ino, mut body: Body<'_>) -> Result<Reply, Errno> {
    let reply = Reply::default();
    match opcode {
        1 => entry_of(disk, node, &body.name()),
        3 => attributes_of(disk, node),
        4 => set_attributes(disk, node, &mut body),
        8 => {
            let (mode, _device, _umask, _padding) = (body.u32(), body.u32(), body.u32(), body.u32());
            let kind = match mode & 0o170_000 {
                0o140_000 => Kind::Socket,
                0o010_000 => Kind::Fifo,
                _ => Kind::File,
            };
            made(disk, node, &body.name(), kind, mode)
        }
        9 => {
            let (mode, _umask) = (body.u32(), body.u32());
            made(disk, node, &body.name(), Kind::Dir, mode)
        }
        10 | 11 => remove(disk, node, body.name(), opcode == 11),
        12 | 45 => rename(disk, node, &mut body, opcode == 45),
        13 => {
            let old = body.u64();
            let name = body.name();
            if disk.with_tree(|tree| tree.lookup(node, &name).is_some()) {
                return Err(Errno::EXIST);
            }
            disk.perform(Io::Link { dir: node, name: name.clone(), node: old })?;
            entry_of(disk, node, &name)
        }
        14 => open(disk, body.u32()),
        15 => read(disk, node, &mut body),
        16 => write(disk, node, &mut body),
        17 => Ok(statistics(disk)),
        18 | 29 => Ok(reply),
        20 => disk.perform(Io::Sync { file: node }).map(|()| reply),
        26 => Ok(hello(&mut body)),
        27 => Ok(reply.u64(0).u64(0)),
        28 => read_dir(disk, node, &mut body),
        30 => disk.perform(Io::SyncDir { dir: node }).map(|()| reply),
        35 => {
            let (flags, mode, _umask, _flags) = (body.u32(), body.u32(), body.u32(), body.u32());
            let opened = open(disk, flags)?;
            let mut reply = made(disk, node, &body.name(), Kind::File, mode)?;
            reply.0.extend(opened.0);
            Ok(reply)
        }
        38 => Ok(reply),
        43 => allocate(disk, node, &mut body).map(|()| reply),
        _ => Err(Errno::NOSYS),
    }
}

fn hello(body: &mut Body<'_>) -> Reply {
    let (major, _minor, read_ahead, offered) = (body.u32(), body.u32(), body.u32(), body.u32());
    let reply = Reply::default().u32(major).u32(31).u32(read_ahead).u32(offered & (BIG_WRITES | MAX_PAGES));
    reply.u16(16).u16(12).u32(WRITE_BYTES_MAX).u32(1).u16((WRITE_BYTES_MAX / 4_096) as u16).zeros(34)
}

fn open(disk: &Disk, flags: u32) -> Result<Reply, Errno> {
    const ACCESS: u32 = 0o3;
    if flags & ACCESS != 0 && disk.is_read_only() {
        return Err(Errno::ROFS);
    }
    Ok(Reply::default().u64(0).u32(0).u32(0))
}

fn entry_of(disk: &Disk, dir: Ino, name: &str) -> Result<Reply, Errno> {
    if let Some(said) = Said::heard(name) {
        disk.say(said);
        return Err(Errno::NOENT);
    }
    disk.with_tree(|tree| {
        let ino = tree.lookup(dir, name).ok_or(Errno::NOENT)?;
        let node = tree.node(ino).ok_or(Errno::NOENT)?;
        Ok(Reply::default().entry(ino, node))
    })
}

fn made(disk: &Disk, dir: Ino, name: &str, kind: Kind, mode: u32) -> Result<Reply, Errno> {
    disk.make(dir, name, kind, mode)?;
    entry_of(disk, dir, name)
}

fn attributes_of(disk: &Disk, ino: Ino) -> Result<Reply, Errno> {
    disk.with_tree(|tree| {
        let node = tree.node(ino).ok_or(Errno::NOENT)?;
        Ok(Reply::default().u64(VALID_SECONDS).u32(0).u32(0).attributes(ino, node))
    })
}

fn set_attributes(disk: &Disk, ino: Ino, body: &mut Body<'_>) -> Result<Reply, Errno> {
    let (valid, _padding, _handle, len) = (body.u32(), body.u32(), body.u64(), body.u64());
    // The lock's owner, three times and their fractions.
    body.take(8 + 3 * 8 + 3 * 4);
    let mode = body.u32();
    if valid & SET_MODE != 0 {
        disk.set_mode(ino, mode);
    }
    if valid & SET_SIZE != 0 {
        disk.perform(Io::SetLen { file: ino, len })?;
    }
    attributes_of(disk, ino)
}

fn remove(disk: &Disk, dir: Ino, name: String, is_dir: bool) -> Result<Reply, Errno> {
    disk.with_tree(|tree| {
        let node = tree.lookup(dir, &name).and_then(|ino| tree.node(ino)).ok_or(Errno::NOENT)?;
        if is_dir && !node.names.is_empty() { Err(Errno::NOTEMPTY) } else { Ok(()) }
    })?;
    disk.perform(Io::Remove { dir, name }).map(|()| Reply::default())
}

fn rename(disk: &Disk, dir: Ino, body: &mut Body<'_>, with_flags: bool) -> Result<Reply, Errno> {
    let new_dir = body.u64();
    let flags = if with_flags { body.u32() } else { 0 };
    if with_flags {
        body.u32();
    }
    let (old, new) = (body.name(), body.name());
    let (node, exists) = disk.with_tree(|tree| (tree.lookup(dir, &old), tree.lookup(new_dir, &new).is_some()));
    let node = node.ok_or(Errno::NOENT)?;
    match flags {
        0 => {}
        RENAME_NOREPLACE if !exists => {}
        RENAME_NOREPLACE => return Err(Errno::EXIST),
        _ => return Err(Errno::INVAL),
    }
    disk.perform(Io::Rename { from: (dir, old), to: (new_dir, new), node }).map(|()| Reply::default())
}

fn read(disk: &Disk, ino: Ino, body: &mut Body<'_>) -> Result<Reply, Errno> {
    let (_handle, at, len) = (body.u64(), body.u64(), body.u32());
    disk.with_tree(|tree| Ok(Reply(tree.node(ino).ok_or(Errno::NOENT)?.content.read(at, len as usize))))
}

fn write(disk: &Disk, ino: Ino, body: &mut Body<'_>) -> Result<Reply, Errno> {
    let (_handle, at, len) = (body.u64(), body.u64(), body.u32());
    // Flags, the lock's owner, the file's flags.
    body.take(4 + 8 + 4 + 4);
    disk.perform(Io::Write { file: ino, at, bytes: body.take(len as usize).into() })?;
    Ok(Reply::default().u32(len).u32(0))
}

fn allocate(disk: &Disk, ino: Ino, body: &mut Body<'_>) -> Result<(), Errno> {
    let (_handle, at, len, mode) = (body.u64(), body.u64(), body.u64(), body.u32());
    if mode != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    let held = disk.with_tree(|tree| tree.node(ino).map_or(0, |node| node.content.len()));
    if at + len > held { disk.perform(Io::SetLen { file: ino, len: at + len }) } else { Ok(()) }
}

fn statistics(disk: &Disk) -> Reply {
    const BLOCK: u64 = 4_096;
    let (all, free) = disk.room();
    let reply = Reply::default().u64(all / BLOCK).u64(free / BLOCK).u64(free / BLOCK).u64(1 << 20).u64(1 << 20);
    reply.u32(BLOCK as u32).u32(255).u32(BLOCK as u32).zeros(4 + 6 * 4)
}

fn read_dir(disk: &Disk, dir: Ino, body: &mut Body<'_>) -> Result<Reply, Errno> {
    let (_handle, from, len) = (body.u64(), body.u64(), body.u32());
    disk.with_tree(|tree| {
        let names = &tree.node(dir).ok_or(Errno::NOENT)?.names;
        let mut reply = Reply::default();
        for (place, (name, ino)) in (1..).zip(names).skip(from as usize) {
            let padded = name.len().next_multiple_of(8);
            if reply.0.len() + 24 + padded > len as usize {
                break;
            }
            reply = reply.u64(*ino).u64(place).u32(name.len() as u32).u32(0);
            reply.0.extend(name.as_bytes());
            reply = reply.zeros(padded - name.len());
        }
        Ok(reply)
    })
}

#[test]
fn a_mounted_disk_is_a_file_system_that_remembers_what_it_was_asked() {
    apart("fuse::a_mounted_disk_is_a_file_system_that_remembers_what_it_was_asked", || {
        let Some(mounted) = Mounted::new(Disk::new()) else { return };
        let uses = |task: &str| use_disk("fuse::uses_the_disk_that_it_is_given", &mounted.root, task);
        uses("takes all");
        assert_eq!(mounted.disk.syncs(), 1);
        assert_eq!(mounted.disk.file("c").unwrap().len(), 3_000_000);
        mounted.disk.set(Faults { all: Some(Errno::IO), ..Default::default() });
        uses("fails");
        mounted.disk.set(Faults { bytes_max: Some(3_100_000), ..Default::default() });
        uses("is full");
    });
}

#[test]
fn who_goes_on_with_a_disk_that_is_gone_is_told_so() {
    apart("fuse::who_goes_on_with_a_disk_that_is_gone_is_told_so", || {
        let Some(mounted) = Mounted::new(Disk::new()) else { return };
        let (root, disk) = (mounted.root.clone(), mounted.disk.clone());
        let user = std::thread::spawn(move || use_disk("fuse::uses_the_disk_that_it_is_given", &root, "goes on"));
        while disk.ios() < 10 {
            std::thread::yield_now();
        }
        drop(mounted);
        user.join().unwrap();
    });
}

#[test]
fn uses_the_disk_that_it_is_given() {
    let Some((root, task)) = given() else { return };
    let path = |name: &str| root.join(name);
    match task.as_str() {
        "takes all" => {
            std::fs::create_dir(path("a")).unwrap();
            std::fs::write(path("a/b"), vec![7; 3_000_000]).unwrap();
            File::open(path("a/b")).unwrap().sync_all().unwrap();
            std::fs::rename(path("a/b"), path("c")).unwrap();
            assert_eq!(std::fs::read(path("c")).unwrap(), vec![7; 3_000_000]);
            let names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|file| file.unwrap().file_name()).collect();
            assert_eq!(names, ["a", "c"]);
        }
        "fails" => {
            let failed = std::fs::write(path("c"), "x").unwrap_err();
            assert_eq!(failed.raw_os_error(), Some(Errno::IO.raw_os_error()));
        }
        "is full" => {
            let failed = std::fs::write(path("d"), vec![1; 200_000]).unwrap_err();
            assert_eq!(failed.kind(), std::io::ErrorKind::StorageFull);
        }
        "goes on" => {
            let mut file = File::create(path("e")).unwrap();
            let failed = loop {
                if let Err(error) = file.write_all(b"x") {
                    break error;
                }
            };
            use std::io::ErrorKind::{ConnectionAborted, NotConnected};
            assert!([ConnectionAborted, NotConnected].contains(&failed.kind()), "{failed}");
        }
        other => panic!("{other}"),
    }
}
