"""The facts of a journey to its closing table and to one page that opens with no network and runs no script."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from primum.report import plots, words
from primum.report.plain import document_page
from primum.report.words import Facts

Row = Mapping[str, Any]
COLUMNS = ("harmful_compliance", "refusal_harmful", "refusal_twin", "refusal_general", "answered_general",
           "incoherent", "hateful", "unscored")  # fmt: skip
TITLES = {
    "harmful_compliance": "Harmful compliance", "hateful": "Hateful", "refusal_harmful": "Harmful refused",
    "refusal_twin": "Benign twins refused", "refusal_general": "General refused",
    "answered_general": "General answered", "incoherent": "Incoherent", "unscored": "Unscored",
    "discrimination": "Discrimination", "d_prime": "d′", "ability_refusal": "Lack of ability",
    "disclaimer": "Advice with a disclaimer",
}  # fmt: skip
TERMINAL = (
    "harmful_compliance", "hateful", "refusal_harmful", "refusal_twin", "refusal_general", "answered_general",
)  # fmt: skip
RULED = ("harmful_compliance", "refusal_twin", "refusal_general")
APART = (("harmful prompts", "helpful, not safe"), ("benign prompts", "safe, not helpful"))
"""Where the two heads pull apart, as published (arXiv:2307.09288, figure 32): kind of prompt, quadrant."""
SHORT = ("harmful", "hateful", "refused", "twins", "general", "answered")
SCALED = ("harmful_compliance", "refusal_harmful", "refusal_twin", "refusal_general")
"""What is shown over the amount of safety data."""
MODES = {"refuse": "Refuse", "safe": "Safe", "unsafe": "Unsafe", "incoherent": "Incoherent", "off_topic": "Off topic"}
WIDE, FIVE = 21, 12
"""Columns of a cell where a row has three of them, and five."""
LONGEST = 2000
LINES: dict[str, tuple[dict[str, str], ...]] = {
    "sft": ({"loss": "loss"},), "domain": ({"loss": "loss"},), "rejection": ({"loss": "loss"},),
    "distill": ({"loss": "loss"},), "gatt": ({"loss": "loss"},),
    "dpo": ({"loss": "loss"}, {"accuracy": "accuracy"}, {"chosen_logp": "chosen", "rejected_logp": "rejected"}),
    "reward": ({"loss": "loss"}, {"accuracy": "accuracy"}),
    "tension": ({"loss": "one reward model's loss"}, {"accuracy": "one reward model's accuracy"}),
    "ppo": (
        {"reward": "reward", "guard": "guard"}, {"second": "second reward model"}, {"kl": "KL"},
        {"tokens": "tokens", "refusals": "refusals"},
    ),
}  # fmt: skip
"""Kind of stage -> the charts of its log: key to name."""


def table(facts: Facts, report: Any = None) -> str:
    """Return what a journey ends with: a row a policy, in plain text."""
    lines: list[str] = []
    for judge, rows in (facts.get("table") or {}).items():
        lines += [f"judge {words.clean(judge)}, % [95% interval]", _heading()]
        lines += [_text_row(name, row) for name, row in rows.items()] + [""]
    lines += _rewards(facts)
    lines += [line for curve in facts.get("scaling") or [] for line in _scaled(facts, curve)]
    lines += _mode_lines(facts)
    kept = [
        f"{words.clip(name, 20)} (judged by {row['by']}, n {row['n']}) keeps of the safety gained with its preprompt: "
        f"{row['share']}. {row['name']}: {row['before']}, with it {row['led']}, after {row['after']}."
        for name, rows in _gain_kept(facts)
        for row in rows
    ]
    lines += [words.wrapped(kept), ""] if kept else []
    accuracy = _domain(facts)
    if accuracy:
        lines += [*_wrapped(accuracy), ""]
    lines += [f"left out: {words.clean(text)}" for text in facts.get("left_out") or []]
    corrected = [f"- {words.clean(text)}" for text in facts.get("corrected") or []]
    lines += ["done otherwise than published:", words.wrapped(corrected)] if corrected else []
    if report is not None:
        lines += ["", "report:", words.clean(report)]
    return "\n".join(lines) + "\n"


def _wrapped(accuracy: Mapping[str, str]) -> list[str]:
    """Return the domain's accuracies in lines of at most 80 columns; n once, where it is one."""
    counts = {text.rpartition(" (n ")[2].rstrip(")") for text in accuracy.values()}
    one = f" (n {counts.pop()})" if len(counts) == 1 else ""
    shown = [f"{_cut(name, 20)} {text.removesuffix(one)}" for name, text in accuracy.items()]
    return textwrap.wrap(f"domain accuracy{one}: " + ", ".join(shown), 80, subsequent_indent="  ")


