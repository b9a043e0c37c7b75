//! `nodectl doctor`: planted faults, and what it says of each.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{NODECTL, Node, nodectl, wait_until};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What the doctor says of the data in `dir` and the configuration beside it, and its exit code.
fn examine(dir: &Path) -> (Option<i32>, Vec<Value>) {
    let (config, data) = (dir.join("node.toml"), dir.join("data"));
    let ended = nodectl(&["doctor", "-o", "json", "--config", text(&config), "--data-dir", text(&data)]);
    (ended.code, ended.json()["checks"].as_array().unwrap().clone())
}

fn of<'a>(checks: &'a [Value], name: &str, verdict: &str) -> Option<&'a Value> {
    checks.iter().find(|check| check["name"] == name && check["verdict"] == verdict)
}

/// What people read of it: each fault that is planted here with the doctor's answer.
const PAGE: &str = include_str!("../../docs/doctor.md");

/// Whether the page has such an answer in one of its lines. Ports and times are others there.
fn is_on_the_page(name: &str, found: &str, remedy: &str) -> bool {
    let without_numbers = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
    let [found, remedy] = [found, remedy].map(without_numbers);
    let holds = |line: &str| line.contains(&format!("| `{name}` |")) && line.contains(&found) && line.contains(&remedy);
    PAGE.lines().map(without_numbers).any(|line| holds(&line))
}

