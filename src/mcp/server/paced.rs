//! A client that asks faster than it reads: it is heard no further until it has taken answers, so that neither what it asked
//! nor what it was answered piles up here.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::RoleServer;
use rmcp::model::{ClientNotification, JsonRpcMessage, RequestId};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::Notify;

use crate::mcp::principal::CALLS_ADMITTED_MAX;

/// Requests without an answer that was taken. More than are admitted: those beyond are answered `overloaded`.
const UNANSWERED_MAX: usize = CALLS_ADMITTED_MAX + 64;

/// A transport that reads on only while few enough requests are unanswered.
pub struct Paced<T> {
    transport: T,
    unanswered: Arc<Unanswered>,
}

/// How many requests of each id, since a client may use one twice.
#[derive(Default)]
struct Unanswered {
    ids: Mutex<HashMap<RequestId, usize>>,
    fewer: Notify,
}

impl Unanswered {
    fn ids(&self) -> MutexGuard<'_, HashMap<RequestId, usize>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: RequestId) {
        *self.ids().entry(id).or_default() += 1;
    }

    /// One was answered, or will not be.
    fn remove(&self, id: &RequestId) {
        let mut ids = self.ids();
        if let Some(count) = ids.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                ids.remove(id);
            }
        }
        drop(ids);
        self.fewer.notify_one();
    }

    fn is_full(&self) -> bool {
        self.ids().values().sum::<usize>() >= UNANSWERED_MAX
    }

    async fn room(&self) {
        while self.is_full() {
            self.fewer.notified().await;
        }
    }
}

impl<T> Paced<T> {
    pub fn new(transport: T) -> Self {
        Self { transport, unanswered: Arc::default() }
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Paced<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered = match &item {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let (sending, unanswered) = (self.transport.send(item), self.unanswered.clone());
        async move {
            let sent = sending.await;
            if let Some(id) = answered {
                unanswered.remove(&id);
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        self.unanswered.room().await;
        let message = self.transport.receive().await?;
        match &message {
            JsonRpcMessage::Request(request) => self.unanswered.add(request.id.clone()),
            // What is cancelled is answered no more.
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.unanswered.remove(id);
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.transport.close().await
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_client_is_heard_on_as_soon_as_one_of_too_many_is_answered() {
        let unanswered = Unanswered::default();
        let id = |n: usize| RequestId::Number(n as i64 / 2);
        (0..UNANSWERED_MAX).for_each(|n| unanswered.add(id(n)));
        let mut room = std::pin::pin!(unanswered.room());
        let polled = room.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "ids that are used twice count twice");
        unanswered.remove(&RequestId::Number(-1));
        assert!(unanswered.is_full(), "an answer to nothing changes nothing");
        unanswered.remove(&id(0));
        let polled = room.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_ready(), "one place is free");
    }
}
