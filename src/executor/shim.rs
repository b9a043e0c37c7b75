//! The small process between a worker and the command of one attempt: it outlives neither.
//!
//! The worker re-runs its own executable with a hidden first argument. The shim starts the command and then waits for
//! two things: the end of the command, and the end of the worker, which it sees as the end of the socket that is its
//! standard input. Whichever comes first, it kills everything that the command left running, reaps it and exits. For
//! an `exclusive` task it also waits for the end of the lease that the worker wrote to it last: so it ends a command
//! whose worker stands still.
//! As subreaper it becomes the parent of each orphan below it, so neither a double fork nor `setsid` escapes it.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio, exit};
use std::time::Duration;
use std::{fs, thread};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SigSet};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getrlimit, kill_process,
    kill_process_group, pidfd_open, prlimit, set_child_subreaper, setrlimit, setsid, umask, wait,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The hidden first argument.
pub(super) const ARGUMENT: &str = "__shim";
/// The name that `ps` and `pkill` see: whoever kills every `node` by name must not hit the shims too.
pub(super) const NAME: &str = "magpie-shim";
/// Orphans that ended are reaped at least this often while the command runs.
const REAP_EVERY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// A child that was adopted while the children were listed is found by listing them again after this.
const RELIST_AFTER: Duration = Duration::from_millis(1);
/// Between SIGXCPU and SIGKILL, in seconds of CPU time.
const CPU_GRACE_S: u64 = 1;
/// Where there is too little memory, the kernel is to end the command rather than the node.
const OOM_SCORE: &str = "500";

/// What the worker may ask for: a byte, and the number that it takes. The end of the socket means [`Order::Kill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// SIGTERM to the command's process group.
    Terminate,
    /// SIGKILL to everything below the shim.
    Kill,
    /// SIGKILL to everything at this time, on the clock that counts suspend: it replaces the time said before.
    LeaseEnds { ms: u64 },
}

const TERMINATE: u8 = b't';
const KILL: u8 = b'k';
const LEASE_ENDS: u8 = b'e';

impl Order {
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Terminate => vec![TERMINATE],
            Self::Kill => vec![KILL],
            Self::LeaseEnds { ms } => [&[LEASE_ENDS][..], &ms.to_be_bytes()].concat(),
        }
    }

    /// Takes the first order out of `bytes`, if it is whole. What is no order means that the worker lost its mind.
    fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let (order, len) = match (*bytes.first()?, bytes.get(1..9).and_then(|number| number.try_into().ok())) {
            (TERMINATE, _) => (Self::Terminate, 1),
            (LEASE_ENDS, Some(number)) => (Self::LeaseEnds { ms: u64::from_be_bytes(number) }, 9),
            (LEASE_ENDS, None) => return None,
            (_, _) => (Self::Kill, 1),
        };
        bytes.drain(..len);
        Some(order)
    }
}

/// What the shim tells the worker before it exits: one JSON line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastWords {
    pub report: Report,
    /// Processor time of all that was reaped below it, in microseconds. Absent if the system does not say.
    pub cpu_us: Option<u64>,
}

/// What became of the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The operating system refused to run it.
    NotStarted {
        errno: i32,
    },
    /// The command ended by itself or by a signal, and nothing of it runs any more.
    Exited {
        status: i32,
    },
    Signalled {
        signal: i32,
    },
    /// The end of the lease passed, and everything was killed.
    LeaseEnded,
}

/// The shim's arguments, after the hidden one. A limit of 0, and a lease that ends at 0, is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arguments {
    pub stdin: OsString,
    pub memory_bytes_max: u64,
    pub cpu_s_max: u64,
    pub lease_ends_ms: u64,
    pub program: OsString,
    pub arguments: Vec<OsString>,
}

impl Arguments {
    pub fn to_argv(&self) -> Vec<OsString> {
        let limits = [self.memory_bytes_max, self.cpu_s_max, self.lease_ends_ms].map(|limit| limit.to_string().into());
        let head = [ARGUMENT.into(), self.stdin.clone()].into_iter().chain(limits);
        head.chain([self.program.clone()]).chain(self.arguments.iter().cloned()).collect()
    }

    /// Reads what [`Self::to_argv`] wrote; `None` if the first argument is not the hidden one.
    fn from_argv(argv: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut argv = argv.into_iter();
        if argv.next()? != OsStr::new(ARGUMENT) {
            return None;
        }
        let stdin = argv.next()?;
        let mut limit = || argv.next()?.to_str()?.parse().ok();
        let (memory_bytes_max, cpu_s_max, lease_ends_ms) = (limit()?, limit()?, limit()?);
        Some(Self {
            stdin,
            memory_bytes_max,
            cpu_s_max,
            lease_ends_ms,
            program: argv.next()?,
            arguments: argv.collect(),
        })
    }

