//! What the official conformance suite is run against: the suite's fixtures behind the HTTP that a node serves with,
//! beside the node's own tools. It prints where it listens and serves until it is killed.

#![allow(deprecated, reason = "the suite tests what the protocol has given up, too")]
#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

mod calls;
mod documents;
mod fixture;
mod input;
mod jobs;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use magpie::actors::http::accept;
use magpie::client::ClientError;
use magpie::mcp::handler::BoxFuture;
use magpie::mcp::http::{HttpRules, HttpServer};
use magpie::mcp::link::Door;
use magpie::mcp::principal::Principal;
use magpie::messages::audit::CallLine;
use magpie::messages::{Answer, Body};

/// The tools of the node are listed here and need a node to work.
struct NoNode;

impl Door for NoNode {
    fn ask<'a>(&'a self, _: &'a Principal, _: Body, _: Duration) -> BoxFuture<'a, Result<Answer, ClientError>> {
        Box::pin(async { Err(ClientError::Closed) })
    }

    fn record(&self, _: &Principal, _: CallLine) {}
}

#[tokio::main]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    let fixture = fixture::Fixture::default();
    let server = HttpServer::new(move || fixture.clone(), Arc::new(NoNode), &HttpRules::default()).unwrap();
    let why = accept(listener, Arc::new(server), 64).await;
    eprintln!("conformance: {why}");
}
