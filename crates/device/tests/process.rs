//! The real binary, spoken to as a node does it.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use magpie_core::device::{DeviceReply, DeviceRequest};
use magpie_device::frames::{FrameReader, write_frame};
use support::{TINY_DIMENSIONS, minilm, write_tiny_model};

struct Process {
    child: Child,
    stream: UnixStream,
    replies: FrameReader<UnixStream>,
}

impl Process {
    /// Starts the process and takes its first frame.
    fn start() -> Self {
        let (stream, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-device"));
        command.env("OMP_WAIT_POLICY", "PASSIVE").env("OMP_NUM_THREADS", "2").stderr(Stdio::piped());
        command.stdin(OwnedFd::from(theirs.try_clone().unwrap())).stdout(OwnedFd::from(theirs));
        let mut process =
            Self { child: command.spawn().unwrap(), replies: FrameReader::new(stream.try_clone().unwrap()), stream };
        // The command holds the other end, without which the stream never ends.
        drop(command);
        let ready = process.receive();
        assert!(matches!(&ready, DeviceReply::Ready { device, threads: 2, .. } if device == "cpu"), "{ready:?}");
        process
    }

    fn receive(&mut self) -> DeviceReply {
        self.replies.next_message().unwrap().expect("the process still speaks")
    }

    fn request(&mut self, request: &DeviceRequest) -> DeviceReply {
        write_frame(&mut self.stream, request).unwrap();
        self.receive()
    }

    fn load(&mut self, model: &str, directory: &Path) -> DeviceReply {
        let directory = directory.display().to_string();
        self.request(&DeviceRequest::Load { id: 1, model: model.to_owned(), directory })
    }

    fn embed(&mut self, model: &str, texts: &[&str]) -> DeviceReply {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.request(&DeviceRequest::Embed { id: 2, model: model.to_owned(), texts })
    }

    /// Waits for the end and returns how it came, with what was logged.
    fn end(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

fn failure(reply: DeviceReply) -> (String, String) {
    match reply {
        DeviceReply::Failed { code, message, .. } => (code, message),
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn wave(place: usize) -> f32 {
    (place as f32).sin()
}

#[test]
fn a_tiny_model_is_loaded_used_and_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    write_tiny_model(directory.path(), wave);
    let mut process = Process::start();
    let loaded = process.load("tiny", directory.path());
    assert!(matches!(loaded, DeviceReply::Loaded { id: 1, dimensions: 8, tokens_max: 16, .. }), "{loaded:?}");
    match process.embed("tiny", &["red fox", "", "fox runs runs"]) {
        DeviceReply::Embedded { id: 2, vectors, tokens, .. } => {
            assert_eq!((vectors.len(), tokens), (3, 4 + 2 + 5));
            assert!(vectors.iter().all(|vector| vector.len() == TINY_DIMENSIONS));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(process.embed("tiny", &[]), DeviceReply::Embedded { tokens: 0, .. }));
    let forgotten = process.request(&DeviceRequest::Unload { id: 3, model: "tiny".to_owned() });
    assert_eq!(forgotten, DeviceReply::Unloaded { id: 3 });
    assert_eq!(failure(process.embed("tiny", &["red"])).0, "model_not_loaded");
}

#[test]
fn the_fetched_model_runs_behind_the_socket() {
    let mut process = Process::start();
    let loaded = process.load("minilm", &minilm());
    assert!(matches!(loaded, DeviceReply::Loaded { dimensions: 384, tokens_max: 256, .. }), "{loaded:?}");
    let long = "word ".repeat(100_000);
    match process.embed("minilm", &["a cat", &long]) {
        DeviceReply::Embedded { vectors, tokens, .. } => assert_eq!((vectors.len(), tokens), (2, 4 + 256)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn damaged_weights_are_refused_and_the_process_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    write_tiny_model(directory.path(), wave);
    let path = directory.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let mut process = Process::start();
    for part in [0, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..part]).unwrap();
        let (code, message) = failure(process.load("tiny", directory.path()));
        assert_eq!(code, "model_damaged", "{part} bytes: {message}");
        assert!(message.contains("model.safetensors"), "{message}");
    }
    let mut wrong_header = whole.clone();
    wrong_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&path, wrong_header).unwrap();
    assert_eq!(failure(process.load("tiny", directory.path())).0, "model_damaged");
    fs::write(&path, whole).unwrap();
    assert!(matches!(process.load("tiny", directory.path()), DeviceReply::Loaded { .. }));
}

#[test]
fn weights_of_another_shape_are_refused_by_tensor() {
    let directory = tempfile::tempdir().unwrap();
    write_tiny_model(directory.path(), wave);
    let config = directory.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut process = Process::start();
    for (from, to, word) in [
        ("\"intermediate_size\": 16", "\"intermediate_size\": 32", "has shape"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "it holds encoder.layer.1"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "lacks the tensor encoder.layer.2"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1000000", "lacks the tensor encoder.layer.2"),
    ] {
        fs::write(&config, text.replace(from, to)).unwrap();
        let (code, message) = failure(process.load("tiny", directory.path()));
        assert_eq!(code, "model_unsupported");
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn missing_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start();
    for file in ["tokenizer.json", "model.safetensors", "config.json"] {
        write_tiny_model(directory.path(), wave);
        fs::remove_file(directory.path().join(file)).unwrap();
        let (code, message) = failure(process.load("tiny", directory.path()));
        assert_eq!(code, "model_missing");
        assert!(message.contains(file) && message.contains("scripts/fetch.sh"), "{message}");
    }
    assert_eq!(failure(process.load("tiny", Path::new("/nowhere"))).0, "model_missing");
    assert_eq!(failure(process.embed("tiny", &["red"])).0, "model_not_loaded");
}

#[test]
fn a_vector_that_is_not_finite_never_leaves() {
    let directory = tempfile::tempdir().unwrap();
    write_tiny_model(directory.path(), |place| if place == 40 { f32::NAN } else { wave(place) });
    let mut process = Process::start();
    assert!(matches!(process.load("tiny", directory.path()), DeviceReply::Loaded { .. }));
    let (code, _) = failure(process.embed("tiny", &["fox"]));
    assert_eq!(code, "not_finite");
}

#[test]
fn a_closed_stream_ends_the_process_quietly() {
    let process = Process::start();
    process.stream.shutdown(Shutdown::Write).unwrap();
    let (status, log) = process.end();
    assert!(status.success(), "{status}: {log}");
    assert_eq!(log, "");
}

#[test]
fn garbage_ends_the_process_with_a_word() {
    let mut process = Process::start();
    process.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(1));
    assert!(log.starts_with("node-device stops: the stream carries no frames: "), "{log}");
}
