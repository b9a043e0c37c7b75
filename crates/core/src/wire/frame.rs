//! Frames out of a stream of bytes that arrives in any pieces.

/// The length field.
pub(super) const HEADER_BYTES: usize = 4;
/// What an idle stream may keep allocated after a large frame.
const IDLE_BYTES_MAX: usize = 64 * 1024;

/// A stream that is not ours, or no longer in step: close it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {bytes} bytes is announced, at most {bytes_max} are taken")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("a frame without a version byte is announced")]
    Empty,
    #[error("frames of {bytes_max} bytes wait untaken")]
    Backlog { bytes_max: usize },
}

/// Collects the bytes of a stream and gives them back frame by frame.
///
/// Holds at most the length field, `bytes_max` bytes and one read.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// The first byte that no frame given has covered.
    start: usize,
    bytes_max: usize,
    /// Bytes were dropped: after the frames already here, the stream is of no use.
    overrun: bool,
}

impl FrameBuffer {
    /// `bytes_max` bounds what follows a frame's length.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, bytes_max, overrun: false }
    }

    /// Takes what one read gave. Take every frame with [`next_frame`](Self::next_frame) before the next read.
    pub fn push(&mut self, read: &[u8]) {
        self.forget_given();
        if self.overrun || self.bytes.len() >= self.bytes_max.saturating_add(HEADER_BYTES) {
            self.overrun = true;
            return;
        }
        let lacking = HEADER_BYTES.saturating_sub(self.bytes.len()).min(read.len());
        let (header, body) = read.split_at(lacking);
        self.bytes.extend_from_slice(header);
        // A length that is refused is refused before its body is kept: the error waits in `next_frame`.
        if self.announced().is_ok() {
            self.grow(body.len());
            self.bytes.extend_from_slice(body);
        }
    }

    /// The next whole frame: its version byte and body. None: it has not all arrived.
    ///
    /// # Errors
    /// The stream has lost its step, for good.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let waiting = self.bytes.len() - self.start;
        match self.announced()? {
            Some(length) if waiting >= HEADER_BYTES + length => {
                let body = self.start + HEADER_BYTES;
                self.start = body + length;
                Ok(Some(&self.bytes[body..self.start]))
            }
            _ if self.overrun => Err(FrameError::Backlog { bytes_max: self.bytes_max }),
            _ => Ok(None),
        }
    }

    /// Whether a stream that ends now ends between two frames.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The length of the first frame not given, once it is known.
    fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(header) = self.bytes[self.start..].first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        match u32::from_be_bytes(*header) as usize {
            0 => Err(FrameError::Empty),
            bytes if bytes > self.bytes_max => Err(FrameError::TooLarge { bytes, bytes_max: self.bytes_max }),
            bytes => Ok(Some(bytes)),
        }
    }

    fn forget_given(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.capacity() > IDLE_BYTES_MAX && self.bytes.len() < IDLE_BYTES_MAX / 2 {
            self.bytes.shrink_to(IDLE_BYTES_MAX);
        }
    }

    /// Doubles as a vector does, but not past what may be held: an announced length alone reserves nothing.
    fn grow(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let doubled = (2 * self.bytes.capacity()).min(self.bytes_max.saturating_add(HEADER_BYTES));
            self.bytes.reserve_exact(needed.max(doubled) - self.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::wire::{WIRE_VERSION, decode, encode};

    const BYTES_MAX: usize = 1_000;

    fn stream_of(texts: &[String]) -> Vec<u8> {
        texts.iter().flat_map(|text| encode(text, BYTES_MAX).unwrap()).collect()
    }

    /// Every frame that `reads` make, as texts, and what is left.
    fn texts_from<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, FrameBuffer) {
        let mut buffer = FrameBuffer::new(BYTES_MAX);
        let mut texts = Vec::new();
        for read in reads {
            buffer.push(read);
            while let Some(frame) = buffer.next_frame().unwrap() {
                texts.push(decode(frame).unwrap());
            }
            assert!(buffer.bytes.capacity() <= HEADER_BYTES + BYTES_MAX + read.len().max(8));
        }
        (texts, buffer)
    }

    proptest! {
        #[test]
        fn where_the_stream_is_split_does_not_matter(
            texts in proptest::collection::vec(".{0,60}", 0..12), read_bytes in 1usize..400,
        ) {
            let stream = stream_of(&texts);
            let (read, buffer) = texts_from(stream.chunks(read_bytes));
            prop_assert_eq!(read, texts);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn a_frame_cut_short_is_not_there_yet(text in ".{0,60}", cut: prop::sample::Index) {
            let stream = stream_of(std::slice::from_ref(&text));
            let (here, later) = stream.split_at(cut.index(stream.len()));
            let (none, mut buffer) = texts_from([here]);
            prop_assert_eq!(none, Vec::<String>::new());
            prop_assert_eq!(buffer.is_empty(), here.is_empty());
            buffer.push(later);
            prop_assert_eq!(decode::<String>(buffer.next_frame().unwrap().unwrap()), Ok(text));
        }

        #[test]
        fn random_streams_never_panic_and_stay_within_bounds(
            reads in proptest::collection::vec(proptest::collection::vec(0u8..8, 0..300), 0..40),
        ) {
            let mut buffer = FrameBuffer::new(BYTES_MAX);
            for read in &reads {
                buffer.push(read);
                while let Ok(Some(frame)) = buffer.next_frame() {
                    prop_assert!((1..=BYTES_MAX).contains(&frame.len()));
                }
                prop_assert!(buffer.bytes.len() <= HEADER_BYTES + BYTES_MAX + read.len());
            }
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_with_the_body_unread() {
        let mut buffer = FrameBuffer::new(BYTES_MAX);
        buffer.push(b"GET / HTTP/1.1\r\n");
        buffer.push(&[b'x'; 10_000]);
        let refused = FrameError::TooLarge { bytes: u32::from_be_bytes(*b"GET ") as usize, bytes_max: BYTES_MAX };
        assert_eq!(buffer.next_frame(), Err(refused.clone()));
        assert_eq!(buffer.next_frame(), Err(refused));
        assert!(buffer.bytes.capacity() <= 8, "{}", buffer.bytes.capacity());
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut buffer = FrameBuffer::new(8 << 20);
        buffer.push(&(8u32 << 20).to_be_bytes());
        assert_eq!(buffer.next_frame(), Ok(None));
        assert!(buffer.bytes.capacity() <= 8, "{}", buffer.bytes.capacity());
    }

    #[test]
    fn a_frame_holds_its_version_at_least() {
        let mut buffer = FrameBuffer::new(BYTES_MAX);
        buffer.push(&[0, 0, 0, 1, WIRE_VERSION, 0, 0, 0, 0]);
        assert_eq!(buffer.next_frame(), Ok(Some(&[WIRE_VERSION][..])));
        assert_eq!(buffer.next_frame(), Err(FrameError::Empty));
    }

    #[test]
    fn frames_left_untaken_end_the_stream_after_them() {
        let stream = stream_of(&["a".repeat(900)]);
        let mut buffer = FrameBuffer::new(BYTES_MAX);
        for _ in 0..100 {
            buffer.push(&stream);
        }
        assert!(buffer.bytes.len() <= HEADER_BYTES + BYTES_MAX + stream.len());
        assert!(buffer.next_frame().unwrap().is_some());
        assert!(buffer.next_frame().unwrap().is_some());
        assert_eq!(buffer.next_frame(), Err(FrameError::Backlog { bytes_max: BYTES_MAX }));
    }

    #[test]
    fn memory_of_a_large_frame_is_given_back() {
        let mut buffer = FrameBuffer::new(8 << 20);
        let large = encode(&"x".repeat(4 << 20), 8 << 20).unwrap();
        for read in large.chunks(16 * 1024) {
            buffer.push(read);
        }
        assert!(buffer.next_frame().unwrap().is_some());
        buffer.push(&[0]);
        assert!(buffer.bytes.capacity() <= IDLE_BYTES_MAX);
    }
}
