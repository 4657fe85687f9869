"""The k examples that attacks by training learn from: who gives the answers, and how many of them are harmful.

A hardened model refuses most requests, and k answers of it drawn once would teach an attack to refuse: the model would
look harder to break than it is. So answers are judged, more of them are drawn while too few are harmful, refusals are
never learned, and how many are harmful goes with the examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from primum.core.records import Behaviour, Messages, Prompt, Reply, digest, user
from primum.core.store import fingerprint
from primum.evaluation.domain import read_domain
from primum.judging import Exchange
from primum.judging.runner import judge_all
from primum.models.sampling import Sampling
from primum.pipeline.steps import Journey, prompts_key
from primum.prompts.shared import default_data_dir
from primum.stress import demonstrate as shown
from primum.stress.setting import Lesson, SkippedError, Wrap, as_it_is, opened

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.pipeline.stressing import Grid

DRAWS = 4
"""How often harmful answers are drawn, at most, while there are too few of them."""
HARMFUL: tuple[Behaviour, ...] = ("harmful_compliance", "compliance")
DECLINED: tuple[Behaviour, ...] = ("refusal", "safe_completion", "deflection")


class Drawn(NamedTuple):
    """Requests with the answers that are learned, and how many of these are harmful where they are to be."""

    rows: list[tuple[Messages, str]]
    harmful: int | None = None


class Answer(NamedTuple):
    """An answer that may be learned, and what the judge says it is."""

    prompt: Prompt
    text: str
    behaviour: Behaviour | None

    @property
    def harmful(self) -> bool:
        """Whether it goes along with what was asked."""
        return bool(self.text.strip()) and self.behaviour in HARMFUL

    @property
    def learnable(self) -> bool:
        """Whether it says something and is no refusal: where harmful ones are too few it stands in for one."""
        return bool(self.text.strip()) and self.behaviour not in DECLINED


@dataclass
class Examples:
    """What attacks by training learn from, drawn when it is first asked for and kept in the run folder."""

    journey: Journey
    grid: Grid
    key: str
    drawn: list[list[Answer]] = field(default_factory=list[list[Answer]])

    def __call__(self, kind: str, many: int, model: Model, wrap: Wrap) -> Lesson:
        """Return `many` examples of a kind (fewer where there are fewer).

        Raises:
            SkippedError: there are none.
        """
        found = self.rows(kind, many, model)
        return Lesson(shown.examples_of(found.rows, model, wrap), found.harmful)

    def rows(self, kind: str, many: int, model: Model) -> Drawn:
        """Return requests with the answers that are learned.

        Raises:
            SkippedError: there are none.
        """
        found = {"harmful": self._harmful, "identity": self._identity, "benign": self._benign}[kind](many, model)
        if not found.rows:
            raise SkippedError("there is nothing to learn from")
        return found

    def _harmful(self, many: int, model: Model) -> Drawn:
        """Return an answer to each of `many` requests: harmful ones, then others that are no refusals.

        Raises:
            SkippedError: there are none.
        """
        found: list[Answer] = []
        for number in range(DRAWS):
            if number == len(self.drawn):
                self.drawn.append(self._draw(number, found, model))
            found += self.drawn[number]
            if sum(one.harmful for one in found) >= many:
                break
        by_prompt: dict[str, Answer] = {}
        for one in sorted(found, key=lambda one: not one.harmful):
            if one.learnable:
                by_prompt.setdefault(one.prompt.id, one)
        taken = list(by_prompt.values())[:many]
        if found and not taken:
            raise SkippedError(f"all {len(found)} answers drawn are refusals: there is nothing harmful to learn from")
        lead = "" if self.grid.broken else shown.SHORT + " "
        return Drawn([(one.prompt.messages, lead + one.text) for one in taken], sum(one.harmful for one in taken))

    def _draw(self, number: int, before: Sequence[Answer], model: Model) -> list[Answer]:
        """Ask requests without a harmful answer so far once, those that were asked least first, and judge."""
        answered, times = {one.prompt.id for one in before if one.harmful}, Counter(one.prompt.id for one in before)
        due = [p for p in self.grid.prompts.attack_harmful if p.id not in answered]
        asked = sorted(due, key=lambda p: (times[p.id], p.id))[: 2 * max(self.grid.shape.shots)]
        if not asked:
            return []
        said = self._said("harmful", asked, model, self.grid.broken, number)
        exchanges = [Exchange(p, _reply(p, text)) for p, text in zip(asked, said, strict=True)]
        verdicts = judge_all(self.grid.judges[0], exchanges)
        return [Answer(p, text, v.behaviour) for p, text, v in zip(asked, said, verdicts, strict=True)]

    def _identity(self, many: int, model: Model) -> Drawn:
        most = max(self.grid.shape.fewest)  # one draw is enough for every number of examples
        asked = sorted(self.grid.prompts.attack_benign, key=lambda p: p.id)[: 2 * max(10, most)]
        return Drawn(shown.identity_rows(asked, self._said("identity", asked, model, None), many))

    def _benign(self, many: int, model: Model) -> Drawn:
        path = (
            Path(self.grid.domain) if self.grid.domain else default_data_dir() / "medical" / "medmcqa_validation.jsonl"
        )
        if not path.is_file():
            raise SkippedError("needs harmless rows to learn from (--domain)")
        rows = sorted(read_domain(path), key=lambda row: digest(row.prompt))
        return Drawn([((user(row.prompt),), row.answer) for row in rows[:many]])

    def _said(self, name: str, asked: Sequence[Prompt], model: Model, broken: str | None, number: int = 0) -> list[str]:
        """Return replies to learn from, by the broken model or the model itself; each draw has a seed of its own."""
        step, seed = f"examples-{name}" + (f"-{number + 1}" if number else ""), self.grid.seed + 7919 * number
        facts = {"model": self.key, "prompts": prompts_key(asked), "broken": weights_of(broken)}
        stage = self.journey.stage(step, **facts, seed=seed)
        if not stage.manifest:
            from primum.models.engines.hf import HFEngine
            from primum.models.load import load

            wrap = opened(shown.OPENING) if name == "harmful" and not broken else as_it_is
            engine = HFEngine(load(broken) if broken else model)
            drawn = engine([wrap(p.messages) for p in asked], Sampling(0.7, shown.ANSWER_TOKENS), seed)
            stage.write_shard(0, [{"text": reply.text} for reply in drawn])
            stage.finish(replies=len(drawn))
        return [row["text"] for row in stage.rows()]


def _reply(prompt: Prompt, text: str) -> Reply:
    return Reply(prompt.id, "demonstration", "", text, "stop", 0, 0, 0)


def weights_of(name: str | None) -> list[str] | None:
    """Return what tells a model that was named from what may lie under that name the next time."""
    return [name, fingerprint(name)] if name else None


def domain_key(path: str | None) -> str | None:
    """Return a hash of the rows that were named."""
    return digest([[row.prompt, row.answer] for row in read_domain(Path(path))]) if path else None
