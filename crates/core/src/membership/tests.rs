use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn id(n: u8) -> PeerId {
    PeerId([n; 32])
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: 0 }
}

fn heard(n: u8, incarnation: u64) -> MembershipEvent {
    MembershipEvent::Heard { peer: id(n), incarnation: Incarnation(incarnation) }
}

fn report(n: u8, incarnation: u64, state: PeerState) -> PeerReport {
    PeerReport { peer: id(n), incarnation: Incarnation(incarnation), state }
}

fn became(n: u8, incarnation: u64, state: PeerState) -> Vec<MembershipChange> {
    vec![MembershipChange::Became(report(n, incarnation, state))]
}

const ME: u8 = 0;

/// Knows peer 1, heard at 0 with incarnation 5.
fn with_one_peer() -> Membership {
    let mut membership = Membership::new(id(ME), Incarnation(1));
    assert_eq!(membership.handle(at(0), heard(1, 5)), became(1, 5, PeerState::Alive));
    membership
}

fn state(membership: &Membership, n: u8) -> Option<PeerState> {
    membership.peer(&id(n)).map(|peer| peer.state)
}

#[test]
fn a_silent_peer_is_suspected_then_dead_then_forgotten() {
    let mut membership = with_one_peer();
    assert_eq!(membership.probe_targets(at(1_000), 4), [id(1)]);
    for (deadline, changes) in [
        (limits::PEER_SUSPECT_MS, became(1, 5, PeerState::Suspect)),
        (limits::PEER_DEAD_MS, became(1, 5, PeerState::Dead)),
        (limits::HEARTBEAT_TIMEOUT_MS, vec![MembershipChange::Forgotten { peer: id(1) }]),
    ] {
        assert_eq!(membership.next_deadline(), Some(deadline));
        assert_eq!(membership.tick(at(deadline - 1)), []);
        assert_eq!(membership.tick(at(deadline)), changes);
    }
    assert_eq!(membership.next_deadline(), None);
    assert!(membership.peer(&id(1)).unwrap().forgotten);
    assert_eq!(membership.handle(at(20_000), heard(1, 6)), became(1, 6, PeerState::Alive));
    assert!(!membership.peer(&id(1)).unwrap().forgotten);
}

#[test]
fn a_peer_that_is_suspected_late_still_has_time_to_refute() {
    let mut membership = with_one_peer();
    // In a large mesh its turn to be asked comes late.
    membership.probe_targets(at(30_000), 4);
    assert_eq!(membership.tick(at(31_000)), became(1, 5, PeerState::Suspect));
    assert_eq!(membership.tick(at(31_000 + limits::PEER_REFUTE_MS - 1)), []);
    assert_eq!(membership.handle(at(31_000 + limits::PEER_REFUTE_MS), heard(1, 5)), became(1, 5, PeerState::Alive));
}

#[test]
fn a_peer_that_was_not_asked_is_not_suspected() {
    let mut membership = with_one_peer();
    assert_eq!(membership.next_deadline(), None);
    assert_eq!(membership.tick(at(60_000)), []);
    membership.probe_targets(at(60_000), 1);
    assert_eq!(membership.next_deadline(), Some(60_000 + limits::HEARTBEAT_MS));
    assert_eq!(membership.handle(at(60_500), heard(1, 5)), []);
    assert_eq!(membership.next_deadline(), None);
}

#[test]
fn i12_a_dead_peer_comes_back_with_a_higher_incarnation_only() {
    let dead = || {
        let mut membership = with_one_peer();
        let gone = MembershipEvent::Reported(report(1, 5, PeerState::Dead));
        assert_eq!(membership.handle(at(10_000), gone), became(1, 5, PeerState::Dead));
        membership
    };
    let reported = |incarnation, state| MembershipEvent::Reported(report(1, incarnation, state));
    for (event, after) in [
        (reported(5, PeerState::Alive), PeerState::Dead),
        (reported(4, PeerState::Alive), PeerState::Dead),
        (reported(5, PeerState::Suspect), PeerState::Dead),
        (reported(6, PeerState::Alive), PeerState::Alive),
        (reported(6, PeerState::Suspect), PeerState::Suspect),
        (heard(1, 6), PeerState::Alive),
        (heard(1, 5), PeerState::Dead),
        (heard(1, 4), PeerState::Dead),
    ] {
        let mut membership = dead();
        membership.handle(at(10_100), event);
        assert_eq!(state(&membership, 1), Some(after), "{event:?}");
    }
}

