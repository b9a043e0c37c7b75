//! The shell around a ledger: entries to the disk, effects to the network, each compared with the disk as it leaves.

use magpie_core::ids::{LogIndex, PeerId};
use magpie_core::invariant::InvariantId;
use magpie_core::lease::{CompleteAnswer, Completion, Fence, Grant, RenewAnswer, Slots};
use magpie_core::queue::{
    self, Caller, Effect, Event, LedgerReply, LedgerRequest, NewEntry, OutsideReply, OutsideRequest, Record, Refusal,
    ReplyTo, SubmitAnswer, WorkerNotice,
};
use magpie_core::task::Durability;
use magpie_core::{limits, wire};

use crate::agent;
use crate::binding::Inline;
use crate::canary::Planted;
use crate::checkers::persistence::Evidence;
use crate::checkers::{Violation, conservation, fencing, limits as limit_checks, log};
use crate::disk::Crash;
use crate::faults::STALLED_SYNC_MS_MAX;
use crate::network::{Endpoint, Message};
use crate::node::{Home, Rests, Waiting};
use crate::world::{Happening, World};

/// Who asks when the simulator does: its answers go nowhere.
pub const NOBODY: Endpoint = Endpoint::MAX;
/// From the network to the ledger.
const INGRESS_MS_MAX: u64 = 20;
const BINDING_MS_MAX: u64 = 20;
/// Cuts that are not finished by whoever began them.
const HALF_CUTS_PER_MILLE: u64 = 250;
/// The log's writer tries a refused transaction again after this, doubling.
const WRITE_AGAIN_MS_MIN: u64 = 20;
const WRITE_AGAIN_MS_MAX: u64 = 2_000;

impl World {
    fn home(&mut self, node: usize, life: u64) -> Option<&mut Home> {
        self.nodes[node].home.as_mut().filter(|home| home.life == life)
    }

    pub fn home_event(&mut self, node: usize, life: u64, event: Event) {
        let now = self.clock(node);
        let Some(home) = self.home(node, life) else { return };
        home.ledger.handle(now, event);
        self.perform_home(node);
        self.hasten_tick(node);
    }

    /// A tick comes when the ledger wants one, or late; an event may bring the next one forward.
    pub fn hasten_tick(&mut self, node: usize) {
        let Some(home) = self.nodes[node].home.as_mut() else { return };
        let (life, wanted_ms) = (home.life, home.ledger.next_deadline());
        if wanted_ms < home.tick_wanted_ms {
            home.tick_wanted_ms = wanted_ms;
            let wait_ms = self.nodes[node].clock.true_ms(wanted_ms).saturating_sub(self.now_ms) + self.late_tick_ms();
            self.after(wait_ms, Happening::LedgerTick { node, life, wanted_ms });
        }
    }

    pub fn tell_home(&mut self, node: usize, event: Event) {
        if let Some(life) = self.nodes[node].home.as_ref().map(|home| home.life) {
            self.home_event(node, life, event);
        }
    }

    pub fn ledger_tick(&mut self, node: usize, life: u64, wanted_ms: u64) {
        let Some(home) = self.home(node, life).filter(|home| home.tick_wanted_ms == wanted_ms) else { return };
        home.tick_wanted_ms = u64::MAX;
        self.home_event(node, life, Event::Tick);
    }

    pub fn arrive_at_home(&mut self, node: usize, from: Endpoint, call: u64, request: LedgerRequest) {
        let Some(life) = self.nodes[node].home.as_ref().map(|home| home.life) else {
            if self.nodes[node].worker.is_some() {
                let what = "the ledger is starting".to_owned();
                self.send(
                    node,
                    from,
                    Message::Reply { call, reply: LedgerReply::Refused(Refusal::Unavailable { what }) },
                );
            }
            return;
        };
        if self.refuses_submissions(node, &request) {
            let what = "the disk takes no records".to_owned();
            let refusal = Refusal::Overloaded { retry_after_ms: 1_000, what };
            return self.send(node, from, Message::Reply { call, reply: LedgerReply::Refused(refusal) });
        }
        if self.rng.chance(self.faults.forge)
            && let Some(request) = self.forged(&request)
        {
            self.enqueue(node, Happening::Ingress { node, life, from: NOBODY, call: 0, request });
        }
        self.enqueue(node, Happening::Ingress { node, life, from, call, request });
    }

