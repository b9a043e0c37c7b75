//! What commands that follow have in common.

use magpie_core::limits;
use magpie_core::stream::{Gone, Inlet, Piece, Taken, Window};
use serde::Serialize;

use super::exit::{CommandError, Exit};
use super::output::Format;

/// What is asked for at a time.
pub const WINDOW: Window = Window { len_max: limits::STREAM_PIECE_LEN_MAX, bytes_max: limits::STREAM_PIECE_BYTES_MAX };

/// Takes what a node answered. What does not follow is no accident of the way, since one question is out at a time.
pub fn take<R>(inlet: &mut Inlet, piece: Option<Piece<R>>) -> Result<Option<Taken<R>>, CommandError> {
    let taken = piece.map(|piece| inlet.take(piece)).transpose();
    taken.map_err(|error| {
        let what = format!("the node answered what does not follow in the stream: {error}; try once more");
        CommandError::new(Exit::Unreachable, what)
    })
}

/// Of a stream in JSON, where records are missing.
#[derive(Serialize)]
struct Missing {
    gone: Gone,
}

/// Says which records nobody keeps any more.
pub fn say_gone(format: Format, gone: Option<Gone>) -> Result<(), CommandError> {
    gone.map_or(Ok(()), |gone| format.failed_line(&Missing { gone }, || gone.to_string()))
}

#[cfg(test)]
mod tests {
    use magpie_core::stream::StreamEpoch;

    use super::*;

    #[test]
    fn what_does_not_follow_is_an_error_and_not_passed_over() {
        let mut inlet = Inlet::new(None);
        let piece = |first| Some(Piece { epoch: StreamEpoch(1), first, kept_from: 1, records: vec![7], ended: false });
        assert_eq!(take(&mut inlet, piece(1)).unwrap().unwrap().records, [7]);
        assert_eq!(take::<u32>(&mut inlet, None).unwrap(), None);
        let error = take(&mut inlet, piece(5)).unwrap_err();
        assert!(error.to_string().contains("record 2 is next, presented 5"), "{error}");
    }
}
