"""Languages in a repair: which prompts of which languages are learned from and measured, and by whom they are judged.

The linear start and the line are drawn on English prompts alone: they push the openings of English refusals, which in
another language would be the wrong ones. What other languages learn, they learn from demonstrations and pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from primum.core.languages import ENGLISH, base
from primum.core.records import JsonDict, Prompt, Reply, Split, Verdict
from primum.core.store import read_json
from primum.evaluation.languages import language_table
from primum.evaluation.metrics import Scored
from primum.judging import Exchange
from primum.judging.gold import FIRST_READING
from primum.judging.spoken import can_tell
from primum.pipeline.choose import choose
from primum.pipeline.settings import RepairConfig
from primum.pipeline.steps import Journey, judge
from primum.prompts.plan import LanguagePlan, language_plan


@dataclass(frozen=True)
class Tongues:
    """The prompts of a repair by language.

    Attributes:
        plan: which languages are trained on; None where languages are not asked for.
        own: those that the repair without languages would work with.
        train: of the plan's other languages, to learn from.
        test: of every language, to measure on: the English originals and their translations, and what has no original.
    """

    plan: LanguagePlan | None
    own: Sequence[Prompt]
    train: Sequence[Prompt] = ()
    test: Sequence[Prompt] = ()


def is_foreign(prompt: Prompt) -> bool:
    """Whether a prompt is in another language than English."""
    return base(prompt.language) != ENGLISH


def tongues(prompts: Sequence[Prompt], config: RepairConfig) -> Tongues:
    """Divide the prompts by what a plan of languages does with them.

    Raises:
        UsageError: a language is to be learned that has no prompts to learn from.
    """
    if not config.languages:
        return Tongues(None, prompts)
    plan = language_plan(prompts, config.languages)
    own, foreign = [p for p in prompts if not is_foreign(p)], [p for p in prompts if is_foreign(p)]
    train = [p for p in foreign if base(p.language) in plan.trained]
    return Tongues(plan, own, _chosen(train, "train", config), _to_measure(own, foreign, config))


def _chosen(prompts: Sequence[Prompt], part: Split, config: RepairConfig) -> list[Prompt]:
    """Return what the budget buys of each language."""
    codes = sorted({p.language for p in prompts})
    return [p for code in codes for p in choose([q for q in prompts if q.language == code], part, config.size)]


def _to_measure(own: Sequence[Prompt], foreign: Sequence[Prompt], config: RepairConfig) -> list[Prompt]:
    """Return the same requests in every language, as far as they were translated."""
    translated = {p.translation_of for p in foreign}
    english = choose([p for p in own if p.id in translated], "test", config.size)
    asked = {p.id for p in english}
    alone = {p.id for p in own}
    parallel = [p for p in foreign if p.translation_of in asked and p.split == "test"]
    return [*english, *parallel, *_chosen([p for p in foreign if p.translation_of not in alone], "test", config)]


def judge_all_languages(
    journey: Journey, name: str, judge_id: str, exchanges: Sequence[Exchange], config: RepairConfig
) -> list[Verdict]:
    """Judge replies, those to prompts in other languages by `config.language_judge` where languages are asked for."""
    if not config.languages:
        return judge(journey, name, judge_id, exchanges)
    own = [one for one in exchanges if not is_foreign(one.prompt)]
    foreign = [one for one in exchanges if is_foreign(one.prompt)]
    found = judge(journey, name, judge_id, own)
    return [*found, *(judge(journey, f"{name}-languages", config.language_judge, foreign) if foreign else [])]


def scored(
    journey: Journey, name: str, prompts: Sequence[Prompt], replies: Sequence[Reply], config: RepairConfig
) -> list[Scored]:
    """Judge the replies of every language, English too, by the one judge of languages: like with like."""
    by_id = {p.id: p for p in prompts}
    exchanges = [Exchange(by_id[r.prompt_id], r) for r in replies]
    verdicts = judge(journey, name, config.language_judge, exchanges)
    return [Scored(one.prompt, one.reply, verdict) for one, verdict in zip(exchanges, verdicts, strict=True)]


def language_facts(
    found: Tongues, before: Sequence[Scored], after: Sequence[Scored], config: RepairConfig
) -> JsonDict | None:
    """Return what report.json says of languages; None where they were not asked for."""
    if found.plan is None:
        return None
    trained = found.plan.trained
    return {
        "plan": found.plan.to_json(), "one_a_family": found.plan.one_a_family, "judge": config.language_judge,
        "learned_from": len(found.train), "can_tell": can_tell(), "first_reading": read_json(FIRST_READING),
        "before": language_table(before, trained), "after": language_table(after, trained),
    }  # fmt: skip
