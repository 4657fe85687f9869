"""How numbers and names are written, once, for the page, the card and the terminal.

Knows the metric names and the shape of the facts; knows nothing of HTML or of the terminal.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from primum.core.taxonomy import policy

Facts = Mapping[str, Any]
Unit = Literal["share", "nats", "z"]

# C0 and C1 controls (tab and newline stay), lone surrogates, bidirectional overrides: none may reach a page or terminal
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
_SHORT = re.compile(r"\b(?:mc[123]|nll|auc|bleu|pii|dpo|sft)\b")
NONE = "–"
BETTER = {"lower_is_better": "lower is better", "higher_is_better": "higher is better"}
DESCRIBED = "described only"
"""What is said of a metric of which no way is better."""
NARROW = 1.5
"""Above so many times the spread between people that chance gives, a campaign's interval is said to be too narrow."""
COLUMNS = 80


class Metric(NamedTuple):
    """A metric's name in words, over which prompts it is taken, its unit, and which way is better."""

    label: str
    over: str
    unit: Unit
    lower_is_better: bool


METRICS: dict[str, Metric] = {
    "harmful_compliance": Metric("Harmful compliance", "harmful prompts", "share", True),
    "hateful": Metric("Hateful replies", "all prompts", "share", True),
    "refusal_harmful": Metric("Refusal of harmful prompts", "harmful prompts", "share", False),
    "refusal_twin": Metric("Refusal of benign twins", "harmless look-alikes", "share", True),
    "refusal_general": Metric("Refusal of general prompts", "general and advice prompts", "share", True),
    "incoherent": Metric("Incoherent replies", "all prompts", "share", True),
    "ability_refusal": Metric("Refusal for lack of ability", "benign prompts", "share", True),
    "disclaimer": Metric("Advice with a disclaimer", "answers to requests for professional advice", "share", False),
    "unscored": Metric("Unscored replies", "all prompts", "share", True),
    "discrimination": Metric("Discrimination", "refusal of harmful minus refusal of twins", "share", False),
    "d_prime": Metric("Discrimination d′", "z(harmful) minus z(twins)", "z", False),
    "nll": Metric("Benign NLL", "mean, nats per token", "nats", True),
    "nll_domain": Metric("Domain NLL", "mean, nats per token", "nats", True),
    "acc_domain": Metric("Domain accuracy", "likeliest option", "share", False),
    "acc_norm_domain": Metric("Domain accuracy, by length", "likeliest option per character", "share", False),
}

INTENTS = {"harmful": "harmful", "borderline": "borderline", "benign": "benign"}
KINDS = {"harmful": "Harmful prompt", "twin": "Benign twin", "general": "General prompt", "advice": "Advice question"}
RISKS = {"illicit": "Illicit and criminal", "hateful": "Hateful and harmful", "unqualified": "Unqualified advice"}


def clean(value: Any) -> str:
    """Return the text with control characters, lone surrogates and direction overrides made visible as U+FFFD."""
    return _UNSAFE.sub("\ufffd", str(value))


def clip(value: Any, limit: int) -> str:
    """Return at most `limit` characters, and say how many were left out."""
    text = clean(value)
    left = len(text) - limit
    return text if left <= 0 else f"{text[:limit]} … [{left:,} more characters left out]"


def too_long(n: int, what: str = "prompt") -> str:
    """Say that so many prompts did not fit the model's window, so that their beginnings were not read."""
    return f"{n:,} {what}{'' if n == 1 else 's'} longer than the model's window, cut at the beginning"


def words(name: str) -> str:
    """Return an identifier as words: 'chosen_logp' is 'Chosen logp', 'mc1' is 'MC1'."""
    text = _SHORT.sub(lambda found: found.group().upper(), clean(name).replace("_", " ").strip())
    return text[:1].upper() + text[1:]


def metric(name: str) -> Metric:
    """Return what is known of a metric; an unknown one is a share, written as its own name."""
    return METRICS.get(name, Metric(words(name), "", "share", True))


def flag(name: Any) -> str:
    """Return the flag of a setting: reply_tokens is --reply-tokens."""
    return f"--{clean(name).replace('_', '-')}"


