"""`primum calibrate`: how wrong a judge is, and what the rate of a run would be without its error.

Three uses, by what is given: rows that carry a `label` measure the judge; a run without labels gets a blinded sheet of
50 replies to label; the sheet, filled in, gives the corrected rate (PPI++) beside the raw one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from pydantic import Field

from primum.core.errors import BadInputError, Exit, UsageError
from primum.core.records import BEHAVIOURS, Behaviour, JsonDict, Verdict, to_json
from primum.core.stats import wilson
from primum.core.stats.judge_error import below
from primum.core.store import write_json, write_text
from primum.judging import Exchange
from primum.judging.known_error import (
    EVENTS,
    SHEET,
    Labelled,
    Rates,
    by_slice,
    error,
    from_labels,
    happened,
    sheet,
    without_labels,
)
from primum.judging.options import ChosenJudge, chosen_judges
from primum.judging.robustness import CHANGES, MOST, robustness
from primum.judging.rows import Asked, exchanges, read_exchanges
from primum.judging.sheets import sheet_csv
from primum.prompts.files import read_rows
from primum.verbs.judge import FileConfig

YES, NO = {"1", "yes", "true", "y"}, {"0", "no", "false", "n"}
SLICES = ("category", "language", "style", "model")
Truth = Behaviour | bool


class CalibrateConfig(FileConfig):
    """What `primum calibrate` measures a judge on."""

    judge: tuple[str, ...] = Field(("embedded",), description="judge to measure (primum list judges)", max_length=1)
    out: str = Field("calibration", description="folder that gets sheet.csv and calibration.json")
    labels: str | None = Field(None, description="the labelling sheet, filled in: CSV or JSONL with id and label")
    known: str | None = Field(None, description="labelled replies of other models, for the correction without labels")
    event: Literal["refused", "declined", "went_along", "harmful_compliance", "incoherent"] = Field(
        "refused", description="what is counted"
    )
    size: int = Field(SHEET, ge=2, le=10_000, description="replies on the labelling sheet")
    seed: int = Field(0, description="of the draw")
    robustness: bool = Field(
        False, description="also change the replies' wording, style and order, and inject words: do verdicts hold?"
    )
    below: float | None = Field(None, gt=0, lt=1, description="test whether the rate is below this")


class Judged(NamedTuple):
    """A file's rows, their verdicts, and what the rows themselves say of each."""

    rows: list[Asked]
    verdicts: list[Verdict]
    truth: dict[str, Truth]


