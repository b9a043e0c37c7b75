//! A device, as the executors see it.

use std::time::Duration;

use super::super::address::Address;
use super::super::device_mailbox::DeviceMsg;
use crate::executor::{AttemptError, BoxFuture, EmbeddedTask, Embedder, StopSignal};
use crate::messages::device::DeviceError;

/// Longer than any task may run: the attempt's own timeout ends the wait.
const PATIENCE: Duration = Duration::from_secs(7 * 86_400);

pub struct DeviceEmbedder(Address<DeviceMsg>);

impl DeviceEmbedder {
    pub fn new(device: Address<DeviceMsg>) -> Self {
        Self(device)
    }
}

impl Embedder for DeviceEmbedder {
    fn embed(
        &self,
        model: &str,
        texts: Vec<String>,
        mut cancel: StopSignal,
    ) -> BoxFuture<'_, Result<EmbeddedTask, AttemptError>> {
        let model = model.to_owned();
        Box::pin(async move {
            let asked = self.0.ask(PATIENCE, |reply| DeviceMsg::Embed { model, texts, reply });
            let lost = |message: String| AttemptError::retryable("device_lost", message);
            let refused = |DeviceError { error, retryable }| AttemptError { error, retryable, unstarted: false };
            tokio::select! {
                answer = asked => match answer {
                    Ok(answer) => answer.map_err(refused),
                    Err(unavailable) => Err(lost(unavailable.to_string())),
                },
                reason = cancel.stopped() => Err(lost(reason.name().to_owned())),
            }
        })
    }
}
