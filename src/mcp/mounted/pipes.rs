//! The pipes of a mounted server's process, as the SDK speaks through them: in the thread of the node's actors. So a long line
//! is taken apart elsewhere, and what nobody here would hear goes no further.

use std::io;
use std::mem;
use std::sync::Arc;

use magpie_core::limits;
use rmcp::RoleClient;
use rmcp::model::{JsonRpcMessage, ServerNotification};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::task::coop::consume_budget;

use super::lines::{Pace, PacedLines};

/// A line of which a thread that may wait makes a message: of so many bytes it takes up to half a millisecond.
const LONG_BYTES: usize = 8 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

type Message = RxJsonRpcMessage<RoleClient>;

/// What is begun of a line is kept when a future that receives is dropped.
pub struct Pipes<R, W> {
    output: BufReader<PacedLines<R>>,
    line: Vec<u8>,
    /// Of a long line.
    reading: Option<JoinHandle<Option<Message>>>,
    input: Arc<Mutex<Option<W>>>,
}

impl<R: AsyncRead + Unpin, W> Pipes<R, W> {
    pub fn new(output: R, input: W, pace: Pace) -> Self {
        let output = BufReader::new(PacedLines::new(output, limits::MOUNT_LINE_BYTES_MAX, pace));
        Self { output, line: Vec::new(), reading: None, input: Arc::new(Mutex::new(Some(input))) }
    }
}

impl<R, W> Transport<RoleClient> for Pipes<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let input = self.input.clone();
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut input = input.lock().await;
            let input = input.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            input.write_all(&line).await?;
            input.flush().await
        }
    }

    async fn receive(&mut self) -> Option<Message> {
        loop {
            if let Some(reading) = &mut self.reading {
                // A message that panicked its reader is none.
                let message = reading.await.ok().flatten();
                self.reading = None;
                if message.is_some() {
                    return message;
                }
            }
            // Lines that are there already do not keep the thread from the node.
            consume_budget().await;
            match self.output.read_until(b'\n', &mut self.line).await {
                Ok(_) if self.line.ends_with(b"\n") => {}
                // A line without an end is no message.
                Ok(_) => return None,
                Err(error) => {
                    tracing::warn!(%error, "a mounted server is heard no further");
                    return None;
                }
            }
            if self.line.len() > LONG_BYTES {
                let line = mem::take(&mut self.line);
                self.reading = Some(tokio::task::spawn_blocking(move || message(&line)));
                continue;
            }
            let message = message(&self.line);
            self.line.clear();
            if message.is_some() {
                return message;
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.input.lock().await.take();
        Ok(())
    }
}

/// The message that a line is, if it is one that something here hears.
fn message(line: &[u8]) -> Option<Message> {
    match serde_json::from_slice(line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)) {
        Ok(JsonRpcMessage::Notification(notified)) if !is_heard(&notified.notification) => None,
        Ok(message) => Some(message),
        Err(error) => {
            tracing::debug!(%error, "a mounted server writes what is no message");
            None
        }
    }
}

fn is_heard(notification: &ServerNotification) -> bool {
    matches!(
        notification,
        ServerNotification::ProgressNotification(_)
            | ServerNotification::ToolListChangedNotification(_)
            | ServerNotification::CancelledNotification(_)
    )
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;
    use serde_json::{Value, json};
    use tokio::io::AsyncReadExt;

    async fn heard(written: &str) -> Vec<Value> {
        let (input, output) = tokio::io::duplex(1 << 20);
        let mut pipes = Pipes::new(written.as_bytes(), input, Pace::default());
        let mut heard = Vec::new();
        while let Some(message) = pipes.receive().await {
            heard.push(json!(message));
        }
        drop(output);
        heard
    }

    #[tokio::test]
    async fn messages_of_any_length_come_in_their_order_and_what_is_none_does_not() {
        let answer = |id: u32, bytes: usize| json!({"jsonrpc": "2.0", "id": id, "result": {"said": "x".repeat(bytes)}});
        let said = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 7}});
        let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        let (long, short) = (answer(1, 2 * LONG_BYTES), answer(2, 1));
        let written = format!(
            "\u{feff}{long}\n\u{feff}{short}\r\nno JSON\n\n{said}\n{{}}\n{}\n{changed}\n{short}",
            "[7]".repeat(LONG_BYTES)
        );
        assert_eq!(heard(&written).await, [long, short, changed]);
    }

    #[tokio::test]
    async fn a_reading_that_is_dropped_loses_nothing() {
        let (mut server, output) = tokio::io::duplex(1 << 20);
        let mut pipes = Pipes::new(output, tokio::io::sink(), Pace::default());
        let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {"said": "x".repeat(2 * LONG_BYTES)}}).to_string();
        for part in [&answer[..100], &answer[100..], "\n"] {
            assert!(at_once(pipes.receive()).await.is_none());
            server.write_all(part.as_bytes()).await.unwrap();
        }
        // Once for the line, and once while it is taken apart.
        let first = at_once(pipes.receive()).await.flatten();
        let message = if first.is_some() { first } else { pipes.receive().await };
        assert_eq!(json!(message).to_string(), answer);
    }

    /// What it gives at the first look.
    async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        let look = poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(given) => Poll::Ready(Some(given)),
            Poll::Pending => Poll::Ready(None),
        });
        look.await
    }

    #[tokio::test]
    async fn what_is_sent_is_a_line_and_nothing_after_the_end() {
        let (input, mut output) = tokio::io::duplex(1 << 20);
        let mut pipes = Pipes::new(&b""[..], input, Pace::default());
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        pipes.send(serde_json::from_value(ping.clone()).unwrap()).await.unwrap();
        pipes.close().await.unwrap();
        let error = pipes.send(serde_json::from_value(ping.clone()).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        let mut sent = String::new();
        output.read_to_string(&mut sent).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(sent.strip_suffix('\n').unwrap()).unwrap(), ping);
    }
}
