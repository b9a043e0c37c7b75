//! Standard input and output: direct calls of tools are taken out of what comes in, and all else is the SDK's, which reads and
//! writes its end of a pipe.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::direct::Direct;
use super::outline::Outline;
use super::running::RunningCalls;
use crate::mcp::dispatch::Dispatcher;
use crate::mcp::principal::CALLS_ADMITTED_MAX;

/// What is read at a time, and what the SDK has before it.
const BUFFER_BYTES: usize = 64 * 1024;
/// A line that is longer is the SDK's, which has a bound of its own.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Direct calls whose answers nobody took. More than are admitted: those beyond are answered `overloaded`.
const UNANSWERED_MAX: usize = CALLS_ADMITTED_MAX + 64;
/// How long calls go on whose client says nothing more.
const ENDING_MAX: Duration = Duration::from_secs(5);

/// What both ends of the pipes are.
pub struct Pipes<R, W> {
    reader: BufReader<R>,
    sdk: DuplexStream,
    calls: Calls<W>,
}

/// Direct calls, and where their answers go.
struct Calls<W> {
    dispatcher: Arc<Dispatcher>,
    output: Arc<tokio::sync::Mutex<W>>,
    running: Arc<Mutex<RunningCalls>>,
    places: Arc<Semaphore>,
    answering: JoinSet<()>,
    /// Whether the SDK has answered the first request. A client may send its first calls before, and no answer to them is to
    /// come before that one.
    is_open: Arc<AtomicBool>,
}

/// How far the client has opened the protocol.
#[derive(Debug, Default, PartialEq, Eq)]
enum Opened {
    /// Its first request is for the SDK.
    #[default]
    Not,
    /// Each of its requests stands for itself.
    Stateless,
    /// It has said its name, and not yet that it is ready.
    Beginning(String),
    Session(String),
}

/// What is done with a line.
#[derive(Debug)]
enum Sorted {
    Call(Box<Direct>),
    /// A call that was direct is taken back.
    Cancelled,
    Sdk,
}

#[derive(Deserialize)]
struct Initialize {
    params: InitializeParams,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitializeParams {
    client_info: ClientInfo,
}

#[derive(Deserialize)]
struct ClientInfo {
    name: String,
}

enum Read {
    Line,
    /// The beginning of a line that is too long, or more of it.
    Piece,
    End,
}

impl<R, W> Pipes<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// The pipes, and the SDK's end.
    pub fn new(reader: R, writer: W, dispatcher: Arc<Dispatcher>) -> (Self, DuplexStream) {
        let (sdk, sdks) = tokio::io::duplex(BUFFER_BYTES);
        let calls = Calls {
            dispatcher,
            output: Arc::new(tokio::sync::Mutex::new(writer)),
            running: Arc::default(),
            places: Arc::new(Semaphore::new(UNANSWERED_MAX)),
            answering: JoinSet::new(),
            is_open: Arc::default(),
        };
        (Self { reader: BufReader::with_capacity(BUFFER_BYTES, reader), sdk, calls }, sdks)
    }

    /// Serves them until the client closes one, and the SDK and the calls under way have said their last word.
    pub async fn run(self) {
        let Self { reader, sdk, mut calls } = self;
        let (from_sdk, to_sdk) = tokio::io::split(sdk);
        let mut telling = std::pin::pin!(tell(from_sdk, calls.output.clone(), calls.is_open.clone()));
        let told = tokio::select! {
            () = read(reader, to_sdk, &mut calls) => None,
            told = &mut telling => Some(told),
        };
        if let Some(Err(_)) = told {
            // Nobody reads the answers.
            *calls.running() = RunningCalls::default();
        }
        calls.end().await;
        if told.is_none() {
            // Why the client does not read it any more is nobody's concern.
            let _ = telling.await;
        }
    }
}

/// Reads the client's lines until there are no more.
async fn read<R, W>(mut reader: BufReader<R>, mut to_sdk: WriteHalf<DuplexStream>, calls: &mut Calls<W>)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (mut line, mut opened, mut is_long) = (Vec::new(), Opened::default(), false);
    loop {
        let sorted = match next(&mut reader, &mut line).await {
            Ok(Read::Line) if !is_long => opened.sort(&line, calls),
            Ok(Read::Line) => {
                is_long = false;
                Sorted::Sdk
            }
            Ok(Read::Piece) => {
                is_long = true;
                Sorted::Sdk
            }
            Ok(Read::End) | Err(_) => break,
        };
        match sorted {
            Sorted::Call(direct) => calls.make(*direct).await,
            Sorted::Cancelled => {}
            Sorted::Sdk if to_sdk.write_all(&line).await.is_ok() => {}
            // It has ended, and says so itself.
            Sorted::Sdk => break,
        }
        line.clear();
    }
    // The other end of a pipe that is closed is gone already.
    let _ = to_sdk.shutdown().await;
}

