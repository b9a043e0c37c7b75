//! A bare libp2p peer that speaks the node's protocols byte by byte, well or badly.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, Message, OutboundRequestId, ProtocolSupport, ResponseChannel};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, identity, noise, tcp, yamux};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::node::PATIENCE;

const ADMISSION: StreamProtocol = StreamProtocol::new("/magpie/admission/1");
const MEMBERS: StreamProtocol = StreamProtocol::new("/magpie/members/1");
const REACH: StreamProtocol = StreamProtocol::new("/magpie/reach/1");
/// The ways of finding and reaching others that members alone may use.
const WAYS_OF_MEMBERS: [StreamProtocol; 7] = [
    MEMBERS,
    REACH,
    StreamProtocol::new("/rendezvous/1.0.0"),
    StreamProtocol::new("/magpie/kad/1"),
    StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop"),
    StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop"),
    StreamProtocol::new("/libp2p/dcutr"),
];
const MAILBOX: StreamProtocol = StreamProtocol::new("/magpie/mailbox/1");
const LANE: StreamProtocol = StreamProtocol::new("/magpie/mailbox-stream/1");
/// The first frame of a lane: a head and the version.
const LANE_HELLO_BYTES: usize = 14;

/// What goes over a substream, as it is.
#[derive(Clone, Default)]
pub struct Verbatim {
    /// Writes a byte a second.
    is_slow: bool,
}

async fn read_all<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.take(64 * 1024).read_to_end(&mut bytes).await.map(|_| bytes)
}

impl request_response::Codec for Verbatim {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        if *protocol != LANE {
            return read_all(io).await;
        }
        let mut hello = vec![0; LANE_HELLO_BYTES];
        io.read_exact(&mut hello).await.map(|()| hello)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let bytes = read_all(io).await?;
        if bytes.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        if !self.is_slow {
            return io.write_all(&bytes).await;
        }
        for byte in bytes {
            io.write_all(&[byte]).await?;
            io.flush().await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }
}

type Exchange = request_response::Behaviour<Verbatim>;
type ExchangeEvent = request_response::Event<Vec<u8>, Vec<u8>>;

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    admission: Exchange,
    members: Exchange,
    reach: Exchange,
    mailbox: Exchange,
    lane: Exchange,
    identify: identify::Behaviour,
}

/// What a raw peer sees.
#[derive(Debug)]
pub enum RawEvent {
    Connected,
    Closed,
    /// The other side said something unasked.
    Heard(&'static str, Vec<u8>),
    Answered(OutboundRequestId, Result<Vec<u8>, String>),
    Other,
}

pub struct Raw {
    swarm: Swarm<Behaviour>,
    remote: Option<PeerId>,
    /// What it was asked and has neither answered nor refused.
    held: Option<Vec<ResponseChannel<Vec<u8>>>>,
}

#[derive(Serialize)]
pub struct Credentials<'a> {
    pub version: u16,
    pub boot: u64,
    pub proof: &'a [u8],
    pub signature: &'a [u8],
    pub ticket: Option<String>,
}

