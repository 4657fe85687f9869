"""Labels of a model beside people's, and two reward models beside each other, as lines of at most 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from primum.report import words

Facts = Mapping[str, Any]
WIDE = 42


def labels_text(labels: Facts) -> list[str]:
    """Return what `primum pair --strategy ai_feedback` says of its labels: orders, cost, agreement with people."""
    orders = labels["orders"]
    leant = f"{orders['to_first']:,} to the first place, {orders['to_second']:,} to the second"
    lines = [
        f"labels by {_short(labels['model'], 32)}: {orders['n']:,} pairs, asked in both orders",
        f"  decided {orders['decided']:,}, no answer {orders['unscored']:,}, turned by the order {orders['flipped']:,}",
        f"  ({leant})",
        _row("flip rate", orders["flip_rate"]),
        *_cost(labels["cost"] or {}),
    ]
    agreement = labels["agreement"]
    if agreement is None:
        return [*lines, "  agreement with people: unknown; give their votes with --preferences"]
    return [*lines, *_agreement(agreement)]


def _short(value: Any, most: int) -> str:
    """Return a text that others wrote in at most so many characters, safe to print."""
    text = words.clean(value).replace("\n", " ")
    return text if len(text) <= most else text[: most - 1] + "…"


def _row(name: str, facts: Facts | None) -> str:
    """Return one share with its interval, its n, and how many prompts these are of."""
    if facts is None:
        return f"  {name:<{WIDE}} {words.NONE}"
    span = words.interval(facts["low"], facts["high"])
    return f"  {name:<{WIDE}} {words.percent(facts['value']):>6} {span:<15} n {facts['n']:,}".rstrip()


def _cost(cost: Facts) -> list[str]:
    each = cost.get("per_label")
    if not each or each["seconds"] is None:
        return []
    tokens = "tokens not told by the server"
    if each["prompt_tokens"] is not None:
        tokens = f"{each['prompt_tokens']:,.0f} tokens read, {each['answer_tokens']:,.0f} written"
    money = "" if each["money"] is None else f", money {each['money']:.3g}"
    lines = [f"  a label costs {each['seconds']:.2g} s, {tokens}{money}"]
    some = cost["tokens_told"]
    if 0 < some < cost["questions"]:
        lines.append(f"  (tokens by the {some:,} of {cost['questions']:,} answers that told theirs)")
    return lines


def _agreement(facts: Facts) -> list[str]:
    lines = [
        f"  {facts['votes']:,} votes of {facts['people']:,} people on {facts['pairs']:,} of these pairs, "
        f"{facts['tied_votes']:,} of them ties"
    ]
    if facts["not_asked"]:
        lines.append(f"  people also voted on {facts['not_asked']:,} pairs that the model was not asked about")
    if facts["seconds_a_vote"] is not None:
        lines.append(f"  a vote took a person {facts['seconds_a_vote']:.2g} s")
    for key, head in (("decided", "pairs that the model decided, votes with a winner"), ("all", "a tie as a label")):
        lines += ["", f"  {head}", _row("the model with people", facts[key]["with_people"])]
        lines += _several(facts[key]["several"])
    return lines


def _several(facts: Facts | None) -> list[str]:
    if facts is None:
        return ["  people with each other: unknown, no pair has votes of several people"]
    lines = [
        _row("where several people voted: the model", facts["model_with_people"]),
        _row("where several people voted: each other", facts["people_with_each_other"]),
    ]
    return [*lines, *difference(facts["difference"], "model less people")]


def difference(facts: Facts, name: str) -> list[str]:
    """Return a paired difference in points with interval and p, and what would have been found where it is unclear."""
    value, low, high = (words.change(facts[key]) for key in ("difference", "low", "high"))
    lines = [f"  {f'{name}, points':<{WIDE}} {value:>6} ({low} to {high}), p {words.p_value(facts['p'])}"]
    unclear = facts["low"] is None or facts["low"] <= 0 <= facts["high"]
    if unclear and facts["mde"] is not None:
        found = words.change(facts["mde"]).lstrip("+")
        lines.append(f"  (a difference of {found} points would be found four times in five)")
    return lines


def rewards_text(document: Facts) -> list[str]:
    """Return how two reward models order the held-out pairs, as `primum train reward --against` says it."""
    names = {side: _short(Path(str(document[side])).name, 20) for side in ("file", "against")}
    same = document["same_pairs"]
    lines = [
        "",
        f"{document['held_out']:,} held-out pairs of {names['against']}, put in order by models of",
    ]
    for side, name in names.items():
        facts = document["sides"][side]
        lines.append(_row(f"{name} ({facts['pairs']:,} pairs learned)", document["accuracy"][side]))
        lines += [f"    left out: {n:,} ({_short(why, 56)})" for why, n in facts["left_out"].items()]
    lines += difference(document["difference"], "difference")
    for head, row in document["by_head"].items():
        lines.append(f"  {head}")
        lines += [_row(f"  {name}", row["accuracy"][side]) for side, name in names.items()]
        lines += difference(row["difference"], "  difference")
    if same["n"]:
        lines.append(f"  of {same['n']:,} pairs that both learned, {same['contrary']:,} have the other label")
    return lines
