//! Who calls a tool from a shell: in whose name, by which connection, and who hears how far it is.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::connection::NodeLink;
use crate::client::ClientError;
use crate::mcp::handler::{BoxFuture, Caller};
use crate::mcp::link::Door;
use crate::mcp::principal::Principal;
use crate::messages::{Answer, Body};

/// The command's own connection, in the role that the scope gives: whoever may use the socket may do more.
pub struct Shell(pub Arc<NodeLink>);

impl Door for Shell {
    fn ask<'a>(
        &'a self,
        principal: &'a Principal,
        body: Body,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Answer, ClientError>> {
        Box::pin(async move {
            principal.may_say(&body)?;
            self.0.try_ask(body, patience).await
        })
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
