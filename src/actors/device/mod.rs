//! (placeholder)
use super::Addresses;
use super::address::Address;
use crate::config::NodeConfig;
use crate::executor::{AttemptError, BoxFuture, Embedder, StopSignal};
use crate::messages::device::DeviceMsg;
use ractor::{Actor, ActorProcessingErr, ActorRef};
#[derive(Clone)]
pub struct DeviceArguments {}
pub struct DeviceActor;
pub struct DeviceEmbedder(Address<DeviceMsg>);
impl DeviceEmbedder {
    pub fn new(a: Address<DeviceMsg>) -> Self {
        Self(a)
    }
}
impl Embedder for DeviceEmbedder {
    fn embed(&self, _m: &str, _t: Vec<String>, _c: StopSignal) -> BoxFuture<'_, Result<Vec<Vec<f32>>, AttemptError>> {
        let _ = &self.0;
        Box::pin(async { Err(AttemptError::permanent("x", "y")) })
    }
}
pub fn plan(_c: &NodeConfig, _a: &Addresses, _n: &mut Vec<String>) -> Vec<(Address<DeviceMsg>, DeviceArguments)> {
    Vec::new()
}
impl Actor for DeviceActor {
    type Msg = DeviceMsg;
    type State = ();
    type Arguments = DeviceArguments;
    async fn pre_start(&self, _m: ActorRef<DeviceMsg>, _a: DeviceArguments) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
