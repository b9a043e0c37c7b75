//! What happened, in order: hashed always, printed on request.

use std::fmt::Write;

/// The history of one run. Two runs of one seed have equal hashes, or something in them is not deterministic.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    /// What was noted, if it is to be printed.
    lines: Option<String>,
    noted: u64,
}

/// The parameters of 64-bit FNV-1a.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Trace {
    pub fn new(keep_lines: bool) -> Self {
        Self { hash: OFFSET, lines: keep_lines.then(String::new), noted: 0 }
    }

    /// Notes a fact by its name and its numbers; `words` are made only if lines are kept.
    pub fn note(&mut self, at_ms: u64, what: &'static str, facts: &[u64], words: impl FnOnce() -> String) {
        self.noted += 1;
        what.bytes().for_each(|byte| self.mix(u64::from(byte)));
        self.mix(at_ms);
        facts.iter().for_each(|fact| self.mix(*fact));
        if let Some(lines) = &mut self.lines {
            // Writing to a String does not fail.
            let _ = writeln!(lines, "{at_ms:>8} {what:<10} {}", words());
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(PRIME).rotate_left(23);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Facts noted so far.
    pub fn len(&self) -> u64 {
        self.noted
    }

    pub fn is_empty(&self) -> bool {
        self.noted == 0
    }

    pub fn lines(&self) -> &str {
        self.lines.as_deref().unwrap_or_default()
    }
}
