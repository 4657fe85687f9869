"""Inspect AI's logs, read without Inspect: .eval (a zip of JSON files) and .json.

Each scorer is a judge; a scorer that gives several numbers has one metric each. "C", "I", "P" and "N" are 1, 0, 1/2 and
0, as Inspect's own accuracy counts them; a score that is no number is unscored, never 0. A sample that ended in an
error has no scores in the log: it is unscored by every scorer. The epochs of a sample are separate items of one
cluster. What Inspect's zstandard writes needs Python 3.14 or the package zstandard.

A log does not say which way is better: more is, but in what primum itself wrote or scored, whose metrics, clusters,
groups and unscored items come back as they were.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from primum.core.errors import BadInputError, MissingExtraError
from primum.core.records import JsonDict, digest, from_json
from primum.evaluation.items import Metric
from primum.evaluation.logs.common import Gathered, load_json, mapping, must, numbers, read_text, sequence, text_of
from primum.evaluation.tables import ScoredItem, Table

METRIC = ("about", "direction", "unit", "primary")
DIRECTIONS, UNITS = ("lower_is_better", "higher_is_better", "neither"), ("share", "score", "nats")
ZSTANDARD = 93
LOCAL_HEADER = 30


def reads(path: Path) -> bool:
    """Whether this is a log of Inspect."""
    if path.is_dir() or path.suffix not in (".eval", ".json"):
        return False
    if path.suffix == ".eval":
        return True
    head = read_text(path)[:4000]
    return '"eval"' in head and '"task"' in head


def read(path: Path) -> list[Table]:
    """Return a table for each scorer."""
    header, samples = _zip(path) if path.suffix == ".eval" else _json(path)
    facts = mapping(header.get("eval"))
    must(samples, path, "samples")
    found: dict[str, Gathered] = {}
    known, described = _metrics(samples), _described(facts)
    for sample in samples:
        for scorer, row in _rows(sample, known):
            task = str(facts.get("task") or path.stem)
            if scorer not in found:
                about = {"tool": "inspect", "model": facts.get("model"), "own_judge": scorer,
                         "status": header.get("status")}  # fmt: skip
                found[scorer] = Gathered(task, scorer, [], about, _directions(samples, scorer), described)
            found[scorer].rows.append(row)
    if not found:
        raise BadInputError("no sample has a score", where=str(path), cure="score it first: inspect score LOG")
    for gathered in found.values() if len(found) > 1 else ():
        gathered.facts["own_judge"] = ""  # so that each table's name tells its scorer
    return [gathered.table() for gathered in found.values()]


def _metrics(samples: Sequence[JsonDict]) -> dict[str, list[str]]:
    """Return the metrics of every scorer: the names of its values, or its own where it gives one value."""
    found: dict[str, dict[str, None]] = {}
    for sample in samples:
        for scorer, score in mapping(sample.get("scores")).items():
            found.setdefault(scorer, {}).update(dict.fromkeys(mapping(mapping(score).get("value"))))
        for metric in _own_reasons(sample):
            found.setdefault(metric, {})
    return {scorer: list(names) or [scorer] for scorer, names in found.items()}


def _described(spec: JsonDict) -> dict[str, Metric]:
    """Return the metrics of a log that primum wrote: each is a scorer, with all that is known of it."""
    found: dict[str, Metric] = {}
    for one in map(mapping, sequence(spec.get("scorers"))):
        about = mapping(one.get("metadata"))
        if about.get("direction") in DIRECTIONS and about.get("unit") in UNITS:
            found[str(one.get("name"))] = from_json(Metric, {key: about[key] for key in METRIC if key in about})
    return found


def _directions(samples: Sequence[JsonDict], scorer: str) -> dict[str, Any]:
    """Return which way is better by metric, where primum scored in Inspect's place: each of its scores says it."""
    for sample in samples:
        about = mapping(mapping(mapping(sample.get("scores")).get(scorer)).get("metadata"))
        if about:
            ways = mapping(about.get("directions"))
            return {name: way for name, way in ways.items() if way in DIRECTIONS}
    return {}


def _own_reasons(sample: JsonDict) -> dict[str, str]:
    """Return why metrics have no score, in a sample that primum wrote: metric -> reason."""
    about = mapping(sample.get("metadata"))
    return {str(key): str(why) for key, why in mapping(about.get("unscored")).items()} if _ours(about) else {}


def _ours(about: JsonDict) -> bool:
    """Whether a sample's metadata are those that primum gives one."""
    return isinstance(about.get("cluster"), str) and isinstance(about.get("groups"), list)


