//! Who calls: in whose name, what it may do, how much at a time.

use std::sync::Arc;

use magpie_core::queue::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::answer::ToolError;
use super::approve::Approve;
use super::catalog::Scope;
use super::quota::Account;
use crate::client::ClientError;
use crate::messages::Body;

/// Calls of one principal that run at a time, and that are admitted; further ones are refused at once.
const CALLS_RUNNING_MAX: usize = 64;
pub const CALLS_ADMITTED_MAX: usize = 1_024;
/// Resources that one principal is subscribed to at a time.
pub const WATCHES_MAX: usize = 32;

/// One caller, on however many connections.
#[derive(Debug)]
pub struct Principal {
    /// The owner of what it submits, and its name in the audit.
    pub name: Arc<str>,
    pub scope: Scope,
    /// All that it sees and uses; none: the whole node.
    pub namespace: Option<Arc<str>>,
    /// Which of its calls wait until a person approves them.
    pub approve: Option<Approve>,
    /// How much it may use; none: as much as there is.
    pub account: Option<Account>,
    admitted: Semaphore,
    running: Semaphore,
    watches: Arc<Semaphore>,
}

impl Principal {
    pub fn new(name: &str, scope: Scope) -> Self {
        let (admitted, running) = (Semaphore::new(CALLS_ADMITTED_MAX), Semaphore::new(CALLS_RUNNING_MAX));
        let watches = Arc::new(Semaphore::new(WATCHES_MAX));
        Self { name: name.into(), scope, namespace: None, approve: None, account: None, admitted, running, watches }
    }

    /// The same, kept to a namespace: one of its name in another is another caller.
    #[must_use]
    pub fn kept_to(self, namespace: &str) -> Self {
        Self { name: format!("{}@{namespace}", self.name).into(), namespace: Some(namespace.into()), ..self }
    }

    /// The same, whose calls wait as `approve` says.
    #[must_use]
    pub fn waiting_for(self, approve: Option<Approve>) -> Self {
        Self { approve, ..self }
    }

    /// The same, kept to a namespace by a node that has put it into its name already.
    #[must_use]
    pub fn kept_elsewhere_to(self, namespace: &str) -> Self {
        match self.name.ends_with(&format!("@{namespace}")) {
            true => Self { namespace: Some(namespace.into()), ..self },
            false => self.kept_to(namespace),
        }
    }

    /// The same, with so much that it may use.
    #[must_use]
    pub fn within(self, account: Option<Account>) -> Self {
        Self { account, ..self }
    }

    /// Whether its scope gives the role that saying this takes.
    ///
    /// # Errors
    /// `forbidden` if it does not.
    pub fn may_say(&self, body: &Body) -> Result<(), ClientError> {
        let role = self.scope.role();
        body.may_be_said_by(role).map_err(|needs| {
            let (needs, has) = (needs.name().to_owned(), role.name().to_owned());
            ClientError::Refused(Refusal::Forbidden { needs, has })
        })
    }

    /// A place for one more call.
    ///
    /// # Errors
    /// `overloaded` if too many are under way.
    pub fn admit(&self) -> Result<SemaphorePermit<'_>, ToolError> {
        self.admitted.try_acquire().map_err(|_| {
            let message = format!("{CALLS_ADMITTED_MAX} calls of this caller are under way");
            ToolError::passing("overloaded", message, "wait for answers, then call again", 500)
        })
    }

    /// The turn of a call that was admitted.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, ToolError> {
        self.running.acquire().await.map_err(|error| ToolError::internal(&error))
    }

    /// A place for one more subscription.
    ///
    /// # Errors
    /// `overloaded` if there are too many.
    pub fn watch(&self) -> Result<OwnedSemaphorePermit, ToolError> {
        self.watches.clone().try_acquire_owned().map_err(|_| {
            let message = format!("this caller is subscribed to {WATCHES_MAX} resources already");
            let fix = "end a subscription, or the session that has it, and subscribe again";
            ToolError::passing("overloaded", message, fix, 1_000)
        })
    }
}
