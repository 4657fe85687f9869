"""lm-evaluation-harness: samples_TASK_TIME.jsonl as `--log_samples` writes them, one file or the whole output folder.

A row holds its metrics by name; an item is named by the hash of its document. Which way is better stands in the
results_*.json beside it; where that is missing, up is better but for perplexities.
"""

from __future__ import annotations

import re
from pathlib import Path

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, digest
from primum.core.store import read_jsonl
from primum.evaluation.logs.common import Gathered, load_json, mapping, must, numbers, read_text, sequence, text_of
from primum.evaluation.tables import ScoredItem, Table

NAME = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")


def reads(path: Path) -> bool:
    """Whether this is a file of samples, or a folder that holds some."""
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    """Return the newest file of each task and folder: lm-eval makes a folder a model."""
    # lm-eval writes OUTPUT/MODEL/samples_*.jsonl: deeper, or anywhere else, lie logs of other runs
    files = [path] if path.is_file() else sorted([*path.glob("samples_*.jsonl"), *path.glob("*/samples_*.jsonl")])
    found: dict[tuple[Path, str], Path] = {}
    for file in files:
        match = NAME.fullmatch(file.name)
        if match:
            key = file.parent, match["task"]
            found[key] = max(found.get(key, file), file, key=lambda one: one.name)
    return list(found.values())


def read(path: Path) -> list[Table]:
    """Return a table for each task.

    Raises:
        BadInputError: the folder holds several models, or a row is no sample; names file and line.
    """
    files = _files(path)
    folders = sorted({str(file.parent) for file in files})
    if len(folders) > 1:
        problem = f"holds samples of several models ({', '.join(Path(one).name for one in folders)})"
        raise BadInputError(problem, where=str(path), cure=f"name one of its folders, as {folders[0]}")
    return [_read(file) for file in files]


def _read(file: Path) -> Table:
    match = NAME.fullmatch(file.name)
    task = match["task"] if match else file.stem
    directions = {
        name: "lower_is_better" if better is False else "higher_is_better"
        for name, better in _better(file, task).items()
    }
    gathered = Gathered(task, "lm-eval", facts={"tool": "lm-eval", "own_judge": "lm-eval"}, directions=directions)
    seen: set[str] = set()
    for number, row in read_jsonl(file):
        one = _row(row, f"{file}:{number}")
        key = f"{one.item}/{row.get('filter')}"
        # another filter of the same sample is the same reply read in another way: the first one counts
        if one.item not in seen or key in seen:
            gathered.rows.append(one)
        seen.update((one.item, key))
    must(gathered.rows, file, "samples")
    return gathered.table()


def _better(file: Path, task: str) -> dict[str, bool]:
    """Return which metrics are better up, from the newest results file beside the samples."""
    results = sorted(file.parent.glob("results_*.json"))
    known = (
        mapping(mapping(load_json(read_text(results[-1]), str(results[-1]))).get("higher_is_better")) if results else {}
    )
    found = {name: bool(value) for name, value in mapping(known.get(task)).items() if value is not None}
    return {"perplexity": False, "word_perplexity": False, "byte_perplexity": False, "bits_per_byte": False} | found


def _row(row: JsonDict, where: str) -> ScoredItem:
    metrics = [str(name) for name in sequence(row.get("metrics"))]
    if not metrics or "doc" not in row:
        raise BadInputError("not a sample of lm-eval", where=where, cure="write them with --log_samples")
    scores, unscored = numbers({name: row.get(name) for name in metrics})
    item = str(row.get("doc_hash") or digest(row["doc"]))
    doc = mapping(row["doc"])
    groups = tuple(
        f"{key}:{doc[key]}" for key in ("category", "subject", "type") if isinstance(doc.get(key), str) and doc[key]
    )
    replies = sequence(row.get("filtered_resps"))
    said = replies[0] if replies and isinstance(replies[0], str) else ""
    return ScoredItem(item, item, scores, unscored, groups, _prompt(row), said, finish="stop" if said else "")


def _prompt(row: JsonDict) -> str:
    """Return the context of the first request: a list of arguments, or an object of them by number."""
    arguments = row.get("arguments")
    first = (
        mapping(arguments).get("gen_args_0") if isinstance(arguments, dict) else next(iter(sequence(arguments)), None)
    )
    if isinstance(first, dict):
        return text_of(mapping(first).get("arg_0"))
    return text_of(next(iter(sequence(first)), ""))
