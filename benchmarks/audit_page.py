"""The page about the audit's speed, memory and accuracy, and its plot; everything from the measured JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from plots import Panel, growth

from primum.core.stats import wilson
from primum.core.store import write_text

Facts = dict[str, Any]
NAMES = {"filler": "made-up text, 1 in 10 with personal information", "medical": "medical questions and abstracts"}
THREE, STEP = "language + pii + terms", "near-duplicates"


def write(held: Facts, path: Path) -> None:
    """Write the page, and beside it the plot where scale was measured.

    Raises:
        SystemExit: the page that is there has a part whose measurement is not held.
    """
    picture = path.with_name("audit-scale.svg")
    parts = [_head(held), _speed(held.get("speed")), _scale(held.get("scale"), picture.name),
             _accuracy(held.get("accuracy")), _language(held.get("language")), _risk(held)]  # fmt: skip
    text = "\n".join(part for part in parts if part)
    lost = _headings(path.read_text(encoding="utf-8")) - _headings(text) if path.exists() else set[str]()
    if lost:
        raise SystemExit(f"{path}: measure these parts too, or they are lost: {', '.join(sorted(lost))}")
    if "scale" in held:
        write_text(picture, plot(held["scale"]["runs"]))
    write_text(path, text)


def _headings(text: str) -> set[str]:
    return {line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")}


def _head(held: Facts) -> str:
    made = [facts["machine"] for facts in held.values()]
    dates = " and ".join(sorted({one["date"] for one in made}))
    packages = ", ".join(f"{name} {number}" for name, number in sorted(_merged(made).items()))
    cores = ", ".join(sorted({str(one["cores"]) for one in made}))
    python = ", ".join(sorted({one["python"] for one in made}))
    return f"""# The audit: speed, memory, accuracy

Made by `python benchmarks/audit.py accuracy|speed|scale|language|risk|safety` and `page` on {dates}.
Python {python}, {cores} cores, {packages}. Intervals are 95% (Wilson).
"""


def _merged(made: Sequence[Facts]) -> dict[str, str]:
    return {name: number for one in made for name, number in one["packages"].items()}


# ---------------------------------------------------------------- speed


def _speed(facts: Facts | None) -> str:
    if not facts:
        return ""
    others = "Nothing else of weight ran" if facts["load"] < 1 else "Other work was running, which slows both rates"
    lines = [f"""## Speed of one core, documents of about 1 kB

Each figure is the median of {facts["repeats"]} repeats, taken in turns (lowest to highest in brackets).
{others} (load {facts["load"]:.1f} at the start). The first rows read
JSON lines and write attributes; `near-duplicates` is the whole step behind that: signatures, groups, and the file that
names the repeats."""]  # fmt: skip
    for name, text in facts["texts"].items():
        lines.append(f"""
**{NAMES[name]}** ({text["documents"]:,} documents, {text["bytes"] / 1e6:.1f} MB)

| | MB/s of CPU time | documents/s of CPU time | MB/s by the clock |
|---|---|---|---|""")
        for what, row in text["steps"].items():
            cpu = row["cpu"]
            lines.append(f"| {what} | {cpu['mb']:.1f} [{cpu['low']:.1f}, {cpu['high']:.1f}] | {cpu['documents']:,.0f} "
                         f"| {row['wall']['mb']:.1f} |")  # fmt: skip
    lines += ["", _bars(facts["texts"]), "", "The same on another machine: docs/log.md."]
    return "\n".join(lines) + "\n"


def _bars(texts: Facts) -> str:
    rows = ["| bar | " + " | ".join(NAMES[name] for name in texts) + " |", "|---|" + "---|" * len(texts)]
    goals: list[tuple[str, str, Callable[[Facts], float], float]] = [
        ("the three together, MB/s: at least 5", THREE, lambda row: row["mb"], 5),
        ("near-duplicates, documents/s: at least 50,000", STEP, lambda row: row["documents"], 50_000),
    ]
    for title, what, value, least in goals:
        cells = []
        for text in texts.values():
            number = value(text["steps"][what]["cpu"])
            cells.append(f"{number:,.0f}" if number > 100 else f"{number:.1f}")
            cells[-1] += " (met)" if number >= least else " (not met)"
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


# ---------------------------------------------------------------- scale


def _scale(facts: Facts | None, picture: str) -> str:
    if not facts:
        return ""
    runs = facts["runs"]
    rates = [run["bytes"] / 1e6 / run["cpu"] for run in runs]
    memory = sorted(run["memory"] / 1e6 for run in runs)
    lines = [f"""## Size: seconds and memory

Whole runs of `primum audit` with one worker and the default steps (start, page and card included), each in a process
of its own; memory is the largest resident size. The corpus is the same 1,000 made-up rows again and again.
Other work was running. From {_mb(runs[0])} to {_mb(runs[-1])}:
{rates[0]:.1f} to {rates[-1]:.1f} MB a second of CPU time, {memory[0]:.0f} to {memory[-1]:.0f} MB of memory.

![CPU seconds and memory by size of the corpus]({picture})

| corpus | CPU seconds | MB/s of CPU time | seconds by the clock | memory |
|---|---|---|---|---|"""]  # fmt: skip
    lines += [f"| {_mb(run)} | {run['cpu']:.1f} | {rate:.1f} | {run['wall']:.1f} | {run['memory'] / 1e6:.0f} MB |"
              for run, rate in zip(runs, rates, strict=True)]  # fmt: skip
    return "\n".join(lines) + "\n"


def _mb(run: Facts) -> str:
    return f"{run['bytes'] / 1e6:,.0f} MB"


def plot(runs: Sequence[Facts]) -> str:
    """Return two panels as SVG over the corpus's size: CPU seconds (both axes in powers of ten) and memory."""
    panels = [
        Panel("CPU seconds", [run["cpu"] for run in runs], logs=True),
        Panel("largest memory, MB", [run["memory"] / 1e6 for run in runs]),
    ]
    label = "CPU seconds and largest memory by size of the corpus"
    return growth(label, [run["bytes"] / 1e6 for run in runs], "MB", panels)


