//! The way of calls to the audit's files: a queue that nobody waits at, and the thread behind it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, thread};

use super::audit::{AuditDir, AuditWriter};
use crate::messages::audit::CallLine;

/// Calls that wait for the disk; further ones are counted and not kept.
const QUEUE_LEN_MAX: usize = 2_048;
/// Calls of one write.
const BATCH_LEN_MAX: usize = 256;
/// How long a write waits for further calls: the thread that wakes for each costs a call more than its line, and what comes at the same
/// moment is to be answered first.
const GATHERING: Duration = Duration::from_millis(20);
/// How long the end of a process waits for what is queued.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// A call, and whether this process says it in its log: one that another tells of is in that one's.
struct Queued {
    call: CallLine,
    is_said: bool,
}

/// Dropped, it lets the thread write what is queued.
pub struct AuditQueue {
    calls: Option<SyncSender<Queued>>,
    lost: Arc<AtomicU64>,
    ended: Mutex<Receiver<()>>,
}

impl AuditQueue {
    /// # Errors
    /// If the system gives no thread.
    pub fn start(dir: &AuditDir) -> io::Result<Self> {
        let (calls, queue) = mpsc::sync_channel(QUEUE_LEN_MAX);
        let (ending, ended) = mpsc::sync_channel(0);
        let lost = Arc::new(AtomicU64::new(0));
        let mut writing = Writing { queue, writer: dir.writer(), lost: lost.clone(), fails: false };
        thread::Builder::new().name("audit".into()).spawn(move || {
            writing.run();
            drop(ending);
        })?;
        Ok(Self { calls: Some(calls), lost, ended: Mutex::new(ended) })
    }

    /// Never waits. A call that finds no place is counted, and the next that is kept says so.
    pub fn record(&self, call: CallLine) {
        self.queue(Queued { call, is_said: false });
    }

    /// The same of a call of this process, which its log has, too.
    pub fn say(&self, call: CallLine) {
        self.queue(Queued { call, is_said: true });
    }

    fn queue(&self, queued: Queued) {
        let lost = queued.call.lost + 1;
        if self.calls.as_ref().is_none_or(|calls| calls.try_send(queued).is_err()) {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

impl Drop for AuditQueue {
    fn drop(&mut self) {
        self.calls = None;
        if let Ok(ended) = self.ended.get_mut() {
            // It says nothing, and is gone when the last line is written.
            let _ = ended.recv_timeout(ENDING_MAX);
        }
    }
}

struct Writing {
    queue: Receiver<Queued>,
    writer: AuditWriter,
    lost: Arc<AtomicU64>,
    fails: bool,
}

impl Writing {
    fn run(&mut self) {
        let mut more = false;
        while let Ok(first) = self.queue.recv() {
            if !more {
                thread::sleep(GATHERING);
            }
            let queued = std::iter::once(first).chain(self.queue.try_iter().take(BATCH_LEN_MAX - 1));
            let said = |Queued { call, is_said }: Queued| {
                if is_said {
                    call.say();
                }
                call
            };
            let mut calls: Vec<CallLine> = queued.map(said).collect();
            more = calls.len() == BATCH_LEN_MAX;
            calls[0].lost += self.lost.swap(0, Ordering::Relaxed);
            self.write(&calls);
        }
    }

    fn write(&mut self, calls: &[CallLine]) {
        let written = self.writer.append(calls);
        if let Err(error) = &written {
            self.lost.fetch_add(calls.iter().map(|call| 1 + call.lost).sum(), Ordering::Relaxed);
            if !self.fails {
                tracing::warn!(%error, "the audit cannot be written; calls go on, and are counted");
            }
        }
        self.fails = written.is_err();
    }
}

#[cfg(test)]
mod tests {
    use magpie_core::time::Wall;

    use super::*;
    use crate::messages::audit::AuditAsk;

    fn call(at: u64) -> CallLine {
        let text = String::new;
        let (principal, client, tool, called, arguments, outcome) = (text(), text(), text(), text(), text(), text());
        CallLine {
            at: Wall(at),
            principal,
            client,
            tool,
            called,
            arguments,
            outcome,
            ms: 0,
            us: None,
            route: None,
            trace: None,
            lost: 0,
        }
    }

    #[test]
    fn the_end_waits_for_what_is_queued_and_every_call_is_kept_or_counted() {
        let root = tempfile::tempdir().unwrap();
        let dir = AuditDir::new(root.path().join("audit"));
        let queue = AuditQueue::start(&dir).unwrap();
        (0..5_000).for_each(|at| queue.record(call(at)));
        drop(queue);
        let queue = AuditQueue::start(&dir).unwrap();
        queue.record(call(5_000));
        drop(queue);
        let found = dir.read(&AuditAsk { limit: 10_000, ..AuditAsk::default() }).unwrap().calls;
        assert!(found.len() > QUEUE_LEN_MAX && found.last().is_some_and(|call| call.at == Wall(5_000)));
        // What found no place behind the last line of a life is counted nowhere.
        let counted = found.iter().map(|call| 1 + call.lost).sum::<u64>();
        assert!((found.len() as u64..=5_001).contains(&counted), "{counted}");
    }

    #[test]
    fn calls_that_the_disk_refused_are_counted_by_the_next_that_it_takes() {
        let root = tempfile::tempdir().unwrap();
        let in_the_way = root.path().join("audit");
        std::fs::write(&in_the_way, "").unwrap();
        let dir = AuditDir::new(in_the_way.clone());
        let lost = Arc::new(AtomicU64::new(0));
        let (calls, queue) = mpsc::sync_channel(QUEUE_LEN_MAX);
        let mut writing = Writing { queue, writer: dir.writer(), lost: lost.clone(), fails: false };
        writing.write(&[call(1), CallLine { lost: 4, ..call(2) }]);
        assert_eq!((lost.load(Ordering::Relaxed), writing.fails), (6, true));
        std::fs::remove_file(&in_the_way).unwrap();
        calls.send(Queued { call: call(3), is_said: false }).unwrap();
        drop(calls);
        writing.run();
        let found = dir.read(&AuditAsk { limit: 10, ..AuditAsk::default() }).unwrap().calls;
        assert_eq!(found, [CallLine { lost: 6, ..call(3) }]);
        assert!(!writing.fails);
    }
}
