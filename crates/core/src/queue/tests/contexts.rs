//! Contexts: durable, their principal's alone, bounded in what they hold and in how long.

use std::collections::BTreeMap;

use super::compaction::eager;
use super::compaction_model::difference;
use super::*;

const HOUR_MS: u64 = 3_600_000;

fn text(value: &str) -> JsonText {
    JsonText::of(&serde_json::Value::from(value))
}

fn values(all: &[(&str, &str)]) -> BTreeMap<String, JsonText> {
    all.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect()
}

fn update(home: &mut Bench, id: Option<TaskId>, set: &[(&str, &str)], ttl_ms: u64) -> ContextRequest {
    let (operation, set, principal) = (home.operation(), values(set), "ann".to_owned());
    ContextRequest::Update { operation, id, principal, set, remove: Vec::new(), ttl_ms }
}

fn ask(home: &mut Bench, request: ContextRequest) -> Result<ContextView, Refusal> {
    match home.ask(LedgerRequest::Context(request)) {
        LedgerReply::Context(view) => Ok(*view),
        LedgerReply::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn set(home: &mut Bench, id: Option<TaskId>, all: &[(&str, &str)]) -> ContextView {
    let request = update(home, id, all, HOUR_MS);
    ask(home, request).unwrap()
}

fn get(home: &mut Bench, id: TaskId, principal: &str) -> Result<ContextView, Refusal> {
    ask(home, ContextRequest::Get { id, principal: principal.to_owned() })
}

#[test]
fn values_are_set_changed_taken_out_and_read_by_their_principal_alone() {
    let mut home = Bench::new();
    let begun = set(&mut home, None, &[("goal", "count"), ("step", "1")]);
    let changed = set(&mut home, Some(begun.id), &[("step", "2")]);
    assert_eq!((changed.id, &changed.values), (begun.id, &values(&[("goal", "count"), ("step", "2")])));
    let (operation, principal, remove) = (home.operation(), "ann".to_owned(), vec!["goal".to_owned()]);
    let (id, set) = (Some(begun.id), BTreeMap::new());
    let request = ContextRequest::Update { operation, id, principal, set, remove, ttl_ms: HOUR_MS };
    assert_eq!(ask(&mut home, request).unwrap().values, values(&[("step", "2")]));
    let others = get(&mut home, begun.id, "bob");
    let unknown = TaskId { ulid: 7, ..begun.id };
    assert_eq!(others, Err(Refusal::NotFound { id: begun.id }));
    assert_eq!(get(&mut home, unknown, "ann"), Err(Refusal::NotFound { id: unknown }), "they cannot be told apart");
    let (operation, principal) = (home.operation(), "bob".to_owned());
    let (id, set, remove) = (Some(begun.id), values(&[("step", "9")]), Vec::new());
    let theirs = ContextRequest::Update { operation, id, principal, set, remove, ttl_ms: HOUR_MS };
    assert_eq!(ask(&mut home, theirs), Err(Refusal::NotFound { id: begun.id }));
}

#[test]
fn an_update_is_acknowledged_when_it_is_on_the_disk() {
    let mut home = Bench::new();
    home.syncs = false;
    let request = update(&mut home, None, &[("a", "1")], HOUR_MS);
    assert_eq!(home.ask_as(peer(0), LedgerRequest::Context(request)), None);
    let asked = ReplyTo(home.replies);
    home.sync();
    home.settle();
    assert!(matches!(home.answer_to(asked), Some(LedgerReply::Context(_))));
}

#[test]
fn i15_an_update_that_comes_twice_is_done_once() {
    let mut home = Bench::new();
    let request = update(&mut home, None, &[("a", "1")], HOUR_MS);
    let first = ask(&mut home, request.clone()).unwrap();
    set(&mut home, Some(first.id), &[("a", "2")]);
    let again = ask(&mut home, request.clone()).unwrap();
    assert_eq!((again.id, again.values), (first.id, values(&[("a", "2")])), "as it is now");
    let mut home = home.restart(1_000);
    assert_eq!(ask(&mut home, request).unwrap().id, first.id);
    assert_eq!(home.ledger.state.contexts.len(), 1);
}

#[test]
fn a_restart_and_a_cut_log_forget_no_value() {
    let mut home = Bench::new();
    home.compact(eager(0, 3));
    let kept = set(&mut home, None, &[("a", "1"), ("b", "2")]).id;
    home.pass(3_000);
    let changed = set(&mut home, Some(kept), &[("b", "3")]);
    for n in 0..10 {
        home.submit(noop());
        set(&mut home, None, &[("n", &n.to_string())]);
    }
    home.pass(5_000);
    assert!(home.first > LogIndex(4), "it was cut before {}", home.first);
    assert_eq!(difference(&home.replay_from(home.first, 2), &home.replay_from(LogIndex(1), 2)), None);
    let mut home = home.restart(1_000);
    assert_eq!(get(&mut home, kept, "ann").unwrap().values, changed.values);
    assert_eq!(home.ledger.state.contexts.len(), 11);
}

#[test]
fn each_update_lets_a_context_last_anew_and_then_its_time_is_over() {
    let mut home = Bench::new();
    let (first, second) = (set(&mut home, None, &[("a", "1")]).id, set(&mut home, None, &[("b", "1")]).id);
    home.now.wall_ms += HOUR_MS / 2;
    home.now.mono_ms += HOUR_MS / 2;
    set(&mut home, Some(second), &[("b", "2")]);
    home.now.wall_ms += HOUR_MS / 2 + 1_000;
    home.now.mono_ms += HOUR_MS / 2 + 1_000;
    assert_eq!(get(&mut home, first, "ann"), Err(Refusal::NotFound { id: first }));
    assert!(get(&mut home, second, "ann").is_ok());
    home.pass(1_000);
    assert_eq!(home.ledger.state.contexts.len(), 1, "it takes no room any more");
    let request = update(&mut home, Some(second), &[], 0);
    assert!(ask(&mut home, request).unwrap().values.is_empty());
    assert_eq!(get(&mut home, second, "ann"), Err(Refusal::NotFound { id: second }));
    assert_eq!((home.ledger.state.contexts.len(), home.ledger.state.contexts.bytes()), (0, 0));
    let request = update(&mut home, None, &[("c", "1")], u64::MAX);
    let longest = ask(&mut home, request).unwrap();
    assert_eq!(longest.expires.0 - longest.updated.0, limits::CONTEXT_TTL_MS_MAX);
}

#[test]
fn i13_contexts_have_bounds_each_and_together() {
    let mut home = Bench::new();
    let id = set(&mut home, None, &[("a", "1")]).id;
    let long = "x".repeat(limits::CONTEXT_BYTES_MAX);
    for wrong in [("a", long.as_str()), ("", "1"), (&"n".repeat(limits::NAME_BYTES_MAX + 1), "1")] {
        let request = update(&mut home, Some(id), &[wrong], HOUR_MS);
        assert!(matches!(ask(&mut home, request), Err(Refusal::Invalid { .. })), "{}", wrong.0);
    }
    let many: Vec<String> = (0..=limits::CONTEXT_LEN_MAX).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let request = update(&mut home, Some(id), &many, HOUR_MS);
    assert!(matches!(ask(&mut home, request), Err(Refusal::Invalid { .. })));
    assert_eq!(get(&mut home, id, "ann").unwrap().values, values(&[("a", "1")]), "what is refused changes nothing");

    let half = "x".repeat(limits::CONTEXT_BYTES_MAX / 2);
    let refused = loop {
        let request = update(&mut home, None, &[("v", &half)], HOUR_MS);
        if let Err(refusal) = ask(&mut home, request) {
            break refusal;
        }
    };
    assert!(matches!(refused, Refusal::Overloaded { .. }), "{refused}");
    let contexts = &home.ledger.state.contexts;
    assert!(contexts.bytes() <= limits::CONTEXTS_BYTES_MAX && contexts.len() > 50, "{}", contexts.bytes());
    set(&mut home, Some(id), &[("a", "2")]);
}

#[test]
fn the_events_of_a_home_name_no_context() {
    let mut home = Bench::new();
    set(&mut home, None, &[("secret", "s3")]);
    let events =
        home.log.iter().map(|entry| EventView::of(LEDGER.tag(), entry.index, &entry.body, entry.event).unwrap());
    let updated: Vec<EventView> = events.filter(|event| event.kind == "context_updated").collect();
    assert_eq!(updated.len(), 1);
    assert!(updated[0].subjects.is_empty(), "{updated:?}");
}
