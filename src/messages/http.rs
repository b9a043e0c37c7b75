//! To the HTTP actor.

use std::sync::Arc;

use ractor::RpcReplyPort;
use tokio::sync::OwnedSemaphorePermit;

use super::{Answer, Body};

pub enum HttpMsg {
    /// A request of an HTTP client that was let in and may say this.
    Ask {
        owner: Arc<str>,
        /// It is kept to a namespace: see `Doorway::answer_apart`.
        apart: bool,
        body: Box<Body>,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<Answer>,
    },
    /// Accepting ended.
    Ended(String),
}