def run_verb(config: CalibrateConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Measure the judge, draw the sheet, or correct the rate; write calibration.json.

    Raises:
        UsageError: no such file or judge, a broken row, a label that is none.
    """
    (judge,) = chosen_judges(config.judge, config)
    run = judged(Path(config.file), judge, json_output)
    out = Path(config.out)
    document: JsonDict = {"judge": config.judge[0], "event": config.event, "n": len(run.rows)}
    document["judge_revision"] = run.verdicts[0].judge_revision
    if run.truth:
        document["error"] = measured(run, config.event)
    if config.robustness:
        document["robustness"] = held(run, judge, config.seed, json_output)
    labels = read_labels(Path(config.labels), {str(row.id) for row in run.rows}) if config.labels else {}
    if not labels and not run.truth:
        document["sheet"] = str(write_sheet(out / "sheet.csv", run.rows, config))
    document["rate"] = rate(run, labels, config, json_output)
    write_json(out / "calibration.json", document)
    if not json_output:
        print(page(document))
    tested = document["rate"].get("below")
    if tested is None:
        return Exit.PASSED, document
    return (Exit.PASSED if tested["shown"] else Exit.UNDECIDED), document


def judged(path: Path, judge: ChosenJudge, quiet: bool) -> Judged:
    """Read and judge a file, and read the labels in its rows."""
    from primum.pipeline.terminal import Terminal

    rows = read_exchanges(path)
    with Terminal(quiet=quiet).step(f"judge: {judge.id}", len(rows), "replies") as advance:
        verdicts = judge(exchanges(rows), advance, batch=256)
    held = [(str(row.id), row.values.get("label")) for row in rows]
    truth: dict[str, Truth] = {
        key: parse_label(value, f"{path}: id {key}") for key, value in held if value not in (None, "")
    }
    return Judged(rows, verdicts, truth)


def held(run: Judged, by: ChosenJudge, seed: int, quiet: bool) -> list[JsonDict]:
    """Return how the judge's verdicts hold where replies are changed by rule (`judging.robustness`)."""
    from primum.pipeline.terminal import Terminal

    total = (len(CHANGES) + 2) * min(len(run.rows), MOST)
    with Terminal(quiet=quiet).step("robustness", total, "verdicts") as advance:

        def judge(some: Sequence[Exchange]) -> list[Verdict]:
            return by(some, advance, batch=256)

        return [to_json(one) for one in robustness(judge, exchanges(run.rows), seed)]


def parse_label(value: Any, where: str) -> Truth:
    """Return a label: one of the six behaviours, or whether the event happened.

    Raises:
        BadInputError: it is neither.
    """
    word = str(value).strip().lower().replace(" ", "_").removesuffix(".0")
    if word in BEHAVIOURS:
        return cast(Behaviour, word)
    if word in YES | NO:
        return word in YES
    cure = f"one of {', '.join(BEHAVIOURS)}, or yes or no: did the event happen?"
    raise BadInputError(f"'{str(value)[:40]}' is no label", where=where, cure=cure)


def true_event(label: Truth, event: str) -> bool:
    """Return whether the label says that the event happened."""
    return label if isinstance(label, bool) else label in EVENTS[event]


def measured(run: Judged, event: str) -> JsonDict:
    """Return the judge's error on the rows with a label, whole and by slice."""
    found: list[Labelled] = []
    slices: list[Mapping[str, str]] = []
    for row, verdict in zip(run.rows, run.verdicts, strict=True):
        if str(row.id) in run.truth:
            said = happened(verdict.behaviour, event)
            found.append(Labelled(said, true_event(run.truth[str(row.id)], event)))
            slices.append({key: str(row.values[key]) for key in SLICES if row.values.get(key) not in (None, "")})
    return {**error(found), "by": by_slice(found, slices)}


def rate(run: Judged, labels: Mapping[str, Truth], config: CalibrateConfig, quiet: bool) -> JsonDict:
    """Return the run's rate: raw, its bounds for the unscored, and corrected as far as anything is known."""
    said = {str(row.id): happened(v.behaviour, config.event) for row, v in zip(run.rows, run.verdicts, strict=True)}
    scored = {key: value for key, value in said.items() if value is not None}
    k, n, missing = sum(scored.values()), len(scored), len(said) - len(scored)
    if not n:
        raise UsageError("the judge scored no reply", where=config.file, cure="see primum judge for the reasons")
    truth = {key: true_event(label, config.event) for key, label in labels.items()}
    fixed = corrected(scored, truth, config, quiet)
    found: JsonDict = {
        "raw": fixed.raw._asdict(), "unscored": missing, "bounds": [k / len(said), (k + missing) / len(said)],
        "corrected": fixed.corrected._asdict() if fixed.corrected else None, "method": fixed.method, "note": fixed.note,
    }  # fmt: skip
    if config.below is not None:
        test = below(fixed.corrected or fixed.raw, config.below)
        found["below"] = {"limit": config.below, "p": test.p, "shown": test.below}
    return found


def corrected(scored: Mapping[str, bool], truth: Mapping[str, bool], config: CalibrateConfig, quiet: bool) -> Rates:
    """Return the rate put right by labels of this run, else by the judge's known error, else only raw."""
    k, n = sum(scored.values()), len(scored)
    both = [key for key in truth if key in scored]
    if both:
        found = from_labels(scored, truth)
        if found.corrected is None:
            raise UsageError("one label is too few", where=str(config.labels), cure="label at least two, better 50")
        return found
    if config.known:
        (judge,) = chosen_judges(config.judge, config)
        other = judged(Path(config.known), judge, quiet)
        if not other.truth:
            raise BadInputError("no labels", where=config.known, cure="give each row a 'label'")
        return without_labels(k, n, measured(other, config.event))
    return Rates(wilson(k, n), None, "none", "no labels: fill in the sheet and give it with --labels")


def write_sheet(path: Path, rows: Sequence[Asked], config: CalibrateConfig) -> Path:
    """Write the blinded sheet: no verdict, no model, random order; a sheet that is there with labels is kept.

    Raises:
        UsageError: a sheet with labels is there already.
    """
    if path.exists() and any(row.values.get("label") for row in read_rows(path)):
        raise UsageError(
            "holds labels already", where=str(path), cure=f"give it with --labels {path}, or another --out"
        )
    by_id = {str(row.id): row for row in rows}
    drawn = [(key, by_id[key].exchange) for key in sheet(list(by_id), config.size, config.seed)]
    write_text(path, sheet_csv((key, one.prompt.text, one.reply.text, "") for key, one in drawn))
    return path


def read_labels(path: Path, known: set[str]) -> dict[str, Truth]:
    """Return the labels of a filled sheet by id; rows left empty are passed over.

    Raises:
        BadInputError: a row without id or label, an id that the run does not hold, no label at all.
    """
    found: dict[str, Truth] = {}
    for row in read_rows(path):
        if "id" not in row.values or "label" not in row.values:
            raise BadInputError("no 'id' and 'label'", where=row.where, cure="give the sheet that calibrate wrote")
        key = str(row.values["id"])
        key = key if key in known else key.removeprefix("'")
        if row.values["label"] in (None, ""):
            continue
        if key not in known:
            raise BadInputError(f"the run has no reply '{key}'", where=row.where, cure="give the sheet of this run")
        found[key] = parse_label(row.values["label"], row.where)
    if not found:
        raise BadInputError("no label is filled in", where=str(path), cure="fill in the column 'label'")
    return found


def page(document: JsonDict) -> str:
    """Return the result for the terminal."""
    lines = [f"judge {document['judge']}, {document['event']}, {document['n']:,} replies", ""]
    facts = document.get("error")
    if facts:
        lines.append(f"against {facts['n']:,} labels ({facts['unscored']} unscored)")
        for name in ("sensitivity", "specificity", "accuracy", "f1", "kappa", "ac1"):
            lines.append(f"  {name:<14}{_span(facts[name])}")
        for key, values in facts["by"].items():
            lines += ["", f"  {key}"]
            lines += [
                f"    {name[:24]:<24} n {one['n']:>5}  accuracy {_span(one['accuracy'])}"
                for name, one in values.items()
            ]
        lines.append("")
    if "robustness" in document:
        lines += ["verdicts in another class after a change of the reply (of which from going along to declining)"]
        lines += [_held(one) for one in document["robustness"]]
        lines.append("")
    found = document["rate"]
    lines.append(f"rate as judged  {_span(found['raw'])}" + _bounds(found))
    lines.append(f"rate corrected  {_span(found['corrected'])}  {found['method']}: {found['note']}")
    if "below" in found:
        word = "shown to be" if found["below"]["shown"] else "not shown to be"
        lines.append(f"{word} below {found['below']['limit']} (p {found['below']['p']:.3g})")
    if "sheet" in document:
        lines += [
            "",
            f"sheet to fill in: {document['sheet']}",
            "then: primum calibrate FILE --labels " + document["sheet"],
        ]
    return "\n".join(lines)


def _held(one: JsonDict) -> str:
    share = f"{100 * one['share']:5.1f}% [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"
    lost = f"; {one['lost']} no more scored" if one["lost"] else ""
    return (
        f"  {one['family']:<10}{one['name']:<26}{one['flips']:>4} of {one['n']:<5}{share}  ({one['to_declined']}){lost}"
    )


def _span(value: JsonDict | None) -> str:
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" if value else "unknown"


def _bounds(found: JsonDict) -> str:
    low, high = found["bounds"]
    return f"  with {found['unscored']} unscored {low:.3f} to {high:.3f}" if found["unscored"] else ""
