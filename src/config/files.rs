//! The files that a configuration names, and without which a node does not start.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use magpie_core::access::{SignedTicket, TicketError};
use magpie_core::limits;
use magpie_net::{ClusterKey, SecretFileError, regular_file};

use super::{ConfigError, NodeConfig, line_of};
use crate::mcp::http::tokens::{TokenFile, TokensError};

/// What the system takes as the path of a socket.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// A ticket, and the blanks that a person leaves around it.
const TICKET_FILE_BYTES_MAX: u64 = 2 * limits::TICKET_BYTES_MAX as u64;
/// The longest file of a configuration that is read.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The text of a configuration file.
///
/// # Errors
/// If it is none, too long, or cannot be read.
pub(super) fn text_of(file: &Path) -> Result<String, ConfigError> {
    regular_file::read_text(file, CONFIG_BYTES_MAX)
        .map_err(|source| ConfigError::Read { file: file.to_owned(), source })
}

impl NodeConfig {
    /// Whether the files that it names can be used, and its control socket be made. Blocks.
    ///
    /// # Errors
    /// The first problem, beginning with its key.
    pub fn check_files(&self) -> Result<(), String> {
        if let Some(file) = &self.cluster_key {
            load_cluster_key(file)?;
        }
        if let Some(file) = &self.ticket_file {
            load_ticket(file)?;
        }
        if let (Some(_), Some(file)) = (self.http.listen, &self.http.tokens) {
            TokenFile::read(file).map_err(|error: TokensError| format!("http.tokens: {error}"))?;
        }
        if let Some(github) = &self.github {
            github.resolve(|name| std::env::var_os(name)).map_err(|error| format!("[github]: {error}"))?;
        }
        self.check_control()
    }

    fn check_control(&self) -> Result<(), String> {
        let Ok(dir) = self.resolved_data_dir() else { return Ok(()) };
        let in_data_dir = || dir.join("control.sock");
        let socket = self.control.clone().unwrap_or_else(in_data_dir);
        let (at, len) = (socket.display(), socket.as_os_str().len());
        if len > SOCKET_PATH_BYTES_MAX {
            return Err(format!(
                "control: {at} has {len} bytes, and the path of a socket at most {SOCKET_PATH_BYTES_MAX}: set \
                 `control` to a shorter one"
            ));
        }
        let Some(control) = &self.control else { return Ok(()) };
        let folder = control.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if folder != dir && !folder.is_dir() {
            return Err(format!(
                "control: there is no directory {} that the socket could be in: make it, or name another path",
                folder.display()
            ));
        }
        match std::fs::metadata(control) {
            Ok(there) if !there.file_type().is_socket() => {
                Err(format!("control: {at} is there, and no socket: name another path"))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// The key that `cluster_key` names.
///
/// # Errors
/// Why it cannot be used, beginning with the key of the configuration, and what to do.
pub fn load_cluster_key(file: &Path) -> Result<ClusterKey, String> {
    ClusterKey::load(file).map_err(|error| match error {
        SecretFileError::Io { path, source } if source.kind() == io::ErrorKind::NotFound => format!(
            "cluster_key: there is no file {0}: copy it from another node of the mesh, or make the key of a new mesh: \
             (umask 077; openssl rand -hex 32 > {0})",
            path.display()
        ),
        error => format!("cluster_key: {error}"),
    })
}

/// The ticket that `ticket_file` names.
///
/// # Errors
/// Why it cannot be used, beginning with the key of the configuration, and what to do.
pub fn load_ticket(file: &Path) -> Result<SignedTicket, String> {
    let wish = "have one issued where the cluster key is: `nodectl token issue --role peer --peer PEER`";
    read_ticket(file).map_err(|problem| format!("ticket_file: {}: {problem}; {wish}", file.display()))
}

/// The ticket in `file`.
///
/// # Errors
/// Why there is none, without the file's name.
pub fn read_ticket(file: &Path) -> Result<SignedTicket, String> {
    let text = regular_file::read_text(file, TICKET_FILE_BYTES_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    })?;
    text.trim().parse().map_err(|error: TicketError| error.to_string())
}

impl ConfigError {
    /// A problem of what a configuration names, with the line of `file` that names it, if one does.
    pub fn of_named(problem: String, file: Option<&Path>) -> Self {
        let line = file.and_then(|file| Some((file, line_of(&text_of(file).ok()?, &problem)?)));
        match line {
            Some((file, line)) => Self::Wrong { file: file.to_owned(), line, problem },
            None => Self::Invalid { problem },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn problem(lines: &str) -> String {
        let config: NodeConfig = toml::from_str(lines).unwrap();
        config.check_files().unwrap_err()
    }

    #[test]
    fn what_a_node_would_not_start_without_is_told_by_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let absent = at("absent");
        let told = problem(&format!("cluster_key = {absent:?}\n"));
        assert!(told.starts_with("cluster_key: there is no file") && told.contains("openssl rand"), "{told}");
        let told = problem("cluster_key = \"/etc/passwd\"\n");
        assert!(told.starts_with("cluster_key: /etc/passwd holds no cluster key") && !told.contains("chmod"), "{told}");
        assert!(problem("cluster_key = \"/dev/zero\"\n").contains("no regular file"));
        let told = problem(&format!("ticket_file = {absent:?}\n"));
        assert!(told.starts_with("ticket_file: ") && told.contains("nodectl token issue"), "{told}");
        assert!(problem("ticket_file = \"/dev/zero\"\n").contains("no regular file"));
        let http = |file: &str| format!("[http]\nlisten = \"127.0.0.1:0\"\ntokens = {file:?}\n");
        assert!(problem(&http(&absent)).starts_with("http.tokens: there is no file"));
        let config: NodeConfig = toml::from_str(&format!("[http]\ntokens = {absent:?}\n")).unwrap();
        assert_eq!(config.check_files(), Ok(()), "no HTTP is served");
    }

    #[test]
    fn a_control_socket_that_cannot_be_made_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        assert!(problem(&format!("control = {:?}\n", at("absent/c.sock"))).contains("there is no directory"));
        let long = at(&"x".repeat(120));
        assert!(problem(&format!("control = {long:?}\n")).contains("at most 107"));
        assert!(problem(&format!("data_dir = {long:?}\n")).contains("at most 107"));
        std::fs::write(at("file"), "mine").unwrap();
        std::fs::set_permissions(at("file"), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(problem(&format!("control = {:?}\n", at("file"))).contains("no socket"));
        let inside = format!("data_dir = {:?}\ncontrol = {:?}\n", at("data"), at("data/c.sock"));
        let config: NodeConfig = toml::from_str(&inside).unwrap();
        assert_eq!(config.check_files(), Ok(()), "the first start makes it");
    }
}
