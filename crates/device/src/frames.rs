//! Frames over blocking streams, and the streams that a device process speaks on.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use magpie_core::limits::FRAME_BYTES_MAX;
use magpie_core::wire::{DecodeError, EncodeError, FrameBuffer, FrameError, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

const READ_BYTES: usize = 64 * 1024;

/// A stream on which the node and this process no longer understand each other.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("the stream carries no frames: {0}")]
    Frame(#[from] FrameError),
    #[error("a frame does not hold what it should: {0}")]
    Decode(#[from] DecodeError),
    #[error("a message does not become a frame: {0}")]
    Encode(#[from] EncodeError),
    #[error("the stream ended within a frame")]
    CutShort,
    #[error("the stream broke: {0}")]
    Broken(#[from] io::Error),
}

/// Reads frame after frame from `input`.
pub struct FrameReader<R> {
    input: R,
    buffer: FrameBuffer,
    read: Box<[u8]>,
}

impl<R: Read> FrameReader<R> {
    pub fn new(input: R) -> Self {
        Self { input, buffer: FrameBuffer::new(FRAME_BYTES_MAX), read: vec![0; READ_BYTES].into() }
    }

    /// Waits for the next frame; `None` when the stream ends between two.
    ///
    /// # Errors
    /// A stream that fails or ends within a frame, and bytes that are no frame or no `T`.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(frame) = self.buffer.next_frame()? {
                return Ok(Some(decode(frame)?));
            }
            match self.input.read(&mut self.read) {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(StreamError::CutShort),
                Ok(length) => self.buffer.push(&self.read[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Writes one frame and flushes it.
///
/// # Errors
/// A stream that fails, and a message that is too long for a frame.
pub fn write_frame<T: Serialize>(output: &mut impl Write, message: &T) -> Result<(), StreamError> {
    output.write_all(&encode(message, FRAME_BYTES_MAX)?)?;
    Ok(output.flush()?)
}

/// Takes standard input and output for frames alone: what a C++ library prints goes to standard error from here on.
///
/// # Errors
/// The system's, when a descriptor cannot be duplicated.
pub fn take_standard_streams() -> io::Result<(impl Read, impl Write)> {
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok((io::stdin().lock(), std::fs::File::from(output)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::device::DeviceRequest;
    use proptest::prelude::*;

    /// Gives at most `piece` bytes a read.
    struct Pieces<'a> {
        bytes: &'a [u8],
        piece: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.piece.min(into.len());
            self.bytes.read(&mut into[..length])
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_in_any_pieces(id: u64, texts: Vec<String>, piece in 1usize..100) {
            let request = DeviceRequest::Embed { id, model: "minilm".to_owned(), texts };
            let mut bytes = Vec::new();
            write_frame(&mut bytes, &request).unwrap();
            write_frame(&mut bytes, &request).unwrap();
            let mut reader = FrameReader::new(Pieces { bytes: &bytes, piece });
            prop_assert_eq!(reader.next_message().unwrap(), Some(request.clone()));
            prop_assert_eq!(reader.next_message().unwrap(), Some(request));
            prop_assert_eq!(reader.next_message::<DeviceRequest>().unwrap(), None);
        }

        #[test]
        fn no_part_of_a_frame_passes(id: u64, texts: Vec<String>, part: prop::sample::Index) {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, &DeviceRequest::Embed { id, model: "minilm".to_owned(), texts }).unwrap();
            let part = part.index(bytes.len());
            match FrameReader::new(&bytes[..part]).next_message::<DeviceRequest>() {
                Ok(None) => prop_assert_eq!(part, 0),
                Err(StreamError::CutShort) => prop_assert!(part > 0),
                other => prop_assert!(false, "{part} bytes gave {other:?}"),
            }
        }

        #[test]
        fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            prop_assert!(FrameReader::new(bytes.as_slice()).next_message::<DeviceRequest>().is_err());
        }
    }
}
