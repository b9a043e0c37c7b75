"""A mesh of real nodes on this machine, for scripts that start, kill and question them."""

import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

READY_S_MAX = 60
ANSWER_S_MAX = 30
STOP_S_MAX = 10
LOG_LINES_SHOWN = 20
PR_SET_PDEATHSIG = 1


class MeshError(Exception):
    """What did not happen, in one sentence."""


def binaries(folder=None):
    """The folder of node and nodectl: the one given, MAGPIE_BIN, or what `make build` left, with PROFILE where that is set."""
    target = Path(__file__).resolve().parents[1] / "target"
    profile = os.environ.get("PROFILE") or "release"
    made = Path(os.environ.get("CARGO_TARGET_DIR", target)) / ("debug" if profile == "dev" else profile)
    folder = folder or Path(os.environ.get("MAGPIE_BIN") or made)
    lacking = [name for name in ("node", "nodectl") if not (folder / name).is_file()]
    if lacking:
        raise MeshError(f"{folder} has no {' and no '.join(lacking)}: run `make build PROFILE={profile}`")
    return folder.resolve()


def wait_until(what, seconds_max, condition, every_s=0.05):
    """The first true answer of `condition`."""
    end = time.monotonic() + seconds_max
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > end:
            raise MeshError(f"after {seconds_max} s {what}")
        time.sleep(every_s)


# In the environment of every process that a mesh started.
MARK = "MAGPIE_MESH"


class Mesh:
    """`nodectl dev COUNT` in a folder of its own; everything it started has ended when the `with` block has."""

    def __init__(self, count, folder=None, bin_folder=None, options=()):
        self.bin = bin_folder or binaries()
        self.count = count
        self.options = options
        self.own_folder = folder is None
        # A socket's path has room for 107 bytes.
        self.folder = Path(folder or tempfile.mkdtemp(prefix="magpie-"))
        self.started = []
        self.mark = secrets.token_hex(8)
        self.kept = False

    def __enter__(self):
        # A SIGTERM takes the same way out as an exception.
        self.old_handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            self._start_dev()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, error, _):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for process in self.started:
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + STOP_S_MAX
        for process in self.started:
            try:
                process.wait(max(0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                print(f"{process.args[0]} did not end within {STOP_S_MAX} s, killed", file=sys.stderr)
        for pid in self._left():
            os.kill(pid, signal.SIGKILL)
        for process in self.started:
            process.wait()
        signal.signal(signal.SIGTERM, self.old_handler)
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            self._show_logs()
            self.kept = True
        if self.own_folder and not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def node_folder(self, number):
        return self.folder / f"node-{number}"

    def command(self, number, *arguments):
        """A nodectl command line for one node."""
        return [str(self.bin / "nodectl"), "--control", str(self.node_folder(number) / "control.sock"), *arguments]

    def ask(self, number, *arguments, timeout_s=ANSWER_S_MAX):
        """One JSON document of nodectl."""
        command = self.command(number, *arguments, "-o", "json")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise MeshError(f"node {number} did not answer `{' '.join(arguments)}` within {timeout_s} s") from error
        if done.returncode != 0:
            raise MeshError(f"`nodectl {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def answers(self, number):
        """The status of a node, or None while it does not answer."""
        try:
            return self.ask(number, "status")
        except (MeshError, ValueError):
            return None

    def start(self, *command, **options):
        """A process that ends with this one at the latest."""
        environment = {**os.environ, MARK: self.mark}
        process = subprocess.Popen(
            [str(word) for word in command], start_new_session=True, preexec_fn=_die_with_parent, env=environment, **options
        )
        self.started.append(process)
        return process

    def submit(self, home, tasks):
        """The process of a submission of `tasks` to one node, which prints the ids that are acknowledged."""
        process = self.start(
            *self.command(home, "task", "submit", "-", "-o", "json"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        try:
            for task in tasks:
                process.stdin.write(json.dumps(task) + "\n")
            process.stdin.close()
        except BrokenPipeError:
            pass  # Its node is gone; what it printed before counts.
        process.stdin = None  # Closed: `communicate` must not flush it.
        return process

    def kill(self, number):
        """`kill -9`, and waits until the process is gone."""
        pid = int((self.node_folder(number) / "pid").read_text())
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
        if str(self.node_folder(number)).encode() not in command_line:
            raise MeshError(f"process {pid} of the pid file is not node {number}: {command_line!r}")
        os.kill(pid, signal.SIGKILL)
        wait_until(f"the killed node {number} is still there", STOP_S_MAX, lambda: not _is_alive(pid))
        return pid

    def restart(self, number):
        """Starts a killed node on its data, and waits until it answers."""
        folder = self.node_folder(number)
        log = (folder / "node.log").open("ab")
        self.start(
            self.bin / "node", "--data-dir", folder, "--config", folder / "node.toml",
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
        log.close()
        return wait_until(f"node {number} does not answer", READY_S_MAX, lambda: self.answers(number))

    def _start_dev(self):
        log = (self.folder / "dev.log").open("wb")
        dev = self.start(
            self.bin / "nodectl", "dev", self.count, "--dir", self.folder, *self.options,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
        )
        log.close()
        ready = threading.Event()
        threading.Thread(target=_await_ready, args=(dev.stdout, ready), daemon=True).start()
        # The nodes hold the pipe too: its end does not tell that `dev` has ended.
        wait_until(
            f"`nodectl dev {self.count}` is not ready", READY_S_MAX, lambda: ready.is_set() or dev.poll() is not None
        )
        if not ready.is_set():
            raise MeshError(f"`nodectl dev {self.count}` ended with {dev.wait()} before it was ready")

    def _left(self):
        """Processes of the sessions started here that are still alive. The number of one that has ended may by now be another's:
        the mark tells them apart."""
        sessions = {process.pid for process in self.started}
        left = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    environment = (entry / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                is_ours = f"{MARK}={self.mark}".encode() in environment
                if is_ours and int(fields[3]) in sessions and fields[0] != "Z":
                    left.append(int(entry.name))
        return left

    def _show_logs(self):
        print(f"the logs and data are kept in {self.folder}", file=sys.stderr)
        for log in [self.folder / "dev.log", *sorted(self.folder.glob("node-*/node.log"))]:
            lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
            for line in lines[-LOG_LINES_SHOWN:]:
                print(f"{log.parent.name}/{log.name}: {line}", file=sys.stderr)


def _await_ready(stream, ready):
    """Reads to the end, so that the writer never waits for a reader."""
    for line in stream:
        if line.split()[:1] == [b"ready"]:
            ready.set()


def _die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class LoneNode:
    """One node with empty data and no peers."""

    def __init__(self, config='listen = ["/ip4/127.0.0.1/tcp/0"]\n'):
        self.bin = binaries()
        self.folder = tempfile.TemporaryDirectory(prefix="magpie-")
        self.data = Path(self.folder.name) / "data"
        self.control = self.data / "control.sock"
        self.config = Path(self.folder.name) / "node.toml"
        self.config.write_text(config)

    def __enter__(self):
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [self.bin / "node", "--config", self.config, "--data-dir", self.data],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        wait_until("the node does not answer", READY_S_MAX, self.status, every_s=0.002)
        self.answered_s = time.monotonic() - self.began
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()

    def status(self):
        """What it says of itself; None while it does not answer."""
        if not self.control.exists():
            return None
        command = [self.bin / "nodectl", "--control", self.control, "status", "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else None
