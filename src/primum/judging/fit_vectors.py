"""Makes the word vectors of the embedded judge: python -m primum.judging.fit_vectors [--out FILE].

The input embeddings of SmolLM2-135M-Instruct (Apache-2.0) for words that are one token, whitened to a few dimensions by
principal components without the first two (which hold frequency: Mu and Viswanath 2018, arXiv:1702.01417), scaled to
length 1 and rounded to bytes. Weights of words follow the token's rank: rare words say more about the subject.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from primum.judging.text import FUNCTION_WORDS
from primum.judging.vectors import FILE, save

DIMENSIONS = 48
COMMON = 2


def main() -> None:
    """Read the embedded model and write the vectors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=FILE)
    args = parser.parse_args()
    from primum.models.load import load

    model = load("embedded")
    network: Any = model.network
    table: NDArray[np.float32] = network.get_input_embeddings().weight.detach().float().cpu().numpy()
    words = whole_words(model.tokenizer)
    rows = table[list(words.values())]
    rows = rows - rows.mean(0)
    _, sizes, directions = np.linalg.svd(rows.T @ rows / len(rows))
    kept = slice(COMMON, COMMON + DIMENSIONS)
    low: NDArray[Any] = rows @ directions[kept].T / np.sqrt(np.sqrt(sizes[kept]))
    low /= np.linalg.norm(low, axis=1, keepdims=True) + 1e-9
    weight: NDArray[Any] = np.clip(np.log1p(np.array(list(words.values()))) / np.log(len(table)), 0.3, 1)
    save(list(words), _bytes(low), _bytes(weight), args.out)
    print(f"{len(words)} words, {args.out.stat().st_size:,} bytes")


def _bytes(shares: NDArray[Any]) -> NDArray[np.int8]:
    return np.round(shares * 127).astype(np.int8)


def whole_words(tokenizer: Any) -> dict[str, int]:
    """Return the lower-case words that are one token with a space before them, with the token's id."""
    found: dict[str, int] = {}
    ranked = sorted((i, token) for token, i in cast(dict[str, int], tokenizer.get_vocab()).items())
    for i, token in ranked:
        word = token[1:].lower() if token.startswith("Ġ") else ""
        if re.fullmatch(r"[a-z]{3,}", word) and word not in FUNCTION_WORDS:
            found.setdefault(word, i)
    return found


if __name__ == "__main__":
    main()
