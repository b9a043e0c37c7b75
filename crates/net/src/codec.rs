//! The codecs of request-response: a length of four bytes (big endian), then that many bytes.
//!
//! The length is checked before anything is allocated, and memory grows with the bytes that arrive, not with those
//! announced.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admission::{Answer, Greeting};
use crate::discovery::members::{MembersAnswer, MembersAsk};
use crate::limits;
use crate::reach::message::{ReachAnswer, ReachAsk};
use crate::share::{Budget, Reading};

pub(crate) const ADMISSION: StreamProtocol = StreamProtocol::new("/magpie/admission/1");
pub(crate) const MEMBERS: StreamProtocol = StreamProtocol::new("/magpie/members/1");
pub(crate) const REACH: StreamProtocol = StreamProtocol::new("/magpie/reach/1");
pub(crate) const MAILBOX: StreamProtocol = StreamProtocol::new("/magpie/mailbox/1");

/// The most that is allocated before a byte of the body has arrived.
const BODY_FIRST_BYTES: usize = 16 * 1024;

pub(crate) fn refused(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

pub(crate) fn too_long(bytes: usize, bytes_max: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("frame of {bytes} bytes, at most {bytes_max}"))
}

async fn read_length<T: AsyncRead + Unpin + Send>(io: &mut T, bytes_max: usize) -> io::Result<usize> {
    let mut length = [0u8; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        return Err(too_long(length, bytes_max));
    }
    Ok(length)
}

pub(crate) async fn read_body<T: AsyncRead + Unpin + Send>(io: &mut T, length: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(length.min(BODY_FIRST_BYTES));
    io.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

async fn write_frame<T: AsyncWrite + Unpin + Send>(io: &mut T, parts: [&[u8]; 2], bytes_max: usize) -> io::Result<()> {
    let length = parts[0].len() + parts[1].len();
    if length > bytes_max {
        return Err(too_long(length, bytes_max));
    }
    // The head goes out with the first part: a small frame is one segment.
    let mut head = (length as u32).to_be_bytes().to_vec();
    let (small, large) =
        if length <= BODY_FIRST_BYTES { (parts.concat(), &[][..]) } else { (parts[0].to_vec(), parts[1]) };
    head.extend_from_slice(&small);
    io.write_all(&head).await?;
    io.write_all(large).await?;
    io.flush().await
}

/// Speaks a protocol of questions `Q` and answers `A`: MessagePack of at most `BYTES_MAX`.
pub(crate) struct MessageCodec<const BYTES_MAX: usize, Q, A> {
    /// None where strangers speak: they are sent away for what others are scored for.
    reading: Option<Reading>,
    speaks: PhantomData<fn() -> (Q, A)>,
}

/// Speaks [`ADMISSION`].
pub(crate) type AdmissionCodec = MessageCodec<{ limits::HELLO_BYTES_MAX }, Greeting, Answer>;
/// Speaks [`MEMBERS`].
pub(crate) type MembersCodec = MessageCodec<{ limits::MEMBERS_BYTES_MAX }, MembersAsk, MembersAnswer>;

/// Speaks [`REACH`].
pub(crate) type ReachCodec = MessageCodec<{ limits::REACH_BYTES_MAX }, ReachAsk, ReachAnswer>;

impl<const BYTES_MAX: usize, Q, A> Default for MessageCodec<BYTES_MAX, Q, A> {
    fn default() -> Self {
        Self { reading: None, speaks: PhantomData }
    }
}

impl<const BYTES_MAX: usize, Q, A> MessageCodec<BYTES_MAX, Q, A> {
    pub fn reading(reading: Reading) -> Self {
        Self { reading: Some(reading), speaks: PhantomData }
    }

    fn blame(&self, error: io::Error) -> io::Error {
        match &self.reading {
            Some(reading) => reading.blame(error),
            None => error,
        }
    }
}

impl<const BYTES_MAX: usize, Q, A> Clone for MessageCodec<BYTES_MAX, Q, A> {
    fn clone(&self) -> Self {
        Self { reading: self.reading.clone(), speaks: PhantomData }
    }
}

impl<const BYTES_MAX: usize, Q, A> fmt::Debug for MessageCodec<BYTES_MAX, Q, A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MessageCodec")
    }
}