def _values(score: Any, metrics: Sequence[str], scorer: str) -> dict[str, Any]:
    """Return the values of a score by metric; none of them where a scorer of several numbers gave none of its own."""
    value: Any = mapping(score).get("value")
    if isinstance(value, dict):
        return mapping(value)
    return {scorer: value} if list(metrics) == [scorer] else dict.fromkeys(metrics)


def _scored(score: Any, metrics: Sequence[str], scorer: str) -> tuple[dict[str, float], dict[str, str]]:
    """Return numbers by metric, and why there is none.

    A score by primum says itself why; what has neither number nor reason there is not about this sample.
    """
    scores, unscored = numbers(_values(score, metrics, scorer))
    reasons = mapping(mapping(score).get("metadata")).get("unscored")
    if isinstance(reasons, dict):
        unscored = {str(name): str(why) for name, why in mapping(reasons).items() if name not in scores}
    return scores, unscored


def _rows(sample: JsonDict, known: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ScoredItem]]:
    """Yield a row for each scorer that scored a sample; for every one of them where the sample failed.

    The item is named by its id and its input, so that two tasks with samples 1, 2, 3 are not taken for one.
    """
    prompt = text_of(sample.get("input"))
    item = digest([str(sample.get("id")), prompt])
    cluster = str(mapping(sample.get("metadata"))["cluster"]) if _ours(mapping(sample.get("metadata"))) else ""
    cluster, epoch = cluster or item, sample.get("epoch")
    name = item if epoch in (None, 1) else f"{item}#{epoch}"
    output = mapping(sample.get("output"))
    choice = mapping(next(iter(sequence(output.get("choices"))), None))
    reply = text_of(mapping(choice.get("message")).get("content"))
    written = int(mapping(output.get("usage")).get("output_tokens") or 0)
    finish = "length" if choice.get("stop_reason") == "max_tokens" else "stop"
    failed = text_of(mapping(sample.get("error")).get("message"))
    own, reasons = mapping(sample.get("scores")), _own_reasons(sample)
    for scorer in known if failed else {**own, **reasons}:  # a scorer may pass over a sample that did not fail
        if scorer in own:
            scores, unscored = _scored(own[scorer], known[scorer], scorer)
        else:
            why = reasons.get(scorer) or f"error: {failed}"[:120]
            scores, unscored = dict[str, float](), dict.fromkeys(known[scorer], why)
        label = str(mapping(own.get(scorer)).get("value"))[:40]
        groups = _groups(sample)
        yield scorer, ScoredItem(name, cluster, scores, unscored, groups, prompt, reply, label, finish, written)


def _groups(sample: JsonDict) -> tuple[str, ...]:
    """Return a sample's slices: those that primum gave it, else its short metadata."""
    about = mapping(sample.get("metadata"))
    if _ours(about):
        return tuple(map(str, sequence(about["groups"])))
    return tuple(f"{key}:{value}" for key, value in about.items() if isinstance(value, str) and len(value) < 60)


def _json(path: Path) -> tuple[JsonDict, list[JsonDict]]:
    document = mapping(load_json(read_text(path), str(path)))
    return document, [mapping(sample) for sample in sequence(document.get("samples"))]


def _zip(path: Path) -> tuple[JsonDict, list[JsonDict]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            first = "header.json" if "header.json" in names else "_journal/start.json"
            if first not in names:
                raise BadInputError("no header.json inside", where=str(path), cure="is this a log of Inspect?")
            header = mapping(_member(archive, first, path))
            samples = sorted(name for name in names if name.startswith("samples/") and name.endswith(".json"))
            return header, [mapping(_member(archive, name, path)) for name in samples]
    except (zipfile.BadZipFile, OSError) as error:
        raise BadInputError(f"not a zip file ({error})", where=str(path), cure="is the log whole?") from error


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    info = archive.getinfo(name)
    try:
        data = archive.read(info) if info.compress_type != ZSTANDARD else _zstandard(archive, info)
    except NotImplementedError as error:
        raise BadInputError(
            f"packed in a way that is not known ({error})", where=f"{path}:{name}", cure="inspect log convert"
        ) from error
    except zlib.error as error:
        raise BadInputError(f"damaged ({error})", where=f"{path}:{name}", cure="is the log whole?") from error
    return load_json(data.decode("utf-8", "replace"), f"{path}:{name}")


def _zstandard(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack a member that zipfile cannot: its bytes begin after the local header, whose lengths it names."""
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError("zstandard, with which Inspect packs its logs,", "inspect") from error
    file = archive.fp
    assert file is not None  # an open archive has its file
    file.seek(info.header_offset)
    header = file.read(LOCAL_HEADER)
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    file.seek(info.header_offset + LOCAL_HEADER + name_length + extra_length)
    packed = io.BytesIO(file.read(info.compress_size))
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
            return reader.read()
    except zstandard.ZstdError as error:
        raise zlib.error(str(error)) from error
