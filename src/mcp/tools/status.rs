//! The five status words of the seeds beside our ten states.

use magpie_core::queue::WorkflowState;
use magpie_core::task::TaskState;

use crate::mcp::answer::ToolError;

const WORDS: [&str; 5] = ["queued", "running", "completed", "failed", "cancelled"];

/// The seeds' word for a state.
pub fn word(state: TaskState) -> &'static str {
    match state {
        TaskState::Blocked | TaskState::Delayed | TaskState::Ready => "queued",
        TaskState::Leased | TaskState::Running => "running",
        TaskState::Succeeded => "completed",
        TaskState::Failed | TaskState::Dead => "failed",
        TaskState::Cancelled | TaskState::Skipped => "cancelled",
    }
}

/// The seeds' word for a workflow's state.
pub fn workflow_word(state: WorkflowState) -> &'static str {
    match state {
        WorkflowState::Running => "running",
        WorkflowState::Succeeded => "completed",
        WorkflowState::Failed => "failed",
        WorkflowState::Cancelled => "cancelled",
    }
}

/// The states that a word names, in either vocabulary; where both have it, the seeds' meaning, which is the wider.
///
/// # Errors
/// If it is in neither.
pub fn states(field: &str, word_or_state: &str) -> Result<Vec<TaskState>, ToolError> {
    let named = |state: &TaskState| word(*state) == word_or_state;
    let states: Vec<TaskState> = TaskState::ALL.into_iter().filter(named).collect();
    if !states.is_empty() {
        return Ok(states);
    }
    word_or_state.parse().map(|state| vec![state]).map_err(|_| {
        let own = TaskState::ALL.into_iter().map(TaskState::name).filter(|name| !WORDS.contains(name));
        let known: Vec<&str> = WORDS.into_iter().chain(own).collect();
        let shown: String = word_or_state.chars().take(40).collect();
        let expected = format!("one of {}", known.join(", "));
        ToolError::wrong_argument(field, format!("{shown:?} is no status"), &expected, "leave it out for all")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_word_and_every_word_names_its_states() {
        for state in TaskState::ALL {
            assert!(WORDS.contains(&word(state)));
            assert!(states("status", word(state)).unwrap().contains(&state));
            assert!(states("status", state.name()).unwrap().contains(&state));
        }
        assert_eq!(WORDS.iter().map(|word| states("status", word).unwrap().len()).sum::<usize>(), TaskState::ALL.len());
        assert!(states("status", "done").unwrap_err().message.contains("completed"));
    }
}
