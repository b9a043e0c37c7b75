//! Frames of a lane: payload length (4 bytes), id (8), kind (1), all big endian, then the payload.

use std::io;

use futures::{AsyncRead, AsyncReadExt};

use crate::codec::{read_body, refused, too_long};
use crate::limits;

const HEAD_BYTES: usize = 13;

/// What a frame is. The numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// The first frame from the opener; its payload is the version.
    Hello = 0,
    /// The first frame back: the lane is open.
    Welcome = 1,
    Request = 2,
    /// A piece of a reply, with more to come.
    Part = 3,
    /// A reply, or the last piece of one.
    Reply = 4,
    Busy = 5,
    Unanswered = 6,
    /// A request that wants no reply.
    Notice = 7,
}

impl Kind {
    fn from_wire(byte: u8) -> io::Result<Self> {
        const KINDS: [Kind; 8] = [
            Kind::Hello,
            Kind::Welcome,
            Kind::Request,
            Kind::Part,
            Kind::Reply,
            Kind::Busy,
            Kind::Unanswered,
            Kind::Notice,
        ];
        KINDS.get(usize::from(byte)).copied().ok_or_else(|| refused(format!("frame of unknown kind {byte}")))
    }
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub id: u64,
    pub kind: Kind,
    pub payload_bytes: usize,
}

/// Reads a head; `None` at the end of the stream.
pub(super) async fn read_head<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Option<Head>> {
    let mut head = [0u8; HEAD_BYTES];
    if io.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    io.read_exact(&mut head[1..]).await?;
    let [a, b, c, d, id @ .., kind] = head;
    let payload_bytes = u32::from_be_bytes([a, b, c, d]) as usize;
    if payload_bytes > limits::LANE_FRAME_BYTES_MAX {
        return Err(too_long(payload_bytes, limits::LANE_FRAME_BYTES_MAX));
    }
    Ok(Some(Head { id: u64::from_be_bytes(id), kind: Kind::from_wire(kind)?, payload_bytes }))
}

pub(super) async fn read_payload<T: AsyncRead + Unpin + Send>(io: &mut T, head: Head) -> io::Result<Vec<u8>> {
    read_body(io, head.payload_bytes).await
}

/// Appends a frame whose payload is within the limit.
pub(super) fn append(buffer: &mut Vec<u8>, id: u64, kind: Kind, payload: &[u8]) {
    debug_assert!(payload.len() <= limits::LANE_FRAME_BYTES_MAX);
    buffer.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    buffer.extend_from_slice(&id.to_be_bytes());
    buffer.push(kind as u8);
    buffer.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::io::Cursor;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> io::Result<Option<(Head, Vec<u8>)>> {
        let mut io = Cursor::new(bytes);
        let frame = async {
            let Some(head) = read_head(&mut io).await? else { return Ok(None) };
            Ok(Some((head, read_payload(&mut io, head).await?)))
        };
        frame.now_or_never().expect("a cursor is always ready")
    }

    proptest! {
        #[test]
        fn frames_survive_the_wire(id: u64, kind in 0u8..8, payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let kind = Kind::from_wire(kind).unwrap();
            let mut bytes = Vec::new();
            append(&mut bytes, id, kind, &payload);
            let (head, read_back) = read(&bytes).unwrap().unwrap();
            prop_assert_eq!(head, Head { id, kind, payload_bytes: payload.len() });
            prop_assert_eq!(read_back, payload);
            for end in 1..bytes.len() {
                prop_assert_eq!(read(&bytes[..end]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            }
        }

        #[test]
        fn random_bytes_are_read_or_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn other_nodes_know_these_bytes_of_each_kind() {
        let kinds = [
            (Kind::Hello, "00"),
            (Kind::Welcome, "01"),
            (Kind::Request, "02"),
            (Kind::Part, "03"),
            (Kind::Reply, "04"),
            (Kind::Busy, "05"),
            (Kind::Unanswered, "06"),
            (Kind::Notice, "07"),
        ];
        for (kind, number) in kinds {
            let mut bytes = Vec::new();
            append(&mut bytes, 0x0102, kind, b"\xabc");
            assert_eq!(data_encoding::HEXLOWER.encode(&bytes), format!("000000020000000000000102{number}ab63"));
        }
    }

    #[test]
    fn a_frame_too_long_is_refused_by_its_head() {
        let mut head = (limits::LANE_FRAME_BYTES_MAX as u32 + 1).to_be_bytes().to_vec();
        head.extend_from_slice(&[0; 9]);
        assert_eq!(read(&head).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(&[]).unwrap(), None);
    }
}
