//! The tree: which actors a node has, and what happens when one ends.
//!
//! Each child is started from a factory and put into its `Address`, so that those who speak to it never notice a
//! restart but by an answer that did not come. A child that ends too often ends the node.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::messages::actor::{ActorReply, ActorRequest, ActorView, SupervisorMsg};

const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// More ends than this within [`RESTART_WINDOW`] are a fault that a restart does not cure.
const RESTARTS_MAX: usize = 20;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

pub type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, ActorProcessingErr>> + Send>>;

/// How one child is started, again and again.
pub struct Child {
    pub name: String,
    pub start: Box<dyn Fn(ActorCell) -> Starting + Send + Sync>,
    /// Takes the ended incarnation out of its address.
    pub clear: Box<dyn Fn() + Send + Sync>,
}

struct ChildState {
    child: Child,
    cell: Option<ActorCell>,
    restarts: u64,
    ends: VecDeque<Instant>,
    last_error: Option<String>,
}

pub struct Supervisor;

pub struct SupervisorArguments {
    pub children: Vec<Child>,
    /// Told why, when the node cannot go on.
    pub given_up: oneshot::Sender<String>,
}

pub struct SupervisorState {
    children: BTreeMap<String, ChildState>,
    order: Vec<String>,
    sessions: Vec<String>,
    given_up: Option<oneshot::Sender<String>>,
    /// The node ends in order.
    ending: bool,
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut children = BTreeMap::new();
        let mut order = Vec::new();
        for child in arguments.children {
            let cell = (child.start)(myself.get_cell()).await.map_err(|error| format!("{}: {error}", child.name))?;
            order.push(child.name.clone());
            let name = child.name.clone();
            let state = ChildState { child, cell: Some(cell), restarts: 0, ends: VecDeque::new(), last_error: None };
            children.insert(name, state);
        }
        let given_up = Some(arguments.given_up);
        Ok(SupervisorState { children, order, sessions: Vec::new(), given_up, ending: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Request { request: ActorRequest::Tree, permit: _permit, reply } => {
                let _ = reply.send(ActorReply::Tree(state.tree()));
            }
            SupervisorMsg::Request { request: ActorRequest::Kill { name }, permit: _permit, reply } => {
                let _ = reply.send(state.kill(name));
            }
            SupervisorMsg::Start { .. } if state.ending => {}
            SupervisorMsg::Start { name } => state.restart(&myself, &name).await,
            SupervisorMsg::Sessions(sessions) => state.sessions = sessions,
            SupervisorMsg::End { reply } => {
                state.ending = true;
                let _ = reply.send(state.order.clone());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, _, None) if state.ending => state.stopped(&cell),
            SupervisionEvent::ActorTerminated(cell, itself, reason) => {
                let why = reason.unwrap_or_else(|| "stopped".to_owned());
                // One that was killed has no state left.
                state.ended(&myself, &cell, if itself.is_some() { End::Planned(why) } else { End::Fault(why) });
            }
            SupervisionEvent::ActorFailed(cell, error) => state.ended(&myself, &cell, End::Fault(error.to_string())),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

/// Why an actor ended.
enum End {
    /// It stopped in order to begin anew.
    Planned(String),
    Fault(String),
}

impl SupervisorState {
    fn tree(&self) -> ActorView {
        let views = self.order.iter().filter_map(|name| self.children.get(name)).map(|child| {
            let mut view = child.view();
            if child.child.name == "control" {
                view.children = self.sessions.iter().map(|session| leaf(session)).collect();
            }
            view
        });
        ActorView { children: views.collect(), ..leaf("node") }
    }

    fn kill(&mut self, name: String) -> ActorReply {
        match self.children.get(&name).and_then(|child| child.cell.as_ref()) {
            Some(cell) => {
                tracing::warn!(actor = name, "killed on request");
                cell.kill();
                ActorReply::Killed { name }
            }
            None => ActorReply::Unknown { name, known: self.order.clone() },
        }
    }

    fn ended(&mut self, myself: &ActorRef<SupervisorMsg>, cell: &ActorCell, end: End) {
        if let Some(name) = self.clear(cell) {
            self.schedule(myself, name, end);
        }
    }

    /// One that was stopped because the node ends.
    fn stopped(&mut self, cell: &ActorCell) {
        if let Some(name) = self.clear(cell) {
            tracing::info!(actor = name, "actor stopped");
        }
    }

    /// Takes a child that ended out of its address; its name.
    fn clear(&mut self, cell: &ActorCell) -> Option<String> {
        let is_it = |child: &ChildState| child.cell.as_ref().is_some_and(|held| held.get_id() == cell.get_id());
        let child = self.children.values_mut().find(|child| is_it(child))?;
        child.cell = None;
        (child.child.clear)();
        Some(child.child.name.clone())
    }

    /// Plans the next start after a back-off, or gives the node up.
    fn schedule(&mut self, myself: &ActorRef<SupervisorMsg>, name: String, end: End) {
        let Some(child) = self.children.get_mut(&name) else { return };
        let now = Instant::now();
        child.ends.push_back(now);
        while child.ends.front().is_some_and(|end| now - *end > RESTART_WINDOW) {
            child.ends.pop_front();
        }
        let why = match end {
            End::Planned(why) => {
                tracing::info!(actor = name, why, "actor begins anew");
                why
            }
            End::Fault(why) => {
                tracing::error!(actor = name, error = why, "actor ended");
                child.last_error = Some(why.clone());
                why
            }
        };
        if child.ends.len() > RESTARTS_MAX {
            if let Some(given_up) = self.given_up.take() {
                let _ =
                    given_up.send(format!("actor {name} ended {RESTARTS_MAX} times in a minute, the last time: {why}"));
            }
            return;
        }
        let doublings = u32::try_from(child.ends.len() - 1).unwrap_or(u32::MAX).min(16);
        let back_off = (BACK_OFF_FIRST * 2u32.pow(doublings)).min(BACK_OFF_MAX);
        myself.send_after(back_off, move || SupervisorMsg::Start { name: name.clone() });
    }

    async fn restart(&mut self, myself: &ActorRef<SupervisorMsg>, name: &str) {
        let Some(child) = self.children.get_mut(name) else { return };
        match (child.child.start)(myself.get_cell()).await {
            Ok(cell) => {
                child.cell = Some(cell);
                child.restarts += 1;
            }
            Err(error) => self.schedule(myself, name.to_owned(), End::Fault(error.to_string())),
        }
    }
}

impl ChildState {
    fn view(&self) -> ActorView {
        ActorView {
            name: self.child.name.clone(),
            state: if self.cell.is_some() { "running" } else { "restarting" }.to_owned(),
            restarts: self.restarts,
            last_error: self.last_error.clone(),
            children: Vec::new(),
        }
    }
}

fn leaf(name: &str) -> ActorView {
    ActorView {
        name: name.to_owned(),
        state: "running".to_owned(),
        restarts: 0,
        last_error: None,
        children: Vec::new(),
    }
}
