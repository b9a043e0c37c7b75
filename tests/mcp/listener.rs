//! A stream of events over HTTP that stays open.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// How long something that must come is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The reading end. Dropped, its connection is closed.
pub struct Listener {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _writing: OwnedWriteHalf,
}

impl Listener {
    pub fn new(stream: TcpStream) -> Self {
        let (reading, writing) = stream.into_split();
        Self { lines: BufReader::new(reading).lines(), _writing: writing }
    }

    /// The next message; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        let next = async {
            loop {
                let line = self.lines.next_line().await.ok()??;
                // What else there is are the headers, the lengths of chunks, and signs of life.
                if let Some(data) = line.strip_prefix("data: ").filter(|data| data.starts_with('{')) {
                    return Some(serde_json::from_str(data).unwrap());
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("it comes in time")
    }

    /// The next message of that method, past all others.
    pub async fn until(&mut self, method: &str) -> Value {
        loop {
            let message = self.next().await.unwrap_or_else(|| panic!("the stream ended without {method}"));
            if message["method"] == method {
                return message;
            }
        }
    }
}
