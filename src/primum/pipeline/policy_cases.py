"""What a policy patch measures and replays: the new parts' cases, and those of everything that was there before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import yaml

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, Prompt, digest
from primum.core.store import write_jsonl, write_text
from primum.core.taxonomy import Part, Policy
from primum.judging.policy_rubric import rubric_text
from primum.pairing.completions import compose, rng_for
from primum.prompts.decontaminate import benchmarks_at, decontaminate
from primum.prompts.dedup import NearIndex
from primum.prompts.embedded import embedded
from primum.prompts.rows import GENERAL
from primum.prompts.shared import default_data_dir
from primum.prompts.taught import Case, cases, told

ADVICE = "advice"


class Size(NamedTuple):
    """How many pairs of each old category are measured and how many replayed; the same of general and advice prompts.

    None takes all that are left.
    """

    measured: int
    replayed: int | None
    general: int
    general_replayed: int | None


@dataclass(frozen=True)
class Cases:
    """All cases of a patch.

    Attributes:
        learn: of the new parts' training split; those with an answer are learned, the others kept.
        replay: of what was there before; kept as the model answers them today.
        test: new parts' and old ones', on which the matrix is taken.
        left_out: how many prompts were dropped, by reason.
    """

    learn: list[Case]
    replay: list[Case]
    test: list[Case]
    left_out: dict[str, int]

    @property
    def asked(self) -> list[Prompt]:
        """The prompts that are measured on, once each."""
        return list({case.prompt.id: case.prompt for case in self.test}.values())


def gather(parts: Sequence[Part], new: Policy, size: Size, share: float, seed: int) -> Cases:
    """Return the cases of the parts that are taught, and of all old ones.

    Old prompts that nearly equal a new part's are left out, whatever their intent: what the policy wants of those has
    changed. So are new prompts that share eight words in a row with a benchmark.

    Args:
        parts: those that are taught.
        new: the policy that has them.
        size: of the old ones.
        share: of a part's prompts that are held out.
        seed: of which ones, and of the wording of answers.

    Raises:
        BadInputError: examples that cannot be used.
    """
    dropped: Counter[str] = Counter()
    ours = _clean([case for part in parts for case in cases(part, new, share, seed)], dropped)
    for part in parts:
        if {case.prompt.split for case in ours if case.part == part.id} != {"train", "test"}:
            problem, cure = f"of '{part.id}' too few prompts are left to learn from and to hold out", "give more rows"
            raise BadInputError(problem, where=str(new.source), cure=cure)
    measured, replayed = _unlike(ours, _old(new, [part.id for part in parts], size, share, seed), dropped)
    learn = [_with_answer(case, seed) for case in ours if case.prompt.split == "train"]
    test = [case for case in ours if case.prompt.split == "test"]
    return Cases(learn, replayed, [*test, *measured], {why: n for why, n in dropped.items() if n})


def _clean(found: list[Case], dropped: Counter[str]) -> list[Case]:
    """Drop what shares eight words with a benchmark, and what is beside it."""
    bad = {d.prompt.id for d in decontaminate([c.prompt for c in found], benchmarks_at(default_data_dir())).dropped}
    left = [case for case in found if case.prompt.id not in bad and case.prompt.twin not in bad]
    dropped["shares eight words in a row with a benchmark"] += len(found) - len(left)
    return left


def _unlike(
    ours: Sequence[Case], old: tuple[list[Case], list[Case]], dropped: Counter[str]
) -> tuple[list[Case], list[Case]]:
    """Drop old cases whose prompt nearly equals a new one."""

    def bare(case: Case) -> Prompt:
        return replace(case.prompt, intent="benign", twin=None)  # prompts are compared within an intent, save twins

    index = NearIndex([bare(case) for case in (*ours, *old[0], *old[1])])
    for case in ours:
        index.add(bare(case))
    kept = [[case for case in side if index.find(bare(case)) is None] for side in old]
    dropped["nearly equals a new part's prompt"] += sum(map(len, old)) - sum(map(len, kept))
    return kept[0], kept[1]


def _with_answer(case: Case, seed: int) -> Case:
    """Give a request that is to be declined its answer, from the policy's pieces."""
    if case.side != "own" or case.wanted != "declined":
        return case
    return replace(case, answer=compose(case.prompt.category, rng_for(seed, case.prompt.id)))


