//! A peer that is killed says no goodbye.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::node::*;

const BOOTSTRAP: &str = "MAGPIE_TEST_BOOTSTRAP";
const CHILD_SEED: u8 = 2;

/// The process that is killed: an echoing node that dials the address in the environment.
#[tokio::test]
#[ignore = "it is the child process of the tests below"]
async fn echoing_node() {
    let bootstrap = std::env::var(BOOTSTRAP).expect("a parent that says where it listens");
    let (_net, echoing) = start(CHILD_SEED, dialling(&[bootstrap])).await.echo();
    echoing.await.unwrap();
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // SIGKILL; it fails when the child has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn child(bootstrap: &str) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::echoing_node", "--ignored"]).env(BOOTSTRAP, bootstrap);
    Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

async fn a_killed_peer_is_met_again(transport: &str) {
    let mut node = start(1, listening(transport)).await;
    let first = child(&node.address());
    node.admitted(peer(CHILD_SEED)).await;
    assert_eq!(node.net.request(peer(CHILD_SEED), vec![1], PATIENCE).await, Ok(vec![1]));

    drop(first);
    let _second = child(&node.address());
    let begun = Instant::now();
    node.lost(peer(CHILD_SEED)).await;
    node.admitted(peer(CHILD_SEED)).await;
    assert!(begun.elapsed() < Duration::from_secs(9), "found out by the newcomer, not by a timeout of 10 s");
    assert_eq!(node.net.request(peer(CHILD_SEED), vec![2], PATIENCE).await, Ok(vec![2]));
}

#[tokio::test]
async fn a_killed_peer_is_met_again_over_tcp() {
    a_killed_peer_is_met_again(TCP).await;
}

#[tokio::test]
async fn a_killed_peer_is_met_again_over_quic() {
    a_killed_peer_is_met_again(QUIC).await;
}