    /// Of a full disk only new work hears: what follows from accepted work goes on, and waits for it.
    fn refuses_submissions(&self, node: usize, request: &LedgerRequest) -> bool {
        let new_work = matches!(request, LedgerRequest::Submit { .. } | LedgerRequest::SubmitWorkflow { .. });
        new_work && self.nodes[node].home.as_ref().is_some_and(|home| home.disk_refuses)
    }

    /// One queue for all that goes to a ledger: what came first is handled first, markers too.
    fn enqueue(&mut self, node: usize, happening: Happening) {
        let due_ms = self.now_ms + self.rng.between(0, INGRESS_MS_MAX);
        let due_ms = due_ms.max(self.nodes[node].ingress_until_ms);
        self.nodes[node].ingress_until_ms = due_ms;
        self.at(due_ms, happening);
    }

    /// The same message with a token, or an epoch, that nobody was given.
    fn forged(&mut self, request: &LedgerRequest) -> Option<LedgerRequest> {
        let mut request = request.clone();
        let (ahead, guess) = (self.rng.between(0, 2), self.rng.bytes());
        let forge = |fence: &mut Fence, token: &mut magpie_core::ids::LeaseToken| match ahead {
            0 => token.0 = guess,
            1 => fence.epoch.0 += 1,
            _ => fence.epoch.0 -= 1,
        };
        match &mut request {
            LedgerRequest::Renew(renewals) => {
                renewals.iter_mut().for_each(|renewal| forge(&mut renewal.fence, &mut renewal.token));
            }
            LedgerRequest::Complete(completions) => completions.iter_mut().for_each(|completion: &mut Completion| {
                forge(&mut completion.fence, &mut completion.token);
                completion.outcome.log_tail = "forged".to_owned();
            }),
            LedgerRequest::Release(releases) => {
                releases.iter_mut().for_each(|release| forge(&mut release.fence, &mut release.token));
            }
            LedgerRequest::Outside(OutsideRequest::End { worker, task, lease, outcome }) => {
                match lease {
                    Some((epoch, token)) => {
                        let mut fence = Fence { task: *task, epoch: *epoch };
                        forge(&mut fence, token);
                        *epoch = fence.epoch;
                    }
                    // Who shows none is believed by its name.
                    None => worker.push_str(" of another"),
                }
                outcome.log_tail = "forged".to_owned();
            }
            _ => return None,
        }
        Some(request)
    }

    pub fn ingress(&mut self, node: usize, life: u64, (from, call): (Endpoint, u64), request: LedgerRequest) {
        let caller = Caller { peer: self.peer_of(from), owner: agent::OWNER.into() };
        let presented = fencing::presented(&self.books[node], &caller.owner, &request);
        let asked = match &request {
            LedgerRequest::AskPermits(ask) => Some(ask.clone()),
            _ => None,
        };
        let Some(home) = self.home(node, life) else { return };
        home.next_reply += 1;
        let fences = presented.iter().map(|(fence, _)| (*fence, Rests::default())).collect();
        let retry = match &request {
            LedgerRequest::RetryWorkflow { operation, .. } => Some(*operation),
            _ => None,
        };
        home.replies.insert(home.next_reply, Waiting { from, call, fences, retry });
        (home.presented, home.asked) = (presented, asked);
        let reply = ReplyTo(home.next_reply);
        self.home_event(node, life, Event::Request { caller, request, reply });
        if let Some(home) = self.home(node, life) {
            home.presented.clear();
            home.asked = None;
        }
    }

    fn peer_of(&self, endpoint: Endpoint) -> PeerId {
        match self.nodes.get(endpoint) {
            Some(node) => node.peer(),
            None => PeerId([endpoint as u8; 32]),
        }
    }

    /// The core asks about itself: how many tasks are where, and how many are ready.
    pub fn ask_for_counters(&mut self, node: usize) {
        if let Some(life) = self.nodes[node].home.as_ref().map(|home| home.life) {
            self.ingress(node, life, (NOBODY, 0), LedgerRequest::Stats);
        }
    }

    /// Persist, then send, then reply.
    pub fn perform_home(&mut self, node: usize) {
        let Some(home) = self.nodes[node].home.as_mut() else { return };
        let entries = home.ledger.take_entries();
        if !entries.is_empty() {
            self.read_entries(node, &entries);
            self.nodes[node].disk.append(entries);
            self.plan_write(node);
            self.perform_planted(node);
        }
        self.note_what_answers_rest_on(node);
        let Some(home) = self.nodes[node].home.as_mut() else { return };
        for effect in home.ledger.take_effects() {
            self.let_out(node, effect);
        }
    }

