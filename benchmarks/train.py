"""Preference training against TRL: pairs per second, share of the machine's matrix rate, memory, and equal losses.

    pip install 'primum[trl]'
    python benchmarks/train.py --shape refusal --repeats 3
    python benchmarks/train.py --shape hh --repeats 1 --json
    python benchmarks/train.py --curves              the first 20 losses of both, fp32, same batches
    python benchmarks/train.py --growth              seconds and memory of ours from 100 to 100,000 pairs

Both sides learn the same tokens with DPO, LoRA of rank 16 on all linear layers, AdamW, the same pairs a step, one
epoch; the reference pass counts. Every arm runs in a process of its own, the arms of a repeat one after the other:

    ours          bf16 weights; reference pass first, then the epoch
    trl-default   what a user gets: fp32 weights under bf16 autocast, gradient checkpointing, live reference, batches
                  of all pairs of a step, random order
    trl-tuned     bf16 weights, no checkpointing, reference precomputed, grouped by length, small batches accumulated,
                  and primum's setting of the allocator

Shapes are (prompt, chosen, rejected) in tokens; lengths are log-normal around them (sigma 0.3), the text is English.
`gemm_fraction` is the matrix work that ours needs (not what a padded trainer would do), per second, over the rate
measured here for products of the model's own shapes. The last line of --json is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

SHAPES = {"refusal": (200, 60, 400), "jailbreak": (800, 50, 350), "hh": (127, 59, 59)}
BARS = {"refusal": (8.0, 4.0), "jailbreak": (8.0, 4.0), "hh": (5.0, 2.5)}
"""Per shape: how many times TRL default, and TRL tuned, ours should reach."""
ARMS = ("ours", "trl-default", "trl-tuned")
RANK, ALPHA, RATE, BETA = 16, 32, 5e-5, 0.1
STEPS = 20
"""Of the curves."""


class Task(NamedTuple):
    """What an arm gets: pairs of token ids (prompt, chosen, rejected), a model, and how it is trained."""

    model: str
    pairs: list[list[list[int]]]
    batch: int
    trl_batch: int
    arm: str
    folder: str
    start: str = ""


def words(tokenizer: Any) -> list[int]:
    """Return English token ids: the benign prompts that ship with primum, one after the other."""
    from primum.prompts.embedded import embedded

    text = " ".join(p.text for p in embedded() if p.intent == "benign")
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def draw(shape: Sequence[int], count: int, ids: Sequence[int], seed: int) -> list[list[list[int]]]:
    """Draw pairs of a shape: stretches of the text, of log-normal length with the shape as mean."""
    rng = random.Random(seed)

    def stretch(mean: int) -> list[int]:
        length = max(2, round(mean * rng.lognormvariate(-0.045, 0.3)))  # exp(-sigma^2 / 2): the mean is the shape's
        at = rng.randrange(len(ids) - length)
        return list(ids[at : at + length])

    return [[stretch(mean) for mean in shape] for _ in range(count)]


def examples(pairs: list[list[list[int]]]) -> list[Any]:
    """Return the pairs as primum's examples."""
    from primum.training.examples import Example, PairExample

    return [PairExample(Example(tuple(p), tuple(c)), Example(tuple(p), tuple(r))) for p, c, r in pairs]


def ours(task: Task) -> dict[str, Any]:
    """Train with primum; every part is timed."""
    from primum.models.load import load
    from primum.training.adapter import add_lora
    from primum.training.loop import LoopConfig, Run
    from primum.training.methods import dpo

    model = load(task.model)
    network, pairs = add_lora(model, RANK, ALPHA, seed=0), examples(task.pairs)
    config = dpo.Config(learning_rate=RATE, nll_weight=0.0, batch_size=task.batch, beta=BETA)
    plain, forward = dpo.objective(config), [0.0]

    def timed(network: Any, micro: Any, scale: float) -> Any:
        start = time.perf_counter()
        found = plain(network, micro, scale)
        forward[0] += time.perf_counter() - start
        return found

    start = time.perf_counter()
    known = dpo.reference(network, pairs)
    reference = time.perf_counter() - start
    loop = LoopConfig(RATE, task.batch)
    log = Run(network, known, timed, len, loop, Path(task.folder)).train()
    seconds = time.perf_counter() - start
    took = {"reference": reference, "forward": forward[0], "backward": seconds - reference - forward[0]}
    peak = peak_gb()  # before the rate is measured
    rate = gemm_rate(model.network)
    work = needed(model.network, pairs, loop)
    fractions = {part: work[part] / took[part] / rate for part in took}
    return {
        "seconds": seconds, "parts": took, "fractions": fractions, "peak_memory_gb": peak, "gemm_gflops": rate / 1e9,
        "gemm_fraction": sum(work.values()) / seconds / rate, "tflop": sum(work.values()) / 1e12,
        "first_loss": log[0]["dpo"], "dtype": str(model.network.dtype).removeprefix("torch."),
    }  # fmt: skip


