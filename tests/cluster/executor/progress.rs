use std::sync::Arc;

use magpie::executor::{Attempt, LogTap, stop_channel};
use magpie_core::payload::{JsonText, Payload};
use magpie_core::progress::AttemptNews;
use magpie_core::task::{AttemptResult, Outcome, TaskSpec};
use magpie_core::time::DurationMs;
use serde_json::json;

use super::fixture::{Fixture, PATIENCE, attempt, error_of, process, shell};

/// What the attempt said last, and how it ended.
async fn said(fixture: &Fixture, spec: TaskSpec, checkpoint: Option<&str>) -> (AttemptNews, Outcome) {
    let checkpoint = checkpoint.map(|text| JsonText::parse(text).unwrap());
    let attempt = Attempt { checkpoint, ..attempt(spec) };
    let said = attempt.says.subscribe();
    let (_stopper, stop) = stop_channel();
    let outcome = tokio::time::timeout(PATIENCE, fixture.executors.run(attempt, stop)).await.unwrap().unwrap();
    let news = said.borrow().clone();
    (news, outcome)
}

fn output(outcome: &Outcome) -> serde_json::Value {
    match &outcome.result {
        AttemptResult::Succeeded { output: Payload::Inline(text) } => text.to_value(),
        _ => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn a_shell_script_says_how_far_it_is() {
    let fixture = Fixture::new();
    let script = r#"for n in 1 2 3; do echo "{\"progress\": 0.$n, \"message\": \"page $n\"}" >"$MAGPIE_PROGRESS"; done
        echo '{"checkpoint": {"page": 3}}' >>"$MAGPIE_PROGRESS"; echo '"done"'"#;
    let (news, outcome) = said(&fixture, shell(script, &[]), None).await;
    assert_eq!(output(&outcome), "done");
    let progress = news.progress.unwrap();
    assert_eq!((progress.fraction, progress.message.as_str()), (Some(0.3), "page 3"));
    assert_eq!(news.checkpoint.unwrap().to_value(), json!({"page": 3}));
    assert!(outcome.log_tail.is_empty() && fixture.is_swept(), "{outcome:?}");
}

#[tokio::test]
async fn a_python_program_says_how_far_it_is() {
    let fixture = Fixture::new();
    let program = "import json, os\n\
                   with open(os.environ['MAGPIE_PROGRESS'], 'w') as out:\n    \
                   for n in range(1, 101):\n        \
                   print(json.dumps({'progress': n / 100, 'checkpoint': {'row': n, 'seen': 'x' * 5000}}), file=out, flush=True)\n";
    let (news, outcome) = said(&fixture, process(&["python3", "-c", program]), None).await;
    assert!(matches!(outcome.result, AttemptResult::Succeeded { .. }), "{outcome:?}");
    assert_eq!(news.progress.unwrap().fraction, Some(1.0));
    assert_eq!(news.checkpoint.unwrap().to_value()["row"], 100);
}

#[tokio::test]
async fn the_checkpoint_of_an_earlier_attempt_stands_in_the_standard_input() {
    let fixture = Fixture::new();
    let (_, outcome) = said(&fixture, process(&["cat"]), Some(r#"{"page": 3}"#)).await;
    assert_eq!(output(&outcome), json!({"input": null, "needs": {}, "checkpoint": {"page": 3}}));
}

#[tokio::test]
async fn a_line_that_is_not_taken_is_told_in_the_log_and_costs_nothing_else() {
    let fixture = Fixture::new();
    let script = r#"echo 'half way' >"$MAGPIE_PROGRESS"; printf '{"progress": 0.5}' >"$MAGPIE_PROGRESS"; echo log >&2"#;
    let (news, outcome) = said(&fixture, shell(script, &[]), None).await;
    assert!(matches!(outcome.result, AttemptResult::Succeeded { .. }), "{outcome:?}");
    assert_eq!(news.progress.unwrap().fraction, Some(0.5));
    assert!(outcome.log_tail.starts_with("log\nmagpie: line 1 of MAGPIE_PROGRESS is not taken: "), "{outcome:?}");
}

#[tokio::test]
async fn one_that_writes_without_end_is_not_held_up_and_takes_no_memory() {
    let fixture = Fixture::new();
    let script = r#"yes '{"progress": 0.25}' | head -c 20000000 >"$MAGPIE_PROGRESS"; head -c 3000000 /dev/zero >"$MAGPIE_PROGRESS""#;
    let (news, outcome) = said(&fixture, shell(script, &[]), None).await;
    assert!(matches!(outcome.result, AttemptResult::Succeeded { .. }), "{outcome:?}");
    assert_eq!(news.progress.unwrap().fraction, Some(0.25));
}

#[tokio::test]
async fn one_that_floods_is_ended_when_its_time_is_over() {
    let fixture = Fixture::new();
    let spec = TaskSpec { timeout: DurationMs(500), ..shell(r#"exec yes x >"$MAGPIE_PROGRESS""#, &[]) };
    let (_, outcome) = said(&fixture, spec, None).await;
    assert!(outcome.log_tail.starts_with("magpie: line 1 of MAGPIE_PROGRESS is not taken: "), "{outcome:?}");
    assert_eq!(error_of(outcome).0, "timeout");
}

#[tokio::test]
async fn a_process_that_says_nothing_says_nothing() {
    let fixture = Fixture::new();
    let (news, outcome) = said(&fixture, process(&["true"]), None).await;
    assert_eq!((news, outcome.log_tail.as_str()), (AttemptNews::default(), ""));
    let spec = Arc::new(process(&["true"]));
    assert_eq!(Attempt::new(attempt(process(&["true"])).fence, spec).number, 1);
}

#[tokio::test]
async fn a_log_is_told_as_it_comes_and_whole() {
    let fixture = Fixture::new();
    let go = fixture.path("go");
    let script =
        r#"echo one >&2; while ! [ -e "$1" ]; do sleep 0.01; done; printf 'two \303' >&2; printf '\244\n' >&2"#;
    let (hear, mut heard) = tokio::sync::mpsc::channel(100);
    let log = LogTap::new(move |text| hear.try_send(text).expect("it is heard"));
    let attempt = Attempt { log, ..attempt(shell(script, &[&go])) };
    let (_stopper, stop) = stop_channel();
    let running = fixture.executors.run(attempt, stop);
    let listening = async {
        let first = heard.recv().await.unwrap();
        std::fs::write(&go, "").unwrap();
        let mut log = first.clone();
        while let Some(text) = heard.recv().await {
            log += &text;
        }
        (first, log)
    };
    let both = async { tokio::join!(running, listening) };
    let (outcome, (first, log)) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert_eq!(first, "one\n", "it runs until it was heard");
    assert_eq!((log.as_str(), outcome.unwrap().log_tail.as_str()), ("one\ntwo \u{e4}\n", "one\ntwo \u{e4}\n"));
}