    /// The answer to the request under way rests on what the log says now; it may leave later.
    fn note_what_answers_rest_on(&mut self, node: usize) {
        let (book, own) = (&self.books[node], &mut self.nodes[node]);
        let tip = own.disk.queued();
        let Some(home) = own.home.as_mut().filter(|home| !home.presented.is_empty()) else { return };
        if let Some(waiting) = home.replies.get_mut(&home.next_reply) {
            for (fence, rests) in &mut waiting.fences {
                let epoch = book.tasks.get(&fence.task).and_then(|facts| facts.of_epoch(fence.epoch));
                *rests = Rests { held: epoch.map_or(LogIndex(0), |epoch| epoch.held), tip };
            }
        }
    }

    fn read_entries(&mut self, node: usize, entries: &[NewEntry]) {
        for entry in entries {
            let record: Record = match wire::decode_record(&entry.body) {
                Ok(record) => record,
                Err(error) => {
                    let what = format!("record {}: {error}", entry.index);
                    return self.judge(Err(Violation { id: InvariantId::I16, invariant: "a_record_decodes", what }));
                }
            };
            let (kind, index) = (record.kind(), entry.index.0);
            self.trace
                .note(self.now_ms, kind, &[node as u64, index], || format!("node {node} record {index}: {record:?}"));
            self.judge(log::check(&self.books[node], &record));
            if let Some(home) = &self.nodes[node].home {
                let verdict =
                    fencing::invariant_a_stale_fence_changes_nothing(&self.books[node], &record, &home.presented);
                self.judge(verdict);
            }
            if let Record::Expired { fences, .. } = &record {
                for fence in fences {
                    let verdict = self.leases.invariant_the_workers_end_lies_before_the_homes(self.now_ms, *fence);
                    self.judge(verdict);
                }
            }
            if let Record::Completed { results, .. } = &record {
                self.counters.commits += results.iter().filter(|result| log::ends(result.next)).count() as u64;
            }
            let holds_grants = self.nodes[node].home.as_ref().is_some_and(|home| home.ledger.holds_grants());
            self.unwritten.read(node, &record, holds_grants);
            self.judge_starts(node, &record);
            let raised = limit_checks::raised(&self.books[node], &record);
            self.books[node].read(record);
            for limit in raised {
                let verdict = limit_checks::check(&self.books, node, &limit, &self.settings);
                self.judge(verdict);
            }
        }
    }

    /// The two bugs that are a shell's.
    fn perform_planted(&mut self, node: usize) {
        let now = self.clock(node);
        let disk = &self.nodes[node].disk;
        let queued = disk.queued();
        // Not of the record that opens the generation: the bug would be found at once, and by the check of that.
        if self.books[node].opened > disk.watermark().synced {
            return;
        }
        match self.options.planted {
            Some(Planted::AcknowledgeBeforeFsync) => {
                let all = magpie_core::queue::Watermark { written: queued, synced: queued };
                if let Some(home) = &mut self.nodes[node].home {
                    home.ledger.handle(now, Event::Durable(all));
                }
            }
            Some(Planted::HeadBeforeFsync) => {
                let last = self.nodes[node].disk.entries().last().map(|entry| (entry.index, entry.event));
                if let Some((count, event)) = last {
                    self.let_out(node, Effect::PublishHead { count, event });
                }
            }
            _ => {}
        }
    }

