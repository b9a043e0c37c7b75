//! Clients: they submit, read, cancel and re-order, and send an operation again until they have its answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_core::ids::{OperationId, ScheduleId, TaskId};
use magpie_core::queue::{
    LedgerReply, LedgerRequest, Refusal, ScheduleChange, ScheduleReply, ScheduleRequest, SubmitAnswer, TaskFilter,
    WorkflowView,
};
use magpie_core::task::Priority;

use crate::clock;
use crate::network::{Endpoint, Message};
use crate::operator::Operator;
use crate::rng::Rng;
use crate::settings::Settings;
use crate::workload;
use crate::world::{Happening, World};

const CALL_TIMEOUT_MS: u64 = 2_500;
const RETRY_MS: u64 = 300;

pub struct Client {
    endpoint: usize,
    rng: Rng,
    calls: BTreeMap<u64, Pending>,
    next_call: u64,
    /// What it was told is accepted, in order; with whether it has seen the end.
    known: Vec<Known>,
    submissions_left: u64,
    cursor: usize,
    /// Schedules that it made, and will remove in the calm.
    schedules: Vec<(usize, ScheduleId)>,
    operator: Operator,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    id: TaskId,
    home: usize,
    is_workflow: bool,
    over: bool,
}

#[derive(Debug, Clone)]
struct Pending {
    asked_ms: u64,
    home: usize,
    request: LedgerRequest,
}

impl Client {
    pub fn new(n: usize, rng: &mut Rng, submissions_max: u64) -> Self {
        let mut rng = rng.split();
        let submissions_left = rng.between(4, 24).min(submissions_max);
        Self {
            endpoint: n,
            rng,
            calls: BTreeMap::new(),
            next_call: 0,
            known: Vec::new(),
            submissions_left,
            cursor: 0,
            schedules: Vec::new(),
            operator: Operator::default(),
        }
    }

    /// Whether nothing is left for it to hear.
    pub fn is_content(&self, homes: usize) -> bool {
        let waits = !self.calls.is_empty() || !self.schedules.is_empty() || !self.operator.is_content(homes);
        !waits && self.known.iter().all(|known| known.over)
    }

    /// What it still waits for.
    pub fn waits_for(&self) -> Vec<TaskId> {
        self.known.iter().filter(|known| !known.over).map(|known| known.id).collect()
    }

    fn operation(&mut self) -> OperationId {
        OperationId(self.rng.bytes())
    }

    /// What to do next: in the calm only to look after what is not over.
    fn next_request(
        &mut self,
        calm: bool,
        nodes: usize,
        settings: &Settings,
        now_wall_ms: u64,
    ) -> Option<(usize, LedgerRequest)> {
        if calm {
            return self.look_after(nodes);
        }
        let home = self.rng.below(nodes as u64) as usize;
        let some = self.rng.pick(&self.known.clone()).copied();
        let operation = self.operation();
        match (self.rng.below(24), some) {
            (0..=7, _) if self.submissions_left > 0 => {
                self.submissions_left -= 1;
                let items = workload::batch(&mut self.rng, settings, now_wall_ms);
                Some((home, LedgerRequest::Submit { operation, items }))
            }
            (8..=9, _) if self.submissions_left > 0 => {
                self.submissions_left -= 1;
                let spec = Arc::new(workload::maybe_scheduled(&mut self.rng, settings));
                Some((home, LedgerRequest::SubmitWorkflow { operation, spec }))
            }
            (10, Some(known)) => {
                let request = LedgerRequest::Cancel { operation, id: known.id, reason: "as drawn".to_owned() };
                Some((known.home, request))
            }
            (11, Some(known)) if !known.is_workflow => {
                let priority = Priority::try_from(self.rng.below(1_001) as u16).unwrap_or_default();
                Some((known.home, LedgerRequest::SetPriority { operation, id: known.id, priority }))
            }
            (12, Some(known)) if !known.is_workflow => {
                Some((known.home, LedgerRequest::WaitTask { id: known.id, timeout_ms: 1_500 }))
            }
            (13, _) => {
                Some((home, LedgerRequest::ListTasks { filter: TaskFilter::default(), cursor: None, limit: 20 }))
            }
            (14, Some(known)) if !known.is_workflow => Some((known.home, LedgerRequest::WhyPending { id: known.id })),
            (16, Some(known)) if known.is_workflow => {
                Some((known.home, LedgerRequest::RetryWorkflow { operation, id: known.id }))
            }
            (15, Some(known)) if known.is_workflow => {
                Some((known.home, LedgerRequest::WaitWorkflow { id: known.id, timeout_ms: 1_500 }))
            }
            (16, Some(known)) if !known.is_workflow => {
                Some((known.home, LedgerRequest::RetryTasks { operation, ids: vec![known.id] }))
            }
            (17, Some(known)) if !known.is_workflow => {
                Some((known.home, LedgerRequest::PurgeDead { operation, ids: vec![known.id] }))
            }
            (20..=22, _) => Some((home, self.operator.next_request(&mut self.rng, home, operation))),
            (_, Some(known)) => Some((known.home, read(known))),
            (_, None) => None,
        }
    }

