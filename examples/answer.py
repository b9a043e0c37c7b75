"""Finds, for each question, the passages that lie nearest to it.

Output: {"passages": COUNT, "answers": [{"question", "found": [{"score", "file", "line", "text"}]}]}.
"""

import base64
import heapq
import math
import sys
from array import array
from operator import mul

import step

FOUND_MAX = 3


def main():
    given, needs = step.read()
    index, questions = needs["index"], given["questions"]
    embedded = needs["questions"]
    if len(questions) != len(embedded):
        step.refuse(f"{len(questions)} questions have {len(embedded)} embeddings")
    vectors = unpacked(index["vectors"], index["dim"])
    answers = [
        {"question": question, "found": nearest(output["embedding"], vectors, index["passages"])}
        for question, output in zip(questions, embedded)
    ]
    step.write({"passages": len(index["passages"]), "answers": answers})


def unpacked(text, dim):
    flat = array("f")
    flat.frombytes(base64.b64decode(text))
    if sys.byteorder == "big":
        flat.byteswap()
    return [flat[start : start + dim] for start in range(0, len(flat), dim)]


def nearest(question, vectors, passages):
    """The best passages by cosine similarity; licences quote each other, so a text counts once."""
    norm = math.sqrt(sum(map(mul, question, question)))
    best = {}
    for vector, passage in zip(vectors, passages):
        score = sum(map(mul, question, vector)) / norm
        kept = best.get(passage["text"])
        if kept is None or score > kept[0]:
            best[passage["text"]] = (score, passage)
    top = heapq.nlargest(FOUND_MAX, best.values(), key=lambda entry: entry[0])
    return [
        {"score": round(score, 4), "file": passage["file"], "line": passage["line"], "text": passage["text"]}
        for score, passage in top
    ]


if __name__ == "__main__":
    main()