    fn let_out(&mut self, node: usize, effect: Effect) {
        let evidence = Evidence { book: &self.books[node], disk: self.nodes[node].disk.watermark() };
        let verdict = evidence
            .invariant_the_generation_is_durable_before_its_first_use(&effect)
            .and_then(|()| evidence.invariant_nothing_leaves_before_its_records_are_durable(&effect));
        self.judge(verdict);
        if let Effect::Notify { notice: WorkerNotice::Grants(grants), .. } = &effect {
            let (book, unwritten) = (&self.books[node], &mut self.unwritten);
            let mut check = |grant: &Grant| unwritten.check(node, book, grant.fence, &grant.spec);
            let verdict = grants.iter().try_for_each(&mut check);
            self.judge(verdict);
        }
        match effect {
            Effect::Reply { to, reply } => self.reply(node, to, reply),
            Effect::Notify { worker, notice } => {
                let to = self.nodes.iter().position(|other| other.peer() == worker);
                let home = self.nodes[node].tag();
                if let Some(to) = to {
                    self.send(node, to, Message::Notice { home, notice });
                }
            }
            Effect::Bind { id, spec, steps } => {
                let bound = queue::bind(id.part, &spec, &steps, &Inline);
                self.bound(node, Event::Bound { id, bound });
            }
            Effect::PlaceMarker { marker } => {
                if let Some(life) = self.nodes[node].home.as_ref().map(|home| home.life) {
                    self.enqueue(node, Happening::MarkerOut { node, life, marker });
                }
            }
            Effect::AskPermits { home, ask } => self.ask_permits(node, home, ask),
            Effect::LendPermits { home, answer } => self.lend_permits(node, home, answer),
            Effect::Cut { before } => self.cut_log(node, before),
            // Nobody here hands a ledger over.
            Effect::HandedOver { .. } => {}
            Effect::StartAnew => self.crash(node, Crash::Process, true),
            Effect::PublishHead { count, event } => self.publish_head(node, count, event),
        }
    }

    /// The store removes a step at a time; now and then it is left half done, until something asks again.
    fn cut_log(&mut self, node: usize, before: LogIndex) {
        let own = &mut self.nodes[node];
        let whole = !own.cuts.chance(HALF_CUTS_PER_MILLE);
        let reached = if whole { before.0 } else { own.cuts.between(own.first_kept.0, before.0) };
        own.first_kept = own.first_kept.max(LogIndex(reached));
        self.counters.cuts += 1;
        let what = [node as u64, before.0, reached];
        self.trace.note(self.now_ms, "cut", &what, || format!("node {node} cuts before {before}: {reached}"));
    }

    fn bound(&mut self, node: usize, event: Event) {
        let Some(life) = self.nodes[node].home.as_ref().map(|home| home.life) else { return };
        let wait_ms = self.rng.between(0, BINDING_MS_MAX);
        self.after(wait_ms, Happening::Bound { node, life, event: Box::new(event) });
    }

    fn reply(&mut self, node: usize, to: ReplyTo, reply: LedgerReply) {
        let waiting = self.nodes[node].home.as_mut().and_then(|home| home.replies.remove(&to.0));
        let Some(Waiting { from, call, fences, retry }) = waiting else { return };
        let evidence = Evidence { book: &self.books[node], disk: self.nodes[node].disk.watermark() };
        match &reply {
            LedgerReply::Completed(answers) => self.judge_completed(node, &fences, answers),
            LedgerReply::Renewed(answers) => self.judge_renewed(node, &fences, answers),
            LedgerReply::Outside(reply) => self.judge_outside(node, &fences, reply),
            LedgerReply::WorkflowRetried { .. } => {
                let durable = |operation| evidence.invariant_a_retry_is_durable_before_its_answer(operation);
                let verdict = retry.map_or(Ok(()), durable);
                self.judge(verdict);
            }
            LedgerReply::Submitted { answers } | LedgerReply::Retried { answers } => {
                for answer in answers {
                    if let SubmitAnswer::Accepted { id } = answer {
                        let class = self.books[node].tasks.get(id).map(|facts| facts.spec.durability);
                        self.acknowledged.acknowledge(node, class.unwrap_or(Durability::Memory), *id);
                    }
                }
            }
            LedgerReply::WorkflowSubmitted { id } => {
                let class = self.books[node].workflows.get(id).map(|facts| facts.spec.durability);
                self.acknowledged.acknowledge(node, class.unwrap_or(Durability::Memory), *id);
            }
            LedgerReply::Stats(stats) => {
                self.judge(conservation::invariant_submitted_is_the_sum_over_the_states(stats));
                if from == NOBODY {
                    let mut backlog = Slots::default();
                    stats
                        .ready_by_shape
                        .iter()
                        .for_each(|shape| backlog[shape.shape.kind.pool()] += shape.ready as u32);
                    if let Some(home) = &mut self.nodes[node].home {
                        home.backlog = backlog;
                    }
                }
            }
            LedgerReply::Refused(Refusal::Pruned { id, .. }) => {
                let is_recorded = self.books[node].queue.pruned.contains_key(id);
                self.judge(self.acknowledged.invariant_what_is_said_to_be_pruned_was(id, is_recorded));
            }
            _ => {}
        }
        if from != NOBODY {
            self.send(node, from, Message::Reply { call, reply });
        }
    }

