"""Ghost attention: learn to keep an instruction of the first turn, and measure at which later turns it still holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from primum.core.config import Config
from primum.core.progress import Advance
from primum.core.records import JsonDict, Messages, Prompt, Reply, assistant, digest, user
from primum.core.store import Stage
from primum.models.sampling import Sampling
from primum.pipeline.constraints import LEARNED, UNSEEN, Rule, held_to
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.desk import Policy
from primum.pipeline.lesson import answers, benign, lesson, pick
from primum.pipeline.recipe import StageSpec
from primum.pipeline.steps import Draw
from primum.pipeline.table import share_of

about = "ghost attention: an instruction of the first turn holds in later ones (arXiv:2307.09288, section 3.3)"
SHOWN = {"turns": "the instruction", "unseen": "an instruction of a rule that was not learned"}


class Settings(Config):
    """Dialogues, learning, and the turns that are looked at."""

    rules: tuple[Rule, ...] = Field(
        LEARNED,
        min_length=1,
        description="what is learned to be held: {long: the words, "
        "short: fewer words, starts|contains: words of every answer or case: upper|lower}",
    )
    unseen: tuple[Rule, ...] = Field(UNSEEN, description="rules that are measured alone, and not learned")
    dialogues: int = Field(48, ge=1, description="dialogues that are learned from")
    longest: int = Field(4, ge=2, description="turns of the longest of them")
    learned: Literal["last", "each"] = Field(
        "last",
        description="of which turns the answers are learned: the last one's, as published, or those of each turn",
    )
    tokens: int = Field(24, ge=4, description="longest answer of a turn")
    turns: tuple[int, ...] = Field((2, 4, 6, 20), description="turns at which the instruction is looked for")
    test: int = Field(16, ge=1, description="dialogues to measure on, with other questions")
    temperature: float = Field(0.7, ge=0, description="at which answers are drawn")
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate")
    epochs: float = Field(2.0, gt=0, description="passes over the answers that are learned")
    batch_size: int = Field(4, gt=0, description="answers per optimizer step")

    @model_validator(mode="after")
    def _unseen_are_not_learned(self) -> Self:
        both = [one.long for one in self.unseen if any(one.same_as(rule) for rule in self.rules)]
        if both:
            raise ValueError(f"'{both[0]}' is among the rules that are learned, and cannot be an unseen one")
        return self


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    rows = settings.dialogues * settings.longest
    looks = 2 * len(_tested(settings)) * max(settings.turns) * settings.tokens
    learned = settings.dialogues * settings.longest * (PROMPT // 2 + settings.tokens) * settings.epochs
    return measured(sizes).plus(Cost(rows * settings.tokens + looks, 0, round(learned)))


def run(context: Context, spec: StageSpec) -> None:
    """Make dialogues, train, and measure before and after."""
    settings: Settings = spec.settings
    rows, groups, made = dialogues(context, spec)

    def teach(network: Any, stage: Stage, advance: Advance) -> JsonDict:
        from primum.training.methods import gatt

        kept = answers(context, rows, settings.tokens)
        config = gatt.Config(
            learning_rate=settings.learning_rate, epochs=settings.epochs, batch_size=settings.batch_size
        )
        examples = [k.example for k in kept]
        log, alarms = gatt.train(config, network, examples, stage.folder, context.seed, advance, groups)
        found = {"dialogues": len(set(groups)), "answers": len(rows), "answers_made_to_keep": made}
        return {"log": log, "alarms": alarms.rows, **found}

    data = digest([[[m.identity for m in messages], text, ends] for messages, text, ends in rows])
    before = _held(context, spec, context.start(spec), "before")
    policy = lesson(context, spec, round(len(rows) * settings.epochs), "answers", teach, data=data)
    after = _held(context, spec, policy, "after")
    context.facts[spec.name] |= {
        f"{kind}_{when}": rows for when, found in (("before", before), ("after", after)) for kind, rows in found.items()
    }
    for kind, name in SHOWN.items():
        for when, found in (("before", before), ("after", after)):
            if kind in found:
                said = ", ".join(f"turn {turn} {100 * row['value']:.0f}%" for turn, row in found[kind].items())
                context.journey.tell(spec.name, f"{name} holds {when}: {said}")
    context.measure(policy)


def _questions(prompts: Sequence[Prompt], number: int, count: int) -> list[str]:
    """Return the questions of a dialogue: other ones in each, around and around."""
    return [prompts[(number * 7 + i) % len(prompts)].text for i in range(count)]


class Dialogues(NamedTuple):
    """Answers to learn, each with what was said before it and whether it came to its end.

    groups: the dialogue of each. made: how many of these answers had to be made to keep the rules.
    """

    rows: list[tuple[Messages, str, bool]]
    groups: list[int]
    made: int


def dialogues(context: Context, spec: StageSpec) -> Dialogues:
    """Return dialogues with the instruction in their first turn alone, each with the answers to learn.

    Answers are drawn with the instruction in every turn; one that does not keep it is made to by the instruction's own
    rules, so that a model too small to follow can still learn to hold on.
    """
    from primum.training.methods.gatt import Constraint, everywhere, first_only, instructions

    settings: Settings = spec.settings
    prompts = pick([p for p in benign(context.sets.train) if p.twin is None], None) or benign(context.sets.train)
    lengths = [2 + i % (settings.longest - 1) for i in range(settings.dialogues)]
    asked = [_questions(prompts, i, n) for i, n in enumerate(lengths)]
    constraints = [Constraint(rule.kind, rule.long, rule.short or rule.long) for rule in settings.rules]
    given = instructions(constraints, len(asked), context.seed)
    said: list[list[str]] = [[] for _ in asked]
    drew: list[list[Reply]] = [[] for _ in asked]
    for turn in range(settings.longest):
        live = [i for i, n in enumerate(lengths) if turn < n]
        talks = [everywhere(given[i].text, asked[i][: turn + 1], said[i]) for i in live]
        drawn = _answer(context, f"draw-{spec.name}-turn-{turn}", context.start(spec), talks, settings)
        for i, reply in zip(live, drawn, strict=True):
            drew[i].append(reply)
            said[i].append(held_to(reply.text, [settings.rules[part] for part in given[i].parts]))
    learned = [(i, t) for i, n in enumerate(lengths) for t in range(n) if settings.learned == "each" or t == n - 1]
    rows = [
        (first_only(given[i].text, asked[i][: t + 1], said[i][:t]), said[i][t], drew[i][t].finish == "stop")
        for i, t in learned
    ]
    return Dialogues(rows, [i for i, _ in learned], sum(said[i][t] != drew[i][t].text for i, t in learned))


class Tested(NamedTuple):
    """One dialogue of the measurement: the rule that it is begun with, whether it was learned, which questions."""

    rule: Rule
    kind: str
    number: int


def _tested(settings: Settings) -> list[Tested]:
    """Return the dialogues to measure: as many on unseen rules, where there are any, with the same questions."""
    return [
        Tested(rules[i % len(rules)], kind, i)
        for kind, rules in (("turns", settings.rules), ("unseen", settings.unseen))
        for i in range(settings.test if rules else 0)
    ]


def _held(context: Context, spec: StageSpec, policy: Policy, when: str) -> dict[str, JsonDict]:
    """Return at each turn in how many test dialogues the instruction still holds: it is given in the first one only.

    The rows of `turns` are of the rules that are learned, those of `unseen` of the others.
    """
    settings: Settings = spec.settings
    prompts = [p for p in benign(context.sets.test) if p.twin is None] or benign(context.sets.test)
    tested = _tested(settings)
    asked = [_questions(prompts, one.number, max(settings.turns)) for one in tested]
    asked = [[f"{one.rule.long}\n\n{row[0]}", *row[1:]] for one, row in zip(tested, asked, strict=True)]
    talks: list[Messages] = [() for _ in asked]
    found: dict[str, JsonDict] = {}
    for turn in range(1, max(settings.turns) + 1):
        talks = [(*talk, user(row[turn - 1])) for talk, row in zip(talks, asked, strict=True)]
        drawn = _answer(context, f"draw-{spec.name}-{when}-{turn:02d}", policy, talks, settings)
        talks = [(*talk, assistant(reply.text or "...")) for talk, reply in zip(talks, drawn, strict=True)]
        if turn in settings.turns:
            for kind in dict.fromkeys(one.kind for one in tested):
                both = zip(tested, drawn, strict=True)
                held = [one.rule.kept(reply.text) for one, reply in both if one.kind == kind]
                found.setdefault(kind, {})[str(turn)] = share_of(held)
    return found


def _answer(context: Context, name: str, policy: Policy, talks: Sequence[Messages], settings: Settings) -> list[Reply]:
    """Draw the next answer of every dialogue, in one batch; dialogues that are word for word alike get one answer."""
    prompts = [Prompt(talk, "benign", "general") for talk in talks]
    unique = list({p.id: p for p in prompts}.values())
    draw = Draw(Sampling(settings.temperature, settings.tokens), 1, context.seed + 61)
    found: dict[str, Reply] = {r.prompt_id: r for r in context.draw(name, policy, unique, draw)}
    return [found[p.id] for p in prompts]
