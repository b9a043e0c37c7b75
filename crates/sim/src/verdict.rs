//! When a run is over, and what is asked of it then.

use magpie_core::invariant::{self, InvariantId};

use crate::checkers::{Verdict, Violation, require};
use crate::world::World;

impl World {
    /// Whether everything that a client knows of has an end that it has seen.
    pub fn everything_ended(&self) -> bool {
        self.clients.iter().all(crate::client::Client::is_content)
    }

    /// I6: the faults stopped long ago.
    pub fn what_did_not_end(&self) -> Violation {
        let waiting: Vec<_> = self.clients.iter().flat_map(crate::client::Client::waits_for).collect();
        let facts = waiting.first().and_then(|id| {
            let book = self.books.iter().find(|book| book.tasks.contains_key(id) || book.workflows.contains_key(id))?;
            let task = book.tasks.get(id).map(|facts| format!("{facts:?}"));
            task.or_else(|| book.workflows.get(id).map(|facts| format!("{facts:?}")))
        });
        let what = format!("{} of clients' tasks are not over, as {:?}: {facts:?}", waiting.len(), waiting.first());
        Violation { id: InvariantId::I6, invariant: "after_the_faults_everything_ends", what }
    }

    /// After the end: what each home would recover is what it shows.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn last_checks(&mut self) -> Verdict {
        self.compare_all_with_replay();
        self.take_violation()?;
        let counted = invariant::violations_in_this_thread() - self.violations_before;
        require(InvariantId::I9, "the_core_counted_no_violation", counted == 0, || format!("{counted} were counted"))
    }
}
