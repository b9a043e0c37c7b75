//! Callers that are kept to a namespace: what they ask of the node leaves through here and comes back through here.
//!
//! `within` says of every message what such a caller may ask by it, `shown` of every answer what it is shown; both are
//! complete, so that a new message says it too. What is another's is answered as what there is not: it is looked up by
//! the same question, whoever has it. Nothing is asked of the home but what any caller may ask, so that it holds for a
//! home at any node.

mod shown;
mod within;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use magpie_core::ids::{ContentId, LedgerTag, TaskId};
use magpie_core::limits::NAMESPACES_ASKED_MAX;
use magpie_core::queue::{LedgerReply, LedgerRequest, NamespaceCounts, Refusal};

use super::link::Door;
use super::principal::Principal;
use crate::client::ClientError;
use crate::messages::blob::{BlobReply, BlobRequest};
use crate::messages::node::NodeReply;
use crate::messages::stream::StreamReply;
use crate::messages::{Answer, Body};
use within::{Named, Question, within};

/// Of a namespace that a caller may be kept to.
pub const NAME_LEN_MAX: usize = 64;

/// Whether a namespace may have this name.
///
/// # Errors
/// In words, if not.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.len() <= NAME_LEN_MAX && magpie_core::dag::is_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(NAME_LEN_MAX).collect();
    Err(format!("{shown:?} is no namespace: 1 to {NAME_LEN_MAX} lower-case letters, digits, - and _"))
}

/// Asks the node in the name of a caller that is kept to `namespace`.
///
/// # Errors
/// As the door, and what is another's as what there is not.
pub async fn ask(
    door: &dyn Door,
    principal: &Principal,
    namespace: &str,
    body: Body,
    patience: Duration,
) -> Result<Answer, ClientError> {
    let asker = Asker { door, principal, namespace, patience };
    let Question { body, ids, blobs } = within((namespace, &principal.name), body).map_err(ClientError::Refused)?;
    principal.may_say(&body)?;
    if let Some(id) = asker.first_of_others(&ids).await? {
        return Err(ClientError::Refused(Refusal::NotFound { id }));
    }
    if let Some(lacking) = asker.first_lacking(blobs).await? {
        return lacking.map_err(ClientError::Refused);
    }
    let (home, put) = (home_of(&body), put_by(&body));
    let answer = door.ask(principal, body, patience).await?;
    if let (Some((cid, bytes)), Answer::Blob(BlobReply::Put { next })) = (put, &answer)
        && *next >= bytes
    {
        door.give(namespace, vec![cid]).await?;
    }
    asker.shown(home, answer).await
}

fn home_of(body: &Body) -> Option<LedgerTag> {
    match body {
        Body::Home { home, .. } => Some(*home),
        _ => None,
    }
}

/// The blob that a message brings, and its length.
fn put_by(body: &Body) -> Option<(ContentId, u64)> {
    match body {
        Body::Blob(BlobRequest::Put { blob, .. }) => Some((blob.cid, blob.bytes)),
        _ => None,
    }
}

struct Asker<'a> {
    door: &'a dyn Door,
    principal: &'a Principal,
    namespace: &'a str,
    patience: Duration,
}

impl Asker<'_> {
    /// The first that is not the namespace's, whether there is such a one or not.
    async fn first_of_others(&self, ids: &[TaskId]) -> Result<Option<TaskId>, ClientError> {
        let own = self.own_of(ids.iter().copied().collect()).await?;
        Ok(ids.iter().copied().find(|id| !own.contains(id)))
    }

    /// Those that are the namespace's, as their homes say.
    async fn own_of(&self, ids: BTreeSet<TaskId>) -> Result<BTreeSet<TaskId>, ClientError> {
        let mut by_home: BTreeMap<LedgerTag, Vec<TaskId>> = BTreeMap::new();
        ids.into_iter().for_each(|id| by_home.entry(id.ledger).or_default().push(id));
        let mut own = BTreeSet::new();
        for ids in by_home.into_values() {
            for ids in ids.chunks(NAMESPACES_ASKED_MAX) {
                let of = match self.ledger(None, LedgerRequest::NamespacesOf { ids: ids.to_vec() }).await? {
                    LedgerReply::Namespaces { of } => of,
                    _ => return Err(ClientError::Unexpected),
                };
                let is_own = |of: &Option<String>| of.as_deref() == Some(self.namespace);
                own.extend(ids.iter().zip(&of).filter(|(_, of)| is_own(of)).map(|(id, _)| *id));
            }
        }
        Ok(own)
    }

    /// What is told of the first blob that the namespace does not have.
    async fn first_lacking(&self, blobs: Vec<Named>) -> Result<Option<Result<Answer, Refusal>>, ClientError> {
        if blobs.is_empty() {
            return Ok(None);
        }
        let cids = blobs.iter().map(|named| named.cid).collect();
        let lacking = self.door.lacks(self.namespace, cids).await?;
        Ok(lacking.and_then(|cid| blobs.into_iter().find(|named| named.cid == cid)).map(|named| named.lacking))
    }

    async fn ledger(&self, home: Option<LedgerTag>, request: LedgerRequest) -> Result<LedgerReply, ClientError> {
        let body = match home {
            Some(home) => Body::Home { home, request },
            None => Body::Ledger(request),
        };
        match self.door.ask(self.principal, body, self.patience).await? {
            Answer::Ledger(reply) => Ok(reply),
            _ => Err(ClientError::Unexpected),
        }
    }

    async fn counts(&self, home: Option<LedgerTag>) -> Result<NamespaceCounts, ClientError> {
        let request = LedgerRequest::CountNamespace { namespace: self.namespace.to_owned() };
        match self.ledger(home, request).await? {
            LedgerReply::NamespaceCounted(counts) => Ok(counts),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// The answer as this caller is shown it. Blobs that its things name are its namespace's from now on.
    async fn shown(&self, home: Option<LedgerTag>, answer: Answer) -> Result<Answer, ClientError> {
        match answer {
            Answer::Ledger(LedgerReply::Stats(stats)) => {
                let counts = self.counts(home).await?;
                Ok(Answer::Ledger(LedgerReply::Stats(Box::new(shown::stats(self.namespace, &counts, *stats)))))
            }
            Answer::Node(NodeReply::Status(status)) => {
                let counts = self.counts(None).await?;
                Ok(Answer::Node(NodeReply::Status(Box::new(shown::status(self.namespace, &counts, *status)))))
            }
            Answer::Stream(StreamReply::Events(Some(piece))) => {
                let subjects = piece.records.iter().flat_map(|event| &event.subjects);
                let own = self.own_of(subjects.map(|subject| subject.id).collect()).await?;
                Ok(Answer::Stream(StreamReply::Events(Some(shown::events(&own, piece)))))
            }
            answer => {
                let (answer, blobs) = shown::shown(self.namespace, answer).map_err(ClientError::Refused)?;
                if !blobs.is_empty() {
                    self.door.give(self.namespace, blobs).await?;
                }
                Ok(answer)
            }
        }
    }
}

/// What is said of a message about the whole node.
fn whole_node(namespace: &str) -> Refusal {
    Refusal::Forbidden { needs: "of the whole node".to_owned(), has: format!("of the namespace {namespace}") }
}
