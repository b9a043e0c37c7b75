//! Bytes in and out: frames of every byte stream (control socket, peers, device process), and stored records.
//!
//! A frame is a big-endian u32, the length of what follows; one version byte; a MessagePack body with field names.
//! A record is the version byte and the body: whoever stores it knows its length.
//!
//! Architecture invariant: every limit is checked before the memory it bounds is allocated.

mod body;
mod counted;
mod frame;
mod record;
mod walk;

pub use body::{DecodeError, EncodeError, decode, decode_frame, encode};
pub use counted::Counted;
pub use frame::{FrameBuffer, FrameError};
pub use record::{DecodeRecordError, decode_record, encode_record};

/// The version of a frame's body that this build writes and reads. It changes only where an added field does not suffice.
pub const WIRE_VERSION: u8 = 1;
/// The version of stored records that this build writes; it reads that one and all before it.
pub const RECORD_VERSION: u8 = 1;
