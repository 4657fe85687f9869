"""A table as a log of Inspect AI (.eval), written without Inspect: `inspect view` opens it.

The log is a zip of JSON files: header.json, summaries.json, reductions.json, and a file for each sample. Each metric is
a scorer, since a reader of logs asks each scorer for one number; an unscored item has no score there, and its reason
stands in the sample's metadata. Files are packed by deflate, which every reader knows.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from primum import __version__
from primum.core.records import JsonDict, digest, to_json
from primum.core.store import disk_error
from primum.evaluation.estimates import interval as estimated
from primum.evaluation.tables import ScoredItem, Table

VERSION = 2
"""Of Inspect's log format."""
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._#-]{0,80}")


def write_log(folder: Path, table: Table, now: datetime | None = None) -> Path:
    """Write one table as a log into a folder; return its path.

    Raises:
        StepFailedError: the disk is full or the folder cannot be written.
    """
    created = (now or datetime.now(UTC)).replace(microsecond=0)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", table.name)[:80] or "task"
    key = digest([table.name, created.isoformat(), [row.item for row in table.rows]])
    path = folder / f"{created:%Y-%m-%dT%H-%M-%S}-00-00_{name}_{key}.eval"
    temporary = path.with_name(path.name + ".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, value in _members(table, created.isoformat(), key):
                archive.writestr(member, json.dumps(value, ensure_ascii=False))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from error
    return path


def _members(table: Table, created: str, key: str) -> Iterator[tuple[str, Any]]:
    spec = _spec(table, created, key)
    plan: JsonDict = {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": {}}
    yield "_journal/start.json", {"version": VERSION, "eval": spec, "plan": plan}
    samples = [_sample(name, row, table) for name, row in zip(_ids(table), table.rows, strict=True)]
    for sample in samples:
        yield f"samples/{sample['id']}_epoch_1.json", sample
    yield "summaries.json", [_summary(sample) for sample in samples]
    yield "reductions.json", [_reduction(name, samples) for name in table.metrics]
    yield "header.json", {
        "version": VERSION, "status": "success", "eval": spec, "plan": plan, "results": _results(table),
        "stats": {"started_at": created, "completed_at": created, "model_usage": {}},
    }  # fmt: skip


def _spec(table: Table, created: str, key: str) -> JsonDict:
    ids = _ids(table)
    return {
        "eval_id": key, "run_id": key, "created": created, "task": table.name, "task_id": key, "task_version": 0,
        "task_attribs": {}, "task_args": {}, "dataset": {"name": table.benchmark, "samples": len(ids),
        "sample_ids": ids, "shuffled": False}, "model": f"primum/{table.facts.get('model') or 'unknown'}",
        "model_args": {}, "config": {"epochs": 1}, "packages": {"primum": __version__},
        "metadata": {"judge": table.judge, **{k: v for k, v in table.facts.items() if isinstance(v, str | int)}},
        "scorers": [{"name": name, "options": {}, "metrics": [{"name": "mean", "options": {}}],
                     "metadata": to_json(metric)}
                    for name, metric in table.metrics.items()],
    }  # fmt: skip


def _ids(table: Table) -> list[str]:
    """Return each row's own id where it can stand in a file's name, else its number."""
    return [row.item if SAFE.fullmatch(row.item) else f"item-{i}" for i, row in enumerate(table.rows, 1)]


def _sample(name: str, row: ScoredItem, table: Table) -> JsonDict:
    said = {"role": "assistant", "content": row.reply, "source": "generate"}
    stop = "max_tokens" if row.finish == "length" else "stop"
    scores = {name: {"value": value, "answer": row.label or None} for name, value in row.scores.items()}
    model = str(table.facts.get("model") or "unknown")
    return {
        "id": name, "epoch": 1, "input": row.prompt, "target": "",
        "messages": [{"role": "user", "content": row.prompt, "source": "input"}, said],
        "output": {"model": model, "choices": [{"message": said, "stop_reason": stop}], "completion": row.reply,
                   "usage": {"input_tokens": 0, "output_tokens": row.tokens, "total_tokens": row.tokens}},
        "scores": scores, "store": {}, "events": [], "model_usage": {}, "attachments": {},
        "metadata": {"item": row.item, "cluster": row.cluster, "groups": list(row.groups),
                     "unscored": dict(row.unscored)},
    }  # fmt: skip


def _summary(sample: Mapping[str, Any]) -> JsonDict:
    kept = {key: sample[key] for key in ("id", "epoch", "input", "target", "scores")}
    return {**kept, "metadata": {}, "completed": True, "message_count": len(sample["messages"])}


def _reduction(name: str, samples: Sequence[Mapping[str, Any]]) -> JsonDict:
    rows = [{"sample_id": one["id"], **one["scores"][name]} for one in samples if name in one["scores"]]
    return {"scorer": name, "samples": rows}


def _results(table: Table) -> JsonDict:
    scores: list[JsonDict] = []
    for name, metric in table.metrics.items():
        values = table.values(name)
        numbers = estimated(values, metric.unit) if values.numbers else None
        found = {"mean": numbers.value, "low": numbers.low, "high": numbers.high} if numbers else {}
        scores.append({
            "name": name, "scorer": name, "scored_samples": len(values.numbers),
            "unscored_samples": sum(values.left_out.values()), "params": {},
            "metrics": {key: {"name": key, "value": value, "params": {}} for key, value in found.items()},
        })  # fmt: skip
    return {"total_samples": len(table.rows), "completed_samples": len(table.rows), "scores": scores}