    fn limits(&self) -> impl Iterator<Item = (Resource, u64)> {
        let limits = [(Resource::As, self.memory_bytes_max), (Resource::Cpu, self.cpu_s_max)];
        limits.into_iter().filter(|(_, limit)| *limit > 0)
    }
}

/// Becomes a shim and never returns, if this process was started as one: to be called first in `main`.
pub fn main_if_shim() {
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    if argv.first().is_none_or(|first| first != ARGUMENT) {
        return;
    }
    let Some(arguments) = Arguments::from_argv(argv) else {
        eprintln!("{ARGUMENT} is how a node runs a command for a task; it is not for the command line");
        exit(2);
    };
    match serve(&arguments) {
        Ok(()) => exit(0),
        Err(error) => {
            eprintln!("{NAME}: {error}");
            exit(1)
        }
    }
}

fn serve(arguments: &Arguments) -> io::Result<()> {
    let mut worker = isolate()?;
    let child = match start(arguments) {
        Ok(child) => child,
        Err(error) => return tell(&mut worker, Report::NotStarted { errno: error.raw_os_error().unwrap_or(0) }),
    };
    let watched = watch(&mut worker, child, arguments.lease_ends_ms);
    let killed = kill_all(child);
    let report = match watched? {
        Watched::Ended(status) => report_of(status),
        Watched::MustEnd => killed.and_then(report_of),
        Watched::LeaseEnded => Some(Report::LeaseEnded),
    };
    match report {
        Some(report) => tell(&mut worker, report),
        None => Err(io::Error::other(format!("process {child:?} was not there to be reaped"))),
    }
}

/// Leaves the worker's session, descriptors and privileges behind; keeps the socket to it.
fn isolate() -> io::Result<UnixStream> {
    close_inherited()?;
    let worker = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
    if let Ok(name) = CString::new(NAME) {
        rustix::thread::set_name(&name)?;
    }
    setsid()?;
    stops().thread_block()?;
    set_child_subreaper(Some(getpid()))?;
    // A set-user-id program would run as a user whose processes this one may not kill.
    rustix::thread::set_no_new_privs(true)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    umask(Mode::RWXG | Mode::RWXO);
    Ok(worker)
}

/// Whoever stops a whole service signals its shims too: they stay as long as the worker does.
fn stops() -> SigSet {
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().collect()
}