#[test]
fn i12_a_dead_peer_that_speaks_is_told_so_and_refutes() {
    let mut membership = with_one_peer();
    let mut accused = Membership::new(id(1), Incarnation(5));
    membership.handle(at(9_000), MembershipEvent::Reported(report(1, 5, PeerState::Dead)));
    while !membership.reports(1).is_empty() {}
    assert_eq!(membership.handle(at(9_500), heard(1, 5)), []);
    let told = membership.reports(1);
    assert_eq!(told, [report(1, 5, PeerState::Dead)]);
    accused.handle(at(9_600), MembershipEvent::Reported(told[0]));
    let Incarnation(raised) = accused.incarnation();
    assert_eq!(membership.handle(at(9_700), heard(1, raised)), became(1, raised, PeerState::Alive));
}

#[test]
fn a_peer_heard_lately_is_not_talked_dead() {
    let mut membership = with_one_peer();
    let gone = MembershipEvent::Reported(report(1, 5, PeerState::Dead));
    assert_eq!(membership.handle(at(limits::PEER_SUSPECT_MS - 1), gone), []);
    assert_eq!(membership.handle(at(limits::PEER_SUSPECT_MS), gone), became(1, 5, PeerState::Dead));
}

#[test]
fn a_suspected_node_refutes_with_a_higher_incarnation() {
    let mut membership = with_one_peer();
    let about_me = |incarnation, state| MembershipEvent::Reported(report(ME, incarnation, state));
    assert_eq!(membership.handle(at(1), about_me(1, PeerState::Alive)), []);
    assert_eq!(membership.handle(at(1), about_me(0, PeerState::Dead)), []);
    let refuted = |incarnation| vec![MembershipChange::Refuted { incarnation: Incarnation(incarnation) }];
    assert_eq!(membership.handle(at(1), about_me(1, PeerState::Suspect)), refuted(2));
    assert_eq!(membership.handle(at(1), about_me(1, PeerState::Dead)), []);
    assert_eq!(membership.handle(at(1), about_me(9, PeerState::Dead)), refuted(10));
    assert_eq!(membership.incarnation(), Incarnation(10));
    assert_eq!(membership.peer(&id(ME)), None);
}

#[test]
fn hearsay_does_not_admit() {
    let mut membership = with_one_peer();
    assert_eq!(membership.handle(at(1), MembershipEvent::Reported(report(2, 9, PeerState::Alive))), []);
    assert_eq!(membership.peer(&id(2)), None);
    membership.handle(at(1), MembershipEvent::Removed { peer: id(1) });
    assert_eq!(membership.peers().count(), 0);
    assert_eq!(membership.reports(9), []);
}

#[test]
fn a_node_that_stood_still_holds_it_against_nobody() {
    let mut membership = with_one_peer();
    membership.handle(at(0), heard(2, 5));
    membership.probe_targets(at(1_000), 4);
    let awake = 90_000;
    assert_eq!(membership.tick(at(awake)), []);
    membership.handle(at(awake), heard(2, 5));
    assert_eq!(membership.next_deadline(), Some(awake + limits::HEARTBEAT_MS));
    assert_eq!(membership.tick(at(awake + limits::HEARTBEAT_MS)), became(1, 5, PeerState::Suspect));
    assert_eq!(state(&membership, 2), Some(PeerState::Alive));
}

#[test]
fn peers_are_bounded_and_the_longest_forgotten_makes_room() {
    let peer = |n: u16| PeerId(std::array::from_fn(|place| n.to_be_bytes()[place % 2]));
    let mut membership = Membership::new(PeerId([0xff; 32]), Incarnation(1));
    let join = |n| MembershipEvent::Heard { peer: peer(n), incarnation: Incarnation(1) };
    for n in 0..limits::PEERS_MAX as u16 {
        membership.handle(at(0), join(n));
    }
    let late = limits::PEERS_MAX as u16;
    assert_eq!(membership.handle(at(0), join(late)), [MembershipChange::Refused { peer: peer(late) }]);
    assert_eq!(membership.peers().count(), limits::PEERS_MAX);

    let gone = PeerReport { peer: peer(7), incarnation: Incarnation(1), state: PeerState::Dead };
    membership.handle(at(3_000), MembershipEvent::Reported(gone));
    let forgotten = at(3_000 + limits::HEARTBEAT_TIMEOUT_MS - limits::PEER_DEAD_MS);
    assert_eq!(membership.tick(forgotten), [MembershipChange::Forgotten { peer: peer(7) }]);
    assert_eq!(membership.handle(forgotten, join(late)).len(), 1);
    assert_eq!((membership.peer(&peer(7)), membership.peers().count()), (None, limits::PEERS_MAX));
}

