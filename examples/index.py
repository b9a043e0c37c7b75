"""Joins passages and their embeddings into one index of unit vectors.

Output: {"dim", "passages": [...], "vectors": base64 of little-endian f32, passage after passage}.
"""

import base64
import math
import sys
from array import array

import step


def main():
    _, needs = step.read()
    passages = needs["split"]["passages"]
    embedded = needs["embed"]
    if len(passages) != len(embedded):
        step.refuse(f"{len(passages)} passages have {len(embedded)} embeddings")
    vectors = [unit(output["embedding"]) for output in embedded]
    dims = {len(vector) for vector in vectors}
    if len(dims) != 1:
        step.refuse(f"embeddings of different lengths: {sorted(dims)}")
    step.write({"dim": dims.pop(), "passages": passages, "vectors": packed(vectors)})


def unit(vector):
    norm = math.sqrt(sum(x * x for x in vector))
    if not math.isfinite(norm) or norm == 0:
        step.refuse(f"an embedding has the norm {norm}")
    return [x / norm for x in vector]


def packed(vectors):
    flat = array("f", (x for vector in vectors for x in vector))
    if sys.byteorder == "big":
        flat.byteswap()
    return base64.b64encode(flat.tobytes()).decode("ascii")


if __name__ == "__main__":
    main()