/// Closes what came without close-on-exec from whoever started the node: nothing here owns a descriptor above 2 yet.
fn close_inherited() -> io::Result<()> {
    let listed: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in listed {
        // The one that listed them is gone already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

/// Starts the command in a process group of its own, within its limits.
fn start(arguments: &Arguments) -> io::Result<Pid> {
    let stdin = fs::File::open(&arguments.stdin)?;
    let mut command = Command::new(&arguments.program);
    command.args(&arguments.arguments).stdin(Stdio::from(OwnedFd::from(stdin))).process_group(0);
    let before = lower_limits(arguments)?;
    // The command inherits the mask.
    stops().thread_unblock()?;
    let spawned = command.spawn();
    stops().thread_block()?;
    for (resource, limit) in before {
        setrlimit(resource, limit)?;
    }
    let child = Pid::from_child(&spawned?);
    for (resource, limit) in arguments.limits() {
        // It may have ended: then there is nothing to limit.
        let grace = if resource == Resource::Cpu { CPU_GRACE_S } else { 0 };
        let _ =
            prlimit(Some(child), resource, Rlimit { current: Some(limit), maximum: Some(limit.saturating_add(grace)) });
    }
    let _ = fs::write(format!("/proc/{}/oom_score_adj", child.as_raw_nonzero()), OOM_SCORE);
    Ok(child)
}

/// Sets the soft limits that the command inherits, so that it never runs without them, and answers those to restore:
/// the shim's own memory may already be past them.
fn lower_limits(arguments: &Arguments) -> io::Result<Vec<(Resource, Rlimit)>> {
    let before: Vec<_> = arguments.limits().map(|(resource, _)| (resource, getrlimit(resource))).collect();
    for (resource, limit) in arguments.limits() {
        let maximum = getrlimit(resource).maximum;
        setrlimit(resource, Rlimit { current: Some(limit.min(maximum.unwrap_or(u64::MAX))), maximum })?;
    }
    Ok(before)
}

/// Why the shim waits no longer.
enum Watched {
    Ended(WaitStatus),
    /// The worker is gone, or says so.
    MustEnd,
    LeaseEnded,
}

/// Waits until the command ended, or until everything is to be killed.
fn watch(worker: &mut UnixStream, child: Pid, mut lease_ends_ms: u64) -> io::Result<Watched> {
    let child_ended = pidfd_open(child, PidfdFlags::empty())?;
    let mut orders = Vec::new();
    loop {
        if let Some(status) = reap_ended(child)? {
            return Ok(Watched::Ended(status));
        }
        let Some(patience) = patience(lease_ends_ms) else { return Ok(Watched::LeaseEnded) };
        let mut polled = [PollFd::new(&*worker, PollFlags::IN), PollFd::new(&child_ended, PollFlags::IN)];
        match poll(&mut polled, Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !polled[0].revents().is_empty() && !read_orders(worker, &mut orders) {
            return Ok(Watched::MustEnd);
        }
        while let Some(order) = Order::take(&mut orders) {
            match order {
                Order::Terminate => drop(kill_process_group(child, Signal::TERM)),
                Order::Kill => return Ok(Watched::MustEnd),
                Order::LeaseEnds { ms } => lease_ends_ms = ms,
            }
        }
    }
}

/// How long to wait before looking around again; `None`: the lease has ended.
fn patience(lease_ends_ms: u64) -> Option<Timespec> {
    if lease_ends_ms == 0 {
        return Some(REAP_EVERY);
    }
    let now = clock_gettime(ClockId::Boottime);
    let now_ms = now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000;
    let left_ms = lease_ends_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)?;
    let left = Timespec { tv_sec: (left_ms / 1_000) as i64, tv_nsec: (left_ms % 1_000 * 1_000_000) as i64 };
    Some(left.min(REAP_EVERY))
}

/// Reaps whatever has ended, and answers the status of `child` if it was among it.
fn reap_ended(child: Pid) -> io::Result<Option<WaitStatus>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => return Ok(Some(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Adds what has come to `orders`. No: the socket ended or failed, so the worker is gone.
fn read_orders(worker: &mut UnixStream, orders: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 256];
    match worker.read(&mut bytes) {
        Ok(len) => {
            orders.extend_from_slice(&bytes[..len]);
            len > 0
        }
        Err(error) => error.kind() == io::ErrorKind::Interrupted,
    }
}

/// Kills and reaps until nothing is left below the shim; answers the status of `child` if it was reaped here.
///
/// Each round kills the shim's own children; theirs become its children as they die, so a chain of any depth ends.
fn kill_all(child: Pid) -> Option<WaitStatus> {
    let mut status = None;
    while let Some(killed) = kill_children() {
        // Without one that was just killed there may be none that ends soon: then no blocking wait.
        let options = if killed { WaitOptions::empty() } else { WaitOptions::NOHANG };
        match wait(options) {
            Ok(Some((pid, ended))) if pid == child => status = Some(ended),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => thread::sleep(RELIST_AFTER),
            Err(_) => break,
        }
    }
    status
}

/// Whether there was a child to kill; `None` if they cannot be listed.
fn kill_children() -> Option<bool> {
    let own = getpid().as_raw_nonzero();
    let listed = fs::read_to_string(format!("/proc/self/task/{own}/children")).ok()?;
    let children = listed.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    Some(children.filter(|child| kill_process(*child, Signal::KILL).is_ok()).count() > 0)
}

fn report_of(status: WaitStatus) -> Option<Report> {
    let exited = status.exit_status().map(|status| Report::Exited { status });
    exited.or_else(|| status.terminating_signal().map(|signal| Report::Signalled { signal }))
}

/// What all that was reaped has used: the command, what it waited for, and the orphans. Nothing is left to be reaped.
fn cpu_us() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    let us = [usage.user_time(), usage.system_time()].map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    u64::try_from(us.iter().sum::<i64>()).ok()
}

fn tell(worker: &mut UnixStream, report: Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(&LastWords { report, cpu_us: cpu_us() })?;
    line.push(b'\n');
    match worker.write_all(&line) {
        // The worker is gone: nobody is left to be told.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_in_pieces_of_any_length() {
        let orders = [
            Order::LeaseEnds { ms: u64::MAX - 7 },
            Order::Terminate,
            Order::LeaseEnds { ms: 0x6b74_6574 },
            Order::Kill,
        ];
        let bytes: Vec<u8> = orders.iter().flat_map(|order| order.bytes()).collect();
        for piece in 1..bytes.len() {
            let (mut pending, mut taken) = (Vec::new(), Vec::new());
            for bytes in bytes.chunks(piece) {
                pending.extend_from_slice(bytes);
                while let Some(order) = Order::take(&mut pending) {
                    taken.push(order);
                }
            }
            assert_eq!(taken, orders, "{piece} at a time");
        }
        assert_eq!(Order::take(&mut b"?".to_vec()), Some(Order::Kill));
    }

    #[test]
    fn arguments_are_read_as_they_were_written() {
        let arguments = Arguments {
            stdin: "in.json".into(),
            memory_bytes_max: 1,
            cpu_s_max: 2,
            lease_ends_ms: 3,
            program: "sh".into(),
            arguments: vec!["-c".into(), "true".into()],
        };
        assert_eq!(Arguments::from_argv(arguments.to_argv()), Some(arguments));
    }

    #[test]
    fn without_a_lease_there_is_always_patience() {
        assert_eq!(patience(0), Some(REAP_EVERY));
        assert_eq!(patience(1), None);
        assert_eq!(patience(u64::MAX), Some(REAP_EVERY));
    }
}
