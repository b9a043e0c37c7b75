//! One message to one frame and back.

use std::io;

use serde::{Deserialize, Serialize};

use super::frame::HEADER_BYTES;
use super::{WIRE_VERSION, walk};
use crate::limits;

/// A message that does not become a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("the message does not fit a frame of {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("the message cannot stand in a frame: {0}")]
    Unfit(#[from] DecodeError),
    #[error("the message has no MessagePack form: {0}")]
    Unencodable(String),
}

/// Bytes that are not the message expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("there are no bytes")]
    Empty,
    #[error("it has version {presented}, this build reads {WIRE_VERSION}")]
    Version { presented: u8 },
    #[error("the bytes end before the value does")]
    Truncated,
    #[error("{bytes} bytes follow the value")]
    Trailing { bytes: usize },
    #[error("the value nests deeper than {depth_max}")]
    TooDeep { depth_max: usize },
    #[error("the value holds more than {items_max} values")]
    TooManyItems { items_max: usize },
    #[error("byte {at} starts no MessagePack value")]
    Reserved { at: usize },
    #[error("not the message expected: {0}")]
    Mismatch(String),
}

/// Writes a whole frame: length, version, body. `bytes_max` bounds what follows the length, as in [`super::FrameBuffer`].
///
/// # Errors
/// `TooLarge` as soon as the body passes `bytes_max`; `Unfit` for what [`decode`] would refuse on the other side.
pub fn encode<T: Serialize + ?Sized>(message: &T, bytes_max: usize) -> Result<Vec<u8>, EncodeError> {
    let mut frame = vec![0; HEADER_BYTES];
    frame.push(WIRE_VERSION);
    let mut writer = Bounded { bytes: &mut frame, bytes_max: HEADER_BYTES.saturating_add(bytes_max), overrun: false };
    let written = rmp_serde::encode::write_named(&mut writer, message);
    if writer.overrun || bytes_max == 0 {
        return Err(EncodeError::TooLarge { bytes_max });
    }
    written.map_err(|error| EncodeError::Unencodable(excerpt(&error)))?;
    walk::check(&frame[HEADER_BYTES + 1..], limits::FRAME_ITEMS_MAX)?;
    let length = u32::try_from(frame.len() - HEADER_BYTES).map_err(|_| EncodeError::TooLarge { bytes_max })?;
    frame[..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Reads a whole frame as [`encode`] writes it: its length must be that of what follows.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_frame<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, DecodeError> {
    let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(DecodeError::Truncated)?;
    let announced = u32::from_be_bytes(*header) as usize;
    match announced.cmp(&payload.len()) {
        std::cmp::Ordering::Greater => Err(DecodeError::Truncated),
        std::cmp::Ordering::Less => Err(DecodeError::Trailing { bytes: payload.len() - announced }),
        std::cmp::Ordering::Equal => decode(payload),
    }
}

/// Reads what [`super::FrameBuffer`] gives: a version byte and a body, to the last byte.
///
/// # Errors
/// What is wrong with the bytes. Nothing is allocated for a count or a length that the bytes cannot meet.
pub fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, DecodeError> {
    let (version, body) = payload.split_first().ok_or(DecodeError::Empty)?;
    if *version != WIRE_VERSION {
        return Err(DecodeError::Version { presented: *version });
    }
    read_body(body, limits::FRAME_ITEMS_MAX)
}

pub(super) fn read_body<'a, T: Deserialize<'a>>(body: &'a [u8], items_max: usize) -> Result<T, DecodeError> {
    walk::check(body, items_max)?;
    rmp_serde::from_slice(body).map_err(|error| DecodeError::Mismatch(excerpt(&error)))
}

/// The start of an error's words: they may quote the input at any length.
pub(super) fn excerpt(error: &impl ToString) -> String {
    error.to_string().chars().take(200).collect()
}

struct Bounded<'a> {
    bytes: &'a mut Vec<u8>,
    bytes_max: usize,
    overrun: bool,
}

impl io::Write for Bounded<'_> {
    #[inline]
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        self.write_all(chunk).map(|()| chunk.len())
    }

    /// The serialiser writes byte by byte: the loop that would otherwise stand here doubles the cost of a frame.
    #[inline]
    fn write_all(&mut self, chunk: &[u8]) -> io::Result<()> {
        if chunk.len() > self.bytes_max.saturating_sub(self.bytes.len()) {
            self.overrun = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::{Deserializer, Serializer};

    use crate::device::{DeviceReply, DeviceRequest};
    use crate::ids::{Epoch, LeaseToken, LedgerTag, TaskId};
    use crate::lease::{Completion, Fence, Grant, Release, ReleaseReason, Renewal};
    use crate::task::{AttemptResult, Outcome, TaskError};

    fn completion(message: &str, epoch: u64) -> Completion {
        let error = TaskError::new("exit_status", message);
        Completion {
            fence: Fence { task: TaskId { ulid: 7, ledger: LedgerTag([1; 5]) }, epoch: Epoch(epoch) },
            token: LeaseToken([9; 16]),
            outcome: Outcome {
                result: AttemptResult::Failed { error, retryable: true },
                log_tail: String::new(),
                ran_ms: 3,
                used: crate::task::Used::default(),
            },
            checkpoint: None,
        }
    }

    fn payload(frame: &[u8]) -> &[u8] {
        &frame[HEADER_BYTES..]
    }

    /// Reads `bytes` as several real messages: an answer or an error, never a panic.
    fn read_as_messages(bytes: &[u8]) -> usize {
        [
            decode::<Grant>(bytes).is_ok(),
            decode::<Completion>(bytes).is_ok(),
            decode::<Release>(bytes).is_ok(),
            decode::<Vec<Renewal>>(bytes).is_ok(),
            decode::<DeviceRequest>(bytes).is_ok(),
            decode::<DeviceReply>(bytes).is_ok(),
        ]
        .into_iter()
        .filter(|read| *read)
        .count()
    }

    proptest! {
        #[test]
        fn a_message_survives_its_frame(message in ".{0,200}", epoch: u64) {
            let sent = completion(&message, epoch);
            let frame = encode(&sent, limits::FRAME_BYTES_MAX).unwrap();
            prop_assert_eq!(frame.len() - HEADER_BYTES, u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize);
            prop_assert_eq!(decode_frame::<Completion>(&frame), Ok(sent.clone()));
            prop_assert_eq!(decode::<Completion>(payload(&frame)), Ok(sent));
        }

        #[test]
        fn a_frame_is_as_long_as_it_says(cut: prop::sample::Index, more in 1usize..9) {
            let frame = encode(&completion("x", 1), 1_000).unwrap();
            prop_assert_eq!(decode_frame::<Completion>(&frame[..cut.index(frame.len())]), Err(DecodeError::Truncated));
            let longer = [&frame[..], &vec![0; more]].concat();
            prop_assert_eq!(decode_frame::<Completion>(&longer), Err(DecodeError::Trailing { bytes: more }));
        }

        #[test]
        fn the_limit_is_exact(message in ".{0,200}") {
            let sent = completion(&message, 1);
            let bytes = payload(&encode(&sent, limits::FRAME_BYTES_MAX).unwrap()).len();
            prop_assert!(encode(&sent, bytes).is_ok());
            for bytes_max in [0, 1, bytes - 1] {
                prop_assert_eq!(encode(&sent, bytes_max), Err(EncodeError::TooLarge { bytes_max }));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read_as_messages(&bytes);
            bytes.insert(0, WIRE_VERSION);
            read_as_messages(&bytes);
        }

        #[test]
        fn damaged_messages_never_panic(
            epoch: u64, flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let release = Release {
                fence: completion("", epoch).fence,
                token: LeaseToken([9; 16]),
                reason: ReleaseReason::Unable { why: "no such model".to_owned() },
            };
            let request = DeviceRequest::Embed { id: epoch, model: "minilm".to_owned(), texts: vec!["a".repeat(40); 3] };
            let frames =
                [encode(&release, 1_000), encode(&request, 1_000), encode(&completion("exit status 1", epoch), 1_000)];
            for frame in frames {
                let mut bytes = frame.unwrap().split_off(HEADER_BYTES);
                for (place, byte) in &flips {
                    let place = place.index(bytes.len());
                    bytes[place] = *byte;
                }
                read_as_messages(&bytes);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let frame = encode(&completion("x", 1), 1_000).unwrap();
        let bytes = payload(&frame);
        let newer = [&[2], &bytes[1..]].concat();
        let longer = [bytes, &[0]].concat();
        for (bytes, words) in [
            (&[][..], "there are no bytes"),
            (&newer, "it has version 2, this build reads 1"),
            (&bytes[..bytes.len() - 1], "the bytes end before the value does"),
            (&longer, "1 bytes follow the value"),
            (&[WIRE_VERSION, 0x80], "not the message expected: missing field `fence`"),
        ] {
            assert_eq!(decode::<Completion>(bytes).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn an_error_does_not_repeat_a_long_input() {
        let unknown = encode(&"x".repeat(100_000), limits::FRAME_BYTES_MAX).unwrap();
        let error = decode::<DeviceRequest>(payload(&unknown)).unwrap_err();
        assert!(matches!(&error, DecodeError::Mismatch(words) if words.chars().count() == 200), "{error}");
    }

    /// A type that proves that its deserialiser was not asked.
    #[derive(Debug, PartialEq)]
    struct NeverReached;

    impl<'de> Deserialize<'de> for NeverReached {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            unreachable!("the bytes were to be refused before")
        }
    }

    #[test]
    fn a_count_the_bytes_cannot_meet_is_refused_before_anything_is_made_of_it() {
        for header in [0xdd, 0xdf, 0xc6, 0xdb, 0xc9] {
            let four_billion = [WIRE_VERSION, header, 0xff, 0xff, 0xff, 0xff, 0];
            assert_eq!(decode::<NeverReached>(&four_billion), Err(DecodeError::Truncated), "{header:x}");
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Chain {
        Link(Box<Chain>),
        End,
    }

    #[test]
    fn nested_variants_end_at_the_limit_and_not_at_the_stack_s() {
        let mut bytes = vec![WIRE_VERSION];
        bytes.extend([0x81, 0xa4, b'L', b'i', b'n', b'k'].repeat(100_000));
        bytes.extend([0xa3, b'E', b'n', b'd']);
        assert_eq!(decode::<Chain>(&bytes), Err(DecodeError::TooDeep { depth_max: limits::DEPTH_MAX }));
        assert_eq!(decode::<Chain>(&encode(&Chain::Link(Box::new(Chain::End)), 100).unwrap()[4..]), {
            Ok(Chain::Link(Box::new(Chain::End)))
        });
    }

    #[test]
    fn what_the_other_side_would_refuse_is_not_sent() {
        let nulls = vec![(); limits::FRAME_ITEMS_MAX];
        let refused = EncodeError::Unfit(DecodeError::TooManyItems { items_max: limits::FRAME_ITEMS_MAX });
        assert_eq!(encode(&nulls, limits::FRAME_BYTES_MAX), Err(refused));

        struct Unsized;
        impl Serialize for Unsized {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no such thing"))
            }
        }
        let error = encode(&Unsized, 100).unwrap_err();
        assert_eq!(error.to_string(), "the message has no MessagePack form: no such thing");
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over() {
        #[derive(Serialize)]
        struct Later {
            fence: Fence,
            token: LeaseToken,
            started: bool,
            load: Vec<u32>,
        }
        let fence = completion("", 4).fence;
        let later = Later { fence, token: LeaseToken([9; 16]), started: true, load: vec![1, 2] };
        let read = decode::<Renewal>(payload(&encode(&later, 1_000).unwrap()).to_vec().as_slice());
        assert_eq!(read, Ok(Renewal::new(fence, LeaseToken([9; 16]), true)));
    }
}