def _heading() -> str:
    return _line("policy", SHORT)


def _line(name: str, cells: Sequence[str], width: int = 10) -> str:
    """Return a row of 79 columns: a name, and six cells of 10 (three of 21, five of 12); the last has one more."""
    widths = [width + 1] * (len(cells) - 1) + [width + 2]
    fitting = [cell if len(cell) < room else cell.replace(" ", "") for cell, room in zip(cells, widths, strict=True)]
    return f"{_cut(name, 11):<12}" + "".join(f"{cell:>{room}}" for cell, room in zip(fitting, widths, strict=True))


def _cut(name: str, width: int) -> str:
    text = words.clean(name)
    return text if len(text) <= width else text[: width - 1] + "…"


def _text_row(name: str, row: Row) -> str:
    return _line(name, [_short_cell(row.get(metric)) for metric in TERMINAL])


def _short_cell(row: Row | None) -> str:
    """Whole points, so that a row fits into 80 columns; the page has the rest."""
    if not row or words.finite(row.get("value")) is None:
        return words.NONE
    low, high = (f"{100 * row[key]:.0f}" if words.finite(row.get(key)) is not None else "" for key in ("low", "high"))
    return f"{100 * row['value']:.0f} [{low if low == high else f'{low},{high}'}]"


def _rewards(facts: Facts) -> list[str]:
    rows = [_line("mean reward", ("safety [95%]", "helpful [95%]", "below 0.15, % [95%]"), WIDE)]
    for name, found in (facts.get("rewards") or {}).items():
        cells = [_mean_cell(found.get(key)) for key in ("safety", "helpfulness")]
        cells.append(_short_cell(found.get("tail")))
        rows.append(_line(name, cells, WIDE))
    return [*rows, *_fallen(facts), ""] if len(rows) > 1 else []


def _mean_cell(row: Row | None) -> str:
    value, low, high = (words.number((row or {}).get(key), "z") for key in ("value", "low", "high"))
    return value if words.NONE in (low, high) else f"{value} [{low}, {high}]"


def _scaled(facts: Facts, curve: Row) -> list[str]:
    """Return a scaling curve in plain text: a row an amount of safety data, for each judge."""
    lines: list[str] = []
    for judge, rows in (facts.get("table") or {}).items():
        lines.append(f"{curve['unit']}, judge {words.clean(judge)}, % [95% interval]")
        lines.append(_line("safety data", ("rows", *(SHORT[TERMINAL.index(name)] for name in SCALED)), FIVE))
        for point in curve["points"]:
            cells = [_short_cell((rows.get(point["policy"]) or {}).get(name)) for name in SCALED]
            lines.append(_line(_amount(curve, point), (words.figure(point["rows"]), *cells), FIVE))
        lines.append("")
    return lines


def _amount(curve: Row, point: Row) -> str:
    """Return an amount of safety data: a share as per cent, a number of rows as it is."""
    return words.percent(point["amount"]) if curve["do"] == "sft" else words.figure(point["amount"])


def _mode_lines(facts: Facts) -> list[str]:
    """Return the error modes of every policy, for each kind of prompt, in plain text."""
    lines: list[str] = []
    for kind, rows in _by_kind(facts):
        lines.append(f"error modes, {words.clean(kind)}, % [95% interval]")
        lines.append(_line("policy", [title.lower() for title in MODES.values()], FIVE))
        lines += [_line(name, [_short_cell(found.get(mode)) for mode in MODES], FIVE) for name, found in rows]
        lines.append("")
    return lines


def _by_kind(facts: Facts, part: str = "kinds") -> list[tuple[str, list[tuple[str, Row]]]]:
    """Return the shares of error modes by kind of prompt (or by set), policy by policy."""
    found = [one for one in (facts.get("found") or {}).values() if one.get("kind") == "error_modes"]
    modes = [one["modes"] for one in found]
    names = dict.fromkeys(key for one in modes for by in one.values() for key in by.get(part) or {})
    return [
        (key, [(name, by[part][key]) for one in modes for name, by in one.items() if key in (by.get(part) or {})])
        for key in names
    ]


def _fallen(facts: Facts) -> list[str]:
    """Say from which stage to which the mean safety reward fell, with the paired interval."""
    moved = [(row, row.get("safety") or {}) for row in facts.get("reward_moves") or []]
    return [
        f"safety fell, {_cut(row['before'], 18)} to {_cut(row['after'], 18)}: "
        f"{words.change(cell['value'], 'z')} [{', '.join(words.change(cell.get(end), 'z') for end in ('low', 'high'))}]"
        for row, cell in moved
        if (words.finite(cell.get("value")) or 0) < 0
    ]