def _old(new: Policy, taught: Sequence[str], size: Size, share: float, seed: int) -> tuple[list[Case], list[Case]]:
    """Return what is measured and what is replayed of all that was there before; no prompt is both."""
    measured: list[Case] = []
    replayed: list[Case] = []
    for part, units in _embedded_units(taught).items():
        alone = part in (GENERAL, ADVICE)
        most, more = (size.general, size.general_replayed) if alone else (size.measured, size.replayed)
        order = sorted(units, key=lambda unit: digest([seed, unit[0].prompt.id]))
        most = min(most, (len(order) + 1) // 2)
        rest = order[most:] if more is None else order[most : most + more]
        measured += [case for unit in order[:most] for case in unit]
        replayed += [case for unit in rest for case in unit]
    for part in new.parts.values():
        if part.id not in taught and part.examples:
            ours = [case for case in cases(part, new, share, seed) if case.form == "plain"]
            measured += [case for case in ours if case.prompt.split == "test"]
            replayed += [case for case in ours if case.prompt.split == "train"]
    return measured, [replace(case, answer=None) for case in replayed]


def _embedded_units(taught: Sequence[str]) -> dict[str, list[tuple[Case, ...]]]:
    """Return the embedded prompts as cases, by part: twin pairs by category, general prompts, advice."""
    found: dict[str, list[tuple[Case, ...]]] = {}
    prompts = {prompt.id: prompt for prompt in embedded()}
    for prompt in prompts.values():
        if prompt.category in taught:
            continue
        if prompt.intent == "harmful" and prompt.twin in prompts:
            own = Case(prompt, prompt.category, "own", "declined", group=prompt.id)
            beside = Case(prompts[str(prompt.twin)], prompt.category, "beside", "answered", group=prompt.id)
            found.setdefault(prompt.category, []).append((own, beside))
        elif prompt.twin is None:
            part = ADVICE if "advice" in prompt.tags else GENERAL
            found.setdefault(part, []).append((Case(prompt, part, "beside", "answered", group=prompt.id),))
    return found


def write_parts(folder: Path, parts: Sequence[Part], new: Policy, found: Cases) -> list[JsonDict]:
    """Write what was made again for each part: prompts, answers, rubric, tests; return what lies where.

    The tests are a benchmark of one's own (`primum evaluate --benchmark RUN/policy/ID/tests.yaml`), the answers rows in
    TRL's columns.
    """
    written: list[JsonDict] = []
    for part in parts:
        place = folder / part.id
        learn = [case for case in found.learn if case.part == part.id]
        test = [case for case in found.test if case.part == part.id]
        write_jsonl(place / "prompts.jsonl", (dict(told(case)) for case in learn))
        rows = [{"prompt": c.prompt.text, "completion": c.answer} for c in learn if c.answer]
        write_jsonl(place / "answers.jsonl", rows)
        write_jsonl(place / "tests.jsonl", (_test_row(case) for case in _asked_by(part, test)))
        write_text(place / "tests.yaml", yaml.safe_dump(_benchmark(part), sort_keys=False, width=120))
        if part.kind != "fact":
            write_text(place / "rubric.yaml", rubric_text(part, new))
        written.append({"part": part.id, "kind": part.kind, "name": part.name, "learned": len(rows),
                        "beside": len(learn) - len(rows), "held_out": len(test)})  # fmt: skip
    return written


def _asked_by(part: Part, test: Sequence[Case]) -> list[Case]:
    """Return the cases that a benchmark of one's own can score: of facts, those whose answer is the fact."""
    return [case for case in test if part.kind != "fact" or case.wanted == "states"]


def _test_row(case: Case) -> JsonDict:
    return {**told(case), **({"holds": case.match[0]} if case.match else {})}


def _benchmark(part: Part) -> JsonDict:
    about = f"{part.name}: held out by the policy patch"
    common = {"name": part.id, "about": about, "rows": "tests.jsonl", "prompt": "prompt"}
    if part.kind == "fact":
        return common | {"kind": "contains", "answer": "holds"}
    return common | {"kind": "replies", "intent_field": "intent", "category": "side"}
