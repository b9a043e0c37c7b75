"""A mesh of real nodes, each in a network namespace of its own, whose links can be cut one way or both."""

import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from mesh import READY_S_MAX, Mesh, MeshError, wait_until

SUBNET = "10.77.0"
PORT = 4001
BLKIO = Path("/sys/fs/cgroup/blkio")
CPU = Path("/sys/fs/cgroup/cpu")
CPU_PERIOD_US = 100_000
SLOW_WRITES_PER_S = 15


def lacking():
    """What this machine lacks for namespaces, in words; empty if nothing."""
    missing = [f"{tool} (Debian package {package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)}"
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    probe = f"mgp-probe-{secrets.token_hex(2)}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode != 0:
        return f"may not make network namespaces: {made.stderr.strip()}"
    run("ip", "netns", "del", probe)
    return ""


TOOLS = {"ip": "iproute2", "iptables": "iptables"}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise MeshError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class NamespaceMesh(Mesh):
    """Nodes 1 to COUNT at 10.77.0.N on one bridge, in namespaces that are gone when the `with` block has ended."""

    def __init__(self, count, folder=None, slots=4):
        super().__init__(count, folder)
        self.tag = f"mgp{secrets.token_hex(2)}"
        self.slots = slots
        self.namespaces = []
        self.groups = []

    def __exit__(self, kind, error, traceback):
        for number in range(1, self.count + 1):
            self.signal(number, signal.SIGCONT, must=False)
        super().__exit__(kind, error, traceback)
        for namespace in self.namespaces:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)
        for group in self.groups:
            wait_until(f"{group} is not empty", 10, lambda group=group: not (group / "cgroup.procs").read_text())
            group.rmdir()

    def _start_dev(self):
        self._make_links()
        key = self.folder / "cluster.key"
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32) + "\n")
        for number in range(1, self.count + 1):
            folder = self.node_folder(number)
            folder.mkdir(parents=True)
            (folder / "node.toml").write_text(self._config(number, key))
            self._spawn(number)
        for number in range(1, self.count + 1):
            wait_until(f"node {number} does not see the others", READY_S_MAX, lambda number=number: self.sees_all(number))

    def sees_all(self, number):
        status = self.answers(number)
        return status and sum(peer["state"] == "alive" for peer in status["peers"]) == self.count - 1

    def _make_links(self):
        switch = self._namespace("sw")
        run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "bridge", "up")
        for number in range(1, self.count + 1):
            own = self._namespace(number)
            run("ip", "link", "add", "eth0", "netns", own, "type", "veth", "peer", f"port{number}", "netns", switch)
            run("ip", "-n", switch, "link", "set", f"port{number}", "master", "bridge", "up")
            run("ip", "-n", own, "addr", "add", f"{SUBNET}.{number}/24", "dev", "eth0")
            run("ip", "-n", own, "link", "set", "eth0", "up")
            run("ip", "-n", own, "link", "set", "lo", "up")

    def _namespace(self, name):
        namespace = f"{self.tag}-{name}"
        run("ip", "netns", "add", namespace)
        self.namespaces.append(namespace)
        return namespace

    def _config(self, number, key):
        others = [f'"/ip4/{SUBNET}.{other}/tcp/{PORT}"' for other in range(1, self.count + 1) if other != number]
        lines = [
            f'listen = ["/ip4/{SUBNET}.{number}/tcp/{PORT}"]',
            f"bootstrap = [{', '.join(others)}]",
            "mdns = false",
            f'cluster_key = "{key}"',
            f"slots = {self.slots}",
            '[process]\nallow = ["*"]',
        ]
        return "\n".join(lines) + "\n"

    def _spawn(self, number):
        folder = self.node_folder(number)
        with (folder / "node.log").open("ab") as log:
            self.start(
                "ip", "netns", "exec", f"{self.tag}-{number}",
                self.bin / "node", "--data-dir", folder, "--config", folder / "node.toml",
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )

    def restart(self, number):
        self._spawn(number)
        return wait_until(f"node {number} does not answer", READY_S_MAX, lambda: self.answers(number))

    def pid(self, number):
        return int((self.node_folder(number) / "pid").read_text())

    def signal(self, number, which, must=True):
        try:
            os.kill(self.pid(number), which)
        except (OSError, ValueError):
            if must:
                raise

    def cut(self, source, target):
        """What `source` sends does not reach `target`."""
        run("ip", "netns", "exec", f"{self.tag}-{target}", "iptables", "-A", "INPUT", "-s", f"{SUBNET}.{source}", "-j", "DROP")

    def part(self, groups):
        """Nobody hears a node of another group."""
        for target in range(1, self.count + 1):
            for source in range(1, self.count + 1):
                if group_of(groups, source) != group_of(groups, target):
                    self.cut(source, target)

    def heal(self):
        for number in range(1, self.count + 1):
            run("ip", "netns", "exec", f"{self.tag}-{number}", "iptables", "-F", "INPUT")

    def slow_disk(self, number):
        """Puts a node into a blkio group that lets few writes through; its fsyncs wait for them. False if there is none."""
        if not (BLKIO / "blkio.throttle.write_iops_device").exists() and not (BLKIO / "blkio.throttle.io_serviced").exists():
            return False
        group = self._group(BLKIO, f"{self.tag}-slow-{number}")
        device = os.stat(self.folder).st_dev
        limit = f"{os.major(device)}:{os.minor(device)} {SLOW_WRITES_PER_S}"
        (group / "blkio.throttle.write_iops_device").write_text(limit)
        (group / "cgroup.procs").write_text(str(self.pid(number)))
        return True

    def quick_disk(self, number):
        (BLKIO / "cgroup.procs").write_text(str(self.pid(number)))

    def starve(self, number, share):
        """Lets a node, with all that it starts from now on, have so much of one core. False if there is no cpu group."""
        if not (CPU / "cgroup.procs").exists():
            return False
        group = self._group(CPU, f"{self.tag}-starved-{number}")
        (group / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(CPU_PERIOD_US * share)))
        (group / "cgroup.procs").write_text(str(self.pid(number)))
        return True

    def _group(self, controller, name):
        group = controller / name
        if group not in self.groups:
            group.mkdir()
            self.groups.append(group)
        return group


def group_of(groups, number):
    return next(place for place, members in enumerate(groups) if number in members)