#[test]
fn news_ride_a_few_times_and_stop() {
    let mut membership = with_one_peer();
    for n in 2..5 {
        membership.handle(at(0), heard(n, 5));
    }
    let mut rides = 0;
    while let [only] = membership.reports(1)[..] {
        assert_eq!((only.incarnation, only.state), (Incarnation(5), PeerState::Alive));
        rides += 1;
    }
    assert!((4 * 3..=4 * 9).contains(&rides), "{rides}");
}

#[test]
fn suspects_are_probed_first_and_nobody_is_left_out() {
    let mut membership = Membership::new(id(ME), Incarnation(1));
    for n in 1..=9 {
        membership.handle(at(0), heard(n, 1));
    }
    membership.handle(at(5_000), MembershipEvent::Reported(report(8, 1, PeerState::Suspect)));
    assert_eq!(membership.probe_targets(at(5_000), 2), [id(8), id(1)]);
    let mut probed = BTreeSet::new();
    for _ in 0..9 {
        probed.extend(membership.probe_targets(at(5_000), 2));
    }
    assert_eq!(probed.len(), 9);
}

#[test]
fn a_quiet_node_asks_one_peer_in_two_rounds_however_many_there_are() {
    let mut membership = Membership::new(id(ME), Incarnation(1));
    (1..=200).for_each(|n| drop(membership.handle(at(0), heard(n, 1))));
    assert_eq!(membership.probes_due(false), limits::PROBES_MAX, "all are news");
    while !membership.reports(64).is_empty() {}
    assert_eq!((0..20).map(|_| membership.probes_due(false)).sum::<usize>(), 10);
    assert_eq!(membership.probes_due(true), limits::PROBES_MAX);
    membership.handle(at(5_000), MembershipEvent::Reported(report(8, 1, PeerState::Suspect)));
    while !membership.reports(64).is_empty() {}
    assert_eq!(membership.probes_due(false), limits::PROBES_MAX, "a suspect may be there");
}

#[test]
fn a_busy_node_of_a_small_mesh_asks_nobody_in_two_rounds_on_end() {
    for peers in 2..=7 {
        let mut membership = Membership::new(id(ME), Incarnation(1));
        (1..=peers).for_each(|n| drop(membership.handle(at(0), heard(n, 1))));
        let due = membership.probes_due(true);
        assert!(due <= usize::from(peers).div_ceil(2).max(2), "{due} of {peers}");
        let two: Vec<PeerId> = (0..2).flat_map(|_| membership.probe_targets(at(0), due)).collect();
        assert!(two.iter().collect::<BTreeSet<_>>().len() == usize::from(peers), "all hear within two rounds");
    }
}

#[test]
fn nodes_that_start_together_ask_different_peers() {
    const LEN: u8 = 32;
    let mut nodes: Vec<Membership> = (0..LEN).map(|n| Membership::new(id(n), Incarnation(1))).collect();
    for node in &mut nodes {
        (0..LEN).for_each(|n| drop(node.handle(at(0), heard(n, 1))));
    }
    for _ in 0..2 * LEN {
        let asked: BTreeSet<PeerId> = nodes.iter_mut().flat_map(|node| node.probe_targets(at(0), 1)).collect();
        // Who passes its own place asks the next one, as its neighbour does.
        assert!(asked.len() >= usize::from(LEN) / 2, "{} are asked by somebody", asked.len());
    }
}

#[test]
fn a_peer_whose_connection_is_lost_is_waited_for_at_once() {
    let mut membership = with_one_peer();
    membership.probed(at(10_000), &id(1));
    assert_eq!(membership.tick(at(10_000 + limits::HEARTBEAT_MS)), became(1, 5, PeerState::Suspect));
    membership.probed(at(10_000), &id(9));
    assert_eq!(membership.peers().count(), 1, "nobody is made up");
}