/// The next line behind what `line` holds, or as much of it as may be held.
async fn next<R: AsyncRead + Unpin>(reader: &mut BufReader<R>, line: &mut Vec<u8>) -> io::Result<Read> {
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(Read::End);
        }
        let newline = available.iter().position(|byte| *byte == b'\n');
        let taken = newline.map_or(available.len(), |place| place + 1);
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken);
        if newline.is_some() {
            return Ok(Read::Line);
        }
        if line.len() > LINE_BYTES_MAX {
            return Ok(Read::Piece);
        }
    }
}

/// Writes what the SDK says, a message at a time.
async fn tell<W>(
    from_sdk: ReadHalf<DuplexStream>,
    output: Arc<tokio::sync::Mutex<W>>,
    is_open: Arc<AtomicBool>,
) -> io::Result<()>
where
    W: AsyncWrite + Send + Unpin,
{
    let (mut said, mut message) = (BufReader::new(from_sdk), Vec::new());
    while said.read_until(b'\n', &mut message).await? > 0 {
        let mut output = output.lock().await;
        // Calls that begin from now on find the output taken until this is written.
        is_open.store(true, Ordering::Release);
        output.write_all(&message).await?;
        output.flush().await?;
        message.clear();
    }
    Ok(())
}

impl Opened {
    fn sort<W>(&mut self, line: &[u8], calls: &Calls<W>) -> Sorted {
        let Ok(outline) = Outline::of(line) else { return Sorted::Sdk };
        if outline.cancels().is_some_and(|request| calls.running().cancel(request)) {
            return Sorted::Cancelled;
        }
        if let Some(next) = self.next(&outline, line) {
            *self = next;
            return Sorted::Sdk;
        }
        let direct = match self {
            Self::Session(client) if calls.is_open.load(Ordering::Acquire) => Direct::in_session(outline, client),
            Self::Stateless => Direct::alone(outline),
            Self::Not | Self::Beginning(_) | Self::Session(_) => None,
        };
        direct.map_or(Sorted::Sdk, |direct| Sorted::Call(Box::new(direct)))
    }

    /// Where a message brings it, unless it stays.
    fn next(&self, message: &Outline, line: &[u8]) -> Option<Self> {
        match self {
            Self::Not | Self::Stateless if message.opens_session() => {
                let begins: Initialize = serde_json::from_slice(line).ok()?;
                Some(Self::Beginning(begins.params.client_info.name))
            }
            Self::Not if message.is_request() => Some(Self::Stateless),
            Self::Beginning(client) if message.is_ready() => Some(Self::Session(client.clone())),
            Self::Not | Self::Stateless | Self::Beginning(_) | Self::Session(_) => None,
        }
    }
}

impl<W> Calls<W> {
    fn running(&self) -> MutexGuard<'_, RunningCalls> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> Calls<W> {
    /// Begins a call, once answers enough were taken.
    async fn make(&mut self, direct: Direct) {
        while self.answering.try_join_next().is_some() {}
        let Ok(place) = self.places.clone().acquire_owned().await else { return };
        let (number, cancelled) = self.running().begin(direct.id.clone());
        let (dispatcher, running, output) = (self.dispatcher.clone(), self.running.clone(), self.output.clone());
        self.answering.spawn(async move {
            let mut message = direct.answer(&dispatcher, cancelled).await;
            // What was cancelled is answered no more.
            if running.lock().unwrap_or_else(PoisonError::into_inner).end(number) {
                message.push(b'\n');
                let mut output = output.lock().await;
                // Who does not read any more needs no answer.
                if output.write_all(&message).await.is_ok() {
                    let _ = output.flush().await;
                }
            }
            drop(place);
        });
    }

