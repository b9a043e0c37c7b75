//! Every test run simulates forty meshes; `make test` simulates two thousand more.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

use std::collections::BTreeMap;
use std::process::Command;

use magpie_sim::book::Book;
use magpie_sim::world::World;
use magpie_sim::{Options, run_seed, runner};

#[test]
fn forty_seeds_keep_every_invariant() {
    let mut failures = Vec::new();
    runner::run_all(1..41, Options::default(), 2, |report| {
        failures.extend(report.failure.map(|failure| {
            let seed = report.seed;
            format!("seed {seed}: {failure}; make it small: cargo run -p sim -- --seed {seed}")
        }));
    });
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=5 {
        let traces = [(); 2].map(|()| run_seed(seed, Options { keep_lines: true, ..Options::default() }));
        assert_eq!(traces[0].lines, traces[1].lines, "seed {seed}");
        assert_eq!(traces[0].trace_hash, traces[1].trace_hash, "seed {seed}");
        assert_eq!(traces[0].counters, traces[1].counters, "seed {seed}");
    }
}

/// Within one process some maps have one order for all; in two they do not.
#[test]
fn ten_seeds_have_one_trace_in_two_processes() {
    let hashes = || {
        let sim = Command::new(env!("CARGO_BIN_EXE_sim")).args(["--seeds", "1..11", "--hashes"]).output().unwrap();
        let lines = String::from_utf8(sim.stdout).unwrap();
        lines.lines().filter(|line| line.contains(": trace ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let (one, other) = (hashes(), hashes());
    assert_eq!(one.len(), 10);
    assert_eq!(one, other);
}

#[test]
fn i11_every_node_learns_the_heads_of_others_in_what_is_drawn() {
    for seed in 1..=10 {
        let mut world = World::new(seed, Options::default());
        assert_eq!(world.run(), Ok(()), "seed {seed}");
        assert!(world.counters.merges > 20, "seed {seed}: {} merges", world.counters.merges);
        for node in world.nodes.iter().filter(|node| node.membership.is_some()) {
            assert_eq!(node.heads.len(), world.nodes.len(), "seed {seed}");
        }
    }
}

#[test]
fn schedules_fire_and_steps_start_workflows_in_what_is_drawn() {
    let (mut decided, mut started, mut children) = (0, 0, 0);
    for seed in 1..=20 {
        let mut world = World::new(seed, Options::default());
        assert_eq!(world.run(), Ok(()), "seed {seed}");
        for book in &world.books {
            decided += book.schedules.values().map(|facts| facts.decided.len()).sum::<usize>();
            started += book.schedules.values().map(|facts| facts.runs.len()).sum::<usize>();
            children += book.workflows.values().filter(|facts| facts.parent.is_some()).count();
        }
    }
    assert!(decided > 5 && started > 5 && children > 5, "{decided} times decided, {started} runs, {children} children");
}

#[test]
fn what_is_drawn_uses_all_that_a_queue_has() {
    let mut kinds = BTreeMap::new();
    for seed in 1..=45 {
        let mut world = World::new(seed, Options::default());
        assert_eq!(world.run(), Ok(()), "seed {seed}");
        for record in world.books.iter().flat_map(Book::records) {
            *kinds.entry(record.kind()).or_insert(0) += 1;
        }
    }
    for kind in ["permits_lent", "queue_paused", "queue_resumed", "queue_cleared", "pruned", "retried", "priority_set"]
    {
        assert!(kinds.get(kind).is_some_and(|count| *count > 2), "{kind} among {kinds:?}");
    }
}

#[test]
fn logs_are_cut_and_homes_start_from_what_is_left() {
    let (mut cuts, mut restarted) = (0, 0);
    for seed in 1..=20 {
        let mut world = World::new(seed, Options::default());
        assert_eq!(world.run(), Ok(()), "seed {seed}");
        cuts += world.counters.cuts;
        restarted += world.counters.starts_from_cut_logs;
    }
    assert!(cuts > 20 && restarted > 1, "{cuts} cuts, {restarted} starts from cut logs");
}

#[test]
fn two_seeds_give_two_traces() {
    let [one, other] = [1, 2].map(|seed| run_seed(seed, Options::default()).trace_hash);
    assert_ne!(one, other);
}
