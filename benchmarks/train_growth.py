"""How seconds and memory of `primum train dpo` grow with its pairs: whole runs, each in a process of its own.

The model is tiny and random (two blocks of 32 numbers a token, 2,000 words of its own), so that what grows is seen:
reading and tokenising, the reference pass, the loop with its batches, its log and its states. Pairs are short stretches
of English (prompts of about 12 words, answers of 8 and 16). One thread; CPU seconds bear other work better than seconds
by the clock, and both are given.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from plots import Panel
from plots import growth as plot

from primum.core.store import write_text

SIZES = [100, 1_000, 10_000, 100_000]
WORDS = (12, 8, 16)
"""Mean words of a prompt, of a chosen and of a rejected answer."""
PARTS = {
    "tokenise": "read and tokenise rows", "reference": "reference log-probabilities", "train": "train (dpo)",
}  # fmt: skip


def measured(sizes: Sequence[int], seed: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Train on each number of pairs; return seconds (CPU, clock, clock by part) and the most memory, MB."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tiny_model(folder / "model")
        for count in sizes:
            write_text(folder / "pairs.jsonl", "".join(lines(count, seed)))
            rows.append({"pairs": count, **trained(folder, count)})
            parts = "  ".join(f"{name} {rows[-1][name]:.1f}" for name in PARTS)
            cpu, memory = rows[-1]["cpu"], rows[-1]["memory_mb"]
            say(f"{count:>8,} pairs {cpu:9.1f} CPU s {rows[-1]['seconds']:9.1f} s  {memory:6.0f} MB  ({parts})")
    return rows


def trained(folder: Path, count: int) -> dict[str, Any]:
    """Run `primum train dpo` in a process of its own.

    Raises:
        SystemExit: it failed; its last words are shown.
    """
    out, shown = folder / f"run-{count}", folder / "shown"
    command = [sys.executable, "-m", "primum", "train", "dpo", str(folder / "pairs.jsonl")]
    command += ["--model", str(folder / "model"), "--out", str(out), "--json"]
    start = time.perf_counter()
    with shown.open("w+", encoding="utf-8") as said:
        own = {"PRIMUM_CACHE": str(folder / f"cache-{count}"), "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=os.environ | own)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds, text = time.perf_counter() - start, shown.read_text(encoding="utf-8")
    if child.returncode:
        raise SystemExit(f"{count} pairs failed:\n{text[-3000:]}")
    document = json.loads(text[text.index("\n{") if not text.startswith("{") else 0 :])
    steps = {name: document["seconds"][step] for name, step in PARTS.items()}
    cpu = used.ru_utime + used.ru_stime
    return {"cpu": cpu, "seconds": seconds, **steps, "steps": document["steps"], "memory_mb": used.ru_maxrss / 1024}


def lines(count: int, seed: int) -> Iterator[str]:
    """Yield pairs in TRL's columns: stretches of the benign prompts that ship with primum."""
    from primum.prompts.embedded import embedded

    words = " ".join(p.text for p in embedded() if p.intent == "benign").split()
    rng = random.Random(seed)

    def stretch(mean: int) -> str:
        length = max(1, round(mean * rng.lognormvariate(-0.045, 0.3)))  # exp(-sigma^2 / 2): the mean stays
        at = rng.randrange(len(words) - length)
        return " ".join(words[at : at + length])

    for _ in range(count):
        prompt, chosen, rejected = (stretch(mean) for mean in WORDS)
        yield json.dumps({"prompt": prompt, "chosen": chosen, "rejected": f"{rejected}."}) + "\n"


def tiny_model(folder: Path) -> None:
    """Save a tiny random Llama with a byte-level tokenizer of 2,000 words and the embedded model's chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from primum.models.embedded import embedded_folder

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    marks, letters = ["<|im_start|>", "<|im_end|>"], pre_tokenizers.ByteLevel.alphabet()
    learned.train_from_iterator(
        lines(3000, 0), trainers.BpeTrainer(vocab_size=2000, special_tokens=marks, initial_alphabet=letters)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learned, eos_token=marks[1], pad_token=marks[1])
    tokenizer.chat_template = AutoTokenizer.from_pretrained(embedded_folder()).chat_template
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, eos_token_id=tokenizer.convert_tokens_to_ids(marks[1]),
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def picture(rows: Sequence[dict[str, Any]]) -> str:
    """Return seconds and memory over the pairs as SVG."""
    panels = [
        Panel("CPU seconds", [row["cpu"] for row in rows], logs=True),
        Panel("largest memory, MB", [row["memory_mb"] for row in rows]),
    ]
    return plot("CPU seconds and largest memory by pairs", [row["pairs"] for row in rows], "", panels)
