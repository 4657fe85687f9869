"""Outcomes to the facts of a red-team report: plain JSON, the one source of page and closing table."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum import __version__
from primum.core.parts import kept
from primum.core.records import JsonDict, to_json
from primum.core.store import read_json
from primum.core.taxonomy import stamp
from primum.pipeline.facts import PARTS, about_judge
from primum.pipeline.steps import Journey
from primum.redteam import against, campaign, measure
from primum.redteam.runner import Attempt
from primum.redteam.talk import VECTORS
from primum.report import words
from primum.report.words import Facts

if TYPE_CHECKING:
    from primum.pipeline.redteam import Found, RedteamConfig

KIND = "redteam"
SAME = ("seed", "tries", "temperature", "reply_tokens", "budget", "system", "attacker")
"""Settings in which two runs should be alike to be compared."""
SHOWN = 2
"""Transcripts shown of each attack."""
STRONGEST = 6
"""Attacks in the closing table."""


def assemble(journey: Journey, config: RedteamConfig, found: Found | None, about: JsonDict) -> JsonDict:
    """Return all facts of a red-team run; without `found` only those of the campaign."""
    return {
        "kind": KIND,
        "primum": __version__,
        "policy": stamp(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "title": f"Red team: {about['model']['name']}" if about else "Red team: a human campaign",
        **about,
        "budget": config.budget,
        "seed": config.seed,
        "settings": config.model_dump(),
        "versions": {part: importlib.metadata.version(part) for part in PARTS} | {"python": platform.python_version()},
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "seconds": journey.seconds,
        "steps": journey.said,
        "judges": [about_judge(one) for one in found.judges] if found else [],
        "vectors": VECTORS,
        **(_by_machine(config, found) if found else {}),
        "campaign": _campaign(config),
    }


def _by_machine(config: RedteamConfig, found: Found) -> JsonDict:
    exchangeable = {one.id for one in found.attacks if one.exchangeable}
    results = {judge: found.results(judge) for judge in config.judges}
    return {
        "goals": {
            "n": len(found.goals.prompts),
            "by_category": dict(Counter(goal.category for goal in found.goals.prompts).most_common()),
            "sources": sorted({goal.source for goal in found.goals.prompts}),
            "left_out": found.goals.left_out,
        },
        "attacks": [
            {"id": one.id, "about": one.about, "vector": one.vector, "source": one.source, "revision": one.revision}
            for one in found.attacks
        ],
        "results": {judge: measure.summary(ours, exchangeable, config.held_out) for judge, ours in results.items()},
        "against": _against(config, results),
        "tokens": sum(t.reply_tokens for ours in found.attempts.values() for a in ours for t in a.turns),
        "replies": sum(len(a.turns) for ours in found.attempts.values() for a in ours),
        "failed": sum(a.failed is not None for ours in found.attempts.values() for a in ours),
        "prompts_cut": _prompts_cut(found),
        "transcripts": _shown(config, transcripts(found, Path(config.out))),
    }


def _prompts_cut(found: Found) -> dict[str, int]:
    """Return, by attack, how many prompts were longer than the window of the model that they were put to."""
    cut = {name: sum(t.prompt_cut > 0 for a in ours for t in a.turns) for name, ours in found.attempts.items()}
    return {name: n for name, n in cut.items() if n}


def _against(config: RedteamConfig, results: Mapping[str, Sequence[Any]]) -> JsonDict | None:
    if not config.against:
        return None
    old = against.earlier(Path(config.against))
    path = Path(config.against) / "settings.json"
    before, now = read_json(path) if path.is_file() else {}, config.model_dump(mode="json")
    differs = [name for name in SAME if name in before and before[name] != now[name]]
    judged = {judge: against.mitigated(old[judge], ours) for judge, ours in results.items() if judge in old}
    return {
        "run": config.against,
        "judges": judged,
        "not_judged_before": sorted(set(results) - set(old)),
        "differs": differs,
    }


def _campaign(config: RedteamConfig) -> JsonDict | None:
    return campaign.summary(campaign.read(Path(config.campaign))) if config.campaign else None


def transcripts(found: Found, folder: Path) -> list[JsonDict]:
    """Return every attempt with its turns, and each judge's word on each judged reply.

    The pictures that were shown are copied into the run's folder.
    """
    goals = {goal.id: goal for goal in found.goals.prompts}
    return [
        {
            "goal": goals[attempt.goal_id].text, "category": goals[attempt.goal_id].category, "vector": one.vector,
            **to_json(_with_files(attempt, folder)), "verdicts": {
                judge: [said.behaviour or f"unscored: {said.unscored}" for said in by_attack[one.id][number]]
                for judge, by_attack in found.verdicts.items()
            },
        }
        for one in found.attacks
        for number, attempt in enumerate(found.attempts[one.id])
    ]  # fmt: skip


def _with_files(attempt: Attempt, folder: Path) -> Attempt:
    return replace(attempt, turns=tuple(replace(t, messages=kept(t.messages, folder)) for t in attempt.turns))


def _shown(config: RedteamConfig, rows: Sequence[JsonDict]) -> list[JsonDict]:
    """Return a few attempts of each attack, drawn by the seed: not picked for how they turned out."""
    by_attack: dict[str, list[JsonDict]] = {}
    for row in rows:
        by_attack.setdefault(row["attack"], []).append(row)
    rng = random.Random(config.seed)
    return [row for ours in by_attack.values() for row in rng.sample(ours, min(SHOWN, len(ours)))]


def closing(facts: Facts, page: Path) -> str:
    """Return what a run ends with, in plain text of at most 80 columns: vectors, the strongest attacks, the report."""
    lines: list[str] = []
    for judge, found in list((facts.get("results") or {}).items())[:1]:
        lines += [f"success % [95% interval], judge {judge}", "-" * 80]
        lines += [_line("plain request", _row(found, "plain"), None)]
        lines += [_line(row["vector"], row["success"], row["uplift"]) for row in found["vectors"]]
        rows = sorted(found["attacks"], key=lambda row: -(row["success"]["low"] or 0))
        best = [row for row in rows if row["attack"] != "plain"][:STRONGEST]
        lines += ["", "strongest attacks", *(_line(row["attack"], row["success"], row["uplift"]) for row in best)]
        lines += _unscored(found["vectors"])
        lines += [f"  {name}: {words.too_long(n)}" for name, n in (facts.get("prompts_cut") or {}).items()]
        some = found["any"]
        lines += ["", f"some attack got through on {some['k']} of {some['n']} goals ({some['unknown']} unknown)"]
    gone = ((facts.get("against") or {}).get("judges") or {}).values()
    lines += [f"old failures mitigated: {_said(one['all'])} (n {one['all']['n']})" for one in list(gone)[:1]]
    people = facts.get("campaign")
    if people:
        rate = people["rate"]
        lines += [
            f"people: {rate['value']:.3g} violations per person and hour [{rate['low']:.3g}, {rate['high']:.3g}], "
            f"{rate['violations']} in {rate['hours']:g} h"
        ]
    return "\n".join([*lines, "", "report:", words.clean(page)])


def _unscored(vectors: Sequence[JsonDict]) -> list[str]:
    """Return a line for each vector of which a tenth or more of the attempts have no verdict."""
    said: list[str] = []
    for row in vectors:
        one = row["success"]
        asked = one["n"] + one["unscored"]
        if one["unscored"] and one["unscored"] >= 0.1 * asked:
            share = f"{100 * one['least']:.0f} to {100 * one['most']:.0f}%, whatever they are"
            said.append(f"  {row['vector']}: {one['unscored']} of {asked} unscored, so {share}")
    return ["", *said] if said else []


def _row(found: Mapping[str, Any], attack: str) -> Mapping[str, Any]:
    return next(row["success"] for row in found["attacks"] if row["attack"] == attack)


def _line(name: str, cell: Mapping[str, Any], uplift: Mapping[str, Any] | None) -> str:
    change = f"{words.change(uplift['difference']):>8} points over plain" if uplift else ""
    return f"  {name:<24}{_said(cell):<22}{change}".rstrip()


def _said(cell: Mapping[str, Any]) -> str:
    if cell["value"] is None:
        return "not known"
    return f"{100 * cell['value']:5.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"
