//! Bugs that are planted on purpose: a simulator that does not find them does not look.

use std::fmt;
use std::str::FromStr;

use magpie_core::canary::Bug;
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
    Core(Bug),
}

impl Planted {
    /// Those of the shell first.
    pub fn all() -> impl Iterator<Item = Self> {
        let shell = [Self::AcknowledgeBeforeFsync, Self::HeadBeforeFsync, Self::TornTailAccepted];
        shell.into_iter().chain(Bug::ALL.map(Self::Core))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeFsync => "acknowledge-before-fsync",
            Self::HeadBeforeFsync => "head-before-fsync",
            Self::TornTailAccepted => "torn-tail-accepted",
            Self::Core(bug) => bug.name(),
        }
    }

    /// Which of the invariants it breaks.
    pub fn breaks(self) -> &'static [InvariantId] {
        match self {
            Self::AcknowledgeBeforeFsync => &[InvariantId::I1, InvariantId::I10],
            Self::HeadBeforeFsync => &[InvariantId::I10],
            Self::TornTailAccepted => &[InvariantId::I16],
            Self::Core(Bug::NoEpochCheck) => &[InvariantId::I3, InvariantId::I4],
            Self::Core(Bug::DoubleGrant) => &[InvariantId::I5],
            Self::Core(Bug::LeaseNotExpired) => &[InvariantId::I6],
            Self::Core(Bug::OperationForgotten) => &[InvariantId::I15],
            Self::Core(Bug::GenerationNotDurable) => &[InvariantId::I2],
            Self::Core(Bug::StaleGossipWins) => &[InvariantId::I12],
            Self::Core(Bug::EdgeLost) => &[InvariantId::I8],
            Self::Core(Bug::DrainIgnored) => &[InvariantId::I17],
            Self::Core(Bug::RetryUnbounded) => &[InvariantId::I7],
            Self::Core(Bug::LoansForgotten) => &[InvariantId::I19],
            Self::Core(Bug::PauseForgotten) => &[InvariantId::I20],
            Self::Core(Bug::AnyoneEnds) => &[InvariantId::I3],
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
        let known = || Self::all().map(Self::name).collect::<Vec<_>>().join(", ");
        Self::all().find(|planted| planted.name() == text).ok_or_else(|| format!("no bug {text:?}: {}", known()))
    }
}

/// Plants a bug of the core in this thread, or takes it out.
#[cfg(feature = "canary")]
pub fn plant(planted: Option<Planted>) {
    magpie_core::canary::plant(planted.and_then(|planted| match planted {
        Planted::Core(bug) => Some(bug),
        Planted::AcknowledgeBeforeFsync | Planted::HeadBeforeFsync | Planted::TornTailAccepted => None,
    }));
}

#[cfg(not(feature = "canary"))]
pub fn plant(_planted: Option<Planted>) {}