async fn read_message<T, M>(io: &mut T, bytes_max: usize) -> io::Result<M>
where
    T: AsyncRead + Unpin + Send,
    M: DeserializeOwned,
{
    let length = read_length(io, bytes_max).await?;
    rmp_serde::from_slice(&read_body(io, length).await?).map_err(|error| refused(error.to_string()))
}

async fn write_message<T, M>(io: &mut T, message: &M, bytes_max: usize) -> io::Result<()>
where
    T: AsyncWrite + Unpin + Send,
    M: Serialize + Sync,
{
    let bytes = rmp_serde::to_vec_named(message).map_err(|error| refused(error.to_string()))?;
    write_frame(io, [&bytes, &[]], bytes_max).await
}

impl<const BYTES_MAX: usize, Q, A> request_response::Codec for MessageCodec<BYTES_MAX, Q, A>
where
    Q: Serialize + DeserializeOwned + Send + Sync + 'static,
    A: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    type Protocol = StreamProtocol;
    type Request = Q;
    type Response = A;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Q> {
        read_message(io, BYTES_MAX).await.map_err(|error| self.blame(error))
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<A> {
        read_message(io, BYTES_MAX).await.map_err(|error| self.blame(error))
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        question: Q,
    ) -> io::Result<()> {
        write_message(io, &question, BYTES_MAX).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: A,
    ) -> io::Result<()> {
        write_message(io, &answer, BYTES_MAX).await
    }
}

/// A request: opaque bytes, and the part of the sender's share that they hold until they are answered.
#[derive(Debug)]
pub(crate) struct Request {
    pub frame: Vec<u8>,
    pub budget: Option<Budget>,
}

/// What came back for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Response {
    Reply(Vec<u8>),
    /// The peer's inbox was full: it did not look at the request.
    Busy,
    /// The peer looked at the request and gave no answer.
    Unanswered,
}

impl Response {
    /// The first byte of a response on the wire.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Reply(_) => 0,
            Self::Busy => 1,
            Self::Unanswered => 2,
        }
    }

    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Reply(frame) => frame,
            Self::Busy | Self::Unanswered => &[],
        }
    }

    pub fn from_parts(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        match kind {
            0 => Ok(Self::Reply(payload)),
            1 => Ok(Self::Busy),
            2 => Ok(Self::Unanswered),
            _ => Err(refused(format!("response of unknown kind {kind}"))),
        }
    }
}

/// Speaks [`MAILBOX`]: frames of at most [`limits::FRAME_BYTES_MAX`], and all that are read of one peer within its share.
#[derive(Debug, Clone)]
pub(crate) struct MailboxCodec {
    reading: Reading,
}

impl MailboxCodec {
    pub fn new(reading: Reading) -> Self {
        Self { reading }
    }
}

impl request_response::Codec for MailboxCodec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Response;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Request> {
        let share = self.reading.share()?;
        let place = share.place()?;
        let length = read_length(io, limits::FRAME_BYTES_MAX).await.map_err(|error| self.reading.blame(error))?;
        let budget = share.on_stream(length, place).await?;
        Ok(Request { frame: read_body(io, length).await?, budget: Some(budget) })
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Response> {
        let length = read_length(io, limits::FRAME_BYTES_MAX + 1).await?;
        let mut kind = [0u8];
        let payload_length = length.checked_sub(1).ok_or_else(|| refused("response without a kind"))?;
        io.read_exact(&mut kind).await?;
        Response::from_parts(kind[0], read_body(io, payload_length).await?)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Request,
    ) -> io::Result<()> {
        write_frame(io, [&[], &request.frame], limits::FRAME_BYTES_MAX).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Response,
    ) -> io::Result<()> {
        write_frame(io, [&[response.kind()], response.payload()], limits::FRAME_BYTES_MAX + 1).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Credentials;
    use crate::discovery::members::Told;
    use crate::share::Shares;
    use crate::watch::Watch;
    use data_encoding::HEXLOWER;
    use futures::FutureExt;
    use futures::io::Cursor;
    use libp2p::request_response::Codec;
    use magpie_core::ids::PeerId;
    use proptest::prelude::*;

    fn mailbox() -> MailboxCodec {
        let shares = Shares::new(Watch::default(), limits::PEER_STREAMS_PER_S_MAX);
        shares.arrive(crate::identity::to_libp2p(PeerId([1; 32])));
        MailboxCodec::new(Reading::new(shares)).clone()
    }

    /// The futures here never wait: a cursor is always ready.
    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("a cursor is always ready")
    }

