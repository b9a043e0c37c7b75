"""Cuts the text files of a folder into passages of about 64 tokens.

Output: {"files": COUNT, "passages": [{"id", "file", "line", "text"}]}; `input.max_passages` bounds the count.
"""

import hashlib
import sys
from pathlib import Path

import step

WORDS_MAX = 48
# A passage may end early where a sentence does, once it is this long.
WORDS_MIN = 32
SENTENCE_ENDS = (".", ";", ":", "?", "!")


def main():
    given, _ = step.read()
    folder = Path(sys.argv[1])
    passages_max = int(given.get("max_passages", 1200))
    if passages_max < 1:
        step.refuse(f"max_passages is {passages_max}, must be at least 1")
    files = distinct_texts(folder)
    found = [passage for name, text in files for passage in cut(name, text)]
    if not found:
        step.refuse(f"no text in {folder}")
    step.write({"files": len(files), "passages": evenly(found, passages_max)})


def distinct_texts(folder):
    """(name, text) of each text file once: of equal files, as behind links, the longest name stands for all."""
    by_digest = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if b"\0" in data:
            print(f"{path}: not a text, left out", file=sys.stderr)
            continue
        name = path.relative_to(folder).as_posix()
        digest = hashlib.sha256(data).digest()
        if digest not in by_digest or len(name) > len(by_digest[digest][0]):
            by_digest[digest] = (name, data.decode("utf-8", errors="replace"))
    return sorted(by_digest.values())


def cut(name, text):
    """Passages of WORDS_MAX words or fewer, in order, none empty."""
    words, first_line = [], 1
    for number, line in enumerate(text.splitlines(), start=1):
        for word in line.split():
            if not words:
                first_line = number
            words.append(word)
            if len(words) >= WORDS_MAX or (len(words) >= WORDS_MIN and word.endswith(SENTENCE_ENDS)):
                yield passage(name, first_line, words)
                words = []
    if words:
        yield passage(name, first_line, words)


def passage(name, line, words):
    text = " ".join(words)
    digest = hashlib.sha256(f"{name}:{line}:{text}".encode()).hexdigest()[:8]
    return {"id": f"{name}:{line}:{digest}", "file": name, "line": line, "text": text}


def evenly(items, count_max):
    """At most `count_max` of the items, spread over the whole list, in order."""
    if len(items) <= count_max:
        return items
    return [items[index * len(items) // count_max] for index in range(count_max)]


if __name__ == "__main__":
    main()
