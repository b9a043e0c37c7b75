//! `nodectl task result`: the output itself, wherever it is kept.

use magpie_core::payload::{BlobRef, JsonText, Payload};
use magpie_core::queue::{LedgerReply, LedgerRequest, TaskView};
use magpie_core::task::TaskState;
use serde_json::Value;

use super::EndArgs;
use crate::cli::args::Context;
use crate::cli::blob;
use crate::cli::connection::{NodeLink, unexpected};
use crate::cli::exit::{CommandError, Exit};
use crate::cli::id_prefix::{Noun, resolve};
use crate::cli::output;
use crate::cli::wait::{STEP_MAX, until_terminal};

pub async fn task(context: &Context, args: &EndArgs) -> Result<Exit, CommandError> {
    let id = resolve(&context.link, Noun::Task, &args.id).await?;
    let view: TaskView = match args.timeout {
        Some(_) => {
            let deadline = context.link.wait_deadline(args.timeout).await?;
            until_terminal(&context.link, id, deadline, STEP_MAX, |_| {}).await?
        }
        None => match context.link.ledger(LedgerRequest::GetTask { id }).await? {
            LedgerReply::Task(view) => *view,
            _ => return Err(unexpected()),
        },
    };
    match (view.state, &view.output) {
        (TaskState::Succeeded, output) => print(context, output.as_ref()).await,
        (state, _) if state.is_terminal() => {
            let why = view.error.map(|error| format!(": {error}")).unwrap_or_default();
            Err(CommandError::new(Exit::Failed, format!("{id} has no output, it is {state}{why}")))
        }
        (state, _) => {
            let what = format!("{id} is {state}: it has no output yet; wait for it with --timeout");
            Err(CommandError::new(Exit::TimedOut, what))
        }
    }
}

async fn print(context: &Context, output: Option<&Payload>) -> Result<Exit, CommandError> {
    let text = match output {
        None => JsonText::null(),
        Some(Payload::Inline(text)) => text.clone(),
        Some(Payload::Blob(blob)) => blob_text(&context.link, *blob).await?,
    };
    context.document(&text, || readable(&text))?;
    Ok(Exit::Ok)
}

/// A text as it is, any other value as JSON.
fn readable(text: &JsonText) -> String {
    match text.to_value() {
        Value::String(text) => format!("{text}\n"),
        other => format!("{}\n", output::json_pretty(&other)),
    }
}

async fn blob_text(link: &NodeLink, content: BlobRef) -> Result<JsonText, CommandError> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < content.bytes {
        bytes.extend(blob::piece(link, content, bytes.len() as u64).await?);
    }
    let text = String::from_utf8(bytes).ok().and_then(|text| JsonText::parse(&text).ok());
    text.ok_or_else(|| {
        let what = format!("blob {} is not JSON; fetch it with `nodectl blob get`", content.cid);
        CommandError::new(Exit::Failed, what)
    })
}