    /// The next of those that are not over.
    fn look_after(&mut self, homes: usize) -> Option<(usize, LedgerRequest)> {
        if !self.calls.is_empty() {
            return None;
        }
        let operation = self.operation();
        if let Some(request) = self.operator.look_after(homes, operation) {
            return Some(request);
        }
        let places = (self.cursor..self.known.len()).chain(0..self.cursor.min(self.known.len()));
        if let Some((home, id)) = self.schedules.first().copied() {
            let (operation, change) = (self.operation(), ScheduleChange::Remove);
            let request = ScheduleRequest::Change { operation, id, change };
            return Some((home, LedgerRequest::Schedule(request)));
        }
        let place = places.into_iter().find(|place| !self.known[*place].over)?;
        self.cursor = place + 1;
        let known = self.known[place];
        Some((known.home, read(known)))
    }
}

fn read(known: Known) -> LedgerRequest {
    if known.is_workflow {
        LedgerRequest::GetWorkflow { id: known.id }
    } else {
        LedgerRequest::GetTask { id: known.id }
    }
}

fn changes_something(request: &LedgerRequest) -> bool {
    use LedgerRequest as Ask;
    let adds = matches!(request, Ask::Submit { .. } | Ask::SubmitWorkflow { .. } | Ask::RetryWorkflow { .. });
    let tasks = matches!(request, Ask::Cancel { .. } | Ask::SetPriority { .. } | Ask::RetryTasks { .. });
    let queue = matches!(request, Ask::PauseQueue { .. } | Ask::ResumeQueue { .. } | Ask::ClearQueue { .. });
    adds || tasks || queue || matches!(request, Ask::PurgeDead { .. } | Ask::Schedule(_))
}

impl World {
    fn endpoint_of(&self, client: usize) -> Endpoint {
        self.nodes.len() + self.clients[client].endpoint
    }

    pub fn client_acts(&mut self, client: usize) {
        let (nodes, now_wall_ms) = (self.nodes.len(), clock::true_wall_ms(self.now_ms));
        let (calm, client_state) = (self.calm, &mut self.clients[client]);
        let next = client_state.next_request(calm, nodes, &self.settings, now_wall_ms);
        let wait_ms = if calm { 20 } else { client_state.rng.between(5, 600) };
        self.after(wait_ms, Happening::ClientActs { client });
        if let Some((home, request)) = next {
            self.client_calls(client, home, request);
        }
    }

    fn client_calls(&mut self, client: usize, home: usize, request: LedgerRequest) {
        let from = self.endpoint_of(client);
        let state = &mut self.clients[client];
        state.next_call += 1;
        let call = state.next_call;
        state.calls.insert(call, Pending { asked_ms: self.now_ms, home, request: request.clone() });
        self.after(CALL_TIMEOUT_MS, Happening::ClientCallFails { client, call });
        self.send(from, home, Message::Request { call, request });
    }

    /// No answer: what changes something is sent again as it was, a read is not.
    pub fn client_call_fails(&mut self, client: usize, call: u64) {
        if let Some(pending) = self.clients[client].calls.remove(&call)
            && changes_something(&pending.request)
        {
            self.client_calls(client, pending.home, pending.request);
        }
    }

