//! Clients that cost next to nothing: a line out and a line in, or a request and its answer on one connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// An answer is read in parts of at most so many bytes.
const PART: usize = 16 * 1024;
const ERA: &str = "2026-07-28";
const EARLIER_ERA: &str = "2025-11-25";

/// A call that is made again and again.
#[derive(Clone)]
pub struct Call {
    pub tool: &'static str,
    pub arguments: Value,
}

/// Ends the process with the bench.
pub struct Helper(pub Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on pipes, in the era with a beginning.
pub struct Pipes {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    server: Helper,
    next: u64,
}

impl Pipes {
    /// Starts the server and opens the protocol.
    pub fn open(command: &mut Command) -> Self {
        let mut server = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let input = server.stdin.take().expect("it is piped");
        let output = BufReader::new(server.stdout.take().expect("it is piped"));
        let mut pipes = Self { input, output, server: Helper(server), next: 0 };
        pipes.send("initialize", initialize());
        pipes.receive();
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        writeln!(pipes.input, "{initialized}").expect("it reads");
        pipes
    }

    pub fn pid(&self) -> u32 {
        self.server.0.id()
    }

    pub fn send(&mut self, method: &str, params: Value) {
        self.next += 1;
        let request = json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params});
        writeln!(self.input, "{request}").expect("it reads");
    }

    pub fn send_call(&mut self, call: &Call) {
        self.send("tools/call", json!({"name": call.tool, "arguments": call.arguments}));
    }

    /// The next answer, whichever it is.
    pub fn receive(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        succeeded(&line);
    }
}

fn initialize() -> Value {
    json!({"protocolVersion": EARLIER_ERA, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}})
}

/// One connection to a server over HTTP.
pub struct Connection {
    stream: TcpStream,
    path: &'static str,
    token: String,
    session: Option<String>,
}

impl Connection {
    pub fn open(address: &str, path: &'static str, token: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream, path, token: token.to_owned(), session: None }
    }

    /// Opens a session of the era that has them.
    pub fn begin_session(&mut self) {
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": initialize()});
        self.session = self.post(&self.request("", &body)).session;
        assert!(self.session.is_some(), "it opens a session");
        let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        self.post(&self.request(&format!("mcp-protocol-version: {EARLIER_ERA}\r\n"), &body));
    }

    pub fn call(&mut self, call: &Call) {
        succeeded(&self.post(&self.request_of(call)).body);
    }

    /// The same call again and again, by a client that has many such at a time.
    pub fn repeat(self, call: &Call) -> Repeated {
        let request = self.request_of(call);
        self.stream.set_nonblocking(true).expect("it is a socket");
        Repeated { stream: tokio::net::TcpStream::from_std(self.stream).expect("a runtime"), request }
    }

    fn request_of(&self, call: &Call) -> Vec<u8> {
        let mut params = json!({"name": call.tool, "arguments": call.arguments});
        let headers = match &self.session {
            Some(_) => format!("mcp-protocol-version: {EARLIER_ERA}\r\n"),
            None => {
                params["_meta"] = json!({
                    "io.modelcontextprotocol/protocolVersion": ERA,
                    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
                    "io.modelcontextprotocol/clientCapabilities": {},
                });
                let tool = call.tool;
                format!("mcp-protocol-version: {ERA}\r\nmcp-method: tools/call\r\nmcp-name: {tool}\r\n")
            }
        };
        self.request(&headers, &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))
    }

    fn request(&self, headers: &str, body: &Value) -> Vec<u8> {
        let session = self.session.as_ref().map(|id| format!("mcp-session-id: {id}\r\n")).unwrap_or_default();
        let (path, token, body) = (self.path, &self.token, body.to_string());
        let len = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\naccept: application/json, \
             text/event-stream\r\ncontent-type: application/json\r\n{headers}{session}content-length: {len}\r\n\r\n{body}"
        );
        request.into_bytes()
    }

    fn post(&mut self, request: &[u8]) -> Answer {
        self.stream.write_all(request).expect("it reads");
        let mut came = Vec::new();
        let mut part = [0; PART];
        loop {
            let len = self.stream.read(&mut part).expect("it answers");
            assert!(len > 0, "it stays open");
            came.extend_from_slice(&part[..len]);
            if let Some(answer) = Answer::of(&came) {
                return answer;
            }
        }
    }
}

/// A call that is ready to be sent, and the connection for it. Lives in a runtime.
pub struct Repeated {
    stream: tokio::net::TcpStream,
    request: Vec<u8>,
}

impl Repeated {
    pub async fn call(&mut self) {
        self.stream.write_all(&self.request).await.expect("it reads");
        let mut came = Vec::with_capacity(PART);
        loop {
            let len = self.stream.read_buf(&mut came).await.expect("it answers");
            assert!(len > 0, "it stays open");
            if let Some(answer) = Answer::of(&came) {
                return succeeded(&answer.body);
            }
        }
    }
}

struct Answer {
    /// The session that was opened, if one was.
    session: Option<String>,
    body: String,
}

impl Answer {
    /// `None` as long as not all of it has come.
    fn of(came: &[u8]) -> Option<Self> {
        let head_len = 4 + came.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, mut rest) = came.split_at(head_len);
        let mut lines = std::str::from_utf8(head).expect("text").lines();
        let status = lines.next().unwrap_or_default();
        assert!(status.split(' ').nth(1).is_some_and(|status| status.starts_with('2')), "{status}");
        let (mut session, mut len, mut chunked) = (None, 0, false);
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            match name.to_ascii_lowercase().as_str() {
                "mcp-session-id" => session = Some(value.to_owned()),
                "content-length" => len = value.parse().expect("a length"),
                "transfer-encoding" => chunked = true,
                _ => {}
            }
        }
        let body = if chunked { chunks(&mut rest)? } else { take(&mut rest, len)?.to_vec() };
        Some(Self { session, body: String::from_utf8(body).expect("text") })
    }
}

fn chunks(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_len = rest.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(take(rest, line_len)?).expect("text");
        let len = usize::from_str_radix(line, 16).expect("the length of a chunk");
        take(rest, 2)?;
        body.extend_from_slice(take(rest, len)?);
        take(rest, 2)?;
        if len == 0 {
            return Some(body);
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

/// A failure that nobody notices would be fast.
fn succeeded(answer: &str) {
    assert!(answer.contains("\"result\"") && !answer.contains("\"isError\":true"), "{answer}");
}
