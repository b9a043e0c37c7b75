//! Bugs that are planted on purpose: a simulator that does not find them does not look.

use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The shell tells the ledger that records are synced when it hands them to the log.
    AcknowledgeBeforeFsync,
    /// The ledger does not compare epochs and tokens (in magpie-core, behind its feature `canary`).
    NoEpochCheck,
    /// The ledger grants a task again while its lease lives (in magpie-core, behind its feature `canary`).
    DoubleGrant,
    /// The shell publishes a head when its record is appended.
    HeadBeforeFsync,
}

impl Planted {
    pub const ALL: [Self; 4] =
        [Self::AcknowledgeBeforeFsync, Self::NoEpochCheck, Self::DoubleGrant, Self::HeadBeforeFsync];

    pub fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeFsync => "acknowledge-before-fsync",
            Self::NoEpochCheck => "no-epoch-check",
            Self::DoubleGrant => "double-grant",
            Self::HeadBeforeFsync => "head-before-fsync",
        }
    }

    /// Whether this build can have it.
    pub fn is_built(self) -> bool {
        cfg!(feature = "canary") || matches!(self, Self::AcknowledgeBeforeFsync | Self::HeadBeforeFsync)
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
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
    plant(match planted {
        Some(Planted::NoEpochCheck) => Some(Bug::NoEpochCheck),
        Some(Planted::DoubleGrant) => Some(Bug::DoubleGrant),
        Some(Planted::AcknowledgeBeforeFsync | Planted::HeadBeforeFsync) | None => None,
    });
}

#[cfg(not(feature = "canary"))]
pub fn plant(_planted: Option<Planted>) {}