def _cell(row: Row | None) -> str:
    if not row or words.finite(row.get("value")) is None:
        return words.NONE
    low, high = (f"{100 * row[key]:.0f}" if words.finite(row.get(key)) is not None else "" for key in ("low", "high"))
    return f"{100 * row['value']:.1f} [{low}, {high}]"


def _domain(facts: Facts) -> dict[str, str]:
    for found in (facts.get("found") or {}).values():
        if found.get("kind") == "domain_accuracy":
            rows = {name: metrics.get("acc") for name, metrics in found["policies"].items()}
            return {name: f"{_cell(row)} (n {row['n']})" for name, row in rows.items() if row}
    return {}


GAINS = {"harmful_compliance": (TITLES["harmful_compliance"], "share"), "safety_reward": ("Safety reward", "z")}
"""By what safety is measured with a preprompt and without: its name, and its unit."""


def _gain_kept(facts: Facts) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return, for each distilled policy, by each judge which share of what its preprompt gains is kept without it."""
    found = [(name, one["gain_kept"]) for name, one in (facts.get("found") or {}).items() if one.get("gain_kept")]
    return [(name, [_gain(row) for row in rows]) for name, rows in found]


def _gain(row: Row) -> dict[str, Any]:
    name, unit = GAINS[row["metric"]]
    share = row.get("share")
    span = words.interval(share["low"], share["high"]) if share else ""
    kept = f"{words.percent(share['value'])} ({span or 'no bounds'})" if share else "nothing was gained with it"
    means = {state: words.number(row.get(state), unit) for state in ("before", "led", "after", "after_led")}
    left = f" · {row['left_out']} left out" if row.get("left_out") else ""
    return {"by": words.clean(row["by"]), "name": name, "share": kept, "n": f"{row['n']}{left}", **means}


class Figure(NamedTuple):
    """A scatter of before against after."""

    title: str
    svg: Markup
    under: str


def page(facts: Facts) -> str:
    """Return the report as one self-contained HTML document."""
    results: Row = facts.get("table") or {}
    one = facts.get("scatter")  # of reports written before each step was drawn
    scatters: Sequence[Row] = facts.get("scatters") or ([one] if one else [])
    view = {
        "facts": facts,
        "results": [(judge, *_columns(rows)) for judge, rows in results.items()],
        "rewards": facts.get("rewards") or {},
        "accuracy": _domain(facts),
        "gain_kept": _gain_kept(facts),
        "moves": [(judge, _moved(rows)) for judge, rows in (facts.get("moves") or {}).items()],
        "reward_moves": facts.get("reward_moves") or [],
        "figures": [figure for scatter in scatters[:1] for figure in _figures(scatter)],
        "figure_steps": [figure for scatter in scatters[1:] for figure in _figures(scatter)],
        "scaling": _scaling(facts), "mode_titles": list(MODES.values()),
        "ordering": [text for found in (facts.get("found") or {}).values() for text in found.get("ordering") or []],
        "modes": _mode_rows(_by_kind(facts)), "mode_sets": _mode_rows(_by_kind(facts, "by_set")),
        "charts": _charts(facts),
        "ruled": _ruled(facts), "ruled_titles": [TITLES[name] for name in RULED],
        "ruled_apart": APART,
        "found": [(name, _notes(found)) for name, found in (facts.get("found") or {}).items()],
        "alarms": [
            (name, row) for name, found in (facts.get("found") or {}).items() for row in found.get("alarms") or []
        ],
        "transcripts": facts.get("transcripts") or [],
        "settings": _flat(facts.get("settings") or {}),
        "LONGEST": LONGEST,
    }  # fmt: skip
    return document_page("journey.html", str(facts.get("title") or "Journey"), view)


def _columns(rows: Row) -> tuple[list[str], list[tuple[str, list[Row]]]]:
    """Return the titles of what a judge could say of any policy, and a row of cells for each policy."""
    names = [
        n for n in COLUMNS if any(words.finite((row.get(n) or {}).get("value")) is not None for row in rows.values())
    ]
    return [TITLES[n] for n in names], [(name, [_share(row.get(n)) for n in names]) for name, row in rows.items()]


def _share(row: Row | None) -> Row:
    """Return a share as a cell: the value, and under it a line each for its interval and for what it is of."""
    if not row or words.finite(row.get("value")) is None:
        return {"value": words.NONE, "under": []}
    left = sum((row.get("left_out") or {}).values())
    count = f"n {row.get('n', 0):,}" + (f" · {left} left out" if left else "")
    return {"value": words.percent(row["value"]), "under": [words.interval(row.get("low"), row.get("high")), count]}


def _moved(rows: Sequence[Row]) -> list[dict[str, Any]]:
    wanted = {*TERMINAL, "incoherent", "discrimination"}
    return [
        {
            "before": row["before"], "after": row["after"], "metric": TITLES.get(one["metric"], one["metric"]),
            "change": words.change(one["difference"]), "low": words.change(one["low"]),
            "high": words.change(one["high"]), "fixed": one["fixed"], "broken": one["broken"],
            "p": words.p_value(one["p"]), "mde": words.percent(one["mde"]), "n": one["n"],
        }
        for row in rows
        for one in row["comparisons"]
        if one["metric"] in wanted and one["n"]
    ]  # fmt: skip


def _figures(scatter: Row) -> list[Figure]:
    names = {"safety": "Safety reward on harmful prompts", "helpfulness": "Helpfulness reward on benign prompts"}
    found: list[Figure] = []
    for head, points in scatter["points"].items():
        below = scatter["below"].get(head)
        span = f" ({words.interval(below['low'], below['high'])})" if below else ""
        under = f"{scatter['before']} across, {scatter['after']} up"
        if below:
            under += f"; {words.percent(below['value'])}{span} of {below['n']} lie below the diagonal"
        found.append(Figure(names[head], _scatter(points, scatter["before"], scatter["after"]), under))
    return found


def _scatter(points: Sequence[Sequence[float]], before: str, after: str) -> Markup:
    """Draw before (across) against after (up), both from 0 to 1, with the diagonal of no change."""
    dots = [
        Markup('<circle cx="{}" cy="{}" r="1.1"/>').format(round(100 * x, 2), round(100 - 100 * y, 2))
        for x, y in points
        if words.finite(x) is not None and words.finite(y) is not None
    ]
    label = f"{len(dots)} prompts, {before} across and {after} up"
    return Markup(
        '<svg class="scatter" role="img" aria-label="{}" viewBox="-2 -2 104 104" width="100%">'
        '<rect x="0" y="0" width="100" height="100"/><line x1="0" y1="100" x2="100" y2="0"/>{}</svg>'
    ).format(words.clean(label), Markup("").join(dots))


def _charts(facts: Facts) -> list[plots.Chart]:
    drawn: list[plots.Chart | None] = []
    for name, found in (facts.get("found") or {}).items():
        log = found.get("log") or []
        for series in LINES.get(str(found.get("kind")), ()):
            title = f"{name}: {' and '.join(series.values())}"
            drawn.append(plots.chart(title, log, series, found.get("alarms") or ()) if log else None)
        curve = found.get("curve") or []
        if curve:
            lines = {"best": "best", "median": "median"}
            drawn.append(plots.chart(f"{name}: reward of the best of K", curve, lines, over="K"))
            other = {"second": "second reward model"}
            drawn.append(plots.chart(f"{name}: what the second model gives the best of K", curve, other, over="K"))
        drawn += _swept(name, found.get("rules") or [])
        drawn += _reliable(name, found.get("reliability") or {})
    return [chart for chart in drawn if chart]


def _scaling(facts: Facts) -> list[plots.Chart]:
    """Draw harm, refusals and rewards over the amount of safety data, on one scale for all shares."""
    drawn: list[plots.Chart | None] = []
    for curve in facts.get("scaling") or []:
        for judge, rows in (facts.get("table") or {}).items():
            shares = [{"at": _amount(curve, p), **(rows.get(p["policy"]) or {})} for p in curve["points"]]
            drawn += [
                plots.spaced(
                    words.words(f"{' and '.join(lines.values())}, judge {judge}"), shares, lines, curve["unit"], WHOLE
                )
                for lines in SHARES
            ]
        means = [
            {"at": _amount(curve, p), **(facts.get("rewards") or {}).get(p["policy"], {})} for p in curve["points"]
        ]
        drawn.append(plots.spaced("Mean rewards", means, REWARDS, curve["unit"], WHOLE, "z"))
    return [chart for chart in drawn if chart]


WHOLE = plots.Scale(0.0, 1.0)
SHARES = (
    {"harmful_compliance": "harmful compliance", "refusal_twin": "benign twins refused"},
    {"refusal_harmful": "harmful refused", "refusal_general": "general refused"},
)
REWARDS = {"safety": "safety", "helpfulness": "helpfulness"}


def _mode_rows(by: Sequence[tuple[str, list[tuple[str, Row]]]]) -> list[tuple[str, list[Row]]]:
    return [
        (kind, [{"name": name, "cells": [_mode_cell(found[mode]) for mode in MODES], "unscored": found["unscored"]}
                for name, found in rows])
        for kind, rows in by
    ]  # fmt: skip


def _mode_cell(row: Row) -> Row:
    return {"value": words.percent(row.get("value")), "under": _under(row)}


SWEPT = {"harmful_compliance": "harmful compliance", "refusal_twin": "benign twins refused",
         "refusal_general": "general refused", "helpfulness": "helpfulness reward"}  # fmt: skip
"""What is drawn over the gate's threshold."""