    fn written(write: impl AsyncFnOnce(&mut Cursor<Vec<u8>>) -> io::Result<()>) -> Vec<u8> {
        let mut io = Cursor::new(Vec::new());
        now(write(&mut io)).unwrap();
        io.into_inner()
    }

    proptest! {
        #[test]
        fn frames_survive_the_wire(length in 0..2 * BODY_FIRST_BYTES, kind in 0u8..3) {
            let frame: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let request = Request { frame: frame.clone(), budget: None };
            let bytes = written(async |io| mailbox().write_request(&MAILBOX, io, request).await);
            let read = now(mailbox().read_request(&MAILBOX, &mut Cursor::new(bytes))).unwrap();
            prop_assert_eq!(&read.frame, &frame);

            let response = Response::from_parts(kind, frame).unwrap();
            let bytes = written(async |io| mailbox().write_response(&MAILBOX, io, response.clone()).await);
            prop_assert_eq!(now(mailbox().read_response(&MAILBOX, &mut Cursor::new(bytes))).unwrap(), response);
        }

        #[test]
        fn random_bytes_are_read_or_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = now(mailbox().read_request(&MAILBOX, &mut Cursor::new(&bytes)));
            let _ = now(mailbox().read_response(&MAILBOX, &mut Cursor::new(&bytes)));
            let _ = now(AdmissionCodec::default().read_request(&ADMISSION, &mut Cursor::new(&bytes)));
            let _ = now(AdmissionCodec::default().read_response(&ADMISSION, &mut Cursor::new(&bytes)));
            let _ = now(MembersCodec::default().read_request(&MEMBERS, &mut Cursor::new(&bytes)));
            let _ = now(MembersCodec::default().read_response(&MEMBERS, &mut Cursor::new(&bytes)));
        }
    }

    fn told() -> Told {
        Told { peer: PeerId([7; 32]), addresses: vec!["/ip4/10.0.0.1/tcp/1".to_owned()] }
    }

    fn presented() -> Credentials {
        let (proof, signature, successor) = (vec![1, 2], vec![3], vec![4, 5]);
        Credentials { version: 1, boot: 258, proof, signature, ticket: Some("t".to_owned()), successor }
    }

    /// Bytes of this version, and what they say. Older ones are read as well: `admission::tests`.
    fn golden<const BYTES_MAX: usize, Q, A>(protocol: &StreamProtocol, asked: &[(Q, &str)], answered: &[(A, &str)])
    where
        Q: Serialize + DeserializeOwned + Send + Sync + Clone + PartialEq + fmt::Debug + 'static,
        A: Serialize + DeserializeOwned + Send + Sync + Clone + PartialEq + fmt::Debug + 'static,
    {
        let mut codec = MessageCodec::<BYTES_MAX, Q, A>::default();
        for (message, golden) in asked {
            let bytes = written(async |io| codec.write_request(protocol, io, message.clone()).await);
            assert_eq!(HEXLOWER.encode(&bytes), *golden, "{message:?}");
            assert_eq!(&now(codec.read_request(protocol, &mut Cursor::new(bytes))).unwrap(), message);
        }
        for (message, golden) in answered {
            let bytes = written(async |io| codec.write_response(protocol, io, message.clone()).await);
            assert_eq!(HEXLOWER.encode(&bytes), *golden, "{message:?}");
            assert_eq!(&now(codec.read_response(protocol, &mut Cursor::new(bytes))).unwrap(), message);
        }
    }

    #[test]
    fn admission_and_members_have_the_bytes_that_other_nodes_know() {
        let asked = [
            (
                Greeting::Hello(presented()),
                "0000004481a568656c6c6f86a776657273696f6e01a4626f6f74cd0102a570726f6f66920102a97369676e61\
             747572659103a67469636b6574a174a9737563636573736f72920405",
            ),
            (Greeting::Confirm, "00000008a7636f6e6669726d"),
        ];
        let answered = [
            (
                Answer::Welcome(presented()),
                "0000004681a777656c636f6d6586a776657273696f6e01a4626f6f74cd0102a570726f6f66920102a9736967\
             6e61747572659103a67469636b6574a174a9737563636573736f72920405",
            ),
            (Answer::Confirmed, "0000000aa9636f6e6669726d6564"),
        ];
        golden::<{ limits::HELLO_BYTES_MAX }, _, _>(&ADMISSION, &asked, &answered);
        let asked = [(MembersAsk { digest: 258 }, "0000000b81a6646967657374cd0102")];
        let answered = [(
            MembersAnswer { digest: 258, members: vec![told()] },
            "0000005b82a6646967657374cd0102a76d656d626572739182a470656572c420070707070707070707070707\
             0707070707070707070707070707070707070707a961646472657373657391b32f6970342f31302e302e302e\
             312f7463702f31",
        )];
        golden::<{ limits::MEMBERS_BYTES_MAX }, _, _>(&MEMBERS, &asked, &answered);
    }

    #[test]
    fn a_mailbox_has_the_bytes_that_other_nodes_know() {
        let request = Request { frame: b"frame".to_vec(), budget: None };
        let bytes = written(async |io| mailbox().write_request(&MAILBOX, io, request).await);
        assert_eq!(HEXLOWER.encode(&bytes), "000000056672616d65");
        for (response, golden) in [
            (Response::Reply(b"frame".to_vec()), "00000006006672616d65"),
            (Response::Busy, "0000000101"),
            (Response::Unanswered, "0000000102"),
        ] {
            let bytes = written(async |io| mailbox().write_response(&MAILBOX, io, response.clone()).await);
            assert_eq!(HEXLOWER.encode(&bytes), golden, "{response:?}");
        }
    }

    #[test]
    fn a_frame_too_long_is_refused_by_its_head() {
        for (length, bytes_max) in
            [(u32::MAX, limits::FRAME_BYTES_MAX), (limits::FRAME_BYTES_MAX as u32 + 1, limits::FRAME_BYTES_MAX)]
        {
            let error = now(mailbox().read_request(&MAILBOX, &mut Cursor::new(length.to_be_bytes()))).unwrap_err();
            assert_eq!(error.to_string(), format!("frame of {length} bytes, at most {bytes_max}"));
        }
        let length = limits::HELLO_BYTES_MAX as u32 + 1;
        let error = now(AdmissionCodec::default().read_request(&ADMISSION, &mut Cursor::new(length.to_be_bytes())))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_truncated_frame_is_refused() {
        let bytes = written(async |io| {
            mailbox().write_request(&MAILBOX, io, Request { frame: vec![7; 100], budget: None }).await
        });
        for end in 0..bytes.len() {
            let error = now(mailbox().read_request(&MAILBOX, &mut Cursor::new(&bytes[..end]))).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {end}");
        }
    }

    #[test]
    fn a_request_holds_a_place_of_its_senders_share_until_it_is_dropped() {
        let mut codec = mailbox();
        let bytes = written(async |io| {
            mailbox().write_request(&MAILBOX, io, Request { frame: vec![7; 100], budget: None }).await
        });
        let mut read = || now(codec.read_request(&MAILBOX, &mut Cursor::new(&bytes)));
        let held: Vec<_> = (0..limits::PEER_PLACES_MAX).map(|_| read().unwrap()).collect();
        assert!(read().is_err(), "one more than there are places");
        drop(held);
        assert!(read().is_ok());
    }
}