impl Default for Credentials<'_> {
    fn default() -> Self {
        Self { version: 1, boot: 1, proof: &[], signature: &[], ticket: None }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Greeting<'a> {
    Hello(Credentials<'a>),
    Confirm,
}

fn framed(message: &Greeting<'_>) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(message).unwrap();
    [&(body.len() as u32).to_be_bytes(), body.as_slice()].concat()
}

/// The bytes of a hello.
pub fn hello(version: u16, proof: &[u8]) -> Vec<u8> {
    hello_with(Credentials { version, proof, ..Credentials::default() })
}

/// The bytes of a hello that shows `credentials`.
pub fn hello_with(credentials: Credentials<'_>) -> Vec<u8> {
    framed(&Greeting::Hello(credentials))
}

/// The bytes of a confirmation.
pub fn confirm() -> Vec<u8> {
    framed(&Greeting::Confirm)
}

/// The first frame of a lane.
pub fn lane_hello() -> Vec<u8> {
    let mut hello = vec![0; LANE_HELLO_BYTES];
    (hello[3], hello[13]) = (1, 2);
    hello
}

/// A frame of a lane that wants no reply.
pub fn lane_notice(payload: &[u8]) -> Vec<u8> {
    let mut head = [0; 13];
    head[..4].copy_from_slice(&(payload.len() as u32).to_be_bytes());
    head[12] = 7;
    [&head[..], payload].concat()
}

fn key(seed: u8) -> identity::Keypair {
    identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

fn exchange(protocol: StreamProtocol) -> Exchange {
    exchanges([protocol], false)
}

fn exchanges<const N: usize>(protocols: [StreamProtocol; N], is_slow: bool) -> Exchange {
    let config = request_response::Config::default().with_max_concurrent_streams(1_000);
    let protocols = protocols.map(|protocol| (protocol, ProtocolSupport::Full));
    Exchange::with_codec(Verbatim { is_slow }, protocols, config.with_request_timeout(PATIENCE))
}

impl Raw {
    pub fn new(seed: u8) -> Self {
        Self::with_mailbox(seed, false)
    }

    /// Writes to the mailbox a byte a second, if `is_slow`.
    fn with_mailbox(seed: u8, is_slow: bool) -> Self {
        let swarm = SwarmBuilder::with_existing_identity(key(seed))
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_quic()
            .with_behaviour(|key| Behaviour {
                admission: exchange(ADMISSION),
                members: exchanges(WAYS_OF_MEMBERS, false),
                reach: exchange(REACH),
                mailbox: exchanges([MAILBOX], is_slow),
                lane: exchange(LANE),
                identify: identify::Behaviour::new(identify::Config::new("raw".into(), key.public())),
            })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
            .build();
        Self { swarm, remote: None, held: None }
    }

    /// The identity of the raw peer that `seed` makes: that of the node key with the same seed.
    pub fn peer_of(seed: u8) -> magpie_core::ids::PeerId {
        crate::node::peer(seed)
    }

    pub async fn connected_to(address: &str, seed: u8) -> Self {
        let mut raw = Self::new(seed);
        raw.connect(address).await;
        raw
    }

    pub async fn connect(&mut self, address: &str) {
        let address: Multiaddr = address.parse().unwrap();
        self.swarm.dial(DialOpts::unknown_peer_id().address(address).build()).unwrap();
        while !matches!(self.next().await, RawEvent::Connected) {}
    }

    /// Connected, and admitted because the node lists this peer.
    pub async fn admitted_by(address: &str, seed: u8) -> Self {
        let mut raw = Self::connected_to(address, seed).await;
        raw.ask_admission(hello(1, &[])).await.expect("welcome");
        raw.ask_admission(confirm()).await.expect("confirmed");
        raw
    }

    /// None while the node lets this peer not in.
    pub async fn try_admitted_by(address: &str, seed: u8, is_slow: bool) -> Option<Self> {
        let mut raw = Self::with_mailbox(seed, is_slow);
        raw.connect(address).await;
        raw.ask_admission(hello(1, &[])).await.ok()?;
        raw.ask_admission(framed(&Greeting::Confirm)).await.ok()?;
        Some(raw)
    }

    pub async fn listen(&mut self) -> String {
        self.swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = self.swarm.select_next_some().await {
                return address.to_string();
            }
        }
    }

    pub async fn next(&mut self) -> RawEvent {
        let event = timeout(PATIENCE, self.swarm.select_next_some()).await.expect("something happens");
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.remote = Some(peer_id);
                RawEvent::Connected
            }
            SwarmEvent::ConnectionClosed { num_established: 0, .. } => RawEvent::Closed,
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("the raw peer cannot connect: {error}"),
            SwarmEvent::Behaviour(BehaviourEvent::Admission(event)) => self.exchanged("admission", event),
            SwarmEvent::Behaviour(BehaviourEvent::Members(event)) => self.exchanged("members", event),
            SwarmEvent::Behaviour(BehaviourEvent::Reach(event)) => self.exchanged("reach", event),
            SwarmEvent::Behaviour(BehaviourEvent::Mailbox(event)) => self.exchanged("mailbox", event),
            SwarmEvent::Behaviour(BehaviourEvent::Lane(event)) => self.exchanged("lane", event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { .. })) => {
                RawEvent::Heard("identify", Vec::new())
            }
            _ => RawEvent::Other,
        }
    }

    /// The next thing that the other side says unasked over `wanted`. It gets no answer.
    pub async fn heard(&mut self, wanted: &str) -> Vec<u8> {
        loop {
            match self.next().await {
                RawEvent::Heard(protocol, bytes) if protocol == wanted => return bytes,
                _ => {}
            }
        }
    }

    pub fn send_admission(&mut self, bytes: Vec<u8>) -> OutboundRequestId {
        let remote = self.remote.unwrap();
        self.swarm.behaviour_mut().admission.send_request(&remote, bytes)
    }

    pub fn send_mailbox(&mut self, bytes: Vec<u8>) -> OutboundRequestId {
        let remote = self.remote.unwrap();
        self.swarm.behaviour_mut().mailbox.send_request(&remote, bytes)
    }

    /// Opens a stream for a lane and writes `bytes` to it.
    pub fn send_lane(&mut self, bytes: Vec<u8>) -> OutboundRequestId {
        let remote = self.remote.unwrap();
        self.swarm.behaviour_mut().lane.send_request(&remote, bytes)
    }

    pub async fn ask_lane(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let id = self.send_lane(bytes);
        self.answer(id).await
    }

    /// Asks whom the other side knows.
    pub async fn ask_for_members(&mut self) -> Result<Vec<u8>, String> {
        let remote = self.remote.unwrap();
        // {"digest": 0}
        let id = self.swarm.behaviour_mut().members.send_request(&remote, b"\0\0\0\x09\x81\xa6digest\0".to_vec());
        self.answer(id).await
    }

    /// Asks to be dialled back at `address`: what the other side says of it, and why.
    pub async fn ask_to_be_dialled_back(&mut self, address: &str) -> Result<(String, Option<String>), String> {
        #[derive(Serialize)]
        struct Ask<'a> {
            address: &'a str,
        }
        #[derive(Deserialize)]
        struct Answer {
            outcome: String,
            why: Option<String>,
        }
        let body = rmp_serde::to_vec_named(&Ask { address }).unwrap();
        let remote = self.remote.unwrap();
        let frame = [&(body.len() as u32).to_be_bytes(), body.as_slice()].concat();
        let id = self.swarm.behaviour_mut().reach.send_request(&remote, frame);
        let answer = self.answer(id).await?;
        let Answer { outcome, why } = rmp_serde::from_slice(&answer[4..]).map_err(|error| error.to_string())?;
        Ok((outcome, why))
    }

    /// Sends `bytes` in place of a question about members.
    pub async fn ask_members(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let remote = self.remote.unwrap();
        let id = self.swarm.behaviour_mut().members.send_request(&remote, bytes);
        self.answer(id).await
    }

    pub async fn ask_admission(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let id = self.send_admission(bytes);
        self.answer(id).await
    }

    pub async fn ask_mailbox(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let id = self.send_mailbox(bytes);
        self.answer(id).await
    }

    async fn answer(&mut self, wanted: OutboundRequestId) -> Result<Vec<u8>, String> {
        loop {
            match self.next().await {
                RawEvent::Answered(id, answer) if id == wanted => return answer,
                _ => {}
            }
        }
    }

    /// Answers and refuses nothing from here on until it lets go.
    pub fn hold(&mut self) {
        self.held = Some(Vec::new());
    }

    pub fn let_go(&mut self) {
        self.held = None;
    }

    fn exchanged(&mut self, protocol: &'static str, event: ExchangeEvent) -> RawEvent {
        match event {
            request_response::Event::Message { message: Message::Request { request, channel, .. }, .. } => {
                if let Some(held) = &mut self.held {
                    held.push(channel);
                }
                RawEvent::Heard(protocol, request)
            }
            request_response::Event::Message { message: Message::Response { request_id, response }, .. } => {
                RawEvent::Answered(request_id, Ok(response))
            }
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                RawEvent::Answered(request_id, Err(error.to_string()))
            }
            _ => RawEvent::Other,
        }
    }
}
