//! The mounted servers of a node, by name: a request goes to the one that it names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use magpie_core::limits;
use magpie_core::queue::Refusal;

use super::address::Address;
use crate::messages::mount::{MountMsg, MountReply, MountRequest, MountView};

/// Beyond the wait that a request asks for.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Mounts(BTreeMap<Arc<str>, Address<MountMsg>>);

impl Mounts {
    pub fn new(servers: BTreeMap<Arc<str>, Address<MountMsg>>) -> Self {
        Self(servers)
    }

    /// Answers in the name of `owner`.
    ///
    /// # Errors
    /// If no server has that name, or what it refused.
    pub async fn answer(&self, owner: Arc<str>, request: MountRequest) -> Result<MountReply, Refusal> {
        match request.server() {
            None => Ok(MountReply::Servers(self.views(&owner).await)),
            Some(name) => match self.0.get(name) {
                Some(server) => ask(server, owner, request).await,
                None => {
                    let known: Vec<&str> = self.0.keys().map(|name| &**name).collect();
                    let fix = match known.as_slice() {
                        [] => "mount one: `[mcp.servers.NAME]` in the node's configuration".to_owned(),
                        known => format!("name one of {}", known.join(", ")),
                    };
                    Err(Refusal::invalid("/server", format!("this node mounts no server {name:?}"), fix))
                }
            },
        }
    }

    async fn views(&self, owner: &Arc<str>) -> Vec<MountView> {
        let mut views = Vec::with_capacity(self.0.len());
        for (name, server) in &self.0 {
            match ask(server, owner.clone(), MountRequest::List).await {
                Ok(MountReply::Servers(own)) => views.extend(own),
                answer => views.push(unavailable(name, &format!("it did not tell its state: {answer:?}"))),
            }
        }
        views
    }
}

async fn ask(server: &Address<MountMsg>, owner: Arc<str>, request: MountRequest) -> Result<MountReply, Refusal> {
    let permit = server.admit()?;
    let message = |reply| MountMsg::Request { owner, request, permit, reply };
    server.ask(PATIENCE + Duration::from_millis(limits::WAIT_MAX_MS), message).await?
}

fn unavailable(name: &str, why: &str) -> MountView {
    MountView {
        server: name.to_owned(),
        description: String::new(),
        up: false,
        last_error: Some(why.to_owned()),
        tools: 0,
        left_out: 0,
        restarts: 0,
        calls: 0,
    }
}
