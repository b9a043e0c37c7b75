//! Bugs planted on purpose, to see that the simulator finds them. In no build without the feature `canary`.

use std::cell::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Whoever presents a fence of a task is believed, whatever its epoch and token.
    NoEpochCheck,
    /// A lease ends one TTL after its grant, though it was renewed: the task is granted again while it lives.
    DoubleGrant,
    /// No lease ever ends by the home's clock.
    LeaseNotExpired,
    /// Operations are not remembered: what is sent again acts again.
    OperationForgotten,
    /// Effects leave before the record that opens the generation is on the disk.
    GenerationNotDurable,
    /// Old news of a member replace newer ones.
    StaleGossipWins,
    /// A step does not wait for the first of those that it needs.
    EdgeLost,
    /// A worker that drains takes leases as before.
    DrainIgnored,
    /// Attempts are not counted against the policy.
    RetryUnbounded,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug in this thread, or takes it out.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

pub(crate) fn has(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether the core's own assertions should let the bug run, so that the simulator's checkers are what finds it.
pub(crate) fn is_planted() -> bool {
    PLANTED.get().is_some()
}
