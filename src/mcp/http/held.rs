//! Calls that were approved: the node makes them, in the name of who would have made them and with no more rights than
//! that caller has by now.
//!
//! A call is said to begin before it is made, so that one is made twice only where that does no harm: of one that a node
//! began and did not live to report, nobody knows how it ended, and that is what is reported.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie_core::ids::TaskId;
use magpie_core::lease::{CompleteAnswer, RenewAnswer};
use magpie_core::limits;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::progress::AttemptNews;
use magpie_core::queue::{
    ApprovalReply, ApprovalRequest, ApprovalView, HELD_CALLS_OWNER, HELD_CALLS_WORKER, Hold, LedgerReply,
    LedgerRequest, OutsideReply, OutsideRequest, approved_call,
};
use magpie_core::task::{AttemptResult, Outcome, TaskError};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::who::Who;
use crate::mcp::answer::ToolError;
use crate::mcp::catalog::{Catalog, Scope};
use crate::mcp::dispatch::{self, Dispatcher, is_safe_again};
use crate::mcp::handler::{BoxFuture, Caller};
use crate::mcp::link::{self, Door, NodeLink, PATIENCE};
use crate::mcp::principal::Principal;
use crate::mcp::surface::SurfaceName;

/// How often a home is asked what was approved.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Calls that are made at a time.
const CALLS_MAX: usize = 16;
/// How often a result is reported to a home that does not take it, and how long between.
const REPORTS_MAX: usize = 20;
const REPORT_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Makes calls as they are approved, for as long as it is awaited. One that takes long keeps no other waiting.
pub async fn make_all(who: &Who, door: Arc<dyn Door>) {
    let node = Arc::new(Principal::new(HELD_CALLS_OWNER, Scope::Submit));
    let link = NodeLink::inside(door.clone(), node);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut making = Making::default();
    loop {
        looks.tick().await;
        making.hear_ends();
        let approved = match approved(&link, CALLS_MAX + making.under_way.len()).await {
            Ok(approved) => approved,
            Err(error) => {
                tracing::debug!(%error, "the home does not tell which calls were approved");
                continue;
            }
        };
        making.not_begun.retain(|id| approved.iter().any(|view| view.id == *id));
        for view in making.next(approved) {
            let (principal, link, door) = (who.named(&view.owner), link.clone(), door.clone());
            let (id, has_begun) = (view.id, has_begun(&view) && !making.not_begun.contains(&view.id));
            let call = making.calls.spawn(async move { make(view, principal, has_begun, &link, door).await });
            making.under_way.insert(call.id(), id);
        }
    }
}

/// Whether a call was made, or is not to be: `NotBegun` of one whose home may have heard that it begins, and it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Over,
    NotBegun,
}

#[derive(Default)]
struct Making {
    calls: JoinSet<Made>,
    under_way: HashMap<tokio::task::Id, TaskId>,
    not_begun: HashSet<TaskId>,
}

impl Making {
    fn hear_ends(&mut self) {
        while let Some(ended) = self.calls.try_join_next_with_id() {
            let (call, made) = ended.unwrap_or_else(|panic| (panic.id(), Made::Over));
            let Some(id) = self.under_way.remove(&call) else { continue };
            match made {
                Made::Over => self.not_begun.remove(&id),
                Made::NotBegun => self.not_begun.insert(id),
            };
        }
    }

    /// Those of `approved` that are not being made and have a place.
    fn next(&self, approved: Vec<ApprovalView>) -> Vec<ApprovalView> {
        let is_new = |view: &ApprovalView| !self.under_way.values().any(|id| *id == view.id);
        approved.into_iter().filter(is_new).take(CALLS_MAX.saturating_sub(self.under_way.len())).collect()
    }
}

async fn approved(link: &NodeLink, limit: usize) -> Result<Vec<ApprovalView>, ToolError> {
    let request = ApprovalRequest::List { of: None, namespace: None, decided: true, cursor: None, limit };
    match link.ledger(LedgerRequest::Approval(request), PATIENCE).await? {
        LedgerReply::Approval(reply) => match *reply {
            ApprovalReply::List { items, .. } => Ok(items),
            ApprovalReply::Decided(_) => Err(link::unexpected()),
        },
        _ => Err(link::unexpected()),
    }
}

