//! `nodectl audit`.

use std::time::Duration;

use clap::Args;
use magpie_core::time::Wall;

use super::args::{Context, duration};
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::{human, table};
use crate::mcp::catalog::Catalog;
use crate::messages::audit::{AuditAsk, AuditFound, CALLS_READ_MAX, CallLine};
use crate::messages::node::{NodeReply, NodeRequest};
use crate::messages::{Answer, Body};

/// Print the calls of tools that the node remembers
///
/// Who called what, and what came of it: over its HTTP, and what node-mcp and `nodectl tool call` told it of.
/// The newest is the last.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Of the last while: 10m, 24h, 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// In this name: local:node-mcp, local:nodectl, local:http, or token:NAME
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Of this tool, by any of its names
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// With this end: ok, or the code of a failure
    #[arg(long, value_name = "CODE")]
    outcome: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=CALLS_READ_MAX as i64))]
    limit: u16,
}

impl AuditArgs {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let Self { since, principal, tool, outcome, limit } = self;
        let since = since.map(|since| Wall(human::now().0.saturating_sub(since.as_millis() as u64)));
        let tool = tool.map(|name| Catalog::shared().find(&name).map_or(name, |tool| tool.entry.name.to_owned()));
        let ask = AuditAsk { since, principal, tool, outcome, limit: usize::from(limit) };
        let Answer::Node(NodeReply::Audit(found)) = context.link.ask(Body::Node(NodeRequest::Audit(ask))).await? else {
            return Err(unexpected());
        };
        let AuditFound { calls: items, more } = found;
        context.document(&serde_json::json!({"items": items, "more": more}), || text(&items, more))?;
        Ok(Exit::Ok)
    }
}

fn text(calls: &[CallLine], more: bool) -> String {
    if calls.is_empty() {
        return "no calls\n".to_owned();
    }
    let rows = calls.iter().map(|call| {
        let took = human::duration(call.ms);
        [call.at.to_string(), call.principal.clone(), call.client.clone(), name(call), call.outcome.clone(), took]
    });
    let mut text = table::rows(["AT", "PRINCIPAL", "CLIENT", "TOOL", "OUTCOME", "TOOK"], rows);
    let lost: u64 = calls.iter().map(|call| call.lost).sum();
    if lost > 0 {
        text += &format!("\n{lost} other calls of this time were not kept\n");
    }
    if more {
        text += "\nthere are earlier ones: --limit\n";
    }
    text
}

/// What was called, where no tool has that name.
fn name(call: &CallLine) -> String {
    if call.tool == "none" { format!("({})", call.called) } else { call.tool.clone() }
}
