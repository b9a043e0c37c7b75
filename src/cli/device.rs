//! `nodectl device`.

use clap::Subcommand;

use super::args::Context;
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::shapes::Items;
use super::status;
use crate::messages::device::{DeviceActorReply, DeviceActorRequest};
use crate::messages::{Answer, Body};

#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// List the devices of this node; of one that cannot be used, why
    Ls,
}

impl DeviceCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let Self::Ls = self;
        let Answer::Device(DeviceActorReply::Devices(devices)) =
            context.link.ask(Body::Device(DeviceActorRequest::List)).await?
        else {
            return Err(unexpected());
        };
        let items = Items { items: devices };
        context.document(&items, || status::devices(&items.items))?;
        Ok(Exit::Ok)
    }
}
