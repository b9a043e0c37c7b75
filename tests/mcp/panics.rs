//! Tools that misbehave.

use std::sync::LazyLock;

use magpie::mcp::answer::ToolError;
use magpie::mcp::catalog::{Action, Catalog, Category, Hints, Reach, Scope, ToolEntry};
use magpie::mcp::handler::{Call, Handler};
use magpie::mcp::surface::SurfaceOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::rig::{call, dispatcher_of, failed};

struct Panics;

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Serialize, JsonSchema)]
struct Said {
    text: String,
}

impl Handler for Panics {
    type Input = Nothing;
    type Output = Said;

    async fn call(&self, _: Nothing, _: &Call<'_>) -> Result<Said, ToolError> {
        tokio::task::yield_now().await;
        panic!("out of cheese")
    }
}

struct Hangs;

impl Handler for Hangs {
    type Input = Nothing;
    type Output = Said;

    async fn call(&self, _: Nothing, _: &Call<'_>) -> Result<Said, ToolError> {
        std::future::pending().await
    }
}

struct Talks;

impl Handler for Talks {
    type Input = Nothing;
    type Output = Said;

    async fn call(&self, _: Nothing, _: &Call<'_>) -> Result<Said, ToolError> {
        Ok(Said { text: "\u{1b}[31mred\u{1b}[0m".repeat(20_000) })
    }
}

const fn entry(name: &'static str, action: Action) -> ToolEntry {
    ToolEntry {
        name,
        category: Category::TaskQueue,
        title: "Misbehave",
        description: "",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Anyone,
        aliases: &[],
        keywords: &[],
        also: &[],
        rare: &[],
        example: "{}",
        rest: "there is no rest",
        action,
    }
}

static TABLE: [ToolEntry; 3] =
    [entry("panics", Action::Run(&Panics)), entry("hangs", Action::Run(&Hangs)), entry("talks", Action::Run(&Talks))];
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::of(&TABLE));

fn dispatcher() -> magpie::mcp::dispatch::Dispatcher {
    dispatcher_of(&CATALOG, std::path::Path::new("/nowhere"), &SurfaceOptions::default())
}

#[tokio::test]
async fn a_panic_is_answered_and_the_next_call_runs() {
    let dispatcher = dispatcher();
    for _ in 0..5 {
        let error = failed(&dispatcher, "panics", json!({})).await;
        assert_eq!((error["code"].as_str(), error["retryable"].as_bool()), (Some("internal"), Some(false)));
        assert!(error["message"].as_str().unwrap().contains("out of cheese"));
    }
    assert!(!call(&dispatcher, "talks", json!({})).await.is_error);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_answered_at_the_deadline() {
    let began = tokio::time::Instant::now();
    let error = failed(&dispatcher(), "hangs", json!({})).await;
    assert_eq!((error["code"].as_str(), error["retryable"].as_bool()), (Some("timeout"), Some(true)));
    assert!(began.elapsed().as_secs() <= 31);
}

#[tokio::test]
async fn what_is_too_long_is_cut_and_says_so() {
    let value = call(&dispatcher(), "talks", json!({})).await.value;
    assert!(value.to_string().len() <= 8 * 1024);
    assert!(value["text"].as_str().unwrap().starts_with("redred"));
    assert_eq!(
        (&value["truncated"]["cuts"][0]["at"], &value["truncated"]["rest"]),
        (&json!("/text"), &json!("there is no rest"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_calls_is_refused_beyond_its_bound() {
    let dispatcher = dispatcher();
    let mut calls: Vec<_> = (0..2_000).map(|_| Box::pin(call(&dispatcher, "hangs", json!({})))).collect();
    let mut outcomes = Vec::new();
    for call in &mut calls {
        // Each call is admitted or refused when it is first looked at.
        if let std::task::Poll::Ready(outcome) = futures_poll(call.as_mut()).await {
            outcomes.push(outcome.value["code"].clone());
        }
    }
    assert_eq!(outcomes.len(), 2_000 - 1_024);
    assert!(outcomes.iter().all(|code| code == "overloaded"));
}

async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await
}
