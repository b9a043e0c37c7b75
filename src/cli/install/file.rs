//! A host's file: read with a bound, replaced in one step, with what it was before beside it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use magpie_net::regular_file;

/// Hosts' files are written by people.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What became of the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// It said so already, and was left alone.
    Same,
    New,
    Changed {
        kept: PathBuf,
    },
}

/// The text of a file, if it is there.
///
/// # Errors
/// If it is no text, too large, or cannot be read.
pub fn read(file: &Path) -> Result<Option<String>, String> {
    let opened = match regular_file::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| "it is not UTF-8".to_owned())
}

/// Puts `after` where `before` was, with the same mode. A link stays one. `make_dirs`: directories that are missing are
/// made, too.
///
/// # Errors
/// What the disk says; then the file is as it was.
pub fn replace(file: &Path, before: Option<&str>, after: &str, make_dirs: bool) -> io::Result<Written> {
    if before == Some(after) {
        return Ok(Written::Same);
    }
    let Some(before) = before else {
        if let Some(dir) = file.parent().filter(|_| make_dirs) {
            fs::create_dir_all(dir)?;
        }
        let mut made = OpenOptions::new().write(true).create_new(true).open(file)?;
        made.write_all(after.as_bytes())?;
        made.sync_all()?;
        return Ok(Written::New);
    };
    let file = file.canonicalize()?;
    let beside = |ending: &str| {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        file.with_file_name(name)
    };
    let (kept, new) = (beside(".before-magpie"), beside(".magpie-new"));
    let mode = file.metadata()?.permissions();
    put(&kept, before, mode.clone())?;
    put(&new, after, mode)?;
    fs::rename(&new, &file)?;
    Ok(Written::Changed { kept })
}

fn put(file: &Path, text: &str, mode: fs::Permissions) -> io::Result<()> {
    // What a crash left there may have another mode.
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut made = OpenOptions::new().write(true).create_new(true).open(file)?;
    made.set_permissions(mode)?;
    made.write_all(text.as_bytes())?;
    made.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_change_keeps_mode_link_and_what_was_before() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.json"), dir.path().join("link.json"));
        assert_eq!(replace(&real, None, "{}", true).unwrap(), Written::New);
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&real, &link).unwrap();
        assert_eq!(replace(&link, Some("{}"), "{}", true).unwrap(), Written::Same);
        let kept = dir.path().canonicalize().unwrap().join("real.json.before-magpie");
        assert_eq!(replace(&link, Some("{}"), "[]", true).unwrap(), Written::Changed { kept: kept.clone() });
        assert!(link.is_symlink());
        assert_eq!((read(&real).unwrap().as_deref(), read(&kept).unwrap().as_deref()), (Some("[]"), Some("{}")));
        for file in [&real, &kept] {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_is_no_text_or_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        assert_eq!(read(&file), Ok(None));
        fs::write(&file, [0xff]).unwrap();
        assert_eq!(read(&file), Err("it is not UTF-8".to_owned()));
        fs::File::create(&file).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(read(&file).unwrap_err().contains("more than"));
    }
}
