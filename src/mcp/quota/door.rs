//! The one place where a caller with a quota is let through: all that it asks of the node comes by here.

use std::time::Duration;

use magpie_core::queue::{LedgerReply, LedgerRequest, SubmitItem, UsageRequest, UsageView};

use super::spending::{Spending, spending};
use super::{Account, Asked, Exceeded, judge};
use crate::client::ClientError;
use crate::mcp::answer::ToolError;
use crate::mcp::link::Door;
use crate::mcp::namespace;
use crate::mcp::principal::Principal;
use crate::messages::{Answer, Body};

/// Asks the node in the name of a caller, within its namespace and its quota.
///
/// # Errors
/// As the door; `quota_exceeded`; `not_under_quota` for what nobody here would count.
pub async fn ask(door: &dyn Door, principal: &Principal, body: Body, patience: Duration) -> Result<Answer, ToolError> {
    match &principal.account {
        // Boxed, so that a call of the others is not as large as one of these.
        Some(account) => Box::pin(counted(door, principal, account, body, patience)).await,
        None => passed(door, principal, body, patience).await,
    }
}

async fn counted(
    door: &dyn Door,
    principal: &Principal,
    account: &Account,
    body: Body,
    patience: Duration,
) -> Result<Answer, ToolError> {
    // It is this caller's turn until the answer is there: what was let through is counted by then.
    let _turn = match spending(&body)? {
        Spending::Nothing => None,
        Spending::Rehearses(asked, home) => {
            let used = usage(door, principal).await?;
            check_home(home.is_none_or(|home| home == used.ledger))?;
            judge(&account.quota, &used, &asked)?;
            None
        }
        Spending::Uses(asked, home) => {
            let turn = account.turn.lock().await;
            let used = usage(door, principal).await?;
            check_home(home.is_none_or(|home| home == used.ledger))?;
            let_through(door, principal, (account, &used, &asked), &body, patience).await?;
            Some(turn)
        }
    };
    passed(door, principal, body, patience).await
}

async fn passed(door: &dyn Door, principal: &Principal, body: Body, patience: Duration) -> Result<Answer, ToolError> {
    Ok(match &principal.namespace {
        Some(namespace) => Box::pin(namespace::ask(door, principal, namespace, body, patience)).await?,
        None => door.ask(principal, body, patience).await?,
    })
}

/// What the caller used, as its node's home counts.
///
/// # Errors
/// As the door.
pub async fn usage(door: &dyn Door, principal: &Principal) -> Result<UsageView, ClientError> {
    door.usage(UsageRequest::Of { owner: principal.name.to_string() }).await
}

/// Bytes count before they are put: who puts them and is cut off has used them.
async fn let_through(
    door: &dyn Door,
    principal: &Principal,
    (account, used, asked): (&Account, &UsageView, &Asked),
    body: &Body,
    patience: Duration,
) -> Result<(), ToolError> {
    if let Err(exceeded) = judge(&account.quota, used, asked) {
        return is_known(door, principal, body, exceeded, patience).await;
    }
    if asked.bytes > 0 {
        let owner = principal.name.to_string();
        door.usage(UsageRequest::Put { owner, bytes: asked.bytes }).await?;
    }
    Ok(())
}

/// A submission that was taken before is answered as before, whatever was used since: its keys say so.
async fn is_known(
    door: &dyn Door,
    principal: &Principal,
    body: &Body,
    exceeded: Exceeded,
    patience: Duration,
) -> Result<(), ToolError> {
    let Body::Ledger(request @ LedgerRequest::Submit { items, .. }) = body else { return Err(exceeded.into()) };
    let has_key = |item: &SubmitItem| item.spec.idempotency_key.is_some();
    if !items.iter().all(has_key) {
        return Err(exceeded.into());
    }
    let rehearse = Body::Ledger(LedgerRequest::Rehearse(Box::new(request.clone())));
    match passed(door, principal, rehearse, patience).await {
        Ok(Answer::Ledger(LedgerReply::Rehearsed(told)))
            if told.total == told.tasks.len() as u64 && told.tasks.iter().all(|task| task.existing.is_some()) =>
        {
            Ok(())
        }
        _ => Err(exceeded.into()),
    }
}

fn check_home(is_own: bool) -> Result<(), ToolError> {
    if is_own {
        return Ok(());
    }
    let message = "this caller has a quota, which is counted at this node: what it names has its home at another";
    let fix = "submit it anew here, without the id that leads elsewhere";
    Err(ToolError::new("not_under_quota", message, fix))
}
