"""Who is trained on and who is tested on: whole harm categories are kept for testing, twins stay together.

A unit is a prompt with whatever its twin links reach. Units are drawn by a generator seeded with (seed, category),
from units in order of id: neither the order of the input nor another category changes what is drawn.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from primum.core.errors import StepFailedError, UsageError, did_you_mean
from primum.core.records import Prompt, Split
from primum.core.taxonomy import policy
from primum.prompts.dedup import NearIndex
from primum.prompts.rows import GENERAL, LEARNED, OTHER
from primum.prompts.sources import for_evaluation

OTHER_TEST_SHARE = 0.2
"""Of the pairs whose category nobody knows, what goes to test: there is no category to hold out."""

Unit = tuple[Prompt, ...]


def split(
    prompts: Sequence[Prompt],
    held_out: Collection[str],
    seed: int,
    dev_share: float = 0.1,
    general_test: int = 400,
) -> list[Prompt]:
    """Return the prompts in their order, each with its split.

    - public evaluation sets: test, with whatever is their twin
    - a held-out category, harmful prompts, twins and advice alike: test
    - another harm category: `dev_share` of its pairs dev, the rest train
    - no known category (`other`): a random fifth test, `dev_share` dev, the rest train
    - advice: of each category half test, half train
    - general, tagged as only learned from: train
    - other general: those with an answer test, and others at random until `general_test` (but of those without an
      answer at most two thirds, so that a small set keeps some to train on); of the rest `dev_share` dev
    - a translation: where the prompt is that it translates, if that is here; it changes no draw

    Args:
        prompts: without duplicates.
        held_out: harm categories that no one trains on.
        seed: of the draws.
        dev_share: 0 to 1.
        general_test: how many general prompts to test on, if there are enough.

    Raises:
        UsageError: a held-out category that does not exist, or a share outside 0 to 1.
        StepFailedError: a near-duplicate would be in train and in test.
    """
    _check_arguments(prompts, held_out, dev_share)
    originals = {prompt.id for prompt in prompts if prompt.translation_of is None}
    followers: list[tuple[Unit, str]] = []
    strata: defaultdict[tuple[str, str], list[Unit]] = defaultdict(list)
    for unit in _units(prompts):
        of = next((p.translation_of for p in unit if p.translation_of in originals), None)
        if of is None:
            strata[_stratum(unit, held_out)].append(unit)
        else:
            followers.append((unit, of))
    splits: dict[str, Split] = {}
    for (kind, category), units in sorted(strata.items()):
        drawn = sorted(units, key=lambda unit: unit[0].id)
        random.Random(f"{seed}:{kind}:{category}").shuffle(drawn)
        drawn.sort(key=lambda unit: kind == "general" and not _answered(unit))
        test, dev = _counts(kind, drawn, dev_share, general_test)
        for i, unit in enumerate(drawn):
            where: Split = "test" if i < test else "dev" if i < test + dev else "train"
            splits |= {prompt.id: where for prompt in unit}
    splits |= {prompt.id: splits[of] for unit, of in followers for prompt in unit}
    done = [replace(prompt, split=splits[prompt.id]) for prompt in prompts]
    check_split(done)
    return done


def _check_arguments(prompts: Sequence[Prompt], held_out: Collection[str], dev_share: float) -> None:
    known = {*policy().categories, *(prompt.category for prompt in prompts)} - {GENERAL}
    for name in sorted(held_out):
        if name not in known:
            raise UsageError(f"no harm category '{name}' to hold out", cure=did_you_mean(name, known))
    if not 0 <= dev_share < 1:
        raise UsageError(f"dev_share must be from 0 to below 1, got {dev_share}")


def _units(prompts: Sequence[Prompt]) -> list[Unit]:
    """Group the prompts that twin links join, in order of id."""
    ids = {prompt.id for prompt in prompts}
    linked: defaultdict[str, set[str]] = defaultdict(set)
    for prompt in prompts:
        if prompt.twin in ids:
            linked[prompt.id].add(str(prompt.twin))
            linked[str(prompt.twin)].add(prompt.id)
    root: dict[str, str] = {}
    for start in sorted(ids):
        waiting = [] if start in root else [start]
        while waiting:
            here = waiting.pop()
            root[here] = start
            waiting += linked[here] - root.keys()
    units: defaultdict[str, list[Prompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda prompt: prompt.id):
        units[root[prompt.id]].append(prompt)
    return [tuple(unit) for unit in units.values()]


def _stratum(unit: Unit, held_out: Collection[str]) -> tuple[str, str]:
    categories = sorted({prompt.category for prompt in unit if prompt.intent != "benign"})
    category = (categories or [unit[0].category])[0]
    if any(for_evaluation(prompt) for prompt in unit):
        return "test", "evaluation"
    if any(prompt.category in held_out for prompt in unit):
        return "test", category
    if all(prompt.category == GENERAL for prompt in unit):
        return ("learned" if any(LEARNED in prompt.tags for prompt in unit) else "general"), GENERAL
    if any("advice" in prompt.tags for prompt in unit):
        return "advice", category
    return ("other" if category == OTHER else "harm"), category


def _counts(kind: str, units: Sequence[Unit], dev_share: float, general_test: int) -> tuple[int, int]:
    """Return how many units of a stratum go to test and how many to dev."""
    n = len(units)
    if kind == "test":
        return n, 0
    if kind == "learned":
        return 0, 0
    if kind == "advice":
        return (n + 1) // 2, 0
    if kind == "general":
        answered = sum(_answered(unit) for unit in units)
        others = min(max(0, general_test - answered), (n - answered) * 2 // 3)
        return answered + others, _nearest(dev_share * (n - answered - others))
    test = _nearest(OTHER_TEST_SHARE * n) if kind == "other" else 0
    return test, min(n - test, _nearest(dev_share * n))


def _answered(unit: Unit) -> bool:
    return any(prompt.answer for prompt in unit)


def _nearest(x: float) -> int:
    # round() would take 2.5 to 2 and 3.5 to 4.
    return int(x + 0.5)


def check_split(prompts: Sequence[Prompt]) -> None:
    """Check that no twins are parted and that no prompt to train or tune on nearly equals one to test on.

    Raises:
        StepFailedError: some do; names two of them.
    """
    where = {prompt.id: prompt.split for prompt in prompts}
    for prompt in prompts:
        if where.get(prompt.twin or "", prompt.split) != prompt.split:
            raise StepFailedError(f"twins {prompt.id} and {prompt.twin} are in different splits")
    index = NearIndex(prompts)
    for prompt in prompts:
        if prompt.split == "test":
            index.add(prompt)
    for prompt in prompts:
        near = None if prompt.split == "test" else index.find(prompt)
        if near:
            problem = f"'{prompt.text[:60]}' ({prompt.split}) nearly equals '{near.prompt.text[:60]}' (test)"
            raise StepFailedError(problem, cure="drop duplicates before the split")