def _swept(name: str, rules: Sequence[Row]) -> list[plots.Chart | None]:
    """Draw what the gate's threshold does, with tagging and without; one reward model has none and lies level."""
    gates = [rule for rule in rules if rule.get("threshold") is not None]
    single = next((rule for rule in rules if rule.get("heads") == 1), None)
    series = {"tagged": "tagged", "untagged": "not tagged", **({"single": single["rule"]} if single else {})}
    drawn: list[plots.Chart | None] = []
    for key, title in SWEPT.items() if gates else ():
        rows = [{"step": g["threshold"], "tagged" if g["tagging"] else "untagged": _value(g.get(key))} for g in gates]
        rows += [{"step": g["threshold"], "single": _value(single.get(key))} for g in gates if single and g["tagging"]]
        chart = plots.chart(f"{name}: {title}", rows, series, over="threshold")
        ends = [f"{end(g['threshold'] for g in gates):g}" for end in (min, max)]
        drawn.append(chart and chart._replace(first=ends[0], last=ends[1]))
    return drawn


def _reliable(name: str, found: Row) -> list[plots.Chart | None]:
    """Draw how often a reward model is right over how sure it is, beside a calibrated one."""
    drawn: list[plots.Chart | None] = []
    for head, one in found.items():
        rows = [{"step": row["score"], "share": row["share"], "said": row["score"]} for row in one["bins"]]
        what = "replies that are safe" if head == "safe" else f"pairs of {head} in order"
        title = f"{name}: share of {what} (n {one['n']}, calibration error {words.number(one['error'], 'z')})"
        lines = {"share": "is", "said": "if calibrated"}
        drawn.append(plots.chart(title, rows, lines, over="the probability that is given", up=plots.Scale(0, 1)))
    return drawn


