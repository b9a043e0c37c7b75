//! Where an attempt's log goes while it runs, as it comes.

use std::fmt;
use std::sync::Arc;

/// Hears each piece of text at once, and never waits. By default nobody hears.
#[derive(Clone, Default)]
pub struct LogTap(Option<Arc<dyn Fn(String) + Send + Sync>>);

impl LogTap {
    pub fn new(hear: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    pub fn tell(&self, text: String) {
        if let Some(hear) = self.0.as_ref().filter(|_| !text.is_empty()) {
            hear(text);
        }
    }
}

impl fmt::Debug for LogTap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LogTap")
    }
}

/// Makes text of bytes that come in pieces: a letter that two pieces share is told with the second.
#[derive(Debug, Default)]
pub struct TextPieces {
    /// The beginning of a letter: three bytes at most.
    begun: Vec<u8>,
}

impl TextPieces {
    /// The text up to the last whole letter; what is none shows as U+FFFD.
    pub fn take(&mut self, bytes: &[u8]) -> String {
        self.begun.extend_from_slice(bytes);
        let whole = self.begun.len() - unfinished(&self.begun);
        let text = String::from_utf8_lossy(&self.begun[..whole]).into_owned();
        self.begun.drain(..whole);
        text
    }

    /// What came of a letter that never ended.
    pub fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned()
    }
}

/// How many bytes at the end are the beginning of a letter that may go on.
fn unfinished(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let is_begun = |at: &usize| {
        std::str::from_utf8(&bytes[*at..]).is_err_and(|error| error.error_len().is_none() && error.valid_up_to() == 0)
    };
    (from..bytes.len()).find(is_begun).map_or(0, |at| bytes.len() - at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_letter_in_two_pieces_is_one() {
        let mut pieces = TextPieces::default();
        let bytes = "aä€\u{1f600}".as_bytes();
        let told: Vec<String> = bytes.iter().map(|byte| pieces.take(&[*byte])).collect();
        assert_eq!(told.concat(), "aä€\u{1f600}");
        assert_eq!((told[0].as_str(), told[1].as_str(), told[2].as_str()), ("a", "", "ä"));
        assert_eq!(pieces.take(b"\xe2\x82"), "");
        assert_eq!(pieces.rest(), "\u{fffd}");
        assert_eq!(pieces.take(b"\xff\xe2x"), "\u{fffd}\u{fffd}x", "what can be no letter waits for nothing");
    }

    proptest! {
        #[test]
        fn pieces_make_the_text_of_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(0..200usize, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut pieces = TextPieces::default();
            let mut text: String = cuts.windows(2).map(|pair| pieces.take(&bytes[pair[0]..pair[1]])).collect();
            text += &pieces.rest();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
