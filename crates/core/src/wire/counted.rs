//! How long something is, without the bytes.

use std::io;

/// Counts what is written to it, and keeps nothing.
#[derive(Debug, Default)]
pub struct Counted(pub usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