def _value(cell: Row | float | None) -> Any:
    """Return a number that stands alone, or with its interval."""
    return cell.get("value") if isinstance(cell, Mapping) else cell


def _ruled(facts: Facts) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return what each rule of the point of tension would have chosen, stage by stage."""
    found = [(name, one["rules"]) for name, one in (facts.get("found") or {}).items() if one.get("rules")]
    return [(name, [_rule(rule) for rule in rules]) for name, rules in found]


def _rule(rule: Row) -> dict[str, Any]:
    shares = [rule.get(name) or {} for name in RULED]
    cells = [{"value": words.percent(one.get("value")), "under": _under(one)} for one in shares]
    means = [words.number(rule.get(head), "z") for head in ("safety", "helpfulness")]
    return {"name": rule["rule"], "cells": cells, "means": means, "apart": [_apart(rule, *one) for one in APART]}


def _apart(rule: Row, kind: str, quadrant: str) -> str:
    """Return how many of the replies that a rule chose lie in a quadrant; reports of earlier versions do not say."""
    counts = (rule.get("quadrants") or {}).get(kind) or {}
    return f"{words.figure(counts[quadrant])} of {words.figure(sum(counts.values()))}" if counts else words.NONE


def _under(row: Row) -> str:
    return f"{words.interval(row.get('low'), row.get('high'))} · n {row.get('n', 0)}"


SKIPPED = (
    "log", "alarms", "key", "curve", "kind", "lint", "policies", "rules", "modes", "ordering", "gain_kept",
    "reliability",
)  # fmt: skip


def _notes(found: Row) -> list[tuple[str, str]]:
    rows = [(key, value) for key, value in found.items() if key not in SKIPPED and value not in (None, {}, [])]
    lint = [finding["text"] for finding in (found.get("lint") or {}).get("findings", []) if not finding["ok"]]
    return [*_flat(dict(rows)), *(("lint", words.clean(text)) for text in lint)]


def _flat(rows: Row, prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for key, value in rows.items():
        if isinstance(value, Mapping) and value:
            flat += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            flat.append((f"{prefix}{key}", words.figure(value)))
        else:
            flat.append((f"{prefix}{key}", words.clip(value, 400)))
    return flat
