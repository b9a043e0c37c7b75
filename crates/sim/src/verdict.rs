//! When a run is over, and what is asked of it then.

use magpie_core::ids::TaskId;
use magpie_core::invariant::{self, InvariantId};
use magpie_core::queue::{LedgerReply, LedgerRequest};

use crate::book::TaskFacts;
use crate::checkers::{Verdict, Violation, recovery, require};
use crate::world::World;

impl World {
    /// Whether everything that a client knows of has an end that it has seen.
    pub fn everything_ended(&self) -> bool {
        self.clients.iter().all(|client| client.is_content(self.nodes.len()))
    }

    /// I6: the faults stopped long ago.
    pub fn what_did_not_end(&mut self) -> Violation {
        let waiting: Vec<_> = self.clients.iter().flat_map(crate::client::Client::waits_for).collect();
        let facts = waiting.first().and_then(|id| {
            let book = self.books.iter().find(|book| book.tasks.contains_key(id) || book.workflows.contains_key(id))?;
            let task = book.tasks.get(id).map(|facts| format!("{facts:?}"));
            task.or_else(|| book.workflows.get(id).map(|facts| format!("{facts:?}")))
        });
        let (count, first) = (waiting.len(), waiting.first().copied());
        let why = first.and_then(|id| self.why_pending(id));
        let what = format!("{count} of clients' tasks are not over, as {first:?}: {why:?}, {facts:?}");
        Violation { id: InvariantId::I6, invariant: "after_the_faults_everything_ends", what }
    }

    /// In the words of its home: of a task, or of one of a workflow's that has not ended.
    fn why_pending(&mut self, id: TaskId) -> Option<String> {
        let node = self.books.iter().position(|book| book.tag() == id.ledger)?;
        let open = |(_, facts): &(&TaskId, &TaskFacts)| facts.part_of == Some(id) && facts.end.is_none();
        let task = self.books[node].tasks.iter().find(open).map_or(id, |(task, _)| *task);
        let now = self.clock(node);
        let ledger = &mut self.nodes[node].home.as_mut()?.ledger;
        // Of workflows of class `memory` no record tells: their steps do.
        let steps = match recovery::ask(ledger, now, LedgerRequest::GetWorkflow { id })? {
            LedgerReply::Workflow(view) => view.steps,
            _ => Vec::new(),
        };
        let open = steps.iter().find(|step| !step.state.is_terminal());
        let step = open.map(|step| format!("step {} is {} ({:?}): ", step.name, step.state, step.tasks));
        let task = open.and_then(|step| step.task_id).unwrap_or(task);
        let why = match recovery::ask(ledger, now, LedgerRequest::WhyPending { id: task })? {
            LedgerReply::Pending(view) => format!("{} is {}: {}", view.id, view.state, view.reason),
            other => format!("{other:?}"),
        };
        Some(format!("{}{why}", step.unwrap_or_default()))
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
