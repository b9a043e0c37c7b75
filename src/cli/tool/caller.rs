//! Who calls a tool from a shell: in whose name, by which connection, and who hears how far it is.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cli::connection::NodeLink;
use crate::client::ClientError;
use crate::mcp::handler::{BoxFuture, Caller};
use crate::mcp::link::Door;
use crate::mcp::principal::Principal;
use crate::messages::audit::CallLine;
use crate::messages::node::NodeRequest;
use crate::messages::{Answer, Body};

/// What telling the node of a call may take.
const RECORD_PATIENCE: Duration = Duration::from_secs(1);

/// The command's own connection, in the role that the scope gives: whoever may use the socket may do more.
pub struct Shell {
    link: Arc<NodeLink>,
    /// One for each call of this command.
    calls: Mutex<Vec<CallLine>>,
}

impl Shell {
    pub fn new(link: Arc<NodeLink>) -> Self {
        Self { link, calls: Mutex::default() }
    }

    /// Has the calls of this command kept in the node's audit, and says if they are not.
    pub async fn tell_calls(&self) {
        let calls = std::mem::take(&mut *self.calls());
        let told = self.link.try_ask(Body::Node(NodeRequest::RecordCalls(calls)), RECORD_PATIENCE).await;
        if let Err(error) = told {
            eprintln!("nodectl: the node's audit does not have this call: {error}");
        }
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Vec<CallLine>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door for Shell {
    fn ask<'a>(
        &'a self,
        principal: &'a Principal,
        body: Body,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Answer, ClientError>> {
        Box::pin(async move {
            principal.may_say(&body)?;
            self.link.try_ask(body, patience).await
        })
    }

    fn record(&self, _principal: &Principal, call: CallLine) {
        let mut calls = self.calls();
        // A list is several calls of the catalogue, of which no node is told.
        calls.clear();
        calls.push(call);
    }
}

/// Whoever reads standard error. Ctrl-C ends the whole command.
pub struct Terminal;

impl Caller for Terminal {
    fn name(&self) -> String {
        "nodectl".to_owned()
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn progress(&self, _waited_ms: u64, _wait_ms: u64, message: String) -> BoxFuture<'_, ()> {
        if std::io::stderr().is_terminal() {
            eprintln!("nodectl: {message}");
        }
        Box::pin(std::future::ready(()))
    }
}