/// What is to be done about a call that was approved.
enum Plan {
    Make {
        tool: String,
        arguments: Map<String, Value>,
    },
    /// It is not made, and why.
    Report(TaskError),
}

fn plan(view: &ApprovalView, is_let_in: bool, has_begun: bool) -> Plan {
    let Payload::Inline(input) = &view.input else { return no_call() };
    let Value::Object(mut call) = input.to_value() else { return no_call() };
    let (Some(Value::String(tool)), Some(Value::Object(arguments))) = (call.remove("tool"), call.remove("arguments"))
    else {
        return no_call();
    };
    if !is_let_in {
        let message = format!("{} has no token any more that this node takes: the call was not made", view.owner);
        return Plan::Report(TaskError::new("unknown_caller", message));
    }
    if has_begun && !is_safe_again(&tool, &arguments) {
        let message = format!(
            "the node ended after it had begun {tool} and before it heard how that ended; look whether it did what it was \
             to do, and ask again if it did not"
        );
        return Plan::Report(TaskError::new("outcome_unknown", message));
    }
    Plan::Make { tool, arguments }
}

fn no_call() -> Plan {
    Plan::Report(TaskError::new("no_call", "what was approved is no call of a tool: nothing was called"))
}

fn kept(view: &ApprovalView) -> Value {
    view.approved.as_ref().map_or(Value::Null, JsonText::to_value)
}

fn has_begun(view: &ApprovalView) -> bool {
    kept(view)["begun"] == true
}

async fn make(
    view: ApprovalView,
    principal: Option<Arc<Principal>>,
    has_begun: bool,
    link: &NodeLink,
    door: Arc<dyn Door>,
) -> Made {
    let words = kept(&view)["words"].as_str().unwrap_or_default().to_owned();
    let mut ran_ms = 0;
    let result = match (plan(&view, principal.is_some(), has_begun), principal) {
        (Plan::Report(error), _) => AttemptResult::Failed { error, retryable: false },
        (Plan::Make { .. }, None) => return Made::Over,
        (Plan::Make { tool, arguments }, Some(principal)) => {
            if let Err(error) = begin(view.id, &words, link).await {
                tracing::debug!(%error, id = %view.id, "an approved call waits for its home");
                return if has_begun { Made::Over } else { Made::NotBegun };
            }
            let began = Instant::now();
            let result = call(&tool, arguments, principal, door).await;
            ran_ms = began.elapsed().as_millis() as u64;
            result
        }
    };
    let outcome = Outcome { result, log_tail: words, ran_ms, used: Default::default() };
    if let Err(error) = report(view.id, &outcome, link).await {
        tracing::warn!(%error, id = %view.id, "how an approved call ended was not reported");
    }
    Made::Over
}

/// Says that the call begins: before it does.
async fn begin(task: TaskId, words: &str, link: &NodeLink) -> Result<(), ToolError> {
    let news = AttemptNews { progress: None, checkpoint: Some(approved_call(words, true)) };
    let holds = vec![Hold { task, lease: None, news: Some(Box::new(news)) }];
    let worker = HELD_CALLS_WORKER.to_owned();
    match outside(OutsideRequest::Keep { worker, holds }, link).await? {
        OutsideReply::Kept(kept) if matches!(kept[..], [(_, RenewAnswer::Renewed { .. })]) => Ok(()),
        _ => Err(link::unexpected()),
    }
}

async fn call(
    tool: &str,
    arguments: Map<String, Value>,
    principal: Arc<Principal>,
    door: Arc<dyn Door>,
) -> AttemptResult {
    let surface = SurfaceName::Full.surface(Catalog::shared(), false);
    let link = NodeLink::inside(door, principal.clone());
    let dispatcher = Dispatcher::new(&surface, link, principal).approved();
    let dispatch::Outcome { value, is_error, .. } = Box::pin(dispatcher.call(tool, arguments, &Approved)).await;
    if is_error {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let message = format!("{}; {}", text("message"), text("fix"));
        let message: String = message.chars().take(limits::ERROR_BYTES_MAX / 4).collect();
        return AttemptResult::Failed { error: TaskError::new(&text("code"), message), retryable: false };
    }
    let answer = JsonText::of(&value);
    if Payload::fits_inline(&answer) {
        return AttemptResult::Succeeded { output: Payload::Inline(answer) };
    }
    let left_out = format!("the call was made; its answer has {} bytes and is not kept", answer.as_str().len());
    AttemptResult::Succeeded { output: Payload::Inline(JsonText::of(&json!({"ok": true, "left_out": left_out}))) }
}

