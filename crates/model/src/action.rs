//! What may happen next.

use magpie_core::lease::Fence;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A letter arrives.
    Arrive(usize),
    /// A letter is lost.
    Lose(usize),
    /// A fault holds a letter back.
    HoldBack(usize),
    /// The home's records are on its disk.
    Sync,
    /// The marker that the home placed behind the renewals comes out.
    MarkerOut,
    /// An attempt ends.
    End {
        worker: usize,
        fence: Fence,
        fate: Fate,
    },
    /// The home's process dies. What it had not synced is lost, or was written all the same.
    CrashHome {
        loses: bool,
    },
    StartHome,
    /// A worker's process dies with its attempts, and the next one starts.
    CrashWorker(usize),
    /// A process stands still: nothing reaches it.
    PauseHome,
    PauseWorker(usize),
    /// It goes on: with what waited for it, or with its timers first.
    ResumeHome {
        ticks_first: bool,
    },
    ResumeWorker {
        worker: usize,
        ticks_first: bool,
    },
    /// Time passes.
    Leap,
    /// No more faults: what is held back is lost, everything else happens in order until both tasks have ended.
    Calm,
}

/// How an attempt ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Succeeds,
    /// In a way that is worth another attempt.
    Fails,
}