/// Waits until the doctor finds a fault of this name that is told in these words, with such a remedy.
fn finds(dir: &Path, name: &str, found: &str, remedy: &str) {
    assert!(is_on_the_page(name, found, remedy), "docs/doctor.md has no line with {name}, {found:?} and {remedy:?}");
    let mut told = Vec::new();
    let end = std::time::Instant::now() + crate::fixture::PATIENCE;
    while std::time::Instant::now() < end {
        let (code, checks) = examine(dir);
        let faults = checks.iter().filter(|check| check["name"] == name && check["verdict"] == "fault");
        let has =
            |check: &&Value, field: &str, words: &str| check[field].as_str().is_some_and(|said| said.contains(words));
        if faults.clone().any(|check| has(&check, "found", found) && has(&check, "remedy", remedy)) {
            assert_eq!(code, Some(1), "a fault is an exit code");
            return;
        }
        told = checks;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{name}: {found:?} with {remedy:?} is not among {told:#?}");
}

/// A directory as a node has it, without a node.
fn without_a_node(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    let config = format!("mdns = false\n{config}\n[inference]\nenabled = false\n");
    fs::write(dir.path().join("node.toml"), config).unwrap();
    dir
}

#[test]
fn a_sound_node_has_no_fault_and_a_person_can_read_it() {
    let node = Node::start_with_key("");
    let _other = Node::start_beside(&node, "", |_| {});
    let (code, checks) = examine(node.dir.path());
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(code, Some(0), "{checks:#?}");
    for name in [
        "config",
        "node",
        "data_dir",
        "identity_key",
        "admission",
        "disk",
        "ports",
        "peers",
        "reachability",
        "clock",
        "models",
        "device",
        "gpu",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let told = node.ctl(&["doctor"]).with(0).stdout;
    assert!(told.contains("ok       node ") && told.contains("\n0 faults, "), "{told}");
}

#[test]
fn no_node_and_a_socket_that_a_dead_one_left_are_told_apart() {
    let dir = without_a_node("");
    let absent = dir.path().join("data").join("control.sock");
    let told = nodectl(&["doctor", "--control", text(&absent)]).with(1).stdout;
    assert!(told.contains("FAULT    node") && told.contains("there is no socket"), "{told}");
    assert!(told.contains("start it: `node"), "{told}");
    let mut node = Node::start();
    node.kill();
    let told = node.ctl(&["doctor"]).with(1).stdout;
    assert!(told.contains("FAULT    node") && told.contains("is left from a node that ended"), "{told}");
}

#[test]
fn a_sound_configuration_has_no_fault_before_its_first_start() {
    let dir = without_a_node("listen = [\"/ip4/127.0.0.1/tcp/0\"]");
    let (code, checks) = examine(dir.path());
    assert_eq!(code, Some(0), "{checks:#?}");
    let told = of(&checks, "node", "warning").unwrap();
    assert!(told["found"].as_str().unwrap().contains("no node runs here"), "{told:#}");
}

#[test]
fn a_node_that_hangs_and_one_with_its_socket_elsewhere_are_told() {
    let node = Node::start();
    let elsewhere = node.dir.path().join("elsewhere.sock");
    let ended = Command::new(NODECTL)
        .args([
            "doctor",
            "-o",
            "json",
            "--control",
            text(&elsewhere),
            "--data-dir",
            text(&node.dir.path().join("data")),
        ])
        .output()
        .unwrap();
    let told = String::from_utf8(ended.stdout).unwrap();
    assert!(told.contains("holds the data directory"), "{told}");
    node.signal(Signal::STOP);
    finds(node.dir.path(), "node", "does not answer within 5 s", "kill -CONT");
    node.signal(Signal::CONT);
}

#[test]
fn a_wrong_configuration_is_told_with_its_line() {
    let dir = without_a_node("slotz = 3");
    finds(dir.path(), "config", "node.toml:2: unknown field `slotz`", "--check-config");
}

#[test]
fn a_data_directory_that_is_a_file_is_told() {
    let dir = without_a_node("");
    fs::remove_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data"), "x").unwrap();
    finds(dir.path(), "data_dir", "is not a directory", "move the file away");
}

#[test]
fn keys_that_others_may_read_or_that_are_damaged_are_told() {
    let dir = without_a_node("cluster_key = \"absent.key\"");
    let key = dir.path().join("data/identity.key");
    magpie_net::NodeKey::load_or_create(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    finds(dir.path(), "identity_key", "may be read by others (mode 644)", "chmod 600");
    finds(dir.path(), "admission", "absent.key", "copy the file from another node");
    fs::write(&key, "magpie-node-1 nonsense").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    finds(dir.path(), "identity_key", "holds no node key", "restore it from a backup");
    let ticket = dir.path().join("ticket");
    fs::write(&ticket, "magpie-ticket nonsense").unwrap();
    let config = fs::read_to_string(dir.path().join("node.toml")).unwrap();
    fs::write(dir.path().join("node.toml"), format!("ticket_file = {ticket:?}\n{config}")).unwrap();
    finds(dir.path(), "admission", "the ticket ", "have another issued");
    let rules = dir.path().join("data/peer.rules");
    fs::write(&rules, "deny\n").unwrap();
    fs::set_permissions(&rules, fs::Permissions::from_mode(0o600)).unwrap();
    finds(dir.path(), "admission", "peer.rules:1: \"deny\" is no rule", "correct the line");
}

#[test]
fn a_cluster_key_that_was_replaced_is_told() {
    let node = Node::start_with_key("");
    let newest = node.dir.path().join("cluster-2.key");
    magpie_net::ClusterKey::load_or_create(&newest).unwrap();
    node.ctl(&["key", "rotate", text(&newest), "--overlap", "24h"]).with(0);
    let (code, checks) = examine(node.dir.path());
    let told = of(&checks, "cluster_key", "warning").unwrap();
    let found = told["found"].as_str().unwrap();
    assert!(found.contains("the former one admits until") && found.contains("was replaced"), "{told:#}");
    assert_eq!(code, Some(0), "a warning is no fault");
    let file = node.dir.path().join("node.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("cluster.key", "cluster-2.key")).unwrap();
    let (_, checks) = examine(node.dir.path());
    assert!(of(&checks, "cluster_key", "ok").is_some(), "{checks:#?}");
    let other = node.dir.path().join("cluster-3.key");
    magpie_net::ClusterKey::load_or_create(&other).unwrap();
    fs::write(&file, config.replace("cluster.key", "cluster-3.key")).unwrap();
    let (_, checks) = examine(node.dir.path());
    let told = of(&checks, "cluster_key", "warning").unwrap();
    assert!(told["found"].as_str().unwrap().contains("is about other keys"), "{told:#}");
    fs::write(node.dir.path().join("data/cluster.rotation"), "nonsense").unwrap();
    finds(node.dir.path(), "cluster_key", "cluster.rotation", "restore it from a backup");
}

#[test]
fn a_port_that_another_process_has_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = without_a_node(&format!("listen = [\"/ip4/127.0.0.1/tcp/{port}\"]"));
    finds(dir.path(), "ports", &format!("tcp port {port} of 127.0.0.1 is taken"), "ss -tlnp");
}

#[test]
fn a_disk_that_is_nearly_full_is_told() {
    let dir = without_a_node("");
    let Some(_disk) = crate::room::SmallDisk::mount(&dir.path().join("data")) else {
        return println!("SKIPPED: this process may not mount a file system of its own; run it as root");
    };
    finds(dir.path(), "disk", "16.0 MiB free on the volume of", "free some space");
}

#[test]
fn a_bootstrap_address_where_nobody_listens_is_told_with_a_node_and_without() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let line = format!("bootstrap = [\"/ip4/127.0.0.1/tcp/{port}\"]");
    let dir = without_a_node(&line);
    finds(dir.path(), "bootstrap", "Connection refused", "start the node there");
    let node = Node::start_configured(&line);
    finds(node.dir.path(), "bootstrap", "Connection refused", "start the node there");
}

#[test]
fn a_bootstrap_peer_of_another_cluster_and_one_with_another_id_are_told() {
    let there = Node::start_with_key("");
    let address = there.json(&["status"])["listen"][0].as_str().unwrap().to_owned();
    let bare = address.split("/p2p/").next().unwrap();
    let stranger = Node::start_with_key(&format!("bootstrap = [{bare:?}]\n"));
    finds(stranger.dir.path(), "membership", "did not admit this node", "the same cluster key");
    let other = stranger.json(&["status"])["peer_id"].as_str().unwrap().to_owned();
    let misled = Node::start_configured(&format!("bootstrap = [\"{bare}/p2p/{other}\"]"));
    finds(misled.dir.path(), "bootstrap", "another node answers at", "the id after /p2p/");
}

#[test]
fn a_clock_that_is_wrong_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = wrong_clock(dir.path()) else {
        return println!("SKIPPED: there is no C compiler to make a wrong clock with");
    };
    let node = Node::start_with_key("");
    let _late = Node::start_beside_with(&node, &[("LD_PRELOAD", text(&library))]);
    finds(
        node.dir.path(),
        "clock",
        "is 1h00m ahead of this machine's (1 of 1 peers differ)",
        "timedatectl set-ntp true",
    );
}

/// A library that shows a process the time of an hour later.
fn wrong_clock(dir: &Path) -> Option<std::path::PathBuf> {
    let (source, library) = (dir.join("later.c"), dir.join("later.so"));
    let code = "#include <time.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
                int clock_gettime(clockid_t clock, struct timespec *time) {\n\
                  int result = syscall(SYS_clock_gettime, clock, time);\n\
                  if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += 3630;\n\
                  return result;\n}\n";
    fs::write(&source, code).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    made.is_ok_and(|status| status.success()).then_some(library)
}

/// Configures inference with a device of its own and the model in `models`.
fn with_inference(dir: &Path, device: &Path) -> String {
    let models = dir.join("models");
    let model = models.join("minilm");
    fs::create_dir_all(&model).unwrap();
    let head = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    let weights = [&(head.len() as u64).to_le_bytes()[..], head.as_bytes(), &[7; 16]].concat();
    fs::write(model.join("model.safetensors"), weights).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    fs::write(model.join("tokenizer.json"), "{}").unwrap();
    format!("mdns = false\n[inference]\ndevice = {device:?}\nmodels = [{models:?}]\n")
}

#[test]
fn a_damaged_model_is_told() {
    let dir = without_a_node("");
    fs::write(dir.path().join("node.toml"), with_inference(dir.path(), Path::new("/absent"))).unwrap();
    let (_, checks) = examine(dir.path());
    assert!(of(&checks, "models", "ok").is_some(), "{checks:#?}");
    let weights = dir.path().join("models/minilm/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    finds(dir.path(), "models", "minilm is damaged", "fetch it again");
}

#[test]
fn a_libtorch_that_is_missing_is_told_from_a_device_that_dies() {
    let dir = without_a_node("");
    let device = dir.path().join("node-device");
    let config = with_inference(dir.path(), &device);
    fs::write(dir.path().join("node.toml"), config).unwrap();
    fs::write(&device, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&device, fs::Permissions::from_mode(0o755)).unwrap();
    finds(dir.path(), "device", "ended before it was ready", "run the binary by hand");
    if !needs_a_missing_library(dir.path(), &device) {
        return println!("SKIPPED: there is no C compiler to link a missing library with");
    }
    finds(dir.path(), "libtorch", "libtorch is missing", "make build");
}

/// A program linked with a libtorch that is not there any more.
fn needs_a_missing_library(dir: &Path, program: &Path) -> bool {
    let (source, main, library) = (dir.join("torch.c"), dir.join("main.c"), dir.join("libtorch_cpu.so"));
    fs::write(&source, "int torch(void) { return 0; }\n").unwrap();
    fs::write(&main, "int torch(void); int main(void) { return torch(); }\n").unwrap();
    let cc = |arguments: &[&Path]| Command::new("cc").args(arguments).status().is_ok_and(|status| status.success());
    fs::remove_file(program).unwrap();
    let made = cc(&[Path::new("-shared"), Path::new("-fPIC"), Path::new("-o"), &library, &source])
        && cc(&[Path::new("-o"), program, &main, &library]);
    let _ = fs::remove_file(library);
    made
}

#[test]
fn a_device_process_that_keeps_dying_is_told_of_a_running_node() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("node-device");
    fs::write(&device, "#!/bin/sh\necho no memory >&2\nexit 3\n").unwrap();
    fs::set_permissions(&device, fs::Permissions::from_mode(0o755)).unwrap();
    let inference = with_inference(dir.path(), &device);
    let node = Node::start_prepared(|at| {
        let listen = "listen = [\"/ip4/127.0.0.1/tcp/0\"]\n";
        fs::write(at.join("node.toml"), format!("{listen}{inference}")).unwrap();
    });
    finds(node.dir.path(), "device", "device-cpu does not run", "run the binary by hand");
}

#[test]
fn a_node_that_only_its_own_machine_can_reach_is_told() {
    let node = Node::start();
    wait_until("it does not say so", || {
        let (code, checks) = examine(node.dir.path());
        let told = of(&checks, "reachability", "warning")?.clone();
        assert!(told["found"].as_str().unwrap().contains("listens on loopback only"), "{told:#}");
        assert_eq!(code, Some(0), "a warning is no fault");
        Some(())
    });
    let far = Node::start_configured("bootstrap = [\"/ip4/192.0.2.1/tcp/4001\"]");
    finds(far.dir.path(), "reachability", "listens on loopback only", "/ip4/0.0.0.0/tcp/PORT");
}