/// A home may be busy for a moment, and the call is not made again.
async fn report(task: TaskId, outcome: &Outcome, link: &NodeLink) -> Result<(), ToolError> {
    let mut reports = 1;
    loop {
        let (worker, outcome) = (HELD_CALLS_WORKER.to_owned(), Box::new(outcome.clone()));
        match outside(OutsideRequest::End { worker, task, lease: None, outcome }, link).await {
            Ok(OutsideReply::Ended(CompleteAnswer::Committed | CompleteAnswer::Terminal { .. })) => return Ok(()),
            Ok(_) => return Err(link::unexpected()),
            Err(error) if !error.retryable || reports >= REPORTS_MAX => return Err(error),
            Err(_) => {
                reports += 1;
                tokio::time::sleep(REPORT_AGAIN_AFTER).await;
            }
        }
    }
}

async fn outside(request: OutsideRequest, link: &NodeLink) -> Result<OutsideReply, ToolError> {
    match link.ledger(LedgerRequest::Outside(request), PATIENCE).await? {
        LedgerReply::Outside(reply) => Ok(*reply),
        _ => Err(link::unexpected()),
    }
}

/// Nobody waits for the call itself.
struct Approved;

impl Caller for Approved {
    fn name(&self) -> String {
        "approved-call".to_owned()
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn progress(&self, _waited_ms: u64, _wait_ms: u64, _message: String) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::LedgerTag;
    use magpie_core::time::Wall;

    fn view(input: &Value, begun: bool) -> ApprovalView {
        ApprovalView {
            id: TaskId { ulid: 7, ledger: LedgerTag([1; 5]) },
            owner: "token:ann".to_owned(),
            namespace: "default".to_owned(),
            workflow: None,
            step: None,
            held_call: true,
            input: Payload::Inline(JsonText::of(input)),
            asked_at: Wall(1),
            deadline: None,
            approved: Some(approved_call("approved by operator:ann", begun)),
        }
    }

    fn code(plan: Plan) -> Option<String> {
        match plan {
            Plan::Make { .. } => None,
            Plan::Report(error) => Some(error.code),
        }
    }

    #[test]
    fn what_began_and_may_do_harm_twice_is_not_made_again() {
        let plain = json!({"tool": "queue_clear", "arguments": {"confirm": true}});
        let keyed = json!({"tool": "queue_clear", "arguments": {"confirm": true, "idempotency_key": "k"}});
        let code = |call: &Value, is_let_in: bool, begun: bool| {
            let view = view(call, begun);
            code(plan(&view, is_let_in, has_begun(&view)))
        };
        assert_eq!(code(&plain, true, false), None);
        assert_eq!(code(&plain, true, true).as_deref(), Some("outcome_unknown"));
        assert_eq!(code(&keyed, true, true), None);
        assert_eq!(code(&plain, false, false).as_deref(), Some("unknown_caller"));
        assert_eq!(code(&json!({"tool": 7}), true, false).as_deref(), Some("no_call"));
    }

    #[tokio::test]
    async fn what_is_being_made_is_left_out_and_what_did_not_begin_is_remembered() {
        let mut making = Making::default();
        let at = |ulid| TaskId { ulid, ledger: LedgerTag([1; 5]) };
        let views = |ids: std::ops::Range<u128>| -> Vec<ApprovalView> {
            ids.map(|ulid| ApprovalView { id: at(ulid), ..view(&Value::Null, false) }).collect()
        };
        for (ulid, made) in [(0, Made::NotBegun), (1, Made::Over)] {
            let call = making.calls.spawn(std::future::ready(made));
            making.under_way.insert(call.id(), at(ulid));
        }
        let next: Vec<TaskId> = making.next(views(0..100)).iter().map(|view| view.id).collect();
        assert_eq!(next, (2..CALLS_MAX as u128).map(at).collect::<Vec<_>>());
        while !making.under_way.is_empty() {
            tokio::task::yield_now().await;
            making.hear_ends();
        }
        assert_eq!(making.not_begun, HashSet::from([at(0)]));
        assert_eq!(making.next(views(0..100)).len(), CALLS_MAX);
    }
}
