//! Tokens of an issuer at a node: who is let in, what it may do, and what it is told if not.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::rig::Rig;
use crate::wire::{Answer, Request};

struct Issuer(Ed25519KeyPair);

impl Issuer {
    /// Its public key is in the file.
    fn new(keys: &Path) -> Self {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
        let x = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
        let document = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": x}]});
        std::fs::write(keys, document.to_string()).unwrap();
        Self(pair)
    }

    fn token(&self, change: &Value) -> String {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": "https://id.example", "aud": "https://mesh.example/mcp", "sub": "ann",
            "exp": now_s + 600, "scope": "submit", "namespace": "books"});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let coded = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", coded(json!({"alg": "EdDSA", "kid": "one"})), coded(claims));
        let signature = BASE64URL_NOPAD.encode(self.0.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }
}

async fn call(rig: &Rig, token: &str, tool: &str, arguments: Value) -> Answer {
    Request::call("/mcp/full", tool, arguments).token(token).send(&rig.http).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_the_tokens_of_its_issuer_and_no_other() {
    let mut issuer = None;
    let rig = Rig::start_with(|dir| {
        let keys = dir.join("keys.json");
        issuer = Some(Issuer::new(&keys));
        format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n[http.jwt]\nissuer = \"https://id.example\"\n\
             audience = \"https://mesh.example/mcp\"\njwks = {keys:?}\nnamespace_claim = \"namespace\"\n"
        )
    })
    .await;
    let issuer = issuer.unwrap();
    let ann = issuer.token(&json!({}));
    let made = call(&rig, &ann, "p2p_taskqueue_submit", json!({"kind": "noop", "wait_ms": 25_000})).await.json();
    let task = made["result"]["structuredContent"]["task_id"].clone();
    assert_eq!(made["result"]["structuredContent"]["status"], "completed", "{made}");
    let bob = issuer.token(&json!({"sub": "bob", "namespace": "films"}));
    let read = call(&rig, &bob, "p2p_taskqueue_get_task", json!({"task_id": task})).await.json();
    assert_eq!(read["result"]["structuredContent"]["code"], "not_found", "{read}");
    let low = issuer.token(&json!({"scope": "read"}));
    assert_eq!(call(&rig, &low, "p2p_taskqueue_submit", json!({"kind": "noop"})).await.status, 403);
    for (change, said) in [
        (json!({"aud": "https://other.example"}), "another server"),
        (json!({"iss": "https://other.example"}), "another issuer"),
        (json!({"exp": 1}), "time is over"),
        (json!({"namespace": null}), "no claim namespace"),
    ] {
        let refused = call(&rig, &issuer.token(&change), "p2p_taskqueue_status", json!({})).await;
        let challenge = refused.header("www-authenticate").unwrap_or_default().to_owned();
        assert_eq!(refused.status, 401, "{refused:?}");
        assert!(challenge.contains(said) && challenge.contains("oauth-protected-resource"), "{challenge}");
    }
    assert_eq!(Request::call("/mcp/full", "p2p_taskqueue_status", json!({})).send(&rig.http).await.status, 401);
    let metadata = Request::new("GET", "/.well-known/oauth-protected-resource").send(&rig.http).await.json();
    assert_eq!(metadata["authorization_servers"], json!(["https://id.example"]), "{metadata}");
    assert_eq!(metadata["resource"], "https://mesh.example/mcp");
}
