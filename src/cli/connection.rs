//! The way to the node: requests that survive its restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use magpie_core::ids::LedgerTag;
use magpie_core::queue::{LedgerReply, LedgerRequest, Refusal};
use tokio::sync::Mutex;

use super::deadline::Deadline;
use super::exit::CommandError;
use super::guest::Guest;
use crate::client::{Client, ClientError};
use crate::messages::blob::{BlobReply, BlobRequest};
use crate::messages::{Answer, Body, Role};
use crate::remote_client::RemoteClient;

/// What a request that waits for nothing may take.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long a submission is repeated when no timeout is given.
pub const SUBMIT_PATIENCE: Duration = Duration::from_secs(30);

/// Where a node is asked.
enum Door {
    Socket(PathBuf),
    /// The peers' door, from elsewhere.
    Peers(Box<Guest>),
}

/// A connection through either door.
enum Connected {
    Socket(Client),
    Peers(RemoteClient),
}

impl Connected {
    async fn ask(&self, body: Body, patience: Duration) -> Result<Answer, ClientError> {
        match self {
            Self::Socket(client) => client.ask(body, patience).await,
            Self::Peers(client) => client.ask(body, patience).await,
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Socket(client) => client.is_closed(),
            Self::Peers(client) => client.is_closed(),
        }
    }
}

/// The node behind one door; connected when it is first asked, and again when the connection broke.
pub struct NodeLink {
    door: Door,
    client: Mutex<Option<Arc<Connected>>>,
    /// The home that `--home` names.
    home: OnceLock<LedgerTag>,
}

impl NodeLink {
    pub fn new(socket: PathBuf) -> Self {
        Self::at(Door::Socket(socket))
    }

    /// A node elsewhere. Needs a runtime of one thread.
    pub fn elsewhere(guest: Guest) -> Self {
        Self::at(Door::Peers(Box::new(guest)))
    }

    fn at(door: Door) -> Self {
        Self { door, client: Mutex::new(None), home: OnceLock::new() }
    }

    /// Where the node's control socket is; none of a node elsewhere.
    pub fn socket(&self) -> Option<&Path> {
        match &self.door {
            Door::Socket(socket) => Some(socket),
            Door::Peers(_) => None,
        }
    }

    /// What is asked of a ledger from now on goes to this home.
    pub fn address(&self, home: LedgerTag) {
        self.home.get_or_init(|| home);
    }

    /// The home that was named.
    pub fn home(&self) -> Option<LedgerTag> {
        self.home.get().copied()
    }

    /// A request on its way to the home that was named, else to that of the id in it, else to this node's.
    pub fn to_ledger(&self, request: LedgerRequest) -> Body {
        to_home(self.home(), request)
    }

    /// Connects now, so that a node which is not there is found before anything is done.
    ///
    /// # Errors
    /// [`Exit::Unreachable`](super::exit::Exit::Unreachable).
    pub async fn connect(&self) -> Result<(), CommandError> {
        Ok(self.client().await.map(drop)?)
    }

    /// Until when a submission is repeated. Without a timeout the node must be there now, and may be away for a while.
    ///
    /// # Errors
    /// As [`NodeLink::connect`].
    pub async fn submission_deadline(&self, timeout: Option<Duration>) -> Result<Deadline, CommandError> {
        if timeout.is_none() {
            self.connect().await?;
        }
        Ok(Deadline::after(timeout.unwrap_or(SUBMIT_PATIENCE)))
    }

    /// Until when an end is waited for. Without a timeout the node must be there now, and may be away for ever.
    ///
    /// # Errors
    /// As [`NodeLink::connect`].
    pub async fn wait_deadline(&self, timeout: Option<Duration>) -> Result<Deadline, CommandError> {
        if timeout.is_none() {
            self.connect().await?;
        }
        Ok(Deadline::within(timeout))
    }

