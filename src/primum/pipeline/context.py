"""What the stages of a journey share: the run folder, the prompts, the models made so far, and what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primum.core.errors import BadInputError, StepFailedError
from primum.core.records import JsonDict, Prompt, Reply, Verdict
from primum.evaluation.metrics import Scored
from primum.judging import Exchange
from primum.models.sampling import Sampling
from primum.pipeline.desk import Desk, Policy
from primum.pipeline.recipe import BASE, Recipe, StageSpec
from primum.pipeline.steps import Draw, Journey, judge, sample


@dataclass(frozen=True)
class Sets:
    """Prompts of a journey, by what they are for. `dev` is to tune on: neither learned from nor reported.

    `known`: all that may be learned from, those beyond the budget too: what needs no reply of theirs reads them.
    """

    train: Sequence[Prompt]
    dev: Sequence[Prompt]
    test: Sequence[Prompt]
    known: Sequence[Prompt] = ()

    @property
    def by_id(self) -> dict[str, Prompt]:
        """All of them."""
        return {p.id: p for p in (*self.train, *self.dev, *self.test)}


@dataclass(frozen=True)
class Measured:
    """One policy on the test prompts: a reply each, and every judge's verdicts."""

    policy: Policy
    replies: Sequence[Reply]
    verdicts: Mapping[str, Sequence[Verdict]]

    def scored(self, judge_id: str, prompts: Mapping[str, Prompt]) -> list[Scored]:
        """Join prompts, replies and one judge's verdicts."""
        return [Scored(prompts[r.prompt_id], r, v) for r, v in zip(self.replies, self.verdicts[judge_id], strict=True)]


@dataclass
class Context:
    """All that a stage may use. `facts` holds what each stage says of itself, by its name."""

    journey: Journey
    recipe: Recipe
    desk: Desk
    sets: Sets
    judges: tuple[str, ...]
    seed: int
    data_dir: Path
    policies: dict[str, Policy] = field(default_factory=dict[str, Policy])
    measured: dict[str, Measured] = field(default_factory=dict[str, Measured])
    facts: dict[str, JsonDict] = field(default_factory=dict[str, JsonDict])
    shelf: dict[str, Any] = field(default_factory=dict[str, Any])
    left_out: list[str] = field(default_factory=list[str])

    def start(self, spec: StageSpec) -> Policy:
        """Return the policy that a stage starts from; the base where it names none.

        Raises:
            StepFailedError: no earlier stage made it, or it was skipped.
        """
        name = spec.start or BASE
        cure = f"let '{spec.name}' start elsewhere (--set stages.{spec.name}.start=base)"
        return self.policy(spec, name, cure)

    def policy(self, spec: StageSpec, name: str, otherwise: str = "") -> Policy:
        """Return the policy that an earlier stage made, by that stage's name, or the base.

        Args:
            spec: the stage that needs it.
            name: of the stage that makes it.
            otherwise: what else can be done about one that is not there.

        Raises:
            StepFailedError: no earlier stage made it, or it was skipped.
        """
        if name == BASE:
            return self.desk.base
        if name not in self.policies:
            cure = f"run '{name}' too, or " + (otherwise or f"name a stage that comes before '{spec.name}'")
            raise StepFailedError(f"there is no policy '{name}'", where=spec.where, cure=cure)
        return self.policies[name]

    def needs(self, spec: StageSpec, what: str, maker: str, otherwise: str = "") -> Any:
        """Return what an earlier stage put on the shelf.

        Args:
            spec: the stage that needs it.
            what: its name.
            maker: the kind of stage that makes it.
            otherwise: a setting of the stage with which it does without.

        Raises:
            StepFailedError: no earlier stage did.
        """
        if what not in self.shelf:
            cure = f"put a stage with 'do: {maker}' before it, and do not skip it"
            cure += f", or do without (--set stages.{spec.name}.{otherwise})" if otherwise else ""
            raise StepFailedError(f"stage '{spec.name}' needs {what}", where=spec.where, cure=cure)
        return self.shelf[what]

    def public_file(self, file: str, default: str) -> Path | None:
        """Return a data file by its path, or by its place in the folder of public data.

        None where it is not there and is the one that a stage takes by default: nobody asked for it.

        Raises:
            BadInputError: a file that was asked for is in neither place.
        """
        found = next((p for p in (Path(file), self.data_dir / file) if p.is_file()), None)
        if found is None and file != default:
            cure = f"check the path; a relative one counts from here, or from the public data ({self.data_dir})"
            raise BadInputError("no such file", where=file, cure=cure)
        return found

    def draw(self, name: str, policy: Policy, prompts: Sequence[Prompt], draw: Draw) -> list[Reply]:
        """Draw replies of a policy; resumes at the shard where it was stopped."""
        return sample(self.journey, name, prompts, draw, f"{policy.name}@{policy.key}", self.desk.engine(policy))

    def judge(self, name: str, judge_id: str, replies: Sequence[Reply]) -> list[Verdict]:
        """Judge replies to prompts of this journey."""
        prompts = self.sets.by_id
        return judge(self.journey, name, judge_id, [Exchange(prompts[r.prompt_id], r) for r in replies])

    @property
    def measuring(self) -> Draw:
        """How replies are drawn where they are measured."""
        settings = self.recipe.sampling
        return Draw(Sampling(settings.temperature, settings.tokens), 1, self.seed)

    def measure(self, policy: Policy) -> Measured:
        """Draw and judge a policy's replies to the test prompts, once."""
        if policy.name not in self.measured:
            replies = self.draw(f"measure-{policy.name}-replies", policy, self.sets.test, self.measuring)
            verdicts = {j: self.judge(f"measure-{policy.name}-judge-{j}", j, replies) for j in self.judges}
            self.measured[policy.name] = Measured(policy, replies, verdicts)
        return self.measured[policy.name]
