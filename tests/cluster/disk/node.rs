use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A real node whose data directory is where a test wants it; its log and configuration are elsewhere.
pub struct TestNode {
    dir: TempDir,
    data: PathBuf,
    child: Child,
}

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Fails the test unless it ended with `code`.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Waits until `condition` has a value.
#[track_caller]
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

impl Drop for TestNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

impl TestNode {
    pub fn start(data: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = "listen = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\nslots = 4\ndrain_deadline = \"1s\"\n\
                      [process]\nallow = [\"*\"]\n[inference]\nenabled = false\n";
        fs::write(dir.path().join("node.toml"), config).unwrap();
        let child = spawn(dir.path(), data);
        let node = Self { dir, data: data.to_owned(), child };
        node.until_it_answers();
        node
    }

    pub fn start_again(&mut self) {
        self.kill();
        self.child = spawn(self.dir.path(), &self.data);
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn until_it_answers(&self) {
        wait_until("the node does not answer", || (self.ctl(&["status"]).code == Some(0)).then_some(()));
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("node.log")).unwrap_or_default()
    }

    pub fn socket(&self) -> PathBuf {
        self.data.join("control.sock")
    }

    pub fn ctl(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodectl"));
        command.arg("--control").arg(self.socket()).args(arguments).stdin(Stdio::null());
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// `nodectl ... -o json`, which must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.ctl(&[&["-o", "json"], arguments].concat()).with(0).json()
    }

    /// The id of a task that was accepted.
    #[track_caller]
    pub fn submit(&self, arguments: &[&str]) -> String {
        let accepted = self.json(&[&["task", "submit"], arguments].concat());
        accepted["id"].as_str().unwrap().to_owned()
    }

    pub fn state(&self, id: &str) -> String {
        self.json(&["task", "get", id])["state"].as_str().unwrap().to_owned()
    }

    /// File descriptors that it has open.
    pub fn open_files(&self) -> u64 {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count() as u64
    }

    /// Lets it have no more than so much of something; what it has already stays. Returns what it may have had before.
    pub fn limit(&self, resource: Resource, current: Option<u64>) -> Option<u64> {
        let limit = Rlimit { current, maximum: getrlimit(resource).maximum };
        prlimit(Some(Pid::from_child(&self.child)), resource, limit).unwrap().current
    }
}

fn spawn(dir: &Path, data: &Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("node.log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
    command.arg("--config").arg(dir.join("node.toml")).arg("--data-dir").arg(data);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}
