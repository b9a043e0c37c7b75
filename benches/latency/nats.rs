//! The same round trip through NATS core, where `nats-server` is installed: a request to another process, by way of the
//! server, without a lease and without a record.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{FRAME, Helper};

const SUBJECT: &str = "work";
const INBOX: &str = "answers";
const PATIENCE: Duration = Duration::from_secs(10);

/// A client of a server, whose other client answers.
pub struct Nats {
    client: Client,
    _responder: Helper,
    _server: Helper,
}

impl Nats {
    /// `None` if there is no server to be had.
    pub fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let server = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = Helper(server.ok()?);
        let mut client = Client::connect(port).expect("the server answers");
        let responder = Command::new(std::env::current_exe().expect("this executable"))
            .args(["--nats-responder", &port.to_string()])
            .spawn()
            .expect("the responder");
        client.subscribe(INBOX).expect("the server reads");
        let mut nats = Self { client, _responder: Helper(responder), _server: server };
        nats.wait_for_responder();
        Some(nats)
    }

    /// A request before the responder has subscribed gets no answer.
    fn wait_for_responder(&mut self) {
        let until = Instant::now() + PATIENCE;
        self.client.reader.get_ref().set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        while self.try_round_trip().is_err() {
            assert!(Instant::now() < until, "the responder does not answer");
        }
        // What came late is not taken for the answer to a later request.
        while self.client.next_message().is_ok() {}
        self.client.reader.get_ref().set_read_timeout(Some(PATIENCE)).expect("a socket");
    }

    pub fn round_trip(&mut self) {
        self.try_round_trip().expect("the responder answers");
    }

    fn try_round_trip(&mut self) -> io::Result<()> {
        self.client.publish(SUBJECT, INBOX, &[7; FRAME])?;
        self.client.next_message().map(drop)
    }
}

/// The process that answers.
pub fn respond(port: u16) {
    let mut client = Client::connect(port).expect("the server answers");
    client.subscribe(SUBJECT).expect("the server reads");
    while let Ok((reply_to, payload)) = client.next_message() {
        client.publish(&reply_to, "", &payload).expect("the server reads");
    }
}

/// What of the protocol a round trip needs: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.
struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn connect(port: u16) -> io::Result<Self> {
        let until = Instant::now() + PATIENCE;
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::yield_now(),
            }
        };
        stream.set_nodelay(true)?;
        let mut client = Self { reader: BufReader::new(stream) };
        client.write(b"CONNECT {\"verbose\":false}\r\nPING\r\n")?;
        while client.line()? != "PONG" {}
        Ok(client)
    }

    fn subscribe(&mut self, subject: &str) -> io::Result<()> {
        self.write(format!("SUB {subject} 1\r\n").as_bytes())
    }

    fn publish(&mut self, subject: &str, reply_to: &str, payload: &[u8]) -> io::Result<()> {
        let mut message = format!("PUB {subject} {reply_to} {}\r\n", payload.len()).into_bytes();
        message.extend_from_slice(payload);
        message.extend_from_slice(b"\r\n");
        self.write(&message)
    }

    /// The next message: where its answer goes, and what it carries.
    fn next_message(&mut self) -> io::Result<(String, Vec<u8>)> {
        loop {
            let line = self.line()?;
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("PING") => self.write(b"PONG\r\n")?,
                Some("MSG") => {
                    let words: Vec<&str> = words.collect();
                    let bytes = words.last().and_then(|bytes| bytes.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
                    let mut payload = vec![0; bytes];
                    self.reader.read_exact(&mut payload)?;
                    self.line()?;
                    let reply_to = if words.len() > 3 { words[2].to_owned() } else { String::new() };
                    return Ok((reply_to, payload));
                }
                _ => {}
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }
}