# ---------------------------------------------------------------- accuracy and language


def _accuracy(facts: Facts | None) -> str:
    if not facts:
        return ""
    ours, other = facts["finders"]["primum"], facts["finders"].get("presidio", {})
    kinds = [kind for kind in ours if kind != "all"]
    kinds += [kind for kind in other if kind not in ours]
    beside = (
        f", beside the pattern recognizers of Presidio {facts['presidio']} (from a score of 0.3 on)" if other else ""
    )
    lines = [f"""## Personal information: recall and precision

{facts["texts"]:,} made-up texts (seed {facts["seed"]}), each with two planted items of 12 types, three look-alikes that
are none (versions, private addresses, ISBNs, order numbers, hashes, ...) and sentences without numbers
(benchmarks/planted.py){beside}.
An item is found where a finding of its type overlaps it; a finding that overlaps no item of its type is wrong.
A dash: no recognizer for it.

| type | planted | recall, primum | recall, Presidio | precision, primum | precision, Presidio |
|---|---|---|---|---|---|"""]  # fmt: skip
    for kind in kinds:
        one, two = ours.get(kind), other.get(kind)
        planted = (one or two or {"planted": 0})["planted"]
        lines.append(f"| {kind} | {planted} | {_recall(one)} | {_recall(two)} | {_precise(one)} | {_precise(two)} |")
    lines.append(_total("all of its types", ours["all"], other.get("all")))
    if other:
        same = [kind for kind in other if kind in ours and kind != "all"]
        lines.append(_total("the types of both", _sum(ours, same), _sum(other, same)))
    return "\n".join(lines) + "\n"


def _sum(rows: Facts, kinds: Sequence[str]) -> Facts:
    return {key: sum(rows[kind][key] for kind in kinds) for key in ("planted", "found", "wrong")}


def _total(title: str, one: Facts, two: Facts | None) -> str:
    planted = f"{one['planted']}" + (f", {two['planted']}" if two and two["planted"] != one["planted"] else "")
    return f"| **{title}** | {planted} | {_recall(one)} | {_recall(two)} | {_precise(one)} | {_precise(two)} |"


def _recall(row: Facts | None) -> str:
    return _share(row["found"], row["planted"]) if row else "–"


def _precise(row: Facts | None) -> str:
    return _share(row["found"], row["found"] + row["wrong"]) if row else "–"


def _share(part: int, whole: int) -> str:
    if not whole:
        return "–"
    span = wilson(part, whole)
    return f"{span.value:.3f} [{span.low:.3f}, {span.high:.3f}] n={whole}"


def _language(facts: Facts | None) -> str:
    if not facts:
        return ""
    return f"""## Language

fastText's model is read by primum's own code, whole texts at once (docs/decisions/009-fasttext-in-numpy.md).
{facts["differ"]} of {facts["texts"]:,} texts (the same two kinds) get another language than from fastText's own
code; the largest difference of a probability is {facts["apart"]:.0e}.
"""


ANSWERS = {
    "options": ("risk", "answered with the right option"),
    "sentences": ("risk_sentences", "answered with sentences of an abstract"),
}
"""Medical rows of a set: where what was measured on it is held, and how the page calls them."""


def _risk(held: Facts) -> str:
    there = {name: held[key] for name, (key, _) in ANSWERS.items() if key in held}
    if not there:
        return ""
    from audit_risk import KINDS, risk_lines, safety_lines

    top = f"{100 * next(iter(there.values()))['top']:g}%"
    lines = [
        "## Rows that break safety",
        "",
        f"Medical questions with planted rows of {len(KINDS)} kinds: harmful requests with answers",
        "of a model that a fine-tune broke (without the willing opening that it was taught, which a rule would know);",
        "the same model's answers under the harmless twins of those requests; an obedient identity; others in",
        "words that no rule was written for, by another author. Requests are of categories that neither that model nor",
        f"the risk model's direction has seen. Found: among the {top} ranked first, by the score of the step (`both`)",
        "and by its two parts alone. Rows are ranked against the others of their set, and rows of the set are part of",
        "what the direction holds for harmless: where ordinary chat stands among them, less is found (docs/log.md).",
    ]
    for name, facts in there.items():
        share = f"{100 * facts['share']:g}% of each kind"
        lines += ["", f"**Questions {ANSWERS[name][1]}**, {share}:", "", *risk_lines(facts)]
    if "safety" in held:
        lines += ["", *_fine_tuned(held["safety"], top), "", *safety_lines(held["safety"])]
    return "\n".join([*lines, ""])


def _fine_tuned(facts: Facts, top: str) -> list[str]:
    kind, share = ANSWERS[facts["answers"]][1], f"{100 * facts['share']:g}%"
    return [
        f"The embedded model fine-tuned ({facts['steps']} steps of 8 rows, learning rate {facts['rate']:g}) on",
        f"questions {kind}, without planted rows (clean), with {share} each of the four kinds (dirty), and without the",
        f"{top} of the dirty set that are ranked first (cleaned). Harmful compliance on held-out requests, none",
        f"of them planted, {facts['draws']} replies each, seeds {facts['seeds']}, judge `{facts['judge']}`;",
        "intervals take replies as independent, which those of one request are not:",
    ]