def peak_gb() -> float:
    """Return the most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6 * 1.024


def gemm_rate(network: Any, rows: int = 1024, repeats: int = 7) -> float:
    """Return the rate (FLOP/s) of the model's own products, x W', in its own format: the best of some repeats each."""
    import torch

    work = seconds = 0.0
    for weight in {tuple(weight.shape): weight for weight in matrices(network)}.values():
        x, times = torch.randn(rows, weight.shape[1], dtype=weight.dtype), []
        for _ in range(repeats):
            start = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            times.append(time.perf_counter() - start)
        work, seconds = work + 2 * rows * weight.numel(), seconds + min(times)
    return work / seconds


def matrices(network: Any) -> list[Any]:
    """Return the matrices of the blocks, whether adapters stand on them or not."""
    ends = ("_proj.weight", "_proj.base_layer.weight")
    return [p for name, p in network.named_parameters() if name.endswith(ends)]


def needed(network: Any, pairs: Sequence[Any], loop: Any) -> dict[str, float]:
    """Return the floating point operations of matrix products that the training needs, by part.

    A token costs 2 operations a weight forward and 2 backward (frozen weights have no gradient of their own), an
    adapter's weight 2 and 4. The output matrix is applied to answers only: once for the reference, twice for the
    policy (its gradient is taken at once). A query and a key cost 4 a dimension of a head forward, 10 backward, which
    makes the probabilities again.
    """
    from primum.training.batches import USUAL, cut_rows, micro_batches, steps
    from primum.training.packed import pack

    config = network.config
    body = sum(weight.numel() for weight in matrices(network))
    low = sum(p.numel() for n, p in network.named_parameters() if "lora_" in n)
    head = config.vocab_size * config.hidden_size
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = config.num_attention_heads * size * config.num_hidden_layers

    def count(groups: Sequence[Sequence[Any]]) -> tuple[int, int, int]:
        trees = [pack(rows) for rows in groups]
        looks = sum((c.end - c.start) * sum(b - a for a, b in c.path) for tree in trees for c in tree.chains)
        return sum(t.ids.shape[1] for t in trees), sum(len(t.targets) for t in trees), looks

    rows = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    tokens, answers, looks = count([[rows[i] for i in group] for group in cut_rows(rows, 1024, True)])
    found = {"reference": 2.0 * body * tokens + 2 * low * tokens + 2 * head * answers + 4 * width * looks}
    plan = [[pairs[i] for i in step] for step in steps(range(len(pairs)), loop.batch_size, 1.0, loop.seed)]
    groups = [micro for step in plan for micro in micro_batches(step, loop.token_budget or USUAL)]
    tokens, answers, looks = count([[side for p in micro for side in (p.chosen, p.rejected)] for micro in groups])
    found["forward"] = 2.0 * (body + low) * tokens + 4 * head * answers + 4 * width * looks
    found["backward"] = 2.0 * (body + 2 * low) * tokens + 10 * width * looks
    return found


def trl(task: Task) -> dict[str, Any]:
    """Train with TRL's DPOTrainer on the same tokens."""
    import os

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig

    tuned = task.arm == "trl-tuned"
    if tuned:
        from primum.models.device import keep_large_allocations

        keep_large_allocations()
    size = task.trl_batch if tuned else task.batch
    config = DPOConfig(
        output_dir=task.folder, num_train_epochs=1, learning_rate=RATE, beta=BETA, max_length=None, report_to=[],
        save_strategy="no", use_cpu=not torch.cuda.is_available(), per_device_train_batch_size=size,
        gradient_accumulation_steps=task.batch // size, disable_tqdm=True, remove_unused_columns=False,
        **({"gradient_checkpointing": False, "precompute_ref_log_probs": True,
            "train_sampling_strategy": "group_by_length"} if tuned else {}),
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(task.model, dtype=torch.bfloat16) if tuned else task.model
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    tokenizer = AutoTokenizer.from_pretrained(task.model)
    trainer = dpo_trainer()(
        model, args=config, train_dataset=dataset(task.pairs), processing_class=tokenizer, peft_config=lora
    )
    start = time.perf_counter()
    trainer.train()
    return {"seconds": time.perf_counter() - start, "peak_memory_gb": peak_gb(), "batch": size}


def dpo_trainer() -> type[Any]:
    """Return TRL's trainer for rows that are token ids already; it notes the loss of each step."""
    from trl import DPOTrainer

    class Trainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            self.noted = [*getattr(self, "noted", []), float(loss)]
            return loss

    return Trainer


def dataset(pairs: list[list[list[int]]]) -> Any:
    """Return the pairs in TRL's columns."""
    from datasets import Dataset

    rows = [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r, "length": 2 * len(p) + len(c) + len(r)}
            for p, c, r in pairs]  # fmt: skip
    return Dataset.from_list(rows)


