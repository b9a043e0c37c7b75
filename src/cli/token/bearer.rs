//! `nodectl token bearer`: what clients of a node's HTTP show. It changes a file, which the node reads again by itself; a
//! node is asked only what its callers have used.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use magpie_core::limits;
use magpie_core::queue::{LedgerReply, LedgerRequest, UsageRequest};
use magpie_core::time::Wall;
use serde::Serialize;

use crate::cli::args::{Context, duration};
use crate::cli::exit::{CommandError, Exit};
use crate::cli::shapes::Items;
use crate::cli::{human, table};
use crate::mcp::approve::{Approve, Calls};
use crate::mcp::catalog::Scope;
use crate::mcp::http::tokens::{TokenEntry, TokenFile, TokensError};
use crate::mcp::quota::{self, Quota, QuotaRow};
use crate::messages::{Answer, Body};

/// How long a node is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub enum BearerCommand {
    /// Make a token, put its digest into the file, and print the token: it is kept nowhere
    Add(AddArgs),
    /// List the tokens of the file
    Ls(FileArg),
    /// Take a token out of the file: a node that reads it lets its holder in no more
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub struct FileArg {
    /// The file that `http.tokens` of the node's configuration names
    #[arg(long)]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub struct AddArgs {
    /// Of whoever will hold it: letters, digits, - _ .
    name: String,
    #[command(flatten)]
    file: FileArg,
    /// What the holder may do: read, submit, operate or admin, each with those before it
    #[arg(long)]
    scope: Scope,
    /// The holder sees and uses only what is of this namespace; without it, the whole node
    #[arg(long)]
    namespace: Option<String>,
    /// Calls of the holder wait until a person approves them: destructive, writes, or names of tools with commas between
    #[arg(long, value_name = "CALLS")]
    approve: Option<Approve>,
    /// How much the holder may use: any of tasks (not over, at a time), cpu_s, gpu_s, bytes, within `per`
    #[arg(long, value_name = "tasks=N,cpu_s=N,gpu_s=N,bytes=N,per=24h", value_parser = Quota::parse)]
    quota: Option<Quota>,
    /// How long it is good for: 12h, 30d, at most 400d; without it, until it is taken out
    #[arg(long, value_name = "DURATION", value_parser = life)]
    expires: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    name: String,
    #[command(flatten)]
    file: FileArg,
}

/// As long as a ticket may be good for.
fn life(text: &str) -> Result<Duration, String> {
    let life = duration(text)?;
    let ms_max = limits::TICKET_LIFE_MS_MAX;
    if (LIFE_MS_MIN..=ms_max).contains(&(life.as_millis() as u64)) {
        return Ok(life);
    }
    let days = ms_max / 86_400_000;
    Err(format!("a token is good for 1s to {days}d; without --expires, until it is taken out"))
}

const LIFE_MS_MIN: u64 = 1_000;

/// A token that was made.
#[derive(Serialize)]
struct Added<'a> {
    name: &'a str,
    scope: Scope,
    namespace: Option<&'a str>,
    approve: Option<&'a Approve>,
    quota: Option<Quota>,
    expires: Option<Wall>,
    token: &'a str,
}

/// What the file says of a token.
#[derive(Serialize)]
struct Row {
    name: String,
    scope: Scope,
    namespace: Option<String>,
    approve: Option<Approve>,
    expires: Option<Wall>,
    quota: Option<Quota>,
    /// What is used of it at the node that is asked; none: it does not answer.
    used: Option<Vec<QuotaRow>>,
}

impl BearerCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Add(args) => add(context, args),
            Self::Ls(FileArg { file }) => {
                let mut items = Vec::new();
                for entry in read(&file)?.token {
                    let used = used(context, &entry).await;
                    let TokenEntry { name, scope, namespace, approve, expires, quota, .. } = entry;
                    items.push(Row { name, scope, namespace, approve, expires, quota, used });
                }
                let list = Items { items };
                context.document(&list, || text(&list.items))?;
                Ok(Exit::Ok)
            }
            Self::Remove(RemoveArgs { name, file: FileArg { file } }) => {
                let mut tokens = read(&file)?;
                let before = tokens.token.len();
                tokens.token.retain(|token| token.name != name);
                if tokens.token.len() == before {
                    let what =
                        format!("{} has no token {name:?}: `nodectl token bearer ls` shows them", file.display());
                    return Err(CommandError::new(Exit::NotFound, what));
                }
                tokens.write(&file).map_err(wrong)?;
                Ok(Exit::Ok)
            }
        }
    }
}

fn read(file: &std::path::Path) -> Result<TokenFile, CommandError> {
    TokenFile::read(file).map_err(wrong)
}

fn wrong(error: TokensError) -> CommandError {
    CommandError::usage(error.to_string())
}

fn add(context: &Context, args: AddArgs) -> Result<Exit, CommandError> {
    let AddArgs { name, file: FileArg { file }, scope, namespace, approve, quota, expires } = args;
    let mut tokens = match TokenFile::read(&file) {
        Err(TokensError::Missing(_)) => TokenFile::default(),
        read => read.map_err(wrong)?,
    };
    let expires = expires.map(|life| Wall(human::now().0.saturating_add(life.as_millis() as u64)));
    let (token, entry) = TokenEntry::make(&name, scope, expires);
    tokens.token.push(entry.kept_to(namespace.clone()).waiting_for(approve.clone()).within(quota));
    tokens.write(&file).map_err(wrong)?;
    let (namespace, approve) = (namespace.as_deref(), approve.as_ref());
    let added = Added { name: &name, scope, namespace, approve, quota, expires, token: &token };
    // A line that can be sent to a file as it is.
    context.document(&added, || format!("{token}\n"))?;
    Ok(Exit::Ok)
}

/// Of a token with a quota, if the node answers.
async fn used(context: &Context, entry: &TokenEntry) -> Option<Vec<QuotaRow>> {
    let quota = entry.quota.as_ref()?;
    let request = LedgerRequest::Usage(UsageRequest::Of { owner: entry.owner() });
    match context.link.try_ask(Body::Ledger(request), PATIENCE).await {
        Ok(Answer::Ledger(LedgerReply::Usage(used))) => Some(quota::rows(quota, &used)),
        Ok(_) | Err(_) => None,
    }
}

/// `tasks 3 of 10, cpu_s 12.5 of 3600 in 24h`.
fn quota(row: &Row) -> String {
    match (&row.used, &row.quota) {
        (Some(used), _) => {
            let part = |row: &QuotaRow| {
                let per = row.per.as_ref().map(|per| format!(" in {per}")).unwrap_or_default();
                format!("{} {} of {}{per}", row.quota, (row.used * 10.0).round() / 10.0, row.allowed)
            };
            used.iter().map(part).collect::<Vec<_>>().join(", ")
        }
        (None, Some(_)) => "the node does not say".to_owned(),
        (None, None) => "-".to_owned(),
    }
}

fn text(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let namespace = human::or_dash(row.namespace.as_ref());
        let approve = match &row.approve {
            None => "-".to_owned(),
            Some(Approve::All(Calls::Destructive)) => "destructive".to_owned(),
            Some(Approve::All(Calls::Writes)) => "writes".to_owned(),
            Some(Approve::Tools(tools)) => tools.join(","),
        };
        let (scope, expires) = (row.scope.name().to_owned(), human::or_dash(row.expires));
        [row.name.clone(), scope, namespace, approve, expires, quota(row)]
    };
    table::rows(["NAME", "SCOPE", "NAMESPACE", "APPROVE", "EXPIRES", "QUOTA"], rows.iter().map(row))
}
