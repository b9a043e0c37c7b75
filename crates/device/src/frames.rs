//! Frames over blocking streams, and the streams that a device process speaks on.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;

use magpie_core::limits::FRAME_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Four bytes of length, big-endian, count what follows: one byte of version and the MessagePack body.
const LENGTH_BYTES: usize = 4;
const VERSION: u8 = 1;

/// A stream that holds no frame, or holds none any more.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {presented} bytes, at most {max} are read or written")]
    TooLong { presented: usize, max: usize },
    #[error("a frame without a version")]
    Empty,
    #[error("a frame of version {presented}, this build speaks {VERSION}")]
    Version { presented: u8 },
    #[error("a frame that is no request or reply: {0}")]
    Body(String),
    #[error("the stream broke: {0}")]
    Stream(#[from] io::Error),
}

/// Reads one frame; `None` when the stream ends between two.
///
/// # Errors
/// A stream that fails or ends within a frame, and bytes that are no frame of this version.
pub fn read_frame<T: DeserializeOwned>(input: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut length = [0; LENGTH_BYTES];
    if !fill_or_end(input, &mut length)? {
        return Ok(None);
    }
    let presented = u32::from_be_bytes(length) as usize;
    if presented > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { presented, max: FRAME_BYTES_MAX });
    }
    let mut frame = vec![0; presented];
    input.read_exact(&mut frame)?;
    match frame.split_first() {
        None => Err(FrameError::Empty),
        Some((&VERSION, body)) => {
            rmp_serde::from_slice(body).map(Some).map_err(|error| FrameError::Body(error.to_string()))
        }
        Some((&presented, _)) => Err(FrameError::Version { presented }),
    }
}

/// Writes one frame and flushes it.
///
/// # Errors
/// A stream that fails, and a body that is too long for a frame.
pub fn write_frame<T: Serialize>(output: &mut impl Write, body: &T) -> Result<(), FrameError> {
    let mut frame = vec![0, 0, 0, 0, VERSION];
    rmp_serde::encode::write_named(&mut frame, body).map_err(|error| FrameError::Body(error.to_string()))?;
    let presented = frame.len() - LENGTH_BYTES;
    let length = u32::try_from(presented).ok().filter(|_| presented <= FRAME_BYTES_MAX);
    let length = length.ok_or(FrameError::TooLong { presented, max: FRAME_BYTES_MAX })?;
    frame[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    output.write_all(&frame)?;
    Ok(output.flush()?)
}

/// Fills `bytes`; `false` when the stream ends before the first of them.
fn fill_or_end(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
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

    fn read(mut bytes: &[u8]) -> Result<Option<DeviceRequest>, FrameError> {
        read_frame(&mut bytes)
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_and_no_part_of_it_passes(id: u64, texts: Vec<String>, part: prop::sample::Index) {
            let request = DeviceRequest::Embed { id, model: "minilm".to_owned(), texts };
            let mut frame = Vec::new();
            write_frame(&mut frame, &request).unwrap();
            let part = part.index(frame.len());
            match read(&frame[..part]) {
                Ok(None) => prop_assert_eq!(part, 0),
                Ok(Some(_)) => prop_assert!(false, "a part passed"),
                Err(_) => prop_assert!(part > 0),
            }
            prop_assert_eq!(read(&frame).unwrap(), Some(request));
        }

        #[test]
        fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            prop_assert!(read(&bytes).is_err());
        }
    }

    #[test]
    fn an_oversize_frame_is_refused_before_it_is_read() {
        let error = read(&u32::MAX.to_be_bytes()).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { presented: 4_294_967_295, .. }), "{error}");
        let long = DeviceRequest::Unload { id: 1, model: "m".repeat(FRAME_BYTES_MAX) };
        assert!(matches!(write_frame(&mut Vec::new(), &long), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(read(&[0, 0, 0, 1, 9]).unwrap_err().to_string(), "a frame of version 9, this build speaks 1");
        assert!(matches!(read(&[0; 4]), Err(FrameError::Empty)));
    }
}
