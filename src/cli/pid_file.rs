//! The process id beside a node's data, for scripts that signal the node, whoever started it.

use std::io;
use std::path::Path;

/// Whoever reads `path` meanwhile sees the whole number, or the one before.
///
/// # Errors
/// The operating system's.
pub fn write(path: &Path, pid: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{pid}\n"))?;
    std::fs::rename(new, path)
}
