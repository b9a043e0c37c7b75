//! The invariants of ownership, by id: asserted in debug builds, counted in release, checked by the simulator.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// See INVARIANTS.md for each statement in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InvariantId {
    /// An acknowledged task is in its home's durable record.
    I1,
    /// Epochs of a task only grow, and the generation in them was durable before its first use.
    I2,
    /// A message with a fence that is not the recorded one changes nothing.
    I3,
    /// At most one commit per task.
    I4,
    /// At most one live lease per task; the worker's end of it lies before the home's.
    I5,
    /// After the faults stop, every task becomes terminal.
    I6,
    /// Attempts stay within the policy.
    I7,
    /// A step starts only after what it needs.
    I8,
    /// Submitted = the sum over the states + lost.
    I9,
    /// Persist, then send, then reply.
    I10,
    /// Clock merge is commutative, associative, idempotent, monotone.
    I11,
    /// A dead member is alive again only with a higher incarnation; nobody declares itself dead.
    I12,
    /// Every bounded thing stays within its limit.
    I13,
    /// An operation acts once.
    I15,
    /// Recovery is idempotent.
    I16,
    /// A worker that drains starts nothing new.
    I17,
    /// Each time of a schedule is decided once and starts at most one run.
    I18,
    /// What is granted under a key, over all homes, stays within its limit.
    I19,
    /// A paused queue grants nothing; a clear ends what waited, and nothing else.
    I20,
    /// An idempotency key names one task of its home and namespace.
    I21,
    /// A reader of a stream takes each record once and in its place.
    I22,
}

impl InvariantId {
    pub const ALL: [Self; 21] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I11,
        Self::I12,
        Self::I13,
        Self::I15,
        Self::I16,
        Self::I17,
        Self::I18,
        Self::I19,
        Self::I20,
        Self::I21,
        Self::I22,
    ];
}

impl fmt::Display for InvariantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

static VIOLATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static VIOLATIONS_HERE: Cell<u64> = const { Cell::new(0) };
}

/// Violations counted in this process.
pub fn violations() -> u64 {
    VIOLATIONS.load(Ordering::Relaxed)
}

/// Violations counted in this thread: the simulator runs several meshes side by side.
pub fn violations_in_this_thread() -> u64 {
    VIOLATIONS_HERE.get()
}

/// Panics in debug builds, counts in release: a broken invariant of one task must not stop the others.
#[track_caller]
pub fn check(id: InvariantId, holds: bool, what: &str) {
    if !holds {
        VIOLATIONS.fetch_add(1, Ordering::Relaxed);
        VIOLATIONS_HERE.set(VIOLATIONS_HERE.get() + 1);
        #[cfg(feature = "canary")]
        if crate::canary::is_planted() {
            return;
        }
        debug_assert!(holds, "invariant {id} is broken: {what}");
    }
}
