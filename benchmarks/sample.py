"""Replies a second by every engine here, against one prompt at a time, and against the bare OpenVINO pipeline.

    python benchmarks/sample.py                       # 3 repeats, about 10 minutes on two cores
    python benchmarks/sample.py --repeats 1 --json    # ends with one JSON line

The embedded model (SmolLM2-135M), 256 prompts, 128 new tokens, greedy. In every repeat each way is timed once, in turn,
so that a machine that slows down slows all of them; what is printed is the median over repeats. Opening a model and a
first small batch are not timed. Tokens are those of the replies, which may end before 128. Each round asks other
prompts (those of the first, numbered), so that nothing is found in a cache that an earlier round has filled.

Primum's engine and the bare pipeline under it are timed twice a repeat, first and last in turn (A B ... B A): what
slows the machine for a while then slows both. The bare pipeline is given token ids that were made beforehand and gives
token ids; primum's time holds the template, cutting into tokens, and the text of the replies.

    one at a time      `generate` on one prompt after the other in bf16, as the source recipe does (on --few prompts)
    transformers       primum's engine over transformers, in the number format that is fastest here
    openvino           primum's engine over the model as GGUF, weights of 8 bits (Q8_0)
    openvino raw       the same file in OpenVINO GenAI's own pipeline: token ids in, token ids out
    openvino raw Q4_1  the file that carries the embedded model there, which OpenVINO reads inexactly (docs/engines.md)
    openvino trained   a checkpoint of ours (other weights, safetensors), written as GGUF in Q8_0 and in Q4_0
    8 samples          8 replies of 16 tokens to each of 12 prompts of 400 tokens: the prompt computed once, or 8 times
                       (over OpenVINO: 96 different prompts in their place)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from primum.core.catalogue import member, names
from primum.core.records import JsonDict, Message, Messages, user
from primum.models.sampling import Engine, Generated, Opening, Sampling

Draw = Callable[[], int]
"""Draws all replies and returns how many new tokens they have."""
Way = Callable[[int], Draw]
"""Makes ready what a round asks, untimed."""
PAIR = ("openvino", "openvino raw")

LONG = 400
"""Tokens of the prompt that several samples share."""


def conversations(count: int) -> list[Messages]:
    """Return the first different prompts of the embedded set."""
    from primum.prompts.embedded import embedded

    found = list(dict.fromkeys(prompt.messages for prompt in embedded()))
    if count > len(found):
        raise SystemExit(f"the embedded set has {len(found)} prompts")
    return found[:: len(found) // count][:count]


def of_round(asked: Sequence[Messages], number: int) -> list[Messages]:
    """Return prompts of about the same length that no earlier round asked."""
    return [(*m[:-1], Message("user", f"{number}. {m[-1].content}")) if number else m for m in asked]


def tokens(replies: Sequence[Generated]) -> int:
    failed = [reply.error for reply in replies if reply.finish == "error"]
    if failed:
        raise SystemExit(f"{len(failed)} replies failed: {failed[0]}")
    return sum(reply.reply_tokens for reply in replies)


def batched(engine: Engine, asked: Sequence[Messages], sampling: Sampling) -> Way:
    engine(asked[:4], Sampling(0.0, 4), 0)

    def ready(number: int) -> Draw:
        batch = of_round(asked, number)
        return lambda: tokens(engine(batch, sampling, 0))

    return ready


def one_at_a_time(asked: Sequence[Messages], new: int) -> Way:
    """`generate` for one prompt after the other, in bf16."""
    import torch

    from primum.models.chat import encode
    from primum.models.load import load

    model = load("embedded", torch.bfloat16)

    def draw(messages: Messages, length: int) -> int:
        ids = torch.tensor(encode([messages], model.tokenizer), device=model.place)
        with torch.inference_mode():
            out = model.network.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False,
                pad_token_id=model.tokenizer.pad_token_id,
            )  # fmt: skip
        return out.shape[1] - ids.shape[1]

    draw(asked[0], 4)

    def ready(number: int) -> Draw:
        batch = of_round(asked, number)
        return lambda: sum(draw(messages, new) for messages in batch)

    return ready


def raw_openvino(file: Path, engine: Any, asked: Sequence[Messages], sampling: Sampling) -> Way:
    """OpenVINO GenAI with nothing of ours at work: token ids in, token ids out, all at once."""
    import numpy as np
    import openvino
    import openvino_genai as genai

    from primum.models.chat import encode

    scheduler = genai.SchedulerConfig()
    scheduler.max_num_seqs, scheduler.cache_size = engine.batch_size, engine.cache_gb
    scheduler.max_num_batched_tokens = max(512, engine.batch_size)
    scheduler.enable_prefix_caching = True
    pipe = genai.ContinuousBatchingPipeline(str(file), scheduler, "CPU", {})
    settings = genai.GenerationConfig()
    settings.max_new_tokens, settings.stop_token_ids = sampling.max_new_tokens, set(engine.ends.stops)
    settings.do_sample = False

    def ready(number: int) -> Draw:
        rows = encode(of_round(asked, number), engine.tokenizer)
        given = [openvino.Tensor(np.array([row], dtype=np.int64)) for row in rows]
        return lambda: sum(len(found.m_generation_ids[0]) for found in pipe.generate(given, [settings] * len(given)))

    first = genai.GenerationConfig()
    first.max_new_tokens = 4
    row = openvino.Tensor(np.array(encode(asked[:1], engine.tokenizer), dtype=np.int64))
    pipe.generate([row] * 4, [first] * 4)
    return ready


def trained(folder: Path) -> Path:
    """Write a checkpoint as training would: the embedded model with other weights."""
    import torch

    from primum.models.load import load

    model = load("embedded", torch.bfloat16)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.add_(torch.randn_like(weight) * 1e-4)
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def long_prompts(count: int) -> list[str]:
    """Return different texts of about LONG tokens with the template around them."""
    words = ("the", "safety", "of", "a", "language", "model", "is", "measured", "before", "it", "is", "trained")
    return [" ".join(words[(i + k) % len(words)] for k in range(LONG - 45)) for i in range(count)]


def samples(new: int = 16, prompts: int = 12, times: int = 8) -> tuple[Draw, Draw]:
    """Return (prompt computed once, prompt computed for every sample), both by transformers in the same format."""
    import torch

    from primum.models.chat import encode
    from primum.models.load import load

    hf: Any = member("engines", "hf")
    model = load("embedded")
    asked = [(user(text),) for text in long_prompts(prompts)]
    ids = torch.tensor([row[:LONG] for row in encode(asked, model.tokenizer)])
    settings = {"do_sample": True, "temperature": 1.0, "top_k": 0, "pad_token_id": model.tokenizer.pad_token_id}
    settings |= {"max_new_tokens": new, "min_new_tokens": new}
    rows = [list(map(int, row)) for row in ids for _ in range(times)]

    def once() -> int:
        found = hf.decode(model, rows, Sampling(1.0, new), torch.Generator().manual_seed(0))
        return sum(map(len, found))

    def each() -> int:
        with torch.inference_mode():
            wide = ids.repeat_interleave(times, 0)
            out = model.network.generate(wide, attention_mask=torch.ones_like(wide), **settings)
        return (out.shape[1] - ids.shape[1]) * len(out)

    once()
    each()
    return once, each


def openvino_samples(new: int = 16, prompts: int = 12, times: int = 8) -> dict[str, Way]:
    """The same through primum's engine over OpenVINO: samples of one prompt, and as many different prompts."""
    opened = member("engines", "openvino").open_engine(Opening(batch_size=prompts * times))
    asked = [(user(text),) for text in long_prompts(prompts)]
    sampling = Sampling(1.0, new)

    def ready(number: int, numbers: int) -> Draw:
        batch = [of_round(asked, 1 + number * times + k % numbers) for k in range(times)]
        return lambda: tokens(opened([messages for part in zip(*batch, strict=True) for messages in part], sampling, 0))

    ready(10_000, 1)()
    return {
        "8 samples by openvino, prompt once": lambda number: ready(2 * number, 1),
        "8 samples by openvino, prompt 8 times": lambda number: ready(2 * number + 1, times),
    }


