//! Tools and prompts that ask their client before they answer: each round's requests, until all of them are answered.

use rmcp::model::*;
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::calls::text;
use crate::documents::Rounds;
use crate::fixture::Fixture;
use crate::jobs;

type Answered = Result<CallToolResponse, ErrorData>;

/// Answers a tool, or asks on.
pub fn tool(
    fixture: &Fixture,
    rounds: &Rounds,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Answered {
    let responses = request.input_responses.clone().unwrap_or_default();
    let round = match &request.request_state {
        Some(state) => {
            fixture.states.open_json(state).map_err(|error| ErrorData::invalid_params(error.to_string(), None))?
        }
        None => 0,
    };
    let next = next_round(rounds, round, &responses);
    let Some(mut asked) = rounds.rounds.get(next).cloned() else {
        let said = if rounds.state { "state-ok" } else { "answered" };
        let said = format!("{said}: {}", json!(responses));
        return Ok(match request.name.as_ref() {
            "test_tool_with_task" => jobs::say(fixture, said),
            _ => text(said).into(),
        });
    };
    if request.name == "test_input_required_result_capabilities" {
        let can = context.client_capabilities().unwrap_or_default();
        asked.retain(|_, asked| is_known(asked, &can));
    }
    let state = rounds.state.then(|| fixture.states.seal_json(&next).unwrap());
    Ok(InputRequiredResult::new(Some(asked), state).into())
}

/// Answers a prompt, or asks on.
pub fn prompt(rounds: &Rounds, request: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let responses = request.input_responses.clone().unwrap_or_default();
    match rounds.rounds.get(next_round(rounds, 0, &responses)) {
        Some(asked) => Ok(InputRequiredResult::from_input_requests(asked.clone()).into()),
        None => {
            Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, json!(responses).to_string())]).into())
        }
    }
}

/// The round after `round`, if what was asked in it is answered.
fn next_round(rounds: &Rounds, round: usize, responses: &InputResponses) -> usize {
    let answered = |(key, asked): (&String, &InputRequest)| responses.get(key).is_some_and(|said| fits(asked, said));
    match rounds.rounds.get(round) {
        Some(asked) if asked.iter().all(answered) => round + 1,
        _ => round,
    }
}

/// Whether it is an answer to what was asked.
fn fits(asked: &InputRequest, said: &Value) -> bool {
    match asked {
        InputRequest::Elicitation(_) => {
            said["action"].is_string() && (said["action"] != "accept" || said["content"].is_object())
        }
        InputRequest::CreateMessage(_) => !said["content"].is_null(),
        InputRequest::ListRoots(_) => said["roots"].is_array(),
        _ => false,
    }
}

fn is_known(asked: &InputRequest, can: &ClientCapabilities) -> bool {
    match asked {
        InputRequest::Elicitation(_) => can.elicitation.is_some(),
        InputRequest::CreateMessage(_) => can.sampling.is_some(),
        InputRequest::ListRoots(_) => can.roots.is_some(),
        _ => false,
    }
}