#[derive(Debug, Clone)]
enum Step {
    Event(MembershipEvent),
    Tick { after_ms: u64 },
    Probe(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let states = [PeerState::Alive, PeerState::Suspect, PeerState::Dead];
    let states = proptest::sample::select(states.to_vec());
    prop_oneof![
        (0u8..4, 0u64..5).prop_map(|(n, incarnation)| Step::Event(heard(n, incarnation))),
        (0u8..4, 0u64..5, states).prop_map(|(n, incarnation, state)| {
            Step::Event(MembershipEvent::Reported(report(n, incarnation, state)))
        }),
        (0u64..4_000).prop_map(|after_ms| Step::Tick { after_ms }),
        (0usize..4).prop_map(Step::Probe),
    ]
}

/// Whether the laws allow a peer to go from `before` to `after` in one step.
fn is_lawful(step: &Step, n: u8, before: &Peer, after: &Peer) -> bool {
    let worse = after.state > before.state;
    let newer = after.incarnation > before.incarnation;
    let same =
        (before.state, before.incarnation, before.forgotten) == (after.state, after.incarnation, after.forgotten);
    same || match step {
        // Better only at a higher incarnation: this is I12. A suspect may say itself that it is there.
        Step::Event(MembershipEvent::Heard { peer, .. }) => {
            *peer == id(n) && after.state == PeerState::Alive && (newer || before.state != PeerState::Dead)
        }
        Step::Event(MembershipEvent::Reported(report)) => report.peer == id(n) && (worse || newer),
        Step::Event(MembershipEvent::Removed { .. }) | Step::Probe(_) => false,
        Step::Tick { .. } => {
            let one_step = after.state as u8 - before.state as u8 == 1 || (after.forgotten && !before.forgotten);
            let asked = before.state != PeerState::Alive || before.probed_mono_ms.is_some();
            !newer && one_step && asked
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_step_keeps_the_laws(steps in proptest::collection::vec(step(), 1..60)) {
        let mut membership = Membership::new(id(ME), Incarnation(1));
        let mut mono_ms = 0;
        for step in &steps {
            let before = membership.peers.clone();
            let own_before = membership.incarnation();
            let deadline = membership.next_deadline();
            let changes = match step {
                Step::Event(event) => membership.handle(at(mono_ms), *event),
                Step::Tick { after_ms } => {
                    mono_ms += after_ms;
                    membership.tick(at(mono_ms))
                }
                Step::Probe(n) => {
                    prop_assert!(membership.probe_targets(at(mono_ms), *n).len() <= *n);
                    Vec::new()
                }
            };

            for (peer, after) in membership.peers() {
                if let Some(held) = before.get(peer) {
                    prop_assert!(after.incarnation >= held.incarnation);
                    prop_assert!(is_lawful(step, peer.0[0], held, after), "{:?}: {:?} -> {:?}", step, held, after);
                }
            }
            let shown = changes.iter().filter(|change| matches!(change, MembershipChange::Became(_))).count();
            let changed = membership.peers().filter(|(peer, after)| before.get(*peer).map(|held| held.state) != Some(after.state));
            prop_assert_eq!(shown, changed.count());
            if let Step::Tick { .. } = step {
                prop_assert!(changes.is_empty() || deadline.is_some_and(|deadline| deadline <= mono_ms));
            }
            if let Step::Event(MembershipEvent::Reported(report)) = step
                && report.peer == id(ME) && report.state != PeerState::Alive
            {
                prop_assert!(membership.incarnation() > report.incarnation);
            }
            prop_assert!(membership.incarnation() >= own_before);
            prop_assert!(membership.peer(&id(ME)).is_none());
            let queued: BTreeSet<&PeerId> = membership.news.iter().collect();
            prop_assert_eq!(queued.len(), membership.news.len());
        }
    }

    #[test]
    fn the_order_of_news_does_not_matter(
        news in proptest::collection::vec((0u64..5, 0usize..3), 0..8), turn in 0usize..8,
    ) {
        let told = |news: &[(u64, usize)]| {
            let mut membership = with_one_peer();
            for (incarnation, state) in news {
                let state = [PeerState::Alive, PeerState::Suspect, PeerState::Dead][*state];
                membership.handle(at(9_000), MembershipEvent::Reported(report(1, 4 + incarnation, state)));
            }
            membership.peer(&id(1)).map(|peer| (peer.incarnation, peer.state))
        };
        let mut other_order = news.clone();
        other_order.reverse();
        other_order.rotate_left(turn.min(news.len()));
        prop_assert_eq!(told(&news), told(&other_order));
    }
}

/// A mesh in one thread: a step is 100 ms, a message arrives in the step after, unless chance loses it.
struct Mesh {
    nodes: Vec<Option<Membership>>,
    in_flight: Vec<Heartbeat>,
    now_ms: u64,
    seed: u64,
    loss_percent: u64,
    suspicions: usize,
}

struct Heartbeat {
    from: usize,
    to: usize,
    incarnation: Incarnation,
    reports: Vec<PeerReport>,
    wants_answer: bool,
}

impl Mesh {
    fn of(len: usize, seed: u64) -> Self {
        let nodes = (0..len).map(|n| Some(Membership::new(id(n as u8), Incarnation(1)))).collect();
        let mut mesh = Self { nodes, in_flight: Vec::new(), now_ms: 0, seed, loss_percent: 0, suspicions: 0 };
        for n in 0..len {
            mesh.introduce(n);
        }
        mesh
    }

    /// Sends a first message to everyone, as a dialled connection does.
    fn introduce(&mut self, from: usize) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            self.send(from, to, true);
        }
    }

    fn send(&mut self, from: usize, to: usize, wants_answer: bool) {
        let Some(node) = &mut self.nodes[from] else { return };
        let (incarnation, reports) = (node.incarnation(), node.reports(4));
        self.in_flight.push(Heartbeat { from, to, incarnation, reports, wants_answer });
    }

    fn is_lost(&mut self) -> bool {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % 100 < self.loss_percent
    }

    fn step(&mut self) {
        self.now_ms += 100;
        for message in std::mem::take(&mut self.in_flight) {
            if !self.is_lost() {
                self.deliver(&message);
            }
        }
        for n in 0..self.nodes.len() {
            let Some(node) = &mut self.nodes[n] else { continue };
            self.suspicions += node.tick(at(self.now_ms)).len();
            if self.now_ms % limits::HEARTBEAT_MS == 100 * (n as u64 % 10) {
                for peer in node.probe_targets(at(self.now_ms), 3) {
                    self.send(n, usize::from(peer.0[0]), true);
                }
            }
        }
    }

    fn deliver(&mut self, message: &Heartbeat) {
        let Some(node) = &mut self.nodes[message.to] else { return };
        let peer = id(message.from as u8);
        node.handle(at(self.now_ms), MembershipEvent::Heard { peer, incarnation: message.incarnation });
        for report in &message.reports {
            node.handle(at(self.now_ms), MembershipEvent::Reported(*report));
        }
        if message.wants_answer {
            self.send(message.to, message.from, false);
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.step();
        }
    }

    /// What every running node holds of node `n`.
    fn views_of(&self, n: usize) -> Vec<Option<PeerState>> {
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != n);
        others.filter_map(|(_, node)| node.as_ref().map(|node| state(node, n as u8))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_mesh_without_faults_suspects_nobody(len in 2usize..20) {
        let mut mesh = Mesh::of(len, 0);
        mesh.run(60_000);
        prop_assert_eq!(mesh.suspicions, 0);
    }

    #[test]
    fn a_mesh_agrees_after_its_faults(len in 2usize..9, seed: u64, loss_percent in 0u64..60, victim: prop::sample::Index) {
        let mut mesh = Mesh::of(len, seed);
        let victim = victim.index(len);
        mesh.run(3_000);
        mesh.loss_percent = loss_percent;
        mesh.run(20_000);
        mesh.nodes[victim] = None;
        mesh.run(5_000);
        mesh.loss_percent = 0;
        mesh.run(15_000);
        for n in 0..len {
            let agreed = if n == victim { PeerState::Dead } else { PeerState::Alive };
            prop_assert!(mesh.views_of(n).iter().all(|view| *view == Some(agreed)), "node {n}: {:?}", mesh.views_of(n));
        }
        mesh.nodes[victim] = Some(Membership::new(id(victim as u8), Incarnation(2)));
        mesh.introduce(victim);
        mesh.run(10_000);
        for n in 0..len {
            prop_assert!(mesh.views_of(n).iter().all(|view| *view == Some(PeerState::Alive)), "node {n}: {:?}", mesh.views_of(n));
        }
    }
}

#[test]
fn a_killed_node_is_dead_to_a_small_mesh_within_five_seconds() {
    let mut mesh = Mesh::of(3, 1);
    mesh.run(5_000);
    mesh.nodes[2] = None;
    mesh.run(5_000);
    assert_eq!(mesh.views_of(2), [Some(PeerState::Dead); 2]);
    assert_eq!(mesh.views_of(1), [Some(PeerState::Alive)]);
}
