//! `nodectl tool`: the tools that agents have, from the shell. They are found and called by the dispatcher that serves
//! MCP, so that a call means the same here and there.

mod arguments;
mod caller;
mod failure;
mod show;

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::args::Context;
use super::exit::{CommandError, Exit};
use super::output;
use crate::mcp::catalog::{Catalog, Scope};
use crate::mcp::dispatch::Dispatcher;
use crate::mcp::link::NodeLink;
use crate::mcp::principal::Principal;
use crate::mcp::surface::{Surface, SurfaceOptions};
use caller::{Shell, Terminal};

/// As the node's socket knows it.
const PRINCIPAL: &str = "local:nodectl";

#[derive(Debug, Subcommand)]
pub enum ToolCommand {
    /// List the tools, or find some by words of what you want to do
    Ls(LsArgs),
    /// Show the arguments and the results of a tool, with an example
    Schema(SchemaArgs),
    /// Call a tool, and print what it gives as JSON
    Call(CallArgs),
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// Words of what you want to do: the tools that fit best come first
    #[arg(value_name = "WORD")]
    query: Vec<String>,
    /// Of this category only
    #[arg(long, value_name = "NAME")]
    category: Option<String>,
    #[command(flatten)]
    bounds: Bounds,
}

#[derive(Debug, Args)]
pub struct SchemaArgs {
    name: String,
}

#[derive(Debug, Args)]
pub struct CallArgs {
    name: String,
    /// An object, as {"task_id": "01M7"}; @FILE reads it from a file, - from standard input
    #[arg(value_name = "JSON")]
    arguments: Option<String>,
    #[command(flatten)]
    bounds: Bounds,
}

/// What may be called.
#[derive(Debug, Clone, Copy, Args)]
struct Bounds {
    /// What the call may do: read, submit, operate, admin, each with those before it
    #[arg(long, value_name = "SCOPE", default_value = "submit")]
    scope: Scope,
    /// Leave out, and refuse, what changes anything
    #[arg(long)]
    read_only: bool,
}

impl ToolCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Ls(args) => ls(context, args).await?,
            Self::Schema(SchemaArgs { name }) => schema(context, &name).await?,
            Self::Call(CallArgs { name, arguments, bounds }) => {
                let arguments = arguments::read(arguments).await?;
                let tools = Tools::within(context, bounds);
                let called = tools.call(&name, arguments).await;
                if !called.as_ref().is_err_and(|error| error.exit == Exit::Unreachable) {
                    tools.shell.tell_calls().await;
                }
                let value = called?;
                context.document(&value, || format!("{}\n", output::json_pretty(&value)))?;
            }
        }
        Ok(Exit::Ok)
    }
}

async fn ls(context: &Context, args: LsArgs) -> Result<(), CommandError> {
    let tools = Tools::within(context, args.bounds);
    let mut asked = Map::new();
    if !args.query.is_empty() {
        asked.insert("query".to_owned(), args.query.join(" ").into());
    }
    if let Some(category) = args.category {
        asked.insert("category".to_owned(), category.into());
    }
    let mut items: Vec<Value> = Vec::new();
    loop {
        let mut page = tools.call("tools_list_tools", asked.clone()).await?;
        let rows = page["tools"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let has_rows = !rows.is_empty();
        items.extend(rows);
        match page["next_cursor"].take() {
            Value::String(cursor) if has_rows => _ = asked.insert("cursor".to_owned(), cursor.into()),
            _ => break,
        }
    }
    context.document(&json!({"items": items}), || show::list(&items))
}

async fn schema(context: &Context, name: &str) -> Result<(), CommandError> {
    let every = Bounds { scope: Scope::Admin, read_only: false };
    let asked = Map::from_iter([("names".to_owned(), json!([name]))]);
    let mut found = Tools::within(context, every).call("tools_get_schema", asked).await?;
    let schema = found["tools"][0].take();
    context.document(&schema, || show::schema(&schema))
}

/// The tools of one command.
struct Tools {
    dispatcher: Dispatcher,
    shell: Arc<Shell>,
}

impl Tools {
    fn within(context: &Context, bounds: Bounds) -> Self {
        let options = SurfaceOptions { flat: true, read_only: bounds.read_only, toolset: Vec::new() };
        let surface = Surface::new(Catalog::shared(), &options).expect("no toolset is named");
        let principal = Arc::new(Principal::new(PRINCIPAL, bounds.scope));
        let shell = Arc::new(Shell::new(context.link.clone()));
        let link = NodeLink::inside(shell.clone(), principal.clone());
        Self { dispatcher: Dispatcher::new(&surface, link, principal), shell }
    }

    /// # Errors
    /// With the exit code that the failure's code has, and what to do.
    async fn call(&self, name: &str, arguments: Map<String, Value>) -> Result<Value, CommandError> {
        let outcome = self.dispatcher.call(name, arguments, &Terminal).await;
        if outcome.is_error { Err(failure::told(&outcome.value)) } else { Ok(outcome.value) }
    }
}
