use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ::ring::rand::SystemRandom;
use ::ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use serde_json::json;

use super::*;

/// Past the least time between two readings.
const LATER: Duration = Duration::from_secs(11);

enum Signer {
    Es(Box<EcdsaKeyPair>),
    Ed(Ed25519KeyPair),
}

fn coded(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

impl Signer {
    fn es() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap();
        Self::Es(Box::new(key))
    }

    fn ed() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Es(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn public(&self) -> Vec<u8> {
        match self {
            Self::Es(key) => key.public_key().as_ref().to_vec(),
            Self::Ed(key) => key.public_key().as_ref().to_vec(),
        }
    }

    fn jwk(&self, id: &str) -> Value {
        let public = self.public();
        match self {
            Self::Es(_) => json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id,
                "x": coded(&public[1..33]), "y": coded(&public[33..])}),
            Self::Ed(_) => json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": id, "x": coded(&public)}),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Es(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, id: &str, claims: &Value) -> String {
        self.token_of(&json!({"alg": self.algorithm(), "typ": "at+jwt", "kid": id}), claims)
    }

    fn token_of(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", coded(header.to_string()), coded(claims.to_string()));
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", coded(signature))
    }
}

fn rules(jwks: &str) -> JwtRules {
    JwtRules {
        issuer: "https://id.example".to_owned(),
        audience: "https://mesh.example/mcp".to_owned(),
        jwks: jwks.to_owned(),
        algorithms: algorithms(),
        scope_claim: scope_claim(),
        namespace_claim: None,
        quota: None,
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": ["other", "https://mesh.example/mcp"], "sub": "ann@example.com",
        "exp": now_s() + 600, "scope": "openid magpie:submit read"})
}

fn with(change: &[(&str, Value)]) -> Value {
    let mut claims = claims();
    for (name, value) in change {
        claims[*name] = value.clone();
    }
    claims
}

fn put(file: &Path, keys: &[Value]) {
    std::fs::write(file, json!({"keys": keys}).to_string()).unwrap();
}

