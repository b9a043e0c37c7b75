//! Revocations on disk: one small JSON file, replaced whole.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use magpie_core::access::SignedRevocation;
use serde::{Deserialize, Serialize};

use super::disk;

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    revocations: Vec<SignedRevocation>,
}

/// Revocations that could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum RevocationsError {
    #[error("{}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error(
        "{} is damaged ({reason}), and without it whoever was revoked would come in again: remove it only if the other \
         members still know what it said",
        file.display()
    )]
    Damaged { file: PathBuf, reason: String },
    #[error("{} is of version {presented}, this node reads {VERSION}: it was written by a newer one", file.display())]
    Newer { file: PathBuf, presented: u32 },
}

/// What `file` says; nothing if there is none.
///
/// # Errors
/// If it cannot be read, or holds something else.
pub fn read(file: &Path) -> Result<Vec<SignedRevocation>, RevocationsError> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) if source.kind() == io::ErrorKind::InvalidData => {
            return Err(RevocationsError::Damaged { file: file.to_owned(), reason: source.to_string() });
        }
        Err(source) => return Err(RevocationsError::Io { file: file.to_owned(), source }),
        Ok(text) => text,
    };
    let kept: Kept = serde_json::from_str(&text)
        .map_err(|error| RevocationsError::Damaged { file: file.to_owned(), reason: error.to_string() })?;
    match kept.version {
        VERSION => Ok(kept.revocations),
        presented => Err(RevocationsError::Newer { file: file.to_owned(), presented }),
    }
}

/// Replaces what `file` says in one step, durable on return.
///
/// # Errors
/// If the disk does not take it: then the file is as it was.
pub fn write(file: &Path, revocations: &[SignedRevocation]) -> Result<(), RevocationsError> {
    let kept = Kept { version: VERSION, revocations: revocations.to_vec() };
    replace(file, &kept).map_err(|source| RevocationsError::Io { file: file.to_owned(), source })
}

fn replace(file: &Path, kept: &Kept) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut writing = options.open(&fresh)?;
    writing.write_all(&serde_json::to_vec_pretty(kept)?)?;
    writing.sync_all()?;
    fs::rename(&fresh, file)?;
    file.parent().map_or(Ok(()), disk::sync_dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::access::{IssuingKey, Revoked};
    use magpie_core::ids::{PeerId, TicketId};
    use magpie_core::time::Wall;
    use std::os::unix::fs::PermissionsExt;

    fn some() -> Vec<SignedRevocation> {
        let key = IssuingKey::from_seed([9; 32]);
        let revoked = [Revoked::Ticket(TicketId([1; 16])), Revoked::Peer(PeerId([2; 32]))];
        revoked.map(|what| SignedRevocation::issue(&key, what, Wall(1_764_000_000_000))).to_vec()
    }

    #[test]
    fn revocations_survive_the_file_which_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("revocations.json");
        assert_eq!(read(&file).unwrap(), []);
        write(&file, &some()).unwrap();
        write(&file, &some()).unwrap();
        assert_eq!(read(&file).unwrap(), some());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else stays");
    }

    #[test]
    fn a_damaged_file_is_named_and_no_start_goes_on_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("revocations.json");
        for text in ["", "{", "[]", "{\"version\": 1}", "\u{0}"] {
            fs::write(&file, text).unwrap();
            let words = read(&file).unwrap_err().to_string();
            assert!(words.contains("revocations.json is damaged"), "{words}");
        }
        fs::write(&file, "{\"version\": 2, \"revocations\": []}").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("written by a newer one"));
        fs::write(&file, [0xff]).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("is damaged"));
    }
}
