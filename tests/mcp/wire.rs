//! HTTP as it goes over the wire: requests that no polite client would send, too.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::listener::Listener;

/// An answer, read to the end of its connection.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line =
            self.head.lines().find(|line| line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name)));
        line?.split_once(':').map(|(_, value)| value.trim())
    }

    /// The document, or the last one of a stream of events.
    pub fn json(&self) -> Value {
        let last = self.body.lines().rev().find_map(|line| line.strip_prefix("data: "));
        serde_json::from_str(last.unwrap_or(&self.body)).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A request in the making.
pub struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    pub fn new(method: &'static str, path: &str) -> Self {
        let headers =
            [("host", "localhost"), ("connection", "close"), ("accept", "application/json, text/event-stream")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { method, path: path.to_owned(), headers, body: String::new() }
    }

    /// A call of a tool in the newer era, which needs nothing before it.
    pub fn call(path: &str, tool: &str, arguments: Value) -> Self {
        Self::rpc(path, "tools/call", json!({"name": tool, "arguments": arguments})).header("mcp-name", tool)
    }

    pub fn rpc(path: &str, method: &str, params: Value) -> Self {
        Self::rpc_of(path, method, params, json!({}))
    }

    /// The same of a client with these capabilities.
    pub fn rpc_of(path: &str, method: &str, mut params: Value, capabilities: Value) -> Self {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "wire", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        Self::new("POST", path).header("mcp-protocol-version", "2026-07-28").header("mcp-method", method).json(&body)
    }

    /// What opens a session of the earlier era.
    pub fn opening(path: &str) -> Self {
        let params =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}});
        Self::new("POST", path).json(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}))
    }

    pub fn json(self, body: &Value) -> Self {
        Self { body: body.to_string(), ..self }.header("content-type", "application/json")
    }

    pub fn body(self, body: String) -> Self {
        Self { body, ..self }.header("content-type", "application/json")
    }

    /// Replaces the header of that name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub async fn send(self, base: &str) -> Answer {
        self.try_send(base).await.unwrap()
    }

    /// Sends only its beginning, and leaves.
    pub async fn break_off(self, base: &str, bytes: usize) {
        let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
        let text = format!("{}{}", self.head(), self.body);
        stream.write_all(&text.as_bytes()[..bytes.min(text.len())]).await.unwrap();
    }

    /// Leaves when the answer begins, and reads no more of it.
    pub async fn leave_early(self, base: &str) {
        let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
        stream.write_all(format!("{}{}", self.head(), self.body).as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
    }

    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + &format!("content-length: {}\r\n\r\n", self.body.len())
    }

    /// Its answer, if somebody listens.
    pub async fn try_send(self, base: &str) -> std::io::Result<Answer> {
        let mut stream = self.sent(base).await?;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { joined(body) } else { body.to_owned() };
        Ok(Answer { status, head: head.to_owned(), body })
    }

    /// Its answer, as it comes.
    pub async fn listen(self, base: &str) -> Listener {
        Listener::new(self.sent(base).await.unwrap())
    }

    async fn sent(self, base: &str) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await?;
        stream.write_all(self.head().as_bytes()).await.unwrap();
        // Who is refused before its body is read may find the connection closed.
        let _ = stream.write_all(self.body.as_bytes()).await;
        Ok(stream)
    }
}

/// What chunks hold.
fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((len, rest)) = chunks.split_once("\r\n") {
        let len = usize::from_str_radix(len, 16).unwrap();
        body.push_str(&rest[..len]);
        chunks = rest[len..].trim_start_matches("\r\n");
    }
    body
}