    fn judge_completed(&mut self, node: usize, fences: &[(Fence, Rests)], answers: &[CompleteAnswer]) {
        let evidence = Evidence { book: &self.books[node], disk: self.nodes[node].disk.watermark() };
        let commits = &mut self.commits;
        let verdict = fences.iter().zip(answers).try_for_each(|((fence, _), answer)| {
            evidence.invariant_an_outcome_is_durable_before_its_answer(*fence, *answer)?;
            commits.invariant_at_most_one_outcome_is_committed(*fence, *answer)
        });
        self.judge(verdict);
    }

    fn judge_renewed(&mut self, node: usize, fences: &[(Fence, Rests)], answers: &[RenewAnswer]) {
        let evidence = Evidence { book: &self.books[node], disk: self.nodes[node].disk.watermark() };
        let verdict = fences.iter().zip(answers).try_for_each(|((fence, rests), answer)| {
            evidence.invariant_a_lease_is_durable_before_it_is_renewed(*fence, *rests, *answer)
        });
        self.judge(verdict);
    }

    /// Answers to who is no node are judged as those to workers are.
    fn judge_outside(&mut self, node: usize, fences: &[(Fence, Rests)], reply: &OutsideReply) {
        match reply {
            OutsideReply::Ended(answer) => self.judge_completed(node, fences, &[*answer]),
            OutsideReply::Kept(kept) => {
                let rests = |fence| fences.iter().find(|(shown, _)| *shown == fence).map(|(_, rests)| *rests);
                let known = kept.iter().filter_map(|(fence, answer)| Some(((*fence, rests(*fence)?), *answer)));
                let (fences, answers): (Vec<_>, Vec<_>) = known.unzip();
                self.judge_renewed(node, &fences, &answers);
            }
            OutsideReply::Taken(Some(taken)) => {
                let verdict = self.unwritten.check_again(node, &self.books[node], taken.fence, &taken.spec);
                self.judge(verdict);
            }
            OutsideReply::Taken(None) | OutsideReply::Registered { .. } => {}
        }
    }

    fn plan_write(&mut self, node: usize) {
        let Some(life) = self.nodes[node].home.as_ref().map(|home| home.life) else { return };
        if self.nodes[node].disk.begin().is_some() {
            let wait_ms = self.rng.between(0, self.faults.write_ms_max);
            self.after(wait_ms, Happening::Written { node, life });
        }
    }

    fn plan_sync(&mut self, node: usize) {
        let Some(life) = self.nodes[node].home.as_ref().map(|home| home.life) else { return };
        let disk = &mut self.nodes[node].disk;
        if disk.sync_under_way || !disk.has_unsynced() {
            return;
        }
        disk.sync_under_way = true;
        let (through, soon) = (disk.watermark().written, disk.wants_sync());
        let most = if self.rng.chance(self.faults.sync_stall) { STALLED_SYNC_MS_MAX } else { self.faults.sync_ms_max };
        let wait_ms = if soon { 0 } else { self.rng.between(0, limits::ASYNC_FSYNC_MS) } + self.rng.between(0, most);
        self.after(wait_ms, Happening::Synced { node, life, through });
    }

    pub fn written(&mut self, node: usize, life: u64) {
        let (now_ms, own) = (self.now_ms, &mut self.nodes[node]);
        let Some(home) = own.home.as_mut().filter(|home| home.life == life) else { return };
        if own.disk.full_until_ms > now_ms {
            home.disk_refuses = true;
            home.write_pause_ms = (home.write_pause_ms * 2).clamp(WRITE_AGAIN_MS_MIN, WRITE_AGAIN_MS_MAX);
            let wait_ms = home.write_pause_ms;
            return self.after(wait_ms, Happening::Written { node, life });
        }
        (home.disk_refuses, home.write_pause_ms) = (false, 0);
        own.disk.commit();
        self.durable(node, life);
    }

    pub fn synced(&mut self, node: usize, life: u64, through: LogIndex) {
        if self.home(node, life).is_some() {
            let disk = &mut self.nodes[node].disk;
            disk.sync_under_way = false;
            disk.synced_through(through);
            self.durable(node, life);
        }
    }

    fn durable(&mut self, node: usize, life: u64) {
        self.plan_write(node);
        self.plan_sync(node);
        let watermark = self.nodes[node].disk.watermark();
        self.home_event(node, life, Event::Durable(watermark));
    }
}
