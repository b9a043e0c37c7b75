//! Where an actor is reached, whatever happens to the actor: the supervisor puts each new incarnation in.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ractor::{ActorCell, ActorRef, Message, RpcReplyPort};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use magpie_core::limits;
use magpie_core::queue::Refusal;

/// A stable reference to an actor that may be between two lives.
pub struct Address<M> {
    name: Arc<str>,
    current: Arc<RwLock<Option<ActorRef<M>>>>,
    admission: Arc<Semaphore>,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), current: self.current.clone(), admission: self.admission.clone() }
    }
}

/// The actor is not running just now, or did not answer in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("actor {name} {what}")]
pub struct Unavailable {
    name: String,
    what: &'static str,
}

impl From<Unavailable> for Refusal {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable { what: unavailable.to_string() }
    }
}

impl<M: Message> Address<M> {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            current: Arc::default(),
            admission: Arc::new(Semaphore::new(limits::MAILBOX_LEN_MAX)),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a new incarnation in.
    pub fn set(&self, actor: ActorRef<M>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
    }

    /// Forgets an incarnation that ended.
    pub fn clear(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn cell(&self) -> Option<ActorCell> {
        self.get().map(|actor| actor.get_cell())
    }

    fn get(&self) -> Option<ActorRef<M>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn unavailable(&self, what: &'static str) -> Unavailable {
        Unavailable { name: self.name.to_string(), what }
    }

    /// Puts a message into the mailbox.
    ///
    /// # Errors
    /// If the actor is between two lives.
    pub fn cast(&self, message: M) -> Result<(), Unavailable> {
        let actor = self.get().ok_or_else(|| self.unavailable("is restarting"))?;
        actor.cast(message).map_err(|_| self.unavailable("is restarting"))
    }

    /// A place in the mailbox for a message from outside: it travels in the message and frees the place with it.
    ///
    /// # Errors
    /// If [`limits::MAILBOX_LEN_MAX`] messages wait already.
    pub fn admit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let admitted = self.admission.clone().try_acquire_owned();
        admitted.map_err(|_| Refusal::Overloaded { retry_after_ms: 100, what: format!("the mailbox of {} is full", self.name) })
    }

    /// Sends a message that carries a reply port, and waits for the answer.
    ///
    /// # Errors
    /// If the actor is between two lives, dies before it answers, or does not answer within `patience`.
    pub async fn ask<R: Send + 'static>(
        &self,
        patience: Duration,
        message: impl FnOnce(RpcReplyPort<R>) -> M,
    ) -> Result<R, Unavailable> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.cast(message(sender.into()))?;
        match tokio::time::timeout(patience, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(self.unavailable("restarted before it answered")),
            Err(_) => Err(self.unavailable("did not answer in time")),
        }
    }
}
