"""The steps of examples/licences.yaml, run as a node runs them: an empty folder, JSON in, JSON out."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Folder:
    """An empty folder with some of the examples' files in it."""

    def __init__(self, case, *files):
        self.path = Path(tempfile.mkdtemp(prefix="magpie-example-"))
        case.addCleanup(shutil.rmtree, self.path)
        for name in files:
            shutil.copy(EXAMPLES / name, self.path)

    def write(self, name, data):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def run(self, *command, given=None, needs=None):
        stdin = json.dumps({"input": given, "needs": needs or {}})
        done = subprocess.run(
            [sys.executable, *command], cwd=self.path, input=stdin, capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        return done

    def output(self, *command, given=None, needs=None):
        done = self.run(*command, given=given, needs=needs)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


class Split(unittest.TestCase):
    def split(self, texts, **given):
        folder = Folder(self, "split.py", "step.py")
        for name, data in texts.items():
            folder.write(f"texts/{name}", data)
        return folder.output("split.py", "texts", given=given)

    def test_every_word_stands_in_one_passage_in_order(self):
        words = [f"w{n}" + ("." if n % 7 == 0 else "") for n in range(500)]
        passages = self.split({"a": "\n".join(words)})["passages"]
        self.assertEqual(" ".join(passage["text"] for passage in passages).split(), words)
        self.assertTrue(all(len(passage["text"].split()) <= 48 for passage in passages))
        self.assertEqual(len({passage["id"] for passage in passages}), len(passages))

    def test_passage_names_the_line_it_starts_on(self):
        passages = self.split({"a": "\n\n" + "one " * 48 + "\ntwo"})["passages"]
        self.assertEqual([(p["line"], p["text"].split()[0]) for p in passages], [(3, "one"), (4, "two")])

    def test_equal_files_count_once_under_the_longest_name(self):
        output = self.split({"GPL": "same text", "GPL-3": "same text", "MIT": "other"})
        self.assertEqual(output["files"], 2)
        self.assertEqual([passage["file"] for passage in output["passages"]], ["GPL-3", "MIT"])

    def test_fewer_passages_still_reach_over_all_files(self):
        texts = {f"f{n}": f"w{n} " * 480 for n in range(4)}
        passages = self.split(texts, max_passages=8)["passages"]
        self.assertEqual(len(passages), 8)
        self.assertEqual({passage["file"] for passage in passages}, set(texts))

    def test_max_passages_may_come_as_text(self):
        self.assertEqual(len(self.split({"a": "w " * 480}, max_passages="3")["passages"]), 3)

    def test_binary_files_are_left_out(self):
        self.assertEqual(self.split({"a": "text", "b": b"\x7fELF\0"})["files"], 1)

    def test_folder_without_text_is_refused_with_a_reason(self):
        folder = Folder(self, "split.py", "step.py")
        folder.write("texts/blob", b"\0")
        done = folder.run("split.py", "texts")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("split.py: no text in texts", done.stderr)

    def test_the_common_licences_make_800_to_1200_passages(self):
        texts = Path("/usr/share/common-licenses")
        if not texts.is_dir():
            self.skipTest("no common licences on this system")
        output = self.split({path.name: path.read_bytes() for path in texts.iterdir()}, max_passages=5000)
        self.assertGreaterEqual(len(output["passages"]), 800)
        self.assertLessEqual(len(output["passages"]), 1200)


class IndexAndAnswer(unittest.TestCase):
    PASSAGES = [
        {"id": str(n), "file": "f", "line": n, "text": text}
        for n, text in enumerate(["north", "east", "south", "north"])
    ]
    VECTORS = [[0.0, 2.0], [3.0, 0.0], [0.0, -1.0], [0.0, 1.0]]

    def index(self, vectors):
        folder = Folder(self, "index.py", "step.py")
        folder.write("needs/embed.json", json.dumps([{"embedding": vector} for vector in vectors]))
        needs = {"split": {"passages": self.PASSAGES}, "embed": {"file": "needs/embed.json"}}
        return folder.run("index.py", needs=needs)

    def answer(self, questions):
        index = json.loads(self.index(self.VECTORS).stdout)
        folder = Folder(self, "answer.py", "step.py")
        folder.write("needs/index.json", json.dumps(index))
        needs = {
            "index": {"file": "needs/index.json"},
            "questions": [{"embedding": vector} for vector in questions.values()],
        }
        return folder.output("answer.py", given={"questions": list(questions)}, needs=needs)

    def test_nearest_passages_come_first_and_a_text_once(self):
        output = self.answer({"up?": [0.0, 5.0], "right?": [1.0, 1e-3]})
        self.assertEqual(output["passages"], 4)
        up, right = output["answers"]
        self.assertEqual([found["text"] for found in up["found"]], ["north", "east", "south"])
        self.assertEqual([found["score"] for found in up["found"]], [1.0, 0.0, -1.0])
        self.assertEqual((right["question"], right["found"][0]["text"]), ("right?", "east"))

    def test_missing_embedding_is_refused(self):
        done = self.index(self.VECTORS[:-1])
        self.assertEqual(done.returncode, 1)
        self.assertIn("4 passages have 3 embeddings", done.stderr)

    def test_vector_without_direction_is_refused(self):
        done = self.index([[0.0, 0.0], *self.VECTORS[1:]])
        self.assertEqual(done.returncode, 1)
        self.assertIn("norm 0.0", done.stderr)

    def test_vectors_of_different_lengths_are_refused(self):
        done = self.index([[1.0], *self.VECTORS[1:]])
        self.assertEqual(done.returncode, 1)
        self.assertIn("different lengths: [1, 2]", done.stderr)


class Greet(unittest.TestCase):
    def test_greets_who_it_is_given(self):
        folder = Folder(self, "greet.py", "step.py")
        self.assertEqual(folder.output("greet.py", given={"who": "magpie"}), {"greeting": "hello, magpie"})


if __name__ == "__main__":
    unittest.main()
