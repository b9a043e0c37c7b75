//! What this node last told its clients of tasks and workflows of other homes: a bounded memory, which ends with the
//! process. A client is reminded of what it was told itself, and of nothing that others were.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use magpie_core::ids::TaskId;
use magpie_core::queue::{KnownState, LastKnown, LedgerReply, Refusal};
use magpie_core::time::Wall;

/// Things that are remembered, of all clients together.
const KEPT_MAX: usize = 8_192;

/// A clone is the same memory.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    turn: u64,
    by_what: BTreeMap<(Arc<str>, TaskId), (u64, LastKnown)>,
    /// The one that was told longest ago goes first.
    by_turn: BTreeMap<u64, (Arc<str>, TaskId)>,
}

impl Kept {
    fn keep(&mut self, owner: &Arc<str>, id: TaskId, known: LastKnown) {
        self.turn += 1;
        let key = (owner.clone(), id);
        if let Some((earlier, _)) = self.by_what.insert(key.clone(), (self.turn, known)) {
            self.by_turn.remove(&earlier);
        }
        self.by_turn.insert(self.turn, key);
        if self.by_turn.len() > KEPT_MAX
            && let Some((_, oldest)) = self.by_turn.pop_first()
        {
            self.by_what.remove(&oldest);
        }
    }
}

impl Memory {
    /// Keeps what the home of `id` answered; or adds to its absence how it stood when it last answered the same client.
    ///
    /// # Errors
    /// What there was instead of an answer.
    pub fn pass(
        &self,
        owner: &Arc<str>,
        id: TaskId,
        now: Wall,
        answer: Result<LedgerReply, Refusal>,
    ) -> Result<LedgerReply, Refusal> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(reply) => {
                if let Some(state) = state_of(&reply) {
                    kept.keep(owner, id, LastKnown { state, at: now });
                }
                Ok(reply)
            }
            Err(Refusal::HomeUnreachable { id, last_seen, .. }) => {
                let known = kept.by_what.get(&(owner.clone(), id)).map(|(_, known)| *known);
                Err(Refusal::HomeUnreachable { id, last_seen, known })
            }
            Err(refusal) => Err(refusal),
        }
    }
}

fn state_of(reply: &LedgerReply) -> Option<KnownState> {
    match reply {
        LedgerReply::Task(view) => Some(KnownState::Task(view.state)),
        LedgerReply::Workflow(view) => Some(KnownState::Workflow(view.summary.state)),
        LedgerReply::Cancelled { state } => Some(KnownState::Task(*state)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use magpie_core::ids::LedgerTag;
    use magpie_core::task::TaskState;

    use super::*;

    fn id(n: u128) -> TaskId {
        TaskId { ulid: n, ledger: LedgerTag([1; 5]) }
    }

    fn told(memory: &Memory, owner: &str, n: u128, at: u64) {
        let answer = Ok(LedgerReply::Cancelled { state: TaskState::Cancelled });
        memory.pass(&owner.into(), id(n), Wall(at), answer).unwrap();
    }

    fn known(memory: &Memory, owner: &str, n: u128) -> Option<LastKnown> {
        let away = Err(Refusal::HomeUnreachable { id: id(n), last_seen: None, known: None });
        match memory.pass(&owner.into(), id(n), Wall(99), away) {
            Err(Refusal::HomeUnreachable { known, .. }) => known,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_client_is_reminded_of_what_it_was_told_and_not_of_what_others_were() {
        let memory = Memory::default();
        told(&memory, "ann", 1, 7);
        let state = KnownState::Task(TaskState::Cancelled);
        assert_eq!(known(&memory, "ann", 1), Some(LastKnown { state, at: Wall(7) }));
        assert_eq!((known(&memory, "bob", 1), known(&memory, "ann", 2)), (None, None));
        told(&memory, "ann", 1, 8);
        assert_eq!(known(&memory, "ann", 1).map(|known| known.at), Some(Wall(8)));
    }

    #[test]
    fn it_is_bounded_and_what_was_told_longest_ago_goes() {
        let memory = Memory::default();
        (0..KEPT_MAX as u128).for_each(|n| told(&memory, "ann", n, 1));
        told(&memory, "ann", 0, 2);
        told(&memory, "ann", KEPT_MAX as u128, 3);
        assert_eq!(known(&memory, "ann", 1), None);
        assert!(known(&memory, "ann", 0).is_some() && known(&memory, "ann", KEPT_MAX as u128).is_some());
        let kept = memory.0.lock().unwrap();
        assert_eq!((kept.by_what.len(), kept.by_turn.len()), (KEPT_MAX, KEPT_MAX));
    }
}