    pub fn client_hears(&mut self, client: usize, call: u64, reply: LedgerReply) {
        let Some(pending) = self.clients[client].calls.get(&call).cloned() else { return };
        if let LedgerReply::Refused(refusal) = &reply
            && refusal.is_retryable()
        {
            // It is asked again when the call's time is over, or a little later.
            return self.after(RETRY_MS, Happening::ClientCallFails { client, call });
        }
        self.clients[client].calls.remove(&call);
        let home = pending.home;
        self.clients[client].operator.hears(home, &reply);
        match reply {
            LedgerReply::Submitted { answers } | LedgerReply::Retried { answers } => {
                let is_lost = |id: &TaskId| self.acknowledged.is_excused(id);
                let verdict = self.named.invariant_a_key_names_one_task(home, &pending.request, &answers, is_lost);
                self.judge(verdict);
                for answer in answers {
                    if let SubmitAnswer::Accepted { id } = answer {
                        self.client_knows(client, Known { id, home, is_workflow: false, over: false });
                    }
                }
            }
            LedgerReply::WorkflowSubmitted { id } => {
                self.client_knows(client, Known { id, home, is_workflow: true, over: false });
            }
            LedgerReply::WorkflowRetried { id, .. } => self.client_sees_a_beginning(client, id),
            LedgerReply::Schedule(reply) => self.client_hears_of_schedule(client, home, &reply),
            LedgerReply::Task(view) => {
                let verdict =
                    self.commits.invariant_two_reads_never_show_two_ends(self.now_ms, pending.asked_ms, &view);
                self.judge(verdict);
                if view.state.is_terminal() {
                    self.client_has_seen_the_end(client, view.id);
                }
            }
            LedgerReply::Tasks { items, .. } => {
                for view in &items {
                    let verdict = self.commits.invariant_an_end_stays(pending.asked_ms, view.id, view.state);
                    self.judge(verdict);
                }
            }
            LedgerReply::Workflow(view) => self.client_reads_workflow(client, pending.asked_ms, &view),
            LedgerReply::Refused(Refusal::Pruned { id, .. }) => self.client_has_seen_the_end(client, id),
            LedgerReply::Refused(Refusal::NotFound { id }) => {
                let verdict = self.acknowledged.invariant_nothing_acknowledged_is_lost(self.now_ms, &id);
                self.judge(verdict);
                self.client_has_seen_the_end(client, id);
                self.clients[client].schedules.retain(|(_, known)| *known != id);
            }
            _ => {}
        }
    }

    fn client_reads_workflow(&mut self, client: usize, asked_ms: u64, view: &WorkflowView) {
        let verdict = self.commits.invariant_two_reads_never_show_two_ends_of_a_workflow(self.now_ms, asked_ms, view);
        self.judge(verdict);
        if view.summary.state.is_terminal() {
            self.client_has_seen_the_end(client, view.summary.id);
        }
    }

    fn client_hears_of_schedule(&mut self, client: usize, home: usize, reply: &ScheduleReply) {
        let schedules = &mut self.clients[client].schedules;
        match reply {
            ScheduleReply::Made { id, .. } if !schedules.contains(&(home, *id)) => schedules.push((home, *id)),
            ScheduleReply::Removed { id } => schedules.retain(|(_, known)| known != id),
            ScheduleReply::Made { .. }
            | ScheduleReply::One(_)
            | ScheduleReply::List { .. }
            | ScheduleReply::RunStarted { .. } => {}
        }
    }

    fn client_knows(&mut self, client: usize, known: Known) {
        let state = &mut self.clients[client];
        if state.known.iter().all(|other| other.id != known.id) {
            state.known.push(known);
        }
    }

    fn client_sees_a_beginning(&mut self, client: usize, id: TaskId) {
        if let Some(known) = self.clients[client].known.iter_mut().find(|known| known.id == id) {
            known.over = false;
        }
    }

    fn client_has_seen_the_end(&mut self, client: usize, id: TaskId) {
        if let Some(known) = self.clients[client].known.iter_mut().find(|known| known.id == id) {
            known.over = true;
        }
    }
}
