//! A server that speaks the part of GitHub's API which a registry of peers uses.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use magpie_net::{GithubConfig, Token};

const TOKEN: &str = "ghp_test";
const REPOSITORY: &str = "owner/peers";
const ISSUE: u64 = 7;

/// A call that the server took.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub at: Instant,
}

#[derive(Debug, Default)]
struct State {
    comments: BTreeMap<u64, String>,
    calls: Vec<Call>,
    refuses_writes: bool,
    /// The next calls are answered so, each with a head.
    refusals: Vec<(u16, String)>,
}

/// Dropped, it serves until the test's process ends.
#[derive(Clone)]
pub struct Forge {
    state: Arc<Mutex<State>>,
    port: u16,
}

impl Forge {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let forge = Self { state: Arc::default(), port: listener.local_addr().unwrap().port() };
        let serving = forge.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = serving.clone();
                // A client that goes away is no failure.
                std::thread::spawn(move || while serving.serve(stream.as_ref().unwrap()).is_some() {});
            }
        });
        forge
    }

    pub fn registry(&self) -> GithubConfig {
        GithubConfig {
            repository: REPOSITORY.into(),
            issue: ISSUE,
            token: Some(Token(TOKEN.into())),
            api: format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// Writes a comment as somebody else.
    pub fn comment(&self, body: &str) -> u64 {
        let mut state = self.state.lock().unwrap();
        let id = 100 + state.comments.len() as u64;
        state.comments.insert(id, body.to_owned());
        id
    }

    pub fn comments(&self) -> BTreeMap<u64, String> {
        self.state.lock().unwrap().comments.clone()
    }

    pub fn calls(&self, method: &str) -> Vec<Call> {
        let calls = &self.state.lock().unwrap().calls;
        calls.iter().filter(|call| call.method == method).cloned().collect()
    }

    pub fn refuse_next(&self, status: u16, head: &str) {
        self.state.lock().unwrap().refusals.push((status, head.to_owned()));
    }

    /// As for a token that may only read.
    pub fn refuse_writes(&self) {
        self.state.lock().unwrap().refuses_writes = true;
    }

    /// Serves one request of a connection; `None` when there is no more.
    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let (mut length, mut is_known) = (0, None);
        loop {
            let mut head = String::new();
            reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
            let Some((name, value)) = head.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "authorization" => is_known = Some(value.trim() == format!("Bearer {TOKEN}")),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (status, head, text) = self.answer(&method, &path, &body, is_known);
        let head = if head.is_empty() { head } else { format!("{head}\r\n") };
        let length = text.len();
        write!(
            stream,
            "HTTP/1.1 {status} -\r\n{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}"
        )
        .ok()
    }

    fn answer(&self, method: &str, path: &str, body: &[u8], is_known: Option<bool>) -> (u16, String, String) {
        let mut state = self.state.lock().unwrap();
        state.calls.push(Call { method: method.to_owned(), path: path.to_owned(), at: Instant::now() });
        if !state.refusals.is_empty() {
            let (status, head) = state.refusals.remove(0);
            return (status, head, r#"{"message": "no"}"#.to_owned());
        }
        if is_known == Some(false) || (is_known.is_none() && method != "GET") {
            return (401, String::new(), "{}".to_owned());
        }
        if state.refuses_writes && method != "GET" {
            return (403, String::new(), "{}".to_owned());
        }
        let written =
            || serde_json::from_slice::<serde_json::Value>(body).unwrap()["body"].as_str().unwrap().to_owned();
        let listed = format!("/repos/{REPOSITORY}/issues/{ISSUE}/comments");
        let edited = format!("/repos/{REPOSITORY}/issues/comments/");
        let json = |id: u64, body: &str| serde_json::json!({"id": id, "body": body, "user": {"login": "someone"}});
        if let Some(page) = path.strip_prefix(&format!("{listed}?per_page=100&page=")).filter(|_| method == "GET") {
            let page: usize = page.parse().unwrap();
            let of_page = state.comments.iter().skip(100 * (page - 1)).take(100);
            let comments: Vec<_> = of_page.map(|(id, body)| json(*id, body)).collect();
            return (200, String::new(), serde_json::Value::from(comments).to_string());
        }
        if method == "POST" && path == listed {
            let id = 100 + state.comments.len() as u64;
            state.comments.insert(id, written());
            return (201, String::new(), json(id, &written()).to_string());
        }
        let id = path.strip_prefix(&edited).and_then(|id| id.parse::<u64>().ok());
        if let Some(body) = id.filter(|_| method == "PATCH").and_then(|id| state.comments.get_mut(&id)) {
            *body = written();
            return (200, String::new(), json(id.unwrap(), body).to_string());
        }
        (404, String::new(), "{}".to_owned())
    }
}