    /// Lets calls end, and cancels those that take too long.
    async fn end(mut self) {
        let ended = async { while self.answering.join_next().await.is_some() {} };
        if tokio::time::timeout(ENDING_MAX, ended).await.is_err() {
            *self.running() = RunningCalls::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tokio::io::Lines;

    use crate::mcp::catalog::{Catalog, Scope};
    use crate::mcp::link::NodeLink;
    use crate::mcp::principal::Principal;
    use crate::mcp::surface::{Surface, SurfaceOptions};

    /// A client, and the SDK's end, with no node behind.
    struct Rig {
        client: WriteHalf<DuplexStream>,
        answers: Lines<BufReader<ReadHalf<DuplexStream>>>,
        sdk: BufReader<DuplexStream>,
        _serving: JoinSet<()>,
    }

    impl Rig {
        fn new() -> Self {
            let surface = Surface::new(Catalog::shared(), &SurfaceOptions::default()).unwrap();
            let link = NodeLink::new("/nowhere/control.sock".into(), Scope::Submit.role());
            let dispatcher = Dispatcher::new(&surface, link, Arc::new(Principal::new("test", Scope::Submit)));
            let (client, ours) = tokio::io::duplex(BUFFER_BYTES);
            let (reader, writer) = tokio::io::split(ours);
            let (pipes, sdk) = Pipes::new(reader, writer, Arc::new(dispatcher));
            let mut serving = JoinSet::new();
            serving.spawn(pipes.run());
            let (answers, client) = tokio::io::split(client);
            Self { client, answers: BufReader::new(answers).lines(), sdk: BufReader::new(sdk), _serving: serving }
        }

        async fn say(&mut self, message: &Value) {
            self.client.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        }

        /// What came to the SDK.
        async fn passed(&mut self) -> Value {
            let mut line = String::new();
            self.sdk.read_line(&mut line).await.unwrap();
            serde_json::from_str(&line).unwrap()
        }

        async fn answer(&mut self) -> Value {
            serde_json::from_str(&self.answers.next_line().await.unwrap().unwrap()).unwrap()
        }

        async fn open(&mut self) {
            let client = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}});
            self.say(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client})).await;
            self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
            assert_eq!(self.passed().await["method"], "initialize");
            assert_eq!(self.passed().await["method"], "notifications/initialized");
            self.say(&call(0, &json!({}))).await;
            assert_eq!(self.passed().await["method"], "tools/call", "it is not answered before the first request");
            self.sdk.write_all(b"{\"id\":0}\n").await.unwrap();
            assert_eq!(self.answer().await["id"], 0);
        }
    }

    fn call(id: i64, meta: &Value) -> Value {
        let params = json!({"name": "tools_list_categories", "arguments": {}, "_meta": meta});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
    }

    #[tokio::test]
    async fn calls_in_a_session_are_answered_here_and_all_else_is_the_sdks() {
        let mut rig = Rig::new();
        rig.say(&call(1, &json!({}))).await;
        assert_eq!(rig.passed().await["id"], 1, "it is not open");
        rig.open().await;
        rig.say(&call(2, &json!({}))).await;
        assert_eq!((rig.answer().await["id"].clone(), 2.into()), (json!(2), Value::from(2)));
        for message in [
            call(3, &json!({"progressToken": 1})),
            json!({"jsonrpc": "2.0", "id": 4, "method": "tools/list"}),
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}}),
            json!([7]),
        ] {
            rig.say(&message).await;
            assert_eq!(rig.passed().await, message);
        }
        rig.sdk.write_all(b"{\"id\":4}\n").await.unwrap();
        assert_eq!(rig.answer().await["id"], 4);
    }

    #[tokio::test]
    async fn calls_that_stand_for_themselves_are_answered_here_once_the_sdk_had_a_request() {
        let mut rig = Rig::new();
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        rig.say(&call(1, &meta)).await;
        assert_eq!(rig.passed().await["id"], 1);
        rig.say(&call(2, &meta)).await;
        let answer = rig.answer().await;
        assert_eq!((&answer["id"], &answer["result"]["resultType"]), (&json!(2), &json!("complete")));
        rig.say(&call(3, &json!({}))).await;
        assert_eq!(rig.passed().await["id"], 3);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_the_sdks_as_it_came() {
        let mut rig = Rig::new();
        rig.open().await;
        let mut long = call(1, &json!({}));
        long["params"]["arguments"] = json!({"text": "x".repeat(2 * LINE_BYTES_MAX)});
        let said = long.clone();
        let (mut client, mut sdk) = (rig.client, rig.sdk);
        let saying = async move {
            client.write_all(format!("{said}\n").as_bytes()).await.unwrap();
            client.write_all(format!("{}\n", call(2, &json!({}))).as_bytes()).await.unwrap();
            client
        };
        let reading = async move {
            let mut line = String::new();
            sdk.read_line(&mut line).await.unwrap();
            line
        };
        let (_client, line) = tokio::join!(saying, reading);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), long);
        let answer: Value = serde_json::from_str(&rig.answers.next_line().await.unwrap().unwrap()).unwrap();
        assert_eq!(answer["id"], 2, "what follows is read again");
    }

    #[tokio::test]
    async fn the_end_of_what_comes_in_is_the_sdks_too() {
        let mut rig = Rig::new();
        rig.open().await;
        rig.say(&call(1, &json!({}))).await;
        rig.client.shutdown().await.unwrap();
        let mut rest = String::new();
        assert_eq!(rig.sdk.read_line(&mut rest).await.unwrap(), 0);
        assert_eq!(rig.answer().await["id"], 1, "what had begun is answered");
    }
}
