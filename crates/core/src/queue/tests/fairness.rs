//! Namespaces share a home by their weights (2.5).

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn of(namespace: &str) -> TaskSpec {
    TaskSpec { namespace: namespace.to_owned(), ..noop() }
}

fn weighted(weights: &[(&str, u32)]) -> Bench {
    let weights = weights.iter().map(|(namespace, weight)| ((*namespace).to_owned(), *weight)).collect();
    let settings = QueueSettings { weights, ..QueueSettings::default() };
    settings.validate().unwrap();
    let now = Now { mono_ms: 1_000, wall_ms: START_MS };
    Bench::open(Replay::new(identity(1)).with_settings(settings), now, Vec::new())
}

fn submit_many(home: &mut Bench, namespace: &str, count: u32) {
    let operation = home.operation();
    let items = vec![SubmitItem { spec: of(namespace).into(), count }];
    home.ask(LedgerRequest::Submit { operation, items });
}

/// The home's own worker takes `cpu` more tasks; how many of each namespace it got.
fn serve(home: &mut Bench, received: &mut u32, cpu: u32) -> BTreeMap<String, u32> {
    home.credit(0, cpu, *received);
    let mut served = BTreeMap::new();
    for (_, grant) in home.grants() {
        *received += 1;
        *served.entry(grant.spec.namespace.clone()).or_default() += 1;
        home.complete(&grant, success("done"));
    }
    served
}

/// As [`serve`], one after another.
fn serve_each(home: &mut Bench, received: &mut u32, count: u32) -> BTreeMap<String, u32> {
    let mut served = BTreeMap::new();
    for _ in 0..count {
        for (namespace, n) in serve(home, received, 1) {
            *served.entry(namespace).or_default() += n;
        }
    }
    served
}

#[test]
fn backlogs_of_one_to_a_hundred_are_served_evenly() {
    for at_once in [1, 7, 40] {
        let (mut home, mut received) = (Bench::new(), 0);
        submit_many(&mut home, "large", 5_000);
        submit_many(&mut home, "small", 50);
        home.worker(0, 0);
        let (mut large, mut small) = (0, 0);
        while large + small < 80 {
            let served = serve(&mut home, &mut received, at_once);
            large += served.get("large").copied().unwrap_or(0);
            small += served.get("small").copied().unwrap_or(0);
        }
        let share = f64::from(small) / f64::from(small + large);
        assert!((share - 0.5).abs() <= 0.05, "{at_once} at a time: {small} of the small, {large} of the large backlog");
    }
}

#[test]
fn weights_of_three_to_one_give_three_quarters() {
    let (mut home, mut received) = (weighted(&[("research", 3)]), 0);
    submit_many(&mut home, "research", 1_000);
    submit_many(&mut home, "batch", 1_000);
    home.worker(0, 0);
    assert_eq!(serve_each(&mut home, &mut received, 200), [("batch".into(), 50), ("research".into(), 150)].into());
}

#[test]
fn an_idle_namespace_gains_no_credit() {
    let (mut home, mut received) = (Bench::new(), 0);
    submit_many(&mut home, "busy", 1_000);
    submit_many(&mut home, "late", 1);
    home.worker(0, 0);
    serve_each(&mut home, &mut received, 400);
    submit_many(&mut home, "late", 500);
    let served = serve_each(&mut home, &mut received, 100);
    assert_eq!(served, [("busy".into(), 50), ("late".into(), 50)].into());
}

#[test]
fn a_namespace_that_nobody_could_run_gains_no_credit() {
    let (mut home, mut received) = (Bench::new(), 0);
    submit_many(&mut home, "busy", 1_000);
    let operation = home.operation();
    let spec = TaskSpec { requires: Some("gpu.count >= 1".to_owned()), ..of("gpu") };
    home.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem { spec: spec.into(), count: 500 }] });
    home.worker(0, 0);
    assert_eq!(serve_each(&mut home, &mut received, 400), [("busy".into(), 400)].into());
    let capabilities = Capabilities { gpus: vec![crate::matching::Gpu::default()], ..(*all_kinds()).clone() };
    home.event(Event::WorkerSeen { worker: peer(0), capabilities: capabilities.into(), alive: true });
    let served = serve_each(&mut home, &mut received, 100);
    assert_eq!(served, [("busy".into(), 50), ("gpu".into(), 50)].into());
}