def curve_ours(task: Task) -> dict[str, Any]:
    """Return our loss at each step, and leave the adapter we began with for the other side."""
    import torch

    from primum.models.load import load
    from primum.training.adapter import add_lora, save_adapter
    from primum.training.methods import dpo

    model = load(task.model, torch.float32)
    network = add_lora(model, RANK, ALPHA, seed=0)
    save_adapter(network, Path(task.start), task.model)
    known = dpo.reference(network, examples(task.pairs))
    config = dpo.Config(learning_rate=1e-3, nll_weight=0.0, batch_size=task.batch, beta=BETA)
    log, _ = dpo.train(config, network, known, Path(task.folder))
    return {"losses": [row["loss"] for row in log]}


def curve_trl(task: Task) -> dict[str, Any]:
    """Return TRL's loss at each step from the same adapter, on the same batches, with the same schedule."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig

    from primum.training.batches import steps
    from primum.training.loop import LoopConfig, schedule

    order = [i for step in steps(range(len(task.pairs)), task.batch, 1.0, 0) for i in step]
    base = AutoModelForCausalLM.from_pretrained(task.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, task.start, is_trainable=True)
    weights = [p for p in model.parameters() if p.requires_grad]
    loop = LoopConfig(1e-3, task.batch)
    optimizer = torch.optim.AdamW(weights, lr=1.0, betas=(0.9, loop.beta2), weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, len(order) // task.batch, loop))
    config = DPOConfig(
        output_dir=task.folder, num_train_epochs=1, beta=BETA, max_length=None, report_to=[], save_strategy="no",
        use_cpu=True, bf16=False, per_device_train_batch_size=task.batch, train_sampling_strategy="sequential",
        disable_tqdm=True, remove_unused_columns=False, max_grad_norm=loop.max_grad_norm, gradient_checkpointing=False,
    )  # fmt: skip
    trainer = dpo_trainer()(
        model, args=config, train_dataset=dataset([task.pairs[i] for i in order]),
        processing_class=AutoTokenizer.from_pretrained(task.model), optimizers=(optimizer, rate),
    )  # fmt: skip
    trainer.train()
    return {"losses": trainer.noted}


RUNS = {"ours": ours, "trl-default": trl, "trl-tuned": trl, "curve-ours": curve_ours, "curve-trl": curve_trl}


def run(task: Task) -> dict[str, Any]:
    """Run one arm in a process of its own.

    Raises:
        SystemExit: the arm failed; its last words are shown.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        given, found = folder / "task.json", folder / "found.json"
        given.write_text(json.dumps(task._replace(folder=str(folder / "run"))._asdict()))
        command = [sys.executable, str(Path(__file__).resolve()), "--task", str(given), "--found", str(found)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not found.exists():
            raise SystemExit(f"{task.arm} failed:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
        return json.loads(found.read_text())


def compare(args: argparse.Namespace, task: Task) -> dict[str, Any]:
    """Run the arms in turn, as often as asked, and return the medians and their ratios."""
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in args.arms}
    for repeat in range(args.repeats):
        for arm in args.arms:
            found = run(task._replace(arm=arm))
            runs[arm].append(found)
            rate = args.pairs / found["seconds"]
            say(f"{repeat + 1}/{args.repeats} {arm:12} {rate:7.3f} pairs/s  {found['peak_memory_gb']:5.1f} GB")
    rates = {arm: [args.pairs / r["seconds"] for r in found] for arm, found in runs.items()}
    middle = {arm: median(values) for arm, values in rates.items()}

    def over(arm: str) -> float | None:
        return middle["ours"] / middle[arm] if arm in middle and "ours" in middle else None

    mine = runs.get("ours", [])
    document: dict[str, Any] = {
        "shape": args.shape, "tokens": SHAPES[args.shape], "pairs": args.pairs, "batch": args.batch,
        "repeats": args.repeats, "ratio_default": over("trl-default"), "ratio_tuned": over("trl-tuned"),
        "pairs_per_second": middle.get("ours"), "rates": rates,
        "memory_gb": {arm: max(r["peak_memory_gb"] for r in found) for arm, found in runs.items()},
    }  # fmt: skip
    if mine:
        best = min(mine, key=lambda r: abs(args.pairs / r["seconds"] - middle["ours"]))
        keys = ("gemm_fraction", "fractions", "gemm_gflops", "tflop", "parts", "first_loss", "dtype")
        document |= {key: best[key] for key in keys}
        document["peak_memory_gb"] = max(r["peak_memory_gb"] for r in mine)
    return document


def show(document: dict[str, Any]) -> None:
    """Say what was found, beside the bars."""
    bars = BARS[document["shape"]]
    for name, bar in zip(("ratio_default", "ratio_tuned"), bars, strict=True):
        if document[name] is not None:
            say(f"{name}: {document[name]:.2f} (bar {bar:g})")
    if "gemm_fraction" in document:
        parts = ", ".join(f"{part} {100 * share:.0f}%" for part, share in document["fractions"].items())
        say(f"of {document['gemm_gflops']:.0f} GFLOP/s measured: {100 * document['gemm_fraction']:.0f}% ({parts})")
    memory = document["memory_gb"]
    if "ours" in memory and "trl-default" in memory:
        say(f"peak memory: {memory['ours'] / memory['trl-default']:.2f} of TRL default's (bar 0.5)")


def curves(task: Task) -> dict[str, Any]:
    """Return the largest difference of the losses of the first steps (fp32, same batches)."""
    with tempfile.TemporaryDirectory() as start:
        found = {arm: run(task._replace(arm=arm, start=start))["losses"] for arm in ("curve-ours", "curve-trl")}
    mine, theirs = found["curve-ours"], found["curve-trl"]
    apart = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
    say(f"largest difference over {len(mine)} steps: {apart:.2e} (bar 1e-4); last {mine[-1]:.5f}, {theirs[-1]:.5f}")
    return {"steps": len(mine), "difference": apart, "ours": mine, "trl": theirs}


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """Return our seconds and memory for each number of pairs, on a tiny model; draw them where asked."""
    import train_growth

    rows = train_growth.measured(args.growth or train_growth.SIZES, args.seed, say)
    if args.svg:
        Path(args.svg).write_text(train_growth.picture(rows), encoding="utf-8")
    return {"growth": rows}


def say(text: str) -> None:
    """Speak on standard error: standard output is for the document."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="refusal")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8, help="pairs a step")
    parser.add_argument("--trl-batch", type=int, default=2, help="pairs a forward pass of trl-tuned (default 2)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--model", default="embedded", help="a model folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curves", action="store_true", help="compare the losses of the first steps instead")
    parser.add_argument("--growth", type=int, nargs="*", help="numbers of pairs to time ours on instead (train_growth)")
    parser.add_argument("--svg", help="a file for the plot of --growth")
    parser.add_argument("--json", action="store_true", help="end with one JSON line on standard output")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--found", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        task = Task(**json.loads(Path(args.task).read_text()))
        Path(args.found).write_text(json.dumps(RUNS[task.arm](task)))
        return
    document = measured(parser, args)
    if args.json:
        print(json.dumps(document))


def measured(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[str, Any]:
    """Check the arguments, draw the pairs and measure what is asked for."""
    if args.growth is not None:
        return growth(args)
    import importlib.util

    from transformers import AutoTokenizer

    from primum.models.embedded import embedded_folder

    if args.pairs % args.batch or args.batch % args.trl_batch:
        parser.error("--pairs must be a multiple of --batch, and --batch of --trl-batch: both sides take equal steps")
    wants_trl = args.curves or any(arm != "ours" for arm in args.arms)
    if wants_trl and importlib.util.find_spec("trl") is None:
        parser.error("TRL is not installed: pip install 'primum[trl]'")
    folder = str(embedded_folder()) if args.model == "embedded" else args.model
    ids = words(AutoTokenizer.from_pretrained(folder))
    task = Task(folder, draw(SHAPES[args.shape], args.pairs, ids, args.seed), args.batch, args.trl_batch, "", "")
    if args.curves:
        short = [max(4, mean // 8) for mean in SHAPES[args.shape]]
        return curves(task._replace(pairs=draw(short, 2 * STEPS, ids, args.seed), batch=2))
    document = compare(args, task)
    show(document)
    return document


if __name__ == "__main__":
    main()
