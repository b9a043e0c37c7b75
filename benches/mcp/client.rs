//! Clients that cost next to nothing: a line out and a line in, or a request and its answer on one connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(30);
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
    stream: BufReader<TcpStream>,
    path: &'static str,
    token: String,
    session: Option<String>,
}

impl Connection {
    pub fn open(address: &str, path: &'static str, token: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream: BufReader::new(stream), path, token: token.to_owned(), session: None }
    }

    /// Opens a session of the era that has them.
    pub fn begin_session(&mut self) {
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": initialize()});
        self.session = self.post("", &body.to_string()).0;
        assert!(self.session.is_some(), "it opens a session");
        let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        self.post(&format!("mcp-protocol-version: {EARLIER_ERA}\r\n"), &body.to_string());
    }

    pub fn call(&mut self, call: &Call) {
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
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        succeeded(&self.post(&headers, &body.to_string()).1);
    }

    /// The session that was opened, if one was, and the body of the answer.
    fn post(&mut self, headers: &str, body: &str) -> (Option<String>, String) {
        let session = self.session.as_ref().map(|id| format!("mcp-session-id: {id}\r\n")).unwrap_or_default();
        let (path, token, len) = (self.path, &self.token, body.len());
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\naccept: application/json, \
             text/event-stream\r\ncontent-type: application/json\r\n{headers}{session}content-length: {len}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("it reads");
        let (mut session, mut len, mut chunked) = (None, 0, false);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("it answers");
            let Some((name, value)) = line.trim_end().split_once(':') else {
                if line.trim_end().is_empty() {
                    break;
                }
                assert!(line.split(' ').nth(1).is_some_and(|status| status.starts_with('2')), "{line}");
                continue;
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "mcp-session-id" => session = Some(value.to_owned()),
                "content-length" => len = value.parse().expect("a length"),
                "transfer-encoding" => chunked = true,
                _ => {}
            }
        }
        let body = if chunked { self.chunks() } else { self.exactly(len) };
        (session, String::from_utf8(body).expect("text"))
    }

    fn exactly(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).expect("the whole answer");
        bytes
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a chunk");
            let len = usize::from_str_radix(line.trim(), 16).expect("its length");
            body.extend(self.exactly(len));
            self.exactly(2);
            if len == 0 {
                return body;
            }
        }
    }
}

/// A failure that nobody notices would be fast.
fn succeeded(answer: &str) {
    assert!(answer.contains("\"result\"") && !answer.contains("\"isError\":true"), "{answer}");
}
