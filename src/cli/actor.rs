//! `nodectl actor`: the mailbox API itself.

use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::args::Context;
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::shapes::Items;
use super::{human, output, table};
use crate::messages::actor::{ActorReply, ActorRequest, ActorView};
use crate::messages::{Answer, Body};

#[derive(Debug, Subcommand)]
pub enum ActorCommand {
    /// List the actors of this node
    Ls,
    /// Show which actor supervises which
    Tree,
    /// Send an actor a request, as {"stats": {}} or "stats", and print its reply
    Call {
        name: Mailbox,
        #[arg(value_name = "JSON")]
        request: String,
    },
    /// Stop an actor as a crash would; its supervisor starts it again
    Kill { name: String },
}

/// The actors that answer at the control socket.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Mailbox {
    Ledger,
    Worker,
    Registry,
    Clock,
    Device,
    Blob,
    Node,
    Peer,
    Supervisor,
}

impl Mailbox {
    /// As [`Body`] and [`Answer`] name it.
    fn variant(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Worker => "worker",
            Self::Registry => "registry",
            Self::Clock => "clock",
            Self::Device => "device",
            Self::Blob => "blob",
            Self::Node => "node",
            Self::Peer => "peer",
            Self::Supervisor => "actor",
        }
    }
}

impl ActorCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Ls => {
                let tree = tree(context).await?;
                let items = Items { items: flat(&tree) };
                context.document(&items, || text(&tree, false))?;
            }
            Self::Tree => {
                let tree = tree(context).await?;
                context.document(&tree, || text(&tree, true))?;
            }
            Self::Call { name, request } => call(context, name, &request).await?,
            Self::Kill { name } => kill(context, name).await?,
        }
        Ok(Exit::Ok)
    }
}

async fn tree(context: &Context) -> Result<ActorView, CommandError> {
    match ask(context, ActorRequest::Tree).await? {
        ActorReply::Tree(tree) => Ok(tree),
        ActorReply::Killed { .. } | ActorReply::Unknown { .. } => Err(unexpected()),
    }
}

async fn ask(context: &Context, request: ActorRequest) -> Result<ActorReply, CommandError> {
    match context.link.ask(Body::Actor(request)).await? {
        Answer::Actor(reply) => Ok(reply),
        _ => Err(unexpected()),
    }
}

async fn kill(context: &Context, name: String) -> Result<(), CommandError> {
    match ask(context, ActorRequest::Kill { name }).await? {
        ActorReply::Killed { name } => context.document(&json!({"killed": name}), || format!("{name} is killed\n")),
        ActorReply::Unknown { name, known } => {
            let what = format!("there is no actor {name:?}; this node has {}", known.join(", "));
            Err(CommandError::new(Exit::NotFound, what))
        }
        ActorReply::Tree(_) => Err(unexpected()),
    }
}

async fn call(context: &Context, name: Mailbox, request: &str) -> Result<(), CommandError> {
    let request: Value = serde_json::from_str(request)
        .map_err(|error| CommandError::usage(format!("the request is not JSON: {error}")))?;
    let body = Value::Object(Map::from_iter([(name.variant().to_owned(), request)]));
    let body: Body = serde_json::from_value(body)
        .map_err(|error| CommandError::usage(format!("the actor has no such request: {error}")))?;
    let answer = json!(context.link.ask(body).await?);
    let reply = answer.get(name.variant()).unwrap_or(&answer);
    context.document(reply, || format!("{}\n", output::json_pretty(reply)))
}

/// The tree without its shape, parents first.
fn flat(view: &ActorView) -> Vec<ActorView> {
    let own = ActorView { children: Vec::new(), ..view.clone() };
    [own].into_iter().chain(view.children.iter().flat_map(flat)).collect()
}

fn text(tree: &ActorView, indented: bool) -> String {
    let mut rows = Vec::new();
    push_rows(tree, 0, indented, &mut rows);
    table::rows(["ACTOR", "STATE", "RESTARTS", "LAST ERROR"], rows)
}

fn push_rows(view: &ActorView, depth: usize, indented: bool, rows: &mut Vec<[String; 4]>) {
    let indent = if indented { "  ".repeat(depth) } else { String::new() };
    let error = human::or_dash(view.last_error.as_ref());
    rows.push([format!("{indent}{}", view.name), view.state.clone(), view.restarts.to_string(), error]);
    view.children.iter().for_each(|child| push_rows(child, depth + 1, indented, rows));
}
