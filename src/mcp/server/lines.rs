//! Messages as lines of two pipes. A line that is no message is answered, and the next is read.

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use rmcp::RoleServer;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;

use super::malformed;

/// A longer one is passed over, and answered.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The transport of one client. What is begun of a line, in or out, is kept when a future of it is dropped.
pub struct Lines<R, W> {
    read: BufReader<R>,
    line: Vec<u8>,
    /// The line is too long: its rest is passed over.
    is_skipping: bool,
    /// Answers to what was no message, which go before more is read.
    answers: Answers,
    out: Arc<Mutex<Option<Out<W>>>>,
}

enum Answers {
    Given,
    ToAdd(Value),
    ToFlush,
}

enum Next {
    Line,
    TooLong,
    End,
}

/// What leaves, with what of it the pipe has not taken yet.
struct Out<W> {
    write: W,
    pending: BytesMut,
}

impl<W: AsyncWrite + Unpin> Out<W> {
    fn add(&mut self, line: &[u8]) {
        self.pending.extend_from_slice(line);
        self.pending.extend_from_slice(b"\n");
    }

    async fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            if self.write.write_buf(&mut self.pending).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.write.flush().await
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Lines<R, W> {
    pub fn new(read: R, write: W) -> Self {
        let out = Out { write, pending: BytesMut::new() };
        Self {
            read: BufReader::new(read),
            line: Vec::new(),
            is_skipping: false,
            answers: Answers::Given,
            out: Arc::new(Mutex::new(Some(out))),
        }
    }

    /// Reads on to the end of a line, or of the input: a line may end there, too.
    async fn next(&mut self) -> Next {
        loop {
            let read = match self.read.fill_buf().await {
                Ok(read) => read,
                Err(error) => {
                    tracing::error!(%error, "the input cannot be read");
                    return Next::End;
                }
            };
            let (is_over, end) = (read.is_empty(), read.iter().position(|byte| *byte == b'\n'));
            let taken = end.map_or(read.len(), |end| end + 1);
            if self.line.len() + taken > LINE_BYTES_MAX {
                (self.line, self.is_skipping) = (Vec::new(), true);
            }
            if !self.is_skipping {
                self.line.extend_from_slice(&read[..taken]);
            }
            self.read.consume(taken);
            if is_over && self.line.is_empty() && !self.is_skipping {
                return Next::End;
            }
            if is_over || end.is_some() {
                return if std::mem::take(&mut self.is_skipping) { Next::TooLong } else { Next::Line };
            }
        }
    }

    /// Gives what is to be answered; false where nobody takes it.
    async fn give_answers(&mut self) -> bool {
        if matches!(self.answers, Answers::Given) {
            return true;
        }
        let mut out = self.out.lock().await;
        let Some(out) = out.as_mut() else { return false };
        if let Answers::ToAdd(document) = &self.answers {
            out.add(document.to_string().as_bytes());
            self.answers = Answers::ToFlush;
        }
        let is_given = out.flush().await.is_ok();
        self.answers = Answers::Given;
        is_given
    }
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    type Error = io::Error;

    fn send(&mut self, item: TxJsonRpcMessage<RoleServer>) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let out = self.out.clone();
        async move {
            let line = serde_json::to_vec(&item)?;
            let mut out = out.lock().await;
            let out = out.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            out.add(&line);
            out.flush().await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if !self.give_answers().await {
                return None;
            }
            let heard = match self.next().await {
                Next::Line => heard(&self.line),
                Next::TooLong => {
                    Heard::Refused(malformed::unreadable(format_args!("it has more than {LINE_BYTES_MAX} bytes")))
                }
                Next::End => return None,
            };
            self.line.clear();
            match heard {
                Heard::Message(message) => return Some(*message),
                Heard::Nothing => {}
                Heard::Refused(answer) => self.answers = Answers::ToAdd(answer),
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        drop(self.out.lock().await.take());
        Ok(())
    }
}

/// What a line says.
enum Heard {
    Message(Box<RxJsonRpcMessage<RoleServer>>),
    /// Nothing that is answered.
    Nothing,
    Refused(Value),
}

fn heard(line: &[u8]) -> Heard {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return Heard::Nothing;
    }
    if let Ok(message) = serde_json::from_slice(line) {
        return Heard::Message(Box::new(message));
    }
    match serde_json::from_slice::<Value>(line) {
        Ok(document) => malformed::answer(&document).map_or(Heard::Nothing, Heard::Refused),
        Err(error) => Heard::Refused(malformed::unreadable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::JsonRpcMessage;
    use serde_json::json;
    use tokio::io::AsyncReadExt;

    const PING: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}";

    /// How many messages were heard, and what was answered to all others.
    async fn exchanged(lines: Vec<u8>) -> (usize, Vec<Value>) {
        let (out, mut answers) = tokio::io::duplex(1 << 20);
        let mut transport = Lines::new(io::Cursor::new(lines), out);
        let mut heard = 0;
        while let Some(message) = transport.receive().await {
            assert!(matches!(message, JsonRpcMessage::Request(_)), "{message:?}");
            heard += 1;
        }
        transport.close().await.unwrap();
        let mut text = String::new();
        answers.read_to_string(&mut text).await.unwrap();
        (heard, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[tokio::test]
    async fn what_is_no_json_is_answered_and_the_next_line_is_heard() {
        let deep = "[".repeat(50_000);
        for line in [&b"not json"[..], b"{\"a\":", b"\xff\xfe", deep.as_bytes()] {
            let (heard, answers) = exchanged([line, b"\n\r\n", PING, b"\n"].concat()).await;
            assert_eq!((heard, answers.len()), (1, 1), "{answers:?}");
            assert_eq!(
                (&answers[0]["error"]["code"], &answers[0]["id"]),
                (&json!(-32_700), &Value::Null),
                "{answers:?}"
            );
            assert!(answers[0].as_object().unwrap().contains_key("id"));
        }
    }

    #[tokio::test]
    async fn what_is_json_and_no_message_is_answered_under_its_id() {
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":5}"#;
        let notification = br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":5}"#;
        let (heard, answers) = exchanged([&call[..], b"\n", notification, b"\n{}\n", PING].concat()).await;
        assert_eq!(heard, 1, "a line may end with the input: {answers:?}");
        let told: Vec<_> =
            answers.iter().map(|answer| (answer["id"].clone(), answer["error"]["code"].clone())).collect();
        assert_eq!(told, [(json!(1), json!(-32_602)), (Value::Null, json!(-32_600))]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_passed_over_and_answered() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let (heard, answers) = exchanged([&long[..], b"\n", PING, b"\n"].concat()).await;
        assert_eq!((heard, answers.len()), (1, 1));
        assert_eq!(answers[0]["error"]["code"], -32_700, "{answers:?}");
    }

    #[tokio::test]
    async fn a_reading_that_is_dropped_loses_nothing() {
        let (mut client, input) = tokio::io::duplex(64);
        let (out, mut answers) = tokio::io::duplex(8);
        let mut transport = Lines::new(input, out);
        client.write_all(&[b"nope\n", &PING[..10]].concat()).await.unwrap();
        // The answer is longer than what the pipe takes: the reading waits in the middle of it.
        tokio::select! {
            biased;
            _ = transport.receive() => panic!("nothing is whole yet"),
            () = std::future::ready(()) => {}
        }
        let reading = async { transport.receive().await };
        let taking = async {
            client.write_all(&[&PING[10..], b"\n"].concat()).await.unwrap();
            let mut answer = Vec::new();
            while answer.last() != Some(&b'\n') {
                answer.push(answers.read_u8().await.unwrap());
            }
            serde_json::from_slice::<Value>(&answer).unwrap()
        };
        let (heard, answer) = tokio::join!(reading, taking);
        assert!(matches!(heard, Some(JsonRpcMessage::Request(_))), "{heard:?}");
        assert_eq!(answer["error"]["code"], -32_700);
    }
}