def by_openvino(asked: Sequence[Messages], sampling: Sampling, batch: int, folder: Path) -> dict[str, Way]:
    from primum.models.embedded import gguf_path

    engine: Any = member("engines", "openvino")
    opened = engine.open_engine(Opening(batch_size=batch))
    found = {"openvino": batched(opened, asked, sampling)}
    found["openvino raw"] = raw_openvino(opened.path, opened, asked, sampling)
    found["openvino raw Q4_1"] = raw_openvino(gguf_path(), opened, asked, sampling)
    checkpoint = str(trained(folder))
    for precision in ("Q8_0", "Q4_0"):
        opening = Opening(checkpoint, batch, precision=precision)
        found[f"openvino trained {precision}"] = batched(engine.open_engine(opening), asked, sampling)
    return found


def ways(args: argparse.Namespace, folder: Path) -> tuple[dict[str, Way], dict[str, str]]:
    """Return what is timed, and the engines that cannot run here with the reason."""
    asked, sampling = conversations(args.prompts), Sampling(0.0, args.tokens)
    missing = {name: reason for name in names("engines") if (reason := member("engines", name).why_not(Opening()))}
    missing = {name: reason for name, reason in missing.items() if name not in ("canned", "http")}
    found = {"one at a time": one_at_a_time(asked[:: max(1, len(asked) // args.few)], args.tokens)}
    batch = min(args.batch_size, args.prompts)
    opened = member("engines", "hf").open_engine(Opening(batch_size=batch))
    found["transformers"] = batched(opened, asked, sampling)
    if "openvino" not in missing:
        found |= by_openvino(asked, sampling, batch, folder)
    if not args.no_samples:
        once, each = samples()
        found |= {"8 samples, prompt once": lambda _: once, "8 samples, prompt 8 times": lambda _: each}
        if "openvino" not in missing:
            found |= openvino_samples()
    return found, missing


def timed(draw: Draw) -> tuple[int, float]:
    """Return new tokens and seconds."""
    start = time.perf_counter()
    return draw(), time.perf_counter() - start


def repeat_all(found: dict[str, Way], repeat: int) -> dict[str, float]:
    """Time every way once, those of PAIR once more in the other order; return new tokens a second."""
    order = [*found, *(name for name in reversed(PAIR) if name in found)]
    taken: dict[str, list[tuple[int, float]]] = {name: [] for name in found}
    for name in order:
        taken[name].append(timed(found[name](2 * repeat + len(taken[name]))))
        print(f"{repeat + 1}  {name:<38}{rate(taken[name][-1:]):>9,.1f} tokens/s", file=sys.stderr)
    return {name: rate(times) for name, times in taken.items()}


def rate(taken: Sequence[tuple[int, float]]) -> float:
    return sum(count for count, _ in taken) / sum(seconds for _, seconds in taken)


def result(rates: dict[str, list[float]], missing: dict[str, str], args: argparse.Namespace) -> JsonDict:
    """Return the document: medians, ratios, and under what conditions they hold."""
    middle = {name: statistics.median(values) for name, values in rates.items()}
    best = max(("transformers", "openvino"), key=lambda name: middle.get(name, 0.0))

    def ratio(above: str, below: str) -> float | None:
        """Return the median of the repeats' ratios: both sides of each were timed near each other."""
        if above not in rates or below not in rates:
            return None
        return round(statistics.median(a / b for a, b in zip(rates[above], rates[below], strict=True)), 3)

    return {
        "ratio_one_at_a_time": ratio(best, "one at a time"),
        "ratio_one_at_a_time_transformers": ratio("transformers", "one at a time"),
        "ratio_raw_engine": ratio("openvino", "openvino raw"),
        "ratio_trained_checkpoint": ratio("openvino trained Q8_0", "openvino"),
        "ratio_shared_prompt": ratio("8 samples, prompt once", "8 samples, prompt 8 times"),
        "ratio_shared_prompt_openvino": ratio(
            "8 samples by openvino, prompt once", "8 samples by openvino, prompt 8 times"
        ),
        "tokens_per_second": {name: round(value, 1) for name, value in middle.items()},
        "spread": {name: [round(min(v), 1), round(max(v), 1)] for name, v in rates.items()},
        "best_engine": best,
        "precision": {
            "openvino": "weights Q8_0, activations rounded to 8 bits by OpenVINO", "transformers": number_format(),
            "one at a time": "bfloat16",
        },
        "engines_not_available": missing,
        "prompts": args.prompts, "new_tokens": args.tokens, "repeats": args.repeats, "one_at_a_time_prompts": args.few,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_at_start": round(args.load, 2),
    }  # fmt: skip


def number_format() -> str:
    from primum.models.device import device

    return str(device().dtype).removeprefix("torch.")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128, help="longest reply")
    parser.add_argument("--few", type=int, default=16, help="prompts that are asked one at a time")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--no-samples", action="store_true", help="leave out the measurement of a shared prompt")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    if min(args.repeats, args.prompts, args.tokens, args.few, args.batch_size) < 1:
        parser.error("counts start at 1")
    args.few, args.load = min(args.few, args.prompts), os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return args


def main() -> None:
    args = arguments()
    if args.load > 1:
        print(f"other work is running here (load {args.load:.1f}): these numbers say little", file=sys.stderr)
    if find_spec("openvino_genai") is None:
        print("openvino is not installed (pip install 'primum[openvino]'): measured without it", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        found, missing = ways(args, Path(folder))
        rates: dict[str, list[float]] = {name: [] for name in found}
        for repeat in range(args.repeats):
            for name, value in repeat_all(found, repeat).items():
                rates[name].append(value)
    document = result(rates, missing, args)
    print(json.dumps(document) if args.json else json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
