use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const NODE: &str = env!("CARGO_BIN_EXE_node");
pub const NODECTL: &str = env!("CARGO_BIN_EXE_nodectl");

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// Fails the test unless it ended with `code`.
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// `nodectl` without a node.
pub fn nodectl(arguments: &[&str]) -> Ended {
    Command::new(NODECTL).args(arguments).stdin(Stdio::null()).output().unwrap().into()
}

/// Waits until `condition` has a value.
pub fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "after {PATIENCE:?} {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Puts `lines` before the rest of a node's configuration.
fn configure(dir: &Path, lines: &str) {
    let file = dir.join("node.toml");
    let rest = fs::read_to_string(&file).unwrap();
    fs::write(file, format!("{lines}{rest}")).unwrap();
}

/// A node with a directory of its own, alone, ended with the test.
pub struct Node {
    pub dir: TempDir,
    child: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

impl Node {
    pub fn start() -> Self {
        Self::start_prepared(|_| {})
    }

    /// As [`Self::start`], with something done to its directory before.
    pub fn start_prepared(prepare: impl FnOnce(&Path)) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), prepare)
    }

    /// As [`Self::start`], with `lines` at the head of its configuration.
    pub fn start_configured(lines: &str) -> Self {
        Self::start_prepared(|dir| configure(dir, &format!("{lines}\n")))
    }

    /// As [`Self::start_prepared`], on the data that is in `dir`.
    fn start_on(dir: TempDir, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_on_with(dir, &[], prepare)
    }

    fn start_on_with(dir: TempDir, variables: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> Self {
        let config = "listen = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\nslots = 2\n\
                      [process]\nallow = [\"*\"]\n[inference]\nenabled = false\n";
        fs::write(dir.path().join("node.toml"), config).unwrap();
        prepare(dir.path());
        let child = Self::spawn(dir.path(), variables);
        let node = Self { dir, child };
        node.until_it_answers();
        node
    }

    fn spawn(dir: &Path, variables: &[(&str, &str)]) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("node.log")).unwrap();
        Command::new(NODE)
            .envs(variables.iter().copied())
            .arg("--config")
            .arg(dir.join("node.toml"))
            .arg("--data-dir")
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    pub fn until_it_answers(&self) {
        wait_until("the node does not answer", || (self.ctl(&["status"]).code == Some(0)).then_some(()));
    }

    /// What it said of itself so far, in all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("node.log")).unwrap_or_default()
    }

    /// `kill -9`, until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A node that knows `other`'s key and address, and has `lines` at the head of its configuration.
    pub fn start_beside(other: &Self, lines: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_on_beside(tempfile::tempdir().unwrap(), other, lines, prepare)
    }

    /// As [`Self::start_beside`], on the data that is in `dir`.
    pub fn start_on_beside(dir: TempDir, other: &Self, lines: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::join(dir, other, lines, &[], prepare)
    }

    /// As [`Self::start_beside`], with variables in its environment.
    pub fn start_beside_with(other: &Self, variables: &[(&str, &str)]) -> Self {
        Self::join(tempfile::tempdir().unwrap(), other, "", variables, |_| {})
    }

    fn join(dir: TempDir, other: &Self, lines: &str, variables: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> Self {
        let listen = other.json(&["status"])["listen"].clone();
        let key = other.cluster_key();
        let node = Self::start_on_with(dir, variables, |dir| {
            configure(dir, &format!("cluster_key = {key:?}\nbootstrap = {listen}\n{lines}"));
            prepare(dir);
        });
        wait_until("the two do not meet", || {
            let met = |node: &Self| node.json(&["status"])["peers"][0]["state"] == "alive";
            (met(&node) && met(other)).then_some(())
        });
        node
    }

    /// A node that admits those who know its key, for [`Self::start_beside`].
    pub fn start_with_key(lines: &str) -> Self {
        Self::start_prepared(|dir| {
            let key = dir.join("cluster.key");
            magpie_net::ClusterKey::load_or_create(&key).unwrap();
            configure(dir, &format!("cluster_key = {key:?}\n{lines}"));
        })
    }

    /// It listens on the same port in its next life, for those who know its address.
    pub fn keep_its_port(&self) {
        let listen = self.json(&["status"])["listen"].as_array().unwrap().clone();
        let at = |address: &serde_json::Value| address.as_str().unwrap().split("/p2p/").next().unwrap().to_owned();
        let file = self.dir.path().join("node.toml");
        let config = fs::read_to_string(&file).unwrap();
        fs::write(file, config.replace("/ip4/127.0.0.1/tcp/0", &at(&listen[0]))).unwrap();
    }

    fn cluster_key(&self) -> PathBuf {
        self.dir.path().join("cluster.key")
    }

    pub fn signal(&self, wanted: Signal) {
        signal(&self.child, wanted);
    }

    pub fn terminate(&self) {
        signal(&self.child, Signal::TERM);
    }

    /// Waits for its end; the exit code.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Starts it on its data, and does not wait.
    pub fn start_again(&mut self) {
        self.child = Self::spawn(self.dir.path(), &[]);
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("data/control.sock")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(NODECTL);
        command.arg("--control").arg(self.socket()).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn ctl(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().unwrap().into()
    }

    /// `nodectl ... -o json`, which must succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.ctl(&[&["-o", "json"], arguments].concat()).with(0).json()
    }

    pub fn ctl_with_stdin(&self, arguments: &[&str], stdin: &str) -> Ended {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let text = stdin.to_owned();
        let writing = std::thread::spawn(move || drop(pipe.write_all(text.as_bytes())));
        let ended = child.wait_with_output().unwrap().into();
        writing.join().unwrap();
        ended
    }

    /// A file beside the node's data.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}
