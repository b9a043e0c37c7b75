//! What commands that follow have in common.

use magpie_core::limits;
use magpie_core::stream::{Gone, Window};
use serde::Serialize;

use super::exit::CommandError;
use super::output::Format;

/// What is asked for at a time.
pub const WINDOW: Window = Window { len_max: limits::STREAM_PIECE_LEN_MAX, bytes_max: limits::STREAM_PIECE_BYTES_MAX };

/// Of a stream in JSON, where records are missing.
#[derive(Serialize)]
struct Missing {
    gone: Gone,
}

/// Says which records nobody keeps any more.
pub fn say_gone(format: Format, gone: Option<Gone>) -> Result<(), CommandError> {
    gone.map_or(Ok(()), |gone| format.failed_line(&Missing { gone }, || gone.to_string()))
}