#[test]
fn leaving_for_a_moment_gains_nothing() {
    let (mut home, mut received) = (Bench::new(), 0);
    submit_many(&mut home, "steady", 1_000);
    home.worker(0, 0);
    let mut bursts = 0;
    for _ in 0..100 {
        submit_many(&mut home, "bursts", 1);
        bursts += serve_each(&mut home, &mut received, 2).get("bursts").copied().unwrap_or(0);
    }
    assert!((99..=101).contains(&bursts), "{bursts} of 200");
}

#[test]
fn a_namespace_is_served_in_the_order_of_its_keys() {
    let (mut home, mut received) = (Bench::new(), 0);
    submit_many(&mut home, "other", 20);
    let urgent = TaskSpec { priority: Priority::try_from(0).unwrap(), ..of("mine") };
    let late = home.submit(of("mine"));
    let first = home.submit(urgent);
    home.worker(0, 0);
    home.credit(0, 4, received);
    let mine = home.grants().into_iter().map(|(_, grant)| grant).filter(|grant| grant.spec.namespace == "mine");
    assert_eq!(mine.map(|grant| grant.fence.task).collect::<Vec<_>>(), [first, late]);
    received += 4;
    assert_eq!(
        serve(&mut home, &mut received, 4),
        [("other".into(), 4)].into(),
        "nobody is held back for an empty one"
    );
}

#[test]
fn settings_out_of_bounds_are_refused_by_name() {
    let with = |namespace: &str, weight| QueueSettings {
        weights: [(namespace.to_owned(), weight)].into(),
        ..QueueSettings::default()
    };
    assert!(with("research", 0).validate().unwrap_err().starts_with("research is 0: "));
    assert!(with("research", limits::NAMESPACE_WEIGHT_MAX + 1).validate().is_err());
    assert!(with("", 1).validate().is_err());
    let weights = (0..=limits::QUEUE_SETTINGS_MAX).map(|n| (n.to_string(), 1)).collect();
    assert!(
        QueueSettings { weights, ..QueueSettings::default() }.validate().unwrap_err().starts_with("namespaces has ")
    );
}

#[test]
fn accounts_of_namespaces_that_left_are_forgotten() {
    let (mut home, mut received) = (Bench::new(), 0);
    home.worker(0, 0);
    for n in 0..limits::NAMESPACE_ACCOUNTS_MAX + 100 {
        submit_many(&mut home, &format!("namespace-{n}"), 1);
        serve(&mut home, &mut received, 1);
    }
    assert!(home.ledger.fairness.accounts() <= limits::NAMESPACE_ACCOUNTS_MAX + 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn while_all_have_work_each_gets_its_share_within_one_grant(
        weights in proptest::collection::vec(1u32..10, 2..5), sizes in proptest::collection::vec(1u32..20, 1..20),
    ) {
        let names: Vec<String> = (0..weights.len()).map(|n| format!("n{n}")).collect();
        let named: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        let (mut home, mut received) = (weighted(&named), 0);
        let total: u32 = sizes.iter().sum();
        names.iter().for_each(|name| submit_many(&mut home, name, total));
        home.worker(0, 0);
        let mut served: BTreeMap<String, u32> = BTreeMap::new();
        for size in sizes {
            for (name, n) in serve(&mut home, &mut received, size) {
                *served.entry(name).or_default() += n;
            }
            let share = |name: &str, weight: u32| f64::from(served.get(name).copied().unwrap_or(0)) / f64::from(weight);
            let shares: Vec<f64> = named.iter().map(|(name, weight)| share(name, *weight)).collect();
            for (one, (_, weight)) in shares.iter().zip(&named) {
                for (other, (_, others)) in shares.iter().zip(&named) {
                    // The bound of start-time fair queueing: one grant of each, at its weight.
                    let bound = 1.0 / f64::from(*weight) + 1.0 / f64::from(*others) + 1e-4;
                    prop_assert!((one - other).abs() <= bound, "{shares:?} at {named:?}");
                }
            }
        }
    }
}
