//! A registry of peers in an issue: written once and edited after, read whole, believed where it is signed.

use std::time::Duration;

use magpie_net::{GithubConfig, NetConfig, Token};

use crate::forge::Forge;
use crate::node::*;

fn registered(forge: &Forge) -> NetConfig {
    NetConfig { github: Some(forge.registry()), ..listening(TCP) }
}

#[tokio::test]
async fn a_record_beyond_the_first_hundred_comments_is_found() {
    let forge = Forge::start();
    for n in 0..250 {
        forge.comment(&format!("chatter {n}"));
    }
    let mut a = start(1, registered(&forge)).await;
    until(|| forge.comments().len() == 251).await;
    let mut b = start(2, registered(&forge)).await;
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    assert!(forge.calls("GET").iter().any(|call| call.path.ends_with("page=3")));
}

#[tokio::test]
async fn a_restarted_node_edits_its_own_comment_and_touches_no_other() {
    let forge = Forge::start();
    let foreign = forge.comment("a comment of a person");
    let a = start(1, registered(&forge)).await;
    until(|| forge.comments().len() == 2).await;
    let before = forge.comments();
    a.net.shutdown().await;
    // On another port: what the comment says is wrong now.
    let b = start(1, registered(&forge)).await;
    until(|| forge.calls("PATCH").len() == 1).await;
    until(|| forge.comments() != before).await;
    let after = forge.comments();
    assert_eq!((after.len(), &after[&foreign]), (2, &before[&foreign]));
    assert!(after.values().any(|body| body.contains(b.address().split("/p2p/").next().unwrap())), "{after:?}");
    assert_eq!((forge.calls("POST").len(), forge.calls("DELETE").len()), (1, 0));
}

#[tokio::test]
async fn a_record_that_was_tampered_with_leads_nowhere() {
    let forge = Forge::start();
    let a = start(1, registered(&forge)).await;
    until(|| forge.comments().len() == 1).await;
    let b = start(2, listening(TCP)).await;
    // The record of a, which names where b listens.
    let body = forge.comments().into_values().next().unwrap();
    let [from, to] = [&a, &b].map(|node| node.bare_address().rsplit('/').next().unwrap().to_owned());
    assert!(body.contains(&from), "{body}");
    a.net.shutdown().await;
    let tampered = Forge::start();
    tampered.comment(&body.replace(&from, &to));
    let c = start(3, registered(&tampered)).await;
    until(|| tampered.calls("GET").len() >= 2).await;
    assert_eq!((c.net.peers().len(), b.net.counters().peers_admitted), (0, 0));
}

#[tokio::test]
async fn a_rate_limit_is_left_alone_for_as_long_as_it_says() {
    let forge = Forge::start();
    forge.refuse_next(403, "Retry-After: 2");
    forge.refuse_next(429, "Retry-After: 1");
    let _node = start(1, registered(&forge)).await;
    until(|| forge.comments().len() == 1).await;
    let at: Vec<_> = forge.calls("GET").iter().map(|call| call.at).collect();
    assert!(at[1] - at[0] >= Duration::from_secs(2) && at[2] - at[1] >= Duration::from_secs(1), "{at:?}");
}

#[tokio::test]
async fn a_node_with_a_wrong_token_goes_on_without_the_registry() {
    let forge = Forge::start();
    let wrong = GithubConfig { token: Some(Token("ghp_other".into())), ..forge.registry() };
    let mut a = start(1, NetConfig { github: Some(wrong), ..listening(TCP) }).await;
    until(|| !forge.calls("GET").is_empty()).await;
    let mut b = start(2, dialling(&[a.address()])).await;
    a.admitted(b.peer()).await;
    talk(&mut a, &mut b).await;
    assert!(forge.comments().is_empty());
}

#[tokio::test]
async fn a_node_without_a_token_reads_and_writes_nothing() {
    let forge = Forge::start();
    let mut a = start(1, registered(&forge)).await;
    until(|| forge.comments().len() == 1).await;
    let anonymous = GithubConfig { token: None, ..forge.registry() };
    let mut b = start(2, NetConfig { github: Some(anonymous), ..listening(TCP) }).await;
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    assert_eq!((forge.comments().len(), forge.calls("POST").len()), (1, 1));
}

#[tokio::test]
async fn a_record_that_cannot_be_written_keeps_nobody_from_reading() {
    let forge = Forge::start();
    let mut a = start(1, registered(&forge)).await;
    until(|| forge.comments().len() == 1).await;
    forge.refuse_writes();
    let mut b = start(2, registered(&forge)).await;
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    assert_eq!(forge.comments().len(), 1);
}
