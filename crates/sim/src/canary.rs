//! Bugs that are planted on purpose: a simulator that does not find them does not look.

use std::fmt;
use std::str::FromStr;

use magpie_core::invariant::InvariantId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The shell tells the ledger that records are synced when it hands them to the log.
    AcknowledgeBeforeFsync,
    /// The shell publishes a head when its record is appended.
    HeadBeforeFsync,
    /// A start reads entries of a transaction that a crash cut short.
    TornTailAccepted,
    /// A fault of a core, behind the feature `canary`.
    Core(CoreBug),
}

/// See `magpie_core::canary::Bug`, which is not there without the feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreBug {
    NoEpochCheck,
    DoubleGrant,
    LeaseNotExpired,
    OperationForgotten,
    GenerationNotDurable,
    StaleGossipWins,
    EdgeLost,
    DrainIgnored,
    RetryUnbounded,
}

impl Planted {
    pub const ALL: [Self; 12] = [
        Self::AcknowledgeBeforeFsync,
        Self::HeadBeforeFsync,
        Self::TornTailAccepted,
        Self::Core(CoreBug::NoEpochCheck),
        Self::Core(CoreBug::DoubleGrant),
        Self::Core(CoreBug::LeaseNotExpired),
        Self::Core(CoreBug::OperationForgotten),
        Self::Core(CoreBug::GenerationNotDurable),
        Self::Core(CoreBug::StaleGossipWins),
        Self::Core(CoreBug::EdgeLost),
        Self::Core(CoreBug::DrainIgnored),
        Self::Core(CoreBug::RetryUnbounded),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeFsync => "acknowledge-before-fsync",
            Self::HeadBeforeFsync => "head-before-fsync",
            Self::TornTailAccepted => "torn-tail-accepted",
            Self::Core(CoreBug::NoEpochCheck) => "no-epoch-check",
            Self::Core(CoreBug::DoubleGrant) => "double-grant",
            Self::Core(CoreBug::LeaseNotExpired) => "lease-not-expired",
            Self::Core(CoreBug::OperationForgotten) => "operation-forgotten",
            Self::Core(CoreBug::GenerationNotDurable) => "generation-not-durable",
            Self::Core(CoreBug::StaleGossipWins) => "stale-gossip-wins",
            Self::Core(CoreBug::EdgeLost) => "edge-lost",
            Self::Core(CoreBug::DrainIgnored) => "drain-ignored",
            Self::Core(CoreBug::RetryUnbounded) => "retry-unbounded",
        }
    }

    /// Which of the invariants it breaks.
    pub fn breaks(self) -> &'static [InvariantId] {
        match self {
            Self::AcknowledgeBeforeFsync => &[InvariantId::I1, InvariantId::I10],
            Self::HeadBeforeFsync => &[InvariantId::I10],
            Self::TornTailAccepted => &[InvariantId::I16],
            Self::Core(CoreBug::NoEpochCheck) => &[InvariantId::I3, InvariantId::I4],
            Self::Core(CoreBug::DoubleGrant) => &[InvariantId::I5],
            Self::Core(CoreBug::LeaseNotExpired) => &[InvariantId::I6],
            Self::Core(CoreBug::OperationForgotten) => &[InvariantId::I15],
            Self::Core(CoreBug::GenerationNotDurable) => &[InvariantId::I2],
            Self::Core(CoreBug::StaleGossipWins) => &[InvariantId::I12],
            Self::Core(CoreBug::EdgeLost) => &[InvariantId::I8],
            Self::Core(CoreBug::DrainIgnored) => &[InvariantId::I17],
            Self::Core(CoreBug::RetryUnbounded) => &[InvariantId::I7],
        }
    }

    /// Whether this build can have it.
    pub fn is_built(self) -> bool {
        cfg!(feature = "canary") || !matches!(self, Self::Core(_))
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|planted| planted.name() == text)
            .ok_or_else(|| format!("no bug {text:?}: {}", known()))
    }
}

/// Plants a bug of the core in this thread, or takes it out.
#[cfg(feature = "canary")]
pub fn plant(planted: Option<Planted>) {
    use magpie_core::canary::{Bug, plant};
    let Some(Planted::Core(bug)) = planted else { return plant(None) };
    plant(Some(match bug {
        CoreBug::NoEpochCheck => Bug::NoEpochCheck,
        CoreBug::DoubleGrant => Bug::DoubleGrant,
        CoreBug::LeaseNotExpired => Bug::LeaseNotExpired,
        CoreBug::OperationForgotten => Bug::OperationForgotten,
        CoreBug::GenerationNotDurable => Bug::GenerationNotDurable,
        CoreBug::StaleGossipWins => Bug::StaleGossipWins,
        CoreBug::EdgeLost => Bug::EdgeLost,
        CoreBug::DrainIgnored => Bug::DrainIgnored,
        CoreBug::RetryUnbounded => Bug::RetryUnbounded,
    }));
}

#[cfg(not(feature = "canary"))]
pub fn plant(_planted: Option<Planted>) {}
