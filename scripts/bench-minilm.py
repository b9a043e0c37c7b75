#!/usr/bin/env python3
"""Sentences per second of `node-device` and of sentence-transformers on the same cores, in turns.

    pip install torch==2.13.0 transformers==5.23.0 sentence-transformers==6.2.0 msgpack
    eval "$(scripts/fetch.sh)" && cargo build --release -p magpie-device --features torch
    scripts/bench-minilm.py target/release/node-device

Both embed the same passages in the same batches and both tokenise them; node-device is spoken to as its node does it,
over a socket pair, so its figure has the boundary in it. One round is one run of each, and the machine may be noisy:
the ratio is taken per round, and the median of the rounds is what counts.
"""

import argparse
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

WIRE_VERSION = 1


def passages(count: int, words: int, spread: int, seed: int) -> list[str]:
    """Text of the kind the demo embeds: `words` and up to `spread` more or less, cut from licences where there are any."""
    dice = random.Random(seed)
    folder = Path("/usr/share/common-licenses")
    files = sorted(path for path in folder.glob("*") if path.is_file() and not path.is_symlink())
    if not files:
        sys.exit(f"{folder} holds no texts to embed")
    text = " ".join(path.read_text(errors="replace") for path in files).split()
    starts = [dice.randrange(len(text) - words - spread) for _ in range(count)]
    return [" ".join(text[start : start + words + dice.randint(-spread, spread)]) for start in starts]


class NodeDevice:
    def __init__(self, binary: str, environment: dict[str, str]):
        import msgpack

        self.msgpack, self.ids = msgpack, 0
        self.ours, theirs = socket.socketpair()
        self.process = subprocess.Popen([binary], stdin=theirs, stdout=theirs, env=environment)
        theirs.close()
        self.ready = self.receive()["ready"]

    def receive(self) -> dict:
        (length,) = struct.unpack(">I", self.take(4))
        frame = self.take(length)
        assert frame[0] == WIRE_VERSION, frame[0]
        return self.msgpack.unpackb(frame[1:])

    def take(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self.ours.recv(count - len(data))
            if not part:
                sys.exit(f"node-device ended with {self.process.wait()}")
            data += part
        return bytes(data)

    def request(self, verb: str, **fields) -> dict:
        self.ids += 1
        body = bytes([WIRE_VERSION]) + self.msgpack.packb({verb: {"id": self.ids, **fields}})
        self.ours.sendall(struct.pack(">I", len(body)) + body)
        ((kind, reply),) = self.receive().items()
        if kind == "failed":
            sys.exit(f"{reply['code']}: {reply['message']}")
        return reply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="node-device")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=4, help="per round and side")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--words", type=int, default=50, help="50 words of a licence are about 64 tokens")
    parser.add_argument("--spread", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    directory = os.path.join(os.environ["MAGPIE_MODELS"], "minilm")
    settings = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    settings |= {name: str(arguments.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(settings)  # before torch, which reads them when it loads

    import numpy
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(arguments.threads)
    reference = SentenceTransformer(directory, device="cpu")
    device = NodeDevice(arguments.binary, dict(os.environ))
    device.request("load", model="minilm", directory=directory)
    texts = passages(arguments.batch * arguments.batches, arguments.words, arguments.spread, arguments.seed)
    batches = [texts[start : start + arguments.batch] for start in range(0, len(texts), arguments.batch)]
    inside_ms = 0

    def ours() -> list:
        nonlocal inside_ms
        vectors = []
        for batch in batches:
            reply = device.request("embed", model="minilm", texts=batch)
            inside_ms += reply["took_ms"]
            vectors += reply["vectors"]
        return vectors

    def theirs() -> list:
        encode = reference.encode
        return [vector for batch in batches for vector in encode(batch, batch_size=arguments.batch, show_progress_bar=False)]

    difference = float(numpy.abs(numpy.array(ours()) - numpy.array(theirs())).max())
    tokens = statistics.mean(len(ids) for ids in reference.tokenizer(texts)["input_ids"])
    print(f"{device.ready['device']}, {arguments.threads} threads, torch {device.ready['torch_version']}, seed {arguments.seed}: "
          f"{len(batches)} batches of {arguments.batch} passages, {tokens:.1f} tokens each, vectors differ by {difference:.1e}")
    rates = {"ours": [], "theirs": []}
    inside_ms, outside_s = 0, 0.0
    for turn in range(arguments.rounds):
        for name, side in [("ours", ours), ("theirs", theirs)][:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            side()
            took = time.perf_counter() - start
            rates[name].append(len(texts) / took)
            outside_s += took if name == "ours" else 0
    ratios = [mine / other for mine, other in zip(rates["ours"], rates["theirs"])]
    for name, label in [("ours", "node-device"), ("theirs", "sentence-transformers")]:
        print(f"{label:>22}: median {statistics.median(rates[name]):6.1f} sentences/s, best {max(rates[name]):6.1f}")
    print(f"{'ratio per round':>22}: median {statistics.median(ratios):.2f}, worst {min(ratios):.2f}, best {max(ratios):.2f}")
    print(f"{'boundary':>22}: {100 * (1 - inside_ms / 1000 / outside_s):.1f} % of the time, tokens and floats in Python included")


if __name__ == "__main__":
    main()