async fn why(jwt: &Jwt, token: &str) -> String {
    match jwt.holder(token).await {
        Err(Doubt::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_of_the_issuer_is_its_subjects_with_the_highest_of_our_scopes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let (es, ed) = (Signer::es(), Signer::ed());
    put(&file, &[es.jwk("one"), ed.jwk("two"), json!({"kty": "oct", "k": "c2VjcmV0", "kid": "three"})]);
    let jwt = Jwt::new(rules(file.to_str().unwrap())).unwrap();
    for token in [es.token("one", &claims()), ed.token("two", &claims())] {
        let principal = jwt.holder(&token).await.unwrap();
        assert_eq!((&*principal.name, principal.scope), ("jwt:ann%40example.com", Scope::Submit));
        assert_eq!(principal.namespace, None);
    }
    let token = es.token("one", &claims());
    assert!(Arc::ptr_eq(&jwt.holder(&token).await.unwrap(), &jwt.holder(&token).await.unwrap()), "one account");
    let listed = es.token("one", &with(&[("scope", json!(["operate", "read"]))]));
    assert_eq!(jwt.holder(&listed).await.unwrap().scope, Scope::Operate);
    let single = es.token("one", &with(&[("aud", json!("https://mesh.example/mcp"))]));
    assert!(jwt.holder(&single).await.is_ok());
}

#[tokio::test]
async fn what_is_not_for_this_server_or_not_in_its_time_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let signer = Signer::es();
    put(&file, &[signer.jwk("one")]);
    let jwt = Jwt::new(rules(file.to_str().unwrap())).unwrap();
    for (change, said) in [
        (("aud", json!("https://other.example")), "another server"),
        (("aud", Value::Null), "no claim aud"),
        (("iss", json!("https://evil.example")), "another issuer"),
        (("exp", json!(now_s() - 60)), "time is over"),
        (("exp", Value::Null), "no claim exp"),
        (("nbf", json!(now_s() + 600)), "has not come"),
        (("sub", Value::Null), "no claim sub"),
        (("sub", json!("two words")), "its sub"),
        (("scope", json!("openid root")), "names none of read, submit"),
        (("scope", json!(7)), "names none of read, submit"),
    ] {
        let words = why(&jwt, &signer.token("one", &with(std::slice::from_ref(&change)))).await;
        assert!(words.contains(said), "{change:?}: {words}");
    }
    let late = signer.token("one", &with(&[("exp", json!(now_s() - 10)), ("nbf", json!(now_s() + 10))]));
    assert!(jwt.holder(&late).await.is_ok(), "clocks differ by seconds");
}

#[tokio::test]
async fn no_signature_that_the_issuer_did_not_make_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let (signer, other) = (Signer::es(), Signer::es());
    put(&file, &[signer.jwk("one")]);
    let jwt = Jwt::new(rules(file.to_str().unwrap())).unwrap();
    let (head, good) = (|alg: &str| json!({"alg": alg, "kid": "one"}), signer.token("one", &claims()));
    let unsigned = format!("{}.{}.", coded(head("none").to_string()), coded(claims().to_string()));
    let message = format!("{}.{}", coded(head("HS256").to_string()), coded(claims().to_string()));
    let secret = ::ring::hmac::Key::new(::ring::hmac::HMAC_SHA256, &signer.public());
    let by_secret = format!("{message}.{}", coded(::ring::hmac::sign(&secret, message.as_bytes())));
    let cut = good.rsplit_once('.').unwrap().0;
    for (token, said) in [
        (unsigned, "no token that can be read"),
        (by_secret, "signed with HS256"),
        (other.token("one", &claims()), "signature"),
        (signer.token_of(&head("EdDSA"), &claims()), "none of the issuer's"),
        (signer.token_of(&head("RS256"), &claims()), "none of the issuer's"),
        (format!("{cut}."), "signature"),
        (cut.to_owned(), "no token"),
        ("a.b.c".to_owned(), "no token"),
        (String::new(), "no token"),
        ("x".repeat(TOKEN_BYTES_MAX + 1), "bytes"),
    ] {
        let words = why(&jwt, &token).await;
        assert!(words.contains(said), "{token}: {words}");
    }
    let mut altered = claims();
    altered["scope"] = json!("admin");
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[1] = coded(altered.to_string());
    assert!(why(&jwt, &parts.join(".")).await.contains("signature"));
    assert!(jwt.holder(&good).await.is_ok());
}

#[tokio::test]
async fn a_new_key_is_read_when_a_token_names_it_but_not_at_every_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let (old, new) = (Signer::es(), Signer::ed());
    put(&file, &[old.jwk("old")]);
    let jwt = Jwt::new(rules(file.to_str().unwrap())).unwrap();
    assert!(jwt.holder(&old.token("old", &claims())).await.is_ok());
    put(&file, &[new.jwk("new")]);
    let token = new.token("new", &claims());
    assert!(why(&jwt, &token).await.contains("none of the issuer's"), "they were read a moment ago");
    jwt.keys.age(LATER).await;
    assert!(jwt.holder(&token).await.is_ok());
    assert!(why(&jwt, &old.token("old", &claims())).await.contains("none of the issuer's"), "the old one is gone");
}

#[tokio::test]
async fn keys_that_are_away_count_for_a_day_and_none_let_nobody_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let signer = Signer::es();
    let token = signer.token("one", &claims());
    let jwt = Jwt::new(rules(file.to_str().unwrap())).unwrap();
    let Err(Doubt::NoKeys(words)) = jwt.holder(&token).await else { panic!("there are no keys") };
    assert!(words.contains("keys.json cannot be read"), "{words}");
    put(&file, &[signer.jwk("one")]);
    jwt.keys.age(LATER).await;
    assert!(jwt.holder(&token).await.is_ok());
    std::fs::write(&file, "{\"keys\": 7}").unwrap();
    jwt.keys.age(Duration::from_secs(3_600)).await;
    assert!(jwt.holder(&token).await.is_ok(), "the issuer is away for an hour");
    jwt.keys.age(Duration::from_secs(24 * 3_600)).await;
    let Err(Doubt::NoKeys(words)) = jwt.holder(&token).await else { panic!("they are a day old") };
    assert!(words.contains("no JSON Web Key Set"), "{words}");
}

