//! Subscriptions in both eras: one request each before 2026-07-28, one stream for all of them since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rmcp::model::{ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{Peer, SubscriptionContext};
use rmcp::{ErrorData, RoleServer};
use tokio::task::{JoinHandle, JoinSet};

use super::RequestCaller;
use super::documents::refused;
use crate::mcp::answer::ToolError;
use crate::mcp::dispatch::Dispatcher;
use crate::mcp::handler::Caller;
use crate::mcp::resources::Resource;

/// The subscriptions of one session of the earlier era, by what they are to. Dropped with it, they end.
#[derive(Default)]
pub struct Subscriptions(Mutex<BTreeMap<String, Telling>>);

/// A task that tells of one resource; dropped, it ends.
struct Telling(JoinHandle<()>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Subscriptions {
    /// Tells `peer` of a resource from now on. Said twice, it is told once.
    ///
    /// # Errors
    /// If it cannot be read, or its caller has too many subscriptions.
    pub async fn add(
        &self,
        uri: String,
        dispatcher: &Dispatcher,
        caller: &dyn Caller,
        peer: Peer<RoleServer>,
    ) -> Result<(), ToolError> {
        if self.going_on().contains_key(&uri) {
            return Ok(());
        }
        let mut watch = dispatcher.watch(&uri, caller).await?;
        let told = uri.clone();
        let telling = tokio::spawn(async move {
            while watch.changed().await {
                let update = ResourceUpdatedNotificationParam::new(told.as_str());
                if peer.notify_resource_updated(update).await.is_err() {
                    break;
                }
            }
        });
        self.going_on().insert(uri, Telling(telling));
        Ok(())
    }

    /// Ends a subscription; one that there is not has ended.
    pub fn remove(&self, uri: &str) {
        self.going_on().remove(uri);
    }

    /// Those that may still tell something.
    fn going_on(&self) -> MutexGuard<'_, BTreeMap<String, Telling>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, telling| !telling.0.is_finished());
        all
    }
}

/// What of a filter there is here: resources that can be named. Lists never change.
pub fn accepted(requested: &SubscriptionFilter) -> SubscriptionFilter {
    let uris = requested.resource_subscriptions.iter().flatten().filter(|uri| Resource::named(uri).is_ok());
    SubscriptionFilter::builder().resource_subscriptions(uris.cloned()).build()
}

/// Tells one stream of its resources until its client has gone.
///
/// # Errors
/// If one of them cannot be read, or the caller has too many subscriptions.
pub async fn listen(dispatcher: &Dispatcher, context: &SubscriptionContext) -> Result<(), ErrorData> {
    let caller = RequestCaller(context.request_context());
    let uris: BTreeSet<&String> = context.accepted().resource_subscriptions.iter().flatten().collect();
    let mut telling = JoinSet::new();
    let begin = async {
        for uri in uris {
            let mut watch = dispatcher.watch(uri, &caller).await.map_err(|error| refused(uri, error))?;
            let (uri, sink) = (uri.clone(), context.sink().clone());
            telling.spawn(async move {
                while watch.changed().await {
                    if sink.notify_resource_updated(uri.as_str()).await.is_err() {
                        break;
                    }
                }
            });
        }
        Ok(())
    };
    tokio::select! {
        begun = begin => begun?,
        () = context.cancelled() => return Ok(()),
    }
    context.cancelled().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_filter_the_resources_that_can_be_named_are_taken() {
        let id = "task://01JD8Y3Q0M4T5R6W7X8Y9Z0A1B-k3v7x2aq";
        let requested = SubscriptionFilter::builder()
            .tools_list_changed()
            .resource_subscriptions([id, "task://7", "file:///etc/passwd", "node://status"])
            .build();
        let wanted = SubscriptionFilter::builder().resource_subscriptions([id, "node://status"]).build();
        assert_eq!(accepted(&requested), wanted);
    }
}