    async fn client(&self) -> Result<Arc<Connected>, ClientError> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = match &self.door {
            Door::Socket(socket) => Connected::Socket(Client::connect(socket, "nodectl", Role::Operator).await?),
            Door::Peers(guest) => {
                Connected::Peers(RemoteClient::connect(&guest.key, guest.ticket, &guest.address).await?)
            }
        };
        let client = Arc::new(client);
        *held = Some(client.clone());
        Ok(client)
    }

    /// Asks once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn try_ask(&self, body: Body, patience: Duration) -> Result<Answer, ClientError> {
        self.client().await?.ask(body, patience).await
    }

    /// Asks once what takes no longer than [`ANSWER_PATIENCE`].
    ///
    /// # Errors
    /// With the exit code of why there is no answer.
    pub async fn ask(&self, body: Body) -> Result<Answer, CommandError> {
        Ok(self.try_ask(body, ANSWER_PATIENCE).await?)
    }

    /// As [`NodeLink::ask`], of a ledger.
    pub async fn ledger(&self, request: LedgerRequest) -> Result<LedgerReply, CommandError> {
        self.ledger_of(self.home(), request).await
    }

    /// As [`NodeLink::ledger`], of that home, whichever was named.
    pub async fn ledger_of(
        &self,
        home: Option<LedgerTag>,
        request: LedgerRequest,
    ) -> Result<LedgerReply, CommandError> {
        match self.ask(to_home(home, request)).await? {
            Answer::Ledger(reply) => Ok(reply),
            _ => Err(unexpected()),
        }
    }

    /// As [`NodeLink::ask`], of the blob store.
    pub async fn blob(&self, request: BlobRequest) -> Result<BlobReply, CommandError> {
        match self.ask(Body::Blob(request)).await? {
            Answer::Blob(reply) => Ok(reply),
            _ => Err(unexpected()),
        }
    }

    /// Asks until an answer comes or `deadline` has passed: while the node restarts, a home is out of reach or
    /// overloaded, the same request goes out again. A request that changes something carries its operation id.
    ///
    /// # Errors
    /// The last reason why there was no answer, or one that time does not cure.
    pub async fn insist(&self, body: &Body, patience: Duration, deadline: Deadline) -> Result<Answer, ClientError> {
        let mut pause = RETRY_FIRST;
        loop {
            let error = match self.try_ask(body.clone(), patience).await {
                Err(error) if is_curable(&error) && !deadline.has_passed() => error,
                ended => return ended,
            };
            tokio::time::sleep(deadline.cap(wished_pause(&error).unwrap_or(pause))).await;
            if pause < RETRY_MAX && pause * 2 >= RETRY_MAX {
                eprintln!("nodectl: {error}; trying again");
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// As [`NodeLink::insist`], of a ledger.
    pub async fn insist_ledger(
        &self,
        request: LedgerRequest,
        patience: Duration,
        deadline: Deadline,
    ) -> Result<LedgerReply, CommandError> {
        self.insist_ledger_of(self.home(), request, patience, deadline).await
    }

    /// As [`NodeLink::insist_ledger`], of that home, whichever was named.
    pub async fn insist_ledger_of(
        &self,
        home: Option<LedgerTag>,
        request: LedgerRequest,
        patience: Duration,
        deadline: Deadline,
    ) -> Result<LedgerReply, CommandError> {
        match self.insist(&to_home(home, request), patience, deadline).await? {
            Answer::Ledger(reply) => Ok(reply),
            _ => Err(unexpected()),
        }
    }
}

fn to_home(home: Option<LedgerTag>, request: LedgerRequest) -> Body {
    match home {
        Some(home) => Body::Home { home, request },
        None => Body::Ledger(request),
    }
}

/// An answer to another question.
pub fn unexpected() -> CommandError {
    ClientError::Unexpected.into()
}

fn is_curable(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::NotAdmitted { .. }
        | ClientError::Closed
        | ClientError::TimedOut { .. } => true,
        ClientError::Refused(refusal) => refusal.is_retryable(),
        ClientError::TooLarge(_) | ClientError::Unexpected => false,
    }
}

fn wished_pause(error: &ClientError) -> Option<Duration> {
    match error {
        ClientError::Refused(Refusal::Overloaded { retry_after_ms, .. }) => {
            Some(Duration::from_millis(*retry_after_ms))
        }
        _ => None,
    }
}