/// Answers so many requests, one after the other.
fn serve(document: String, requests: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/keys", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for _ in 0..requests {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", document.len());
            stream.write_all((head + &document).as_bytes()).unwrap();
        }
    });
    address
}

#[tokio::test]
async fn keys_come_from_an_address_too() {
    let signer = Signer::ed();
    let address = serve(json!({"keys": [signer.jwk("one")]}).to_string(), 1);
    let jwt = Jwt::new(rules(&address)).unwrap();
    let token = signer.token("one", &claims());
    assert!(jwt.holder(&token).await.is_ok());
    jwt.keys.age(Duration::from_secs(400)).await;
    assert!(jwt.holder(&token).await.is_ok(), "it is away, and its keys are known");
    let long = serve("x".repeat(300 * 1024), 1);
    let Err(Doubt::NoKeys(words)) = Jwt::new(rules(&long)).unwrap().holder(&token).await else { panic!("too long") };
    assert!(words.contains("cannot be read"), "{words}");
}

#[tokio::test]
async fn a_namespace_claim_keeps_its_holder_there_and_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let signer = Signer::es();
    put(&file, &[signer.jwk("one")]);
    let rules = JwtRules { namespace_claim: Some("ns".to_owned()), ..rules(file.to_str().unwrap()) };
    let jwt = Jwt::new(rules).unwrap();
    let kept = jwt.holder(&signer.token("one", &with(&[("ns", json!("books"))]))).await.unwrap();
    assert_eq!((&*kept.name, kept.namespace.as_deref()), ("jwt:ann%40example.com@books", Some("books")));
    assert!(why(&jwt, &signer.token("one", &claims())).await.contains("no claim ns"));
    assert!(why(&jwt, &signer.token("one", &with(&[("ns", json!("../x"))]))).await.contains("no namespace"));
}

#[test]
fn rules_that_cannot_be_right_are_refused_in_words() {
    for (rules, said) in [
        (JwtRules { issuer: String::new(), ..rules("k") }, "issuer"),
        (JwtRules { audience: "a\"b".to_owned(), ..rules("k") }, "audience"),
        (JwtRules { algorithms: Vec::new(), ..rules("k") }, "algorithms"),
        (rules(""), "jwks is empty"),
        (rules("http://id.example/keys"), "https://"),
        (rules("ftp://127.0.0.1/keys"), "https://"),
    ] {
        let words = rules.check().unwrap_err();
        assert!(words.contains(said), "{words}");
    }
    for jwks in ["keys.json", "https://id.example/keys", "http://127.0.0.1:80/keys", "http://[::1]/keys"] {
        assert_eq!(rules(jwks).check(), Ok(()), "{jwks}");
    }
    for name in ["none", "HS256"] {
        assert!(serde_json::from_value::<JwtAlgorithm>(json!(name)).is_err(), "{name}");
    }
}

#[tokio::test]
async fn one_subject_has_one_quota_whatever_the_scopes_of_its_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Some(crate::mcp::quota::Quota::parse("tasks=3").unwrap());
    let rules = JwtRules { quota, ..rules(dir.path().join("keys.json").to_str().unwrap()) };
    let jwt = Jwt::new(rules).unwrap();
    let caller = |name: &str, scope| jwt.caller(Said { name: name.to_owned(), scope, namespace: None });
    let (one, other) = (caller("jwt:ann", Scope::Read), caller("jwt:ann", Scope::Submit));
    let (one, other) = (one.account.as_ref().unwrap(), other.account.as_ref().unwrap());
    assert_eq!((Some(one.quota), Some(other.quota)), (quota, quota));
    assert!(one.is_beside(other) && !one.is_beside(caller("jwt:ben", Scope::Read).account.as_ref().unwrap()));
}

#[tokio::test]
async fn callers_are_remembered_to_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let jwt = Jwt::new(rules(dir.path().join("keys.json").to_str().unwrap())).unwrap();
    for n in 0..HTTP_JWT_CALLERS_MAX + 10 {
        jwt.caller(Said { name: format!("jwt:{n}"), scope: Scope::Read, namespace: None });
    }
    assert_eq!(jwt.callers.lock().unwrap().len(), HTTP_JWT_CALLERS_MAX);
}
