//! Bugs planted on purpose, to see that the simulator finds them. They have names in every build, and are in none
//! without the feature `canary`.

#[cfg(feature = "canary")]
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
    /// A home that starts does not know what it lent of its limits.
    LoansForgotten,
    /// A home that starts goes on with what was paused.
    PauseForgotten,
    /// Who is no node and shows no lease is believed, whoever has the task.
    AnyoneEnds,
}

impl Bug {
    pub const ALL: [Self; 12] = [
        Self::NoEpochCheck,
        Self::DoubleGrant,
        Self::LeaseNotExpired,
        Self::OperationForgotten,
        Self::GenerationNotDurable,
        Self::StaleGossipWins,
        Self::EdgeLost,
        Self::DrainIgnored,
        Self::RetryUnbounded,
        Self::LoansForgotten,
        Self::PauseForgotten,
        Self::AnyoneEnds,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::NoEpochCheck => "no-epoch-check",
            Self::DoubleGrant => "double-grant",
            Self::LeaseNotExpired => "lease-not-expired",
            Self::OperationForgotten => "operation-forgotten",
            Self::GenerationNotDurable => "generation-not-durable",
            Self::StaleGossipWins => "stale-gossip-wins",
            Self::EdgeLost => "edge-lost",
            Self::DrainIgnored => "drain-ignored",
            Self::RetryUnbounded => "retry-unbounded",
            Self::LoansForgotten => "loans-forgotten",
            Self::PauseForgotten => "pause-forgotten",
            Self::AnyoneEnds => "anyone-ends",
        }
    }
}

#[cfg(feature = "canary")]
thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug in this thread, or takes it out.
#[cfg(feature = "canary")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(feature = "canary")]
pub(crate) fn has(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether the core's own assertions should let the bug run, so that the simulator's checkers are what finds it.
#[cfg(feature = "canary")]
pub(crate) fn is_planted() -> bool {
    PLANTED.get().is_some()
}