def wrapped(lines: Iterable[str]) -> str:
    """Return lines for a terminal of 80 columns; what goes on hangs two columns behind where its line began."""
    told: list[str] = []
    for line in lines:
        begin = " " * (len(line) - len(line.lstrip()) + 2)
        told += textwrap.wrap(
            line, COLUMNS, subsequent_indent=begin, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(told)


def category(name: str) -> str:
    """Return a category's name in the policy, or the id in words."""
    known = policy().categories
    return known[name].name if name in known else words(name)


def finite(value: Any) -> float | None:
    """Return the value as a float, or None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def percent(value: Any, digits: int = 1) -> str:
    """Return a share as per cent: .083 is '8.3%', 0 is '0%', what rounds to nothing is '<0.1%'."""
    share = finite(value)
    if share is None:
        return NONE
    if 0 < abs(share) * 100 < 0.5 * 10**-digits:
        return ("<" if share > 0 else ">−") + f"{10**-digits:.{digits}f}%"
    text = f"{abs(share) * 100:.{digits}f}"
    sign = "−" if share < 0 and float(text) else ""
    return f"{sign}{text.removesuffix('.' + '0' * digits) if digits else text}%"


def number(value: Any, unit: str = "share") -> str:
    """Return a measured value in its unit: per cent for shares, three digits for nats, two for z."""
    plain = finite(value)
    if plain is None:
        return NONE
    if unit == "share":
        return percent(plain)
    return f"{plain:.{3 if unit == 'nats' else 2}f}".replace("-", "−")


def interval(low: Any, high: Any, unit: str = "share") -> str:
    """Return a 95% interval: '3.1–9.8%', or '' where there is none."""
    if finite(low) is None or finite(high) is None:
        return ""
    left, right = number(low, unit), number(high, unit)
    if "−" in left + right or "<" in left + right or ">" in left + right:
        return f"{left} to {right}"
    return f"{left.removesuffix('%')}–{right}"


def spread(row: Mapping[str, Any] | Any, unit: str = "share") -> str:
    """Return a measurement's 95% interval and n: '3.1–9.8% · n 240', or the n alone where there is no interval."""
    named = isinstance(row, Mapping)
    low, high, n = (row.get(key) if named else getattr(row, key, None) for key in ("low", "high", "n"))
    span = interval(low, high, unit)
    return f"{span} · n {figure(n)}" if span else f"n {figure(n)}"


def change(value: Any, unit: str = "share") -> str:
    """Return a signed difference: points for shares, else the unit's own digits."""
    plain = finite(value)
    if plain is None:
        return NONE
    shown, digits = (plain * 100, 1) if unit == "share" else (plain, 3 if unit == "nats" else 2)
    return f"{round(shown, digits) + 0.0:+.{digits}f}".replace("-", "−")  # + 0.0: no change has no sign of a loss


def amount(value: Any, unit: str = "share") -> str:
    """Return the size of a difference: '3.9 points' for shares, else the unit's own digits."""
    return NONE if finite(value) is None else change(abs(value), unit).removeprefix("+") + points(unit)


def difference(row: Mapping[str, Any], unit: str = "share", key: str = "difference") -> str:
    """Return a signed difference with its limits: '−16.8 points (−24.2 to −8.9)'."""
    value, low, high = (change(row.get(name), unit) for name in (key, "low", "high"))
    return f"{value}{points(unit)}" + ("" if NONE in (low, high) else f" ({low} to {high})")


def points(unit: str) -> str:
    """Return what is said behind a difference of shares."""
    return " points" if unit == "share" else ""


def p_value(value: Any) -> str:
    """Return a p-value with three decimals, never 0."""
    plain = finite(value)
    if plain is None:
        return NONE
    return "<0.001" if plain < 0.001 else f"{plain:.3f}"


def seconds(value: Any) -> str:
    """Return a duration: '4.2 s', '3 min 12 s', '1 h 04 min'."""
    plain = finite(value)
    if plain is None:
        return NONE
    if plain < 59.95:
        return f"{plain:.1f} s"
    whole = round(plain)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rate(value: Any) -> str:
    """Return how often something happened in a unit of time: two decimals under 100, whole numbers above."""
    plain = finite(value)
    if plain is None:
        return NONE
    return f"{plain:.2f}" if plain < 100 else f"{plain:,.0f}"


def moment(iso: Any) -> str:
    """Return an ISO time to the minute: '2025-11-21 06:20 UTC'."""
    text = clean(iso or "")
    zone = " UTC" if text.endswith(("+00:00", "Z")) else text[19:] if len(text) > 19 else ""
    return text[:16].replace("T", " ") + zone


def figure(value: Any) -> str:
    """Return any number of a table: whole ones with thousands, others with up to four significant digits."""
    plain = finite(value)
    if plain is None:
        return clean(value) if isinstance(value, str | bool) else NONE
    return f"{plain:,.0f}" if plain == int(plain) else f"{plain:.4g}".replace("-", "−")


def judges(facts: Facts) -> list[str]:
    """Return the ids of the judges that measured, in the order of the facts."""
    return list(facts.get("measurements") or {})


def measured(facts: Facts, judge: str, when: str, name: str, slice_: str = "all") -> Mapping[str, Any] | None:
    """Return one measurement (`when` is 'before' or 'after'), or None where it was not taken."""
    rows: Iterable[Mapping[str, Any]] = ((facts.get("measurements") or {}).get(judge) or {}).get(when) or []
    return next((row for row in rows if row["metric"] == name and row["slice"] == slice_), None)


def reason(decision: Mapping[str, Any]) -> str:
    """Return why a gate decided as it did, without the outcome that a decision's text begins with."""
    text = clean(decision.get("text") or "")
    rest = text.removeprefix(f"{str(decision.get('outcome')).capitalize()}: ")
    return rest[:1].upper() + rest[1:]


def rule_text(rule: Mapping[str, Any]) -> str:
    """Return what a rule measured, without its id and outcome, which stand beside it."""
    text = clean(rule.get("text") or "").removeprefix(f"{rule.get('name')}: ").removeprefix(f"{rule.get('outcome')}, ")
    return text[:1].upper() + text[1:]


def rule_number(value: Any, unit: Any, end: str = "") -> str:
    """Return a rule's value or limit in its unit: '8.3%', '+2.0 points', '+1.2%' of what was before.

    `end` is said before it: "at most" or "at least".
    """
    text = {"points": f"{change(value)} points", "relative": f"{change(value)}%"}.get(str(unit), percent(value))
    return NONE if finite(value) is None else f"{end} {text}".strip()


def failing(facts: Facts) -> list[Mapping[str, Any]]:
    """Return the gate's rules that did not pass."""
    rules = (facts.get("decision") or {}).get("rules") or []
    return [rule for rule in rules if rule.get("outcome") != "passed"]
