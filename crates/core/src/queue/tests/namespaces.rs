//! Whose things are, and how many a namespace has.

use super::*;

fn of(namespace: &str) -> TaskSpec {
    TaskSpec { namespace: namespace.to_owned(), ..noop() }
}

impl Bench {
    fn namespaces(&mut self, ids: &[TaskId]) -> Vec<Option<String>> {
        match self.ask(LedgerRequest::NamespacesOf { ids: ids.to_vec() }) {
            LedgerReply::Namespaces { of } => of,
            other => panic!("{other:?}"),
        }
    }

    fn counts(&mut self, namespace: &str) -> TaskCounts {
        match self.ask(LedgerRequest::CountNamespace { namespace: namespace.to_owned() }) {
            LedgerReply::NamespaceCounted(counts) => counts.tasks,
            other => panic!("{other:?}"),
        }
    }

    /// What the counts are, found one by one.
    fn counted_again(&self, namespace: &str) -> TaskCounts {
        let mut counts = TaskCounts::default();
        let tasks = self.ledger.state.tasks.values().filter(|task| task.spec.namespace == namespace);
        tasks.for_each(|task| counts.add(task.state, 1));
        counts
    }
}

#[test]
fn each_id_is_told_with_its_namespace_and_an_unknown_one_with_none() {
    let mut home = Bench::new();
    let (ours, theirs) = (home.submit(of("ours")), home.submit(of("theirs")));
    let unknown = TaskId { ulid: 7, ..ours };
    let told = home.namespaces(&[theirs, unknown, ours]);
    assert_eq!(told, [Some("theirs".to_owned()), None, Some("ours".to_owned())]);
}

#[test]
fn a_namespace_is_counted_through_every_change_and_a_restart() {
    let mut home = Bench::new();
    home.submit_all((0..3).map(|_| of("ours")).collect());
    home.submit_all((0..2).map(|_| of("theirs")).collect());
    assert_eq!((home.counts("ours").ready, home.counts("theirs").ready, home.counts("nobody").total()), (3, 2, 0));
    let cancelled = home.submit(of("ours"));
    home.cancel(cancelled);
    home.worker(1, 10);
    let mut is_first = true;
    home.work_off(|_| if std::mem::take(&mut is_first) { failure(false) } else { success("done") });
    let check = |home: &mut Bench| {
        for namespace in ["ours", "theirs"] {
            let counts = home.counts(namespace);
            assert_eq!(counts, home.counted_again(namespace), "{namespace}");
            assert_eq!(counts.total(), if namespace == "ours" { 4 } else { 2 });
        }
        assert_eq!(home.counts("ours").cancelled, 1);
    };
    check(&mut home);
    let mut home = home.restart(1_000);
    check(&mut home);
    home.cancel(cancelled);
}

#[test]
fn what_is_not_kept_any_more_is_not_counted() {
    let mut home = Bench::new();
    let id = home.submit(TaskSpec { retention: Some(DurationMs(600_000)), ..of("ours") });
    home.cancel(id);
    assert_eq!(home.counts("ours").cancelled, 1);
    home.pass(700_000);
    assert_eq!((home.counts("ours").total(), home.namespaces(&[id])), (0, vec![None]));
    assert!(home.ledger.namespaces.is_empty(), "a namespace without a task takes no room");
}

#[test]
fn a_worker_of_a_namespace_takes_its_tasks_alone() {
    let mut home = Bench::new();
    let tool = |namespace| TaskSpec { namespace: String::from(namespace), ..TaskSpec::new(TaskKind::Tool) };
    home.submit(tool("theirs"));
    let ours = home.submit(tool("ours"));
    let take = |home: &mut Bench, worker: &str| {
        let kinds = [TaskKind::Tool].into();
        let offers = Some(Box::new(Capabilities { kinds, ..Capabilities::default() }));
        let namespace = Some("ours".to_owned());
        let request = OutsideRequest::Take { worker: worker.to_owned(), offers, namespace };
        match home.ask(LedgerRequest::Outside(request)) {
            LedgerReply::Outside(reply) => match *reply {
                OutsideReply::Taken(taken) => taken.map(|taken| taken.fence.task),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((take(&mut home, "a"), take(&mut home, "b")), (Some(ours), None));
}
