"""Results to the facts of report.json: plain JSON, the one source of page, card, evidence and closing table."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from primum import __version__
from primum.core.records import JsonDict, Prompt, to_json
from primum.core.stats import cohen_kappa
from primum.core.taxonomy import stamp
from primum.evaluation.compare import compare, compare_nll
from primum.evaluation.gate import Decision, JudgeResult
from primum.evaluation.measure import measure, nll_measurement
from primum.judging.agreement import published
from primum.judging.options import ChosenJudge
from primum.pipeline.choose import is_general
from primum.pipeline.languages import language_facts
from primum.pipeline.settings import RepairConfig
from primum.pipeline.steps import Journey
from primum.prompts.collect import Collected

if TYPE_CHECKING:
    from primum.pipeline.repair import Outcome, Side

PARTS = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy", "scipy", "scikit-learn")
SHOWN = 24
"""Transcripts shown of each kind of prompt."""


def assemble(
    journey: Journey, config: RepairConfig, collected: Collected, outcome: Outcome,
    results: Mapping[str, JudgeResult], decision: Decision,
) -> JsonDict:  # fmt: skip
    """Return all facts of a repair."""
    learned, lint = outcome.learned, outcome.lint
    return {
        "primum": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "title": f"Repair of {outcome.model['name']}",
        "model": outcome.model,
        "budget": config.budget,
        "seed": config.seed,
        "settings": config.model_dump(),
        "versions": {part: importlib.metadata.version(part) for part in PARTS} | {"python": platform.python_version()},
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "device": outcome.model["device"],
            "peak_memory_gb": peak_memory_gb(),
        },
        "seconds": journey.seconds,
        "steps": journey.said,
        "data": _data(collected, outcome.train, outcome.test, config),
        "decision": to_json(decision),
        "judges": [about_judge(j) for j in config.judges],
        "judges_agree": _agree(results, config.judges),
        "measurements": {j: _measurements(r, outcome, j == config.judges[0]) for j, r in results.items()},
        "comparisons": {j: _comparisons(r, outcome, j == config.judges[0]) for j, r in results.items()},
        "languages": language_facts(outcome.languages, outcome.before.languages, outcome.after.languages, config),
        "training": {"sft": learned.sft, "dpo": learned.dpo, "alarms": learned.alarms},
        "pairs": {
            "n": len(outcome.built.pairs),
            "by_kind": dict(Counter(pair.kind for pair in outcome.built.pairs)),
            "dropped": dict(Counter(row["reason"] for row in outcome.built.dropped)),
            "lint": to_json(lint),
        },
        "transcripts": _transcripts(outcome, results, config),
        "checkpoint": learned.checkpoint.name,
        "adapter": learned.adapter.name,
        "evidence": "evidence.json",
    }


def peak_memory_gb() -> float | None:
    """Return the most main memory that this process has held, in GB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, kilobytes elsewhere (getrusage(2))
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)


def _data(collected: Collected, train: Sequence[Prompt], test: Sequence[Prompt], config: RepairConfig) -> JsonDict:
    counts = Counter((p.split, p.intent) for p in [*train, *test])
    trained = {p.category for p in train if p.intent == "harmful"}
    held_out = sorted({p.category for p in test if p.intent == "harmful"} - trained)
    return {
        "counts": [{"split": s, "intent": i, "n": n} for (s, i), n in sorted(counts.items())],
        "collected": len(collected.prompts),
        "held_out": held_out,
        "trained_categories": sorted(trained),
        "dropped": collected.dropped_counts,
        "sources": [*config.prompts, *config.benign, *(["embedded"] if config.embedded else [])],
        "policy": stamp(),
        "notes": list(collected.notes),
    }


def about_judge(judge: str | ChosenJudge) -> JsonDict:
    """Return what a report says of a judge: what it is, its revision and options, its agreement with labels by hand."""
    one = ChosenJudge(judge) if isinstance(judge, str) else judge
    return {
        "id": one.id, "about": one.module.about, "revision": one.revision, "options": one.options,
        "agreement": None if one.options else published(one.id),
    }  # fmt: skip


def _agree(results: Mapping[str, JudgeResult], judges: Sequence[str]) -> JsonDict | None:
    if len(judges) < 2:
        return None
    sides = [[s.verdict.behaviour for part in results[j] for s in part] for j in judges[:2]]
    both = [(a, b) for a, b in zip(*sides, strict=True) if a and b]
    if not both:
        return {"n": 0, "agreement": None, "kappa": None}
    share = sum(a == b for a, b in both) / len(both)
    return {"n": len(both), "agreement": share, "kappa": cohen_kappa([a for a, _ in both], [b for _, b in both])}


def _measurements(result: JudgeResult, outcome: Outcome, first: bool) -> JsonDict:
    found = {"before": measure(result.before), "after": measure(result.after)}
    rows = {when: [to_json(m) for m in ms] for when, ms in found.items()}
    if first:  # no judge decides a likelihood: it stands once, with the first
        for when, side in (("before", outcome.before), ("after", outcome.after)):
            rows[when] += [to_json(nll_measurement(v, k)) for k, v in _nll(side).items()]
            rows[when] += [to_json(replace(m, metric=f"{m.metric}_domain")) for m in side.accuracy]
    return rows


def _nll(side: Side) -> Mapping[Any, Sequence[float]]:
    return {key: values for key, values in side.nll.items() if values}


def _comparisons(result: JudgeResult, outcome: Outcome, first: bool) -> list[JsonDict]:
    rows = [to_json(c) for c in compare(result.before, result.after)]
    if first:
        after = _nll(outcome.after)
        rows += [to_json(compare_nll(values, after[key], key)) for key, values in _nll(outcome.before).items()]
    return rows


def _transcripts(outcome: Outcome, results: Mapping[str, JudgeResult], config: RepairConfig) -> list[JsonDict]:
    after = {r.prompt_id: r for r in outcome.after.replies}
    before = {r.prompt_id: r for r in outcome.before.replies}
    said = {
        (j, when): {s.prompt.id: s.verdict.behaviour or f"unscored: {s.verdict.unscored}" for s in part}
        for j, result in results.items()
        for when, part in zip(("before", "after"), result, strict=True)
    }
    return [
        {
            "prompt": p.text, "intent": p.intent, "category": p.category,
            "before": before[p.id].text, "after": after[p.id].text,
            "before_verdicts": {j: said[j, "before"][p.id] for j in results},
            "after_verdicts": {j: said[j, "after"][p.id] for j in results},
        }
        for p in _shown(outcome.test, config.seed)
    ]  # fmt: skip


def _shown(test: Sequence[Prompt], seed: int) -> list[Prompt]:
    """Return a few prompts of each kind, drawn by the seed: not picked for how they turned out."""
    kinds = (
        [p for p in test if p.intent != "benign"],
        [p for p in test if p.intent == "benign" and not is_general(p)],
        [p for p in test if is_general(p)],
    )
    rng = random.Random(seed)
    return [p for kind in kinds for p in rng.sample(kind, min(SHOWN, len(kind)))]
