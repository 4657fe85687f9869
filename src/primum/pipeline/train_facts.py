"""What `primum train` says of the rows it was given, and of what became of them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from primum.core.records import JsonDict
from primum.pipeline import threshold

if TYPE_CHECKING:
    from primum.pipeline.train_rows import Job

FEW = 2000
"""Examples among which sharing is counted."""


def facts(job: Job, budget: int | None) -> JsonDict:
    """Return what is in the rows: how many, how long, what is shared, what is cut and left out.

    `shared`: share of the tokens that are computed once for several rows (of the first rows), in micro-batches of
    `budget` tokens, or of as many as are usual. `padding`: share of pads
    in batches of 16 rows as they come, which a trainer that pads would compute.
    """
    from primum.training.batches import USUAL, micro_batches
    from primum.training.packed import pack
    from primum.training.rows import lengths_of

    lengths, paired = lengths_of(job.examples), hasattr(job.rows[0], "chosen")
    prompts = array("i", (len(e.prompt) for e in job.examples))
    answers = array("i", (whole - prompt for whole, prompt in zip(lengths, prompts, strict=True)))
    units = (job.rows if paired else job.examples)[:FEW]
    groups: list[list[Any]] = micro_batches(units, budget or USUAL)
    rows = [[side for x in group for side in ((x.chosen, x.rejected) if paired else (x,))] for group in groups]
    once = sum(pack(group).ids.shape[1] + len(group) for group in rows)
    blocks = (lengths[i : i + 16] for i in range(0, len(lengths), 16))
    padded = sum(max(block) * len(block) for block in blocks)
    return {
        "rows": job.count.rows, "learned": len(job.rows),
        "dropped": dict(Counter(row["reason"] for row in job.count.dropped)), "replaced": len(job.count.replaced),
        "cut": {name: n for name, n in job.count.cut.items() if n}, "tokens": sum(lengths),
        "prompt": _spread(prompts), "answer": _spread(answers),
        "shared": 1 - once / sum(e.length for group in rows for e in group), "padding": 1 - sum(lengths) / padded,
    }  # fmt: skip


def _spread(values: Sequence[int]) -> JsonDict:
    ordered = sorted(values)
    return {"median": ordered[len(ordered) // 2], "p95": ordered[int(0.95 * (len(ordered) - 1))], "max": ordered[-1]}


def summary(document: JsonDict) -> str:
    """Return what a run, or a dry run, ends with."""
    from primum.report import words

    data = document["data"]
    lines = [f"{data['rows']:,} rows, {data['learned']:,} examples to learn, {data['tokens']:,} tokens"]
    lines += [f"  left out: {n:,} ({why})" for why, n in data["dropped"].items()]
    if data["replaced"]:
        lines.append(f"  learned with the model's own answer, as it declines what they do: {data['replaced']:,} rows")
    lines += [f"  cut: {n:,} {name}" for name, n in data["cut"].items()]
    for name in ("prompt", "answer"):
        spread = data[name]
        lines.append(
            f"  {name}: {spread['median']} tokens in the median, 95% to {spread['p95']}, longest {spread['max']}"
        )
    lines.append(f"  computed once for several rows: {data['shared']:.0%} of the tokens")
    lines.append(f"  pads, had the rows been padded: {data['padding']:.0%} of the tokens")
    if "estimate" in document:
        guess = document["estimate"]
        lines.append(
            f"about {words.seconds(guess['seconds'])} for {guess['steps']:,} steps, {guess['memory_gb']:.1f} GB; "
            f"micro-batches of at most {guess['token_budget']:,} tokens"
        )
        measured, held = (guess["memory"][part] for part in ("measured_gb", "optimizer_gb"))
        lines.append(
            f"  of the memory {measured:.1f} GB were measured on a few micro-batches (weights, gradients, what a pass "
            f"keeps); {held:.2f} GB are the optimizer's states of what learns"
        )
        return "\n".join(lines)
    first, last = document["first"], document["last"]
    shown = [key for key in ("loss", "accuracy", "margin", "nll", "good_reward", "bad_reward") if key in last]
    lines += [f"{key}: {first[key]:.4f} -> {last[key]:.4f}" for key in shown if key in first]
    for head, row in (document.get("accuracy") or {}).get("cross", {}).items():
        if head in row:
            span = words.interval(row[head]["low"], row[head]["high"])
            lines.append(
                f"held-out pairs of {head} in order: {words.percent(row[head]['value'])} {span} n {row[head]['n']}"
            )
    lines += reliability_lines(document.get("reliability") or {})
    lines += threshold.lines(document) if "labelled" in document else []
    lines += [f"alarm at step {alarm['step']}: {alarm['text']}" for alarm in document["alarms"]]
    lines += [f"{name}: {path}" for name, path in document["outputs"].items()]
    return "\n".join(lines)


def reliability_lines(found: JsonDict) -> list[str]:
    """Return how sure a head is beside how often it is right: the calibration error, and each bin (said: was, n)."""
    kinds = {"safe": "p(safe) of replies"}
    return [
        f"calibration error of {kinds.get(head, f'the order of {head} pairs')}: {one['error']:.3f} (n {one['n']}): "
        + ", ".join(f"{row['score']:.2f}: {row['share']:.2f} (n {row['n']})" for row in one["bins"])
        for head, one in found.items()
        if one["n"]
    ]
