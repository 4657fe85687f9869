"""On-policy training towards the gated reward: PPO with a critic head, RLOO or REINFORCE++, on one copy of the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from primum.core.config import Config
from primum.core.progress import Advance
from primum.core.records import JsonDict, Prompt, Reply, digest
from primum.core.store import Stage, read_json, write_json
from primum.judging import Exchange
from primum.judging.loops import repeated_share
from primum.judging.runner import judge_all
from primum.judging.text import words
from primum.models.sampling import Sampling
from primum.pipeline import earning
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.drawing import known_engine
from primum.pipeline.lesson import PROMPT_TOKENS, benign, harmful, lesson, pick
from primum.pipeline.recipe import StageSpec
from primum.pipeline.scoring import HEADS
from primum.pipeline.second import Found, Second, second
from primum.training.settings import Rule

if TYPE_CHECKING:
    from torch import Tensor

    from primum.training.examples import Example
    from primum.training.methods.ppo import Rewarded
    from primum.training.rewards import Combine

about = "on-policy training (PPO, RLOO, REINFORCE++) towards the gated reward, with flags for a hacked one"
START = "start"
"""The adapter that holds the start policy, frozen: the reference."""
IN_MEMORY = ("auto", "transformers", "hf")
FIRST_MULTIPLIER = 1.0
MULTIPLIER = "multiplier"
"""Key of the log: the Lagrangian rule's lambda after an iteration."""


class Settings(Config):
    """On-policy training."""

    reward: str = Field(
        earning.MODEL, description="what is learned towards: model (the journey's two rewards), judge:NAME, or "
        "rule:package.module:function (exchanges -> a number each)"
    )  # fmt: skip
    advantage: Literal["critic", "rloo", "reinforce_pp"] = Field("critic", description="critic is PPO")
    prompts: int | None = Field(None, ge=1, description="harmful prompts, as many benign ones beside")
    iterations: int = Field(10, ge=1, description="rounds of drawing and learning")
    batch: int = Field(16, ge=1, description="prompts of an iteration")
    samples: int = Field(2, ge=1, description="replies to each prompt")
    mini_batch: int = Field(8, ge=1, description="replies of one gradient step")
    tokens: int = Field(40, ge=1, description="longest reply")
    engine: str = Field("transformers", description="transformers alone: the weights change with every iteration")
    temperature: float = Field(1.0, gt=0, description="at which replies are drawn; 1 is the policy itself")
    learning_rate: float = Field(1e-4, gt=0, description="constant")
    critic_rate: float = Field(2e-3, gt=0, description="learning rate of the critic's head, constant")
    value_weight: float = Field(0.5, ge=0, description="weight of the critic's loss")
    clip: float = Field(0.2, gt=0, description="how far a ratio is followed")
    gamma: float = Field(1.0, gt=0, le=1, description="discount")
    decay: float = Field(0.95, ge=0, le=1, description="lambda of the advantages")
    max_kl: float = Field(20.0, gt=0, description="nats a reply from the start policy at which training stops")
    beta: float = Field(0.01, ge=0, description="penalty for drifting from the start policy")
    threshold: float | None = Field(None, ge=0, le=1, description="of the gate; none takes the tuned one")
    tagging: bool = Field(True, description="whether a harmful prompt always takes the safety reward")
    rule: Rule = Field("piecewise", description="how the two rewards become one")
    weight: float = Field(0.5, ge=0, le=1, description="of safety where the rule is weighted")
    guard: str = Field("rules", description="a judge that training never sees", validate_default=True)
    guard_weight: float = Field(
        1.0, ge=0, description="held-out prompts: how much of what the guard finds worse than at the start comes off "
        "the reward by which the best look is chosen; 0: the reward alone, however the policy earned it"
    )  # fmt: skip
    second: str | None = Field(None, description="a second reward model that training never sees: a stage, or a folder")
    over_optimised: Found = Field(
        "warn", description="where the reward rises and the second model's falls: warn, or stop; with stop held-out "
        "prompts are scored by the second model, and what it finds best is left"
    )  # fmt: skip
    check_every: int = Field(5, ge=1, description="iterations between looks at held-out prompts")
    check_prompts: int = Field(24, ge=1, description="held-out prompts of each kind")
    patience: int = Field(2, ge=1, description="looks without gain after which training stops")

    @field_validator("engine")
    @classmethod
    def _engine(cls, engine: str) -> str:
        return known_engine(engine)

    @field_validator("reward")
    @classmethod
    def _known(cls, reward: str) -> str:
        if reward != earning.MODEL:
            earning.named(reward)
        return reward

    @field_validator("guard")
    @classmethod
    def _unseen(cls, guard: str, info: ValidationInfo) -> str:
        if info.data.get("reward") == f"judge:{guard}":
            raise ValueError("training sees this judge, so it cannot be the guard: name another")
        return guard


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    replies = settings.iterations * settings.batch * settings.samples
    looks = 2 + settings.iterations // settings.check_every  # the start and the end, too
    looked = looks * 2 * settings.check_prompts
    rows = replies * (PROMPT + settings.tokens)
    return measured(sizes).plus(Cost((replies + looked) * settings.tokens, (5 if settings.second else 4) * rows, rows))


def run(context: Context, spec: StageSpec) -> None:
    """Train from the start policy, measure."""
    settings: Settings = spec.settings
    prompts = [
        *pick(harmful(context.sets.train), settings.prompts),
        *pick(benign(context.sets.train), settings.prompts),
    ]
    if settings.engine not in IN_MEMORY:
        text = f"replies are drawn with transformers, not {settings.engine}: the weights change with every iteration"
        context.journey.tell(spec.name, text)
    watching = second(context, spec, lambda threshold: _rule(settings, threshold))
    names = ("advantage", "iterations", "batch", "samples", "mini_batch", "learning_rate", "critic_rate",
             "value_weight", "clip", "gamma", "decay", "max_kl", "beta", "check_every", "patience")  # fmt: skip

    def teach(network: Any, stage: Stage, advance: Advance) -> JsonDict:
        from primum.training.methods import ppo

        given = {name: getattr(settings, name) for name in names}
        stops = watching is not None and settings.over_optimised == "stop"
        config = ppo.Config(**given, stop_over_optimised=stops)
        desk = _Rollouts(context, settings, prompts, stage.folder, watching)
        log, alarms = ppo.train(config, desk.players(network), desk.ids(prompts), stage.folder, context.seed, advance)
        phases = {key: sum(row["seconds"][key] for row in log) for key in log[-1]["seconds"]}
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in log]
        return {"log": rows, "alarms": alarms, "seconds": {key: round(value, 1) for key, value in phases.items()}}

    watched = [watching.key] if watching else []
    data = digest([_towards(context, spec), [p.id for p in prompts], *watched])
    policy = lesson(context, spec, settings.iterations, "iterations", teach, data=data)
    log = context.facts[spec.name]["log"]
    told = ("reward", "guard", *(["second"] if watching else []), "kl")
    said = ", ".join(f"{key} {log[0][key] or 0:.2f} -> {log[-1][key] or 0:.2f}" for key in told)
    context.journey.tell(spec.name, said)
    context.measure(policy)


def _towards(context: Context, spec: StageSpec) -> list[Any]:
    """Return what the rewards depend on beside the settings: the model and the gate's threshold, a judge, or a rule."""
    settings: Settings = spec.settings
    if settings.reward != earning.MODEL:
        return earning.key_of(settings.reward)
    return [context.needs(spec, "reward", "reward").key, _threshold(context, settings)]


def _threshold(context: Context, settings: Settings) -> float:
    return context.shelf["threshold"] if settings.threshold is None else settings.threshold


def _rule(settings: Settings, threshold: float, multiplier: float = FIRST_MULTIPLIER) -> Combine:
    from primum.training.rewards import Combine

    return Combine(settings.rule, threshold, settings.tagging, settings.weight, multiplier)


def last_multiplier(folder: Path) -> float:
    """Return the Lagrangian rule's lambda after the last finished iteration in a folder; the first one before any."""
    from primum.training.state import finished

    return next((float(row[MULTIPLIER]) for row in reversed(finished(folder)) if MULTIPLIER in row), FIRST_MULTIPLIER)


class _Rollouts:
    """Draws, decodes and rewards replies for the trainer; the reward model is put on and off around it."""

    def __init__(
        self, context: Context, settings: Settings, prompts: Sequence[Prompt], folder: Path,
        watching: Second | None = None,
    ) -> None:  # fmt: skip
        self.context, self.settings, self.prompts, self.watching = context, settings, prompts, watching
        self.folder = folder
        self.other = None if settings.reward == earning.MODEL else earning.named(settings.reward)
        count = settings.check_prompts
        self.dev = [*pick(harmful(context.sets.dev), count), *pick(benign(context.sets.dev), count)]
        self.multiplier = last_multiplier(folder)

    def ids(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        from primum.models.chat import encode

        rows = encode([p.messages for p in prompts], self.context.desk.model.tokenizer, PROMPT_TOKENS)
        return [tuple(row) for row in rows]

    def players(self, network: Any) -> Any:
        from primum.training.heads import Heads, add_adapter, copy_adapter
        from primum.training.methods.ppo import Players
        from primum.training.score import causal

        if START not in network.peft_config:
            lora = self.context.desk.lora
            add_adapter(network, START, lora.rank, self.context.seed, lora.start)
        copy_adapter(network, "default", START)
        network.set_adapter("default")
        critic = None
        if self.settings.advantage == "critic":
            base = causal(network)
            critic = Heads(base.config.get_text_config().hidden_size, ("value",), self.context.seed)
            critic = critic.to(next(base.parameters()).device)
        return Players(network, self.draw, self.earned, self.reference, critic, self.held_out if self.dev else None)

    def draw(self, prompts: Sequence[tuple[int, ...]], seed: int) -> Sequence[tuple[int, ...]]:
        from primum.training.rollouts import drawing

        sampling = Sampling(self.settings.temperature, self.settings.tokens)
        return drawing(self.context.desk.model, sampling)(prompts, seed)

    def reference(self, rows: Sequence[Example]) -> Tensor:
        from primum.training.heads import adapter_on
        from primum.training.score import token_scores

        network = self.context.desk.network
        with adapter_on(network, START):
            return token_scores(network, rows).logps

    def earned(self, index: Sequence[int], answers: Sequence[tuple[int, ...]]) -> Rewarded:
        import torch

        from primum.training import rewards
        from primum.training.methods.ppo import Rewarded

        prompts = [self.prompts[i] for i in index]
        combine = self._combine(self.multiplier)
        combined, scores, metrics = self._score(prompts, answers, combine)
        if self.other is not None:
            return Rewarded(rewards.whiten(combined).tolist(), metrics)  # it may be any number: there is no logit
        if self.settings.rule == "lagrangian":
            tagged = torch.tensor([p.intent == "harmful" for p in prompts])
            cost = float(rewards.cost_of(scores[:, 0])[tagged].mean()) if tagged.any() else 0.0
            self.multiplier = metrics[MULTIPLIER] = rewards.next_multiplier(self.multiplier, cost)
        return Rewarded(combine.final(combined).tolist(), metrics)

    def _combine(self, multiplier: float) -> Combine:
        from primum.training.rewards import Combine

        threshold = Combine.threshold if self.other else _threshold(self.context, self.settings)
        return _rule(self.settings, threshold, multiplier)

    def held_out(self) -> float:
        answers = self.draw(self.ids(self.dev), self.context.seed + 4242)
        if self.watching is not None and self.settings.over_optimised == "stop":
            return fmean(self.watching.rewards(self._exchanges(self.dev, answers)))
        combine = self._combine(FIRST_MULTIPLIER)  # of every look the same, or looks could not be compared
        combined, _, said = self._score(self.dev, answers, combine)
        return float(combined.mean()) - self.settings.guard_weight * self._worse(said.get("guard"))

    def _worse(self, guard: float | None) -> float:
        """Return by how much a guard's mean fell since the first look (which is noted: a run that goes on has it)."""
        path = self.folder / "guard.json"
        if not path.exists():
            write_json(path, {"first": guard})
        first = read_json(path)["first"]
        return 0.0 if guard is None or first is None else max(0.0, first - guard)

    def _score(
        self, prompts: Sequence[Prompt], answers: Sequence[tuple[int, ...]], combine: Combine
    ) -> tuple[Tensor, Tensor, JsonDict]:
        """Return the reward of replies (B,), the scores of both heads (B, 2; none: (B, 0)), and what the log says."""
        import torch

        exchanges = self._exchanges(prompts, answers)
        if self.other is not None:
            found = earning.earned(self.other, exchanges, self.settings.reward)
            combined, scores = torch.tensor(found.values), torch.empty(len(exchanges), 0)
            said: JsonDict = {"unscored": found.unscored}
        else:
            scores = self._scores(exchanges)
            combined = combine(scores[:, 0], scores[:, 1], torch.tensor([p.intent == "harmful" for p in prompts]))
            said = {head: float(mean) for head, mean in zip(HEADS, scores.mean(0), strict=True)}
        return combined, scores, {"reward": float(combined.mean()), **self._watch(exchanges), **said}

    def _exchanges(self, prompts: Sequence[Prompt], answers: Sequence[tuple[int, ...]]) -> list[Exchange]:
        """Return token ids as replies; one that does not end with a stop token was cut by the limit."""
        from primum.models.engines.hf import stop_ids

        model, stops = self.context.desk.model, stop_ids(self.context.desk.model)
        texts = [model.tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in answers]
        ended = [bool(answer) and answer[-1] in stops for answer in answers]
        return [
            Exchange(p, Reply(p.id, "policy", str(i), text, "stop" if end else "length", 0, len(answers[i]), 0))
            for i, (p, text, end) in enumerate(zip(prompts, texts, ended, strict=True))
        ]

    def _scores(self, exchanges: Sequence[Exchange]) -> Tensor:
        """Return what the reward model's heads say (B, 2)."""
        import torch

        judge = self.context.desk.reward_model(HEADS)
        judge.take(self.context.shelf["reward"].weights)
        asked, said = [e.prompt.messages for e in exchanges], [e.reply.text for e in exchanges]
        ended = [e.reply.finish == "stop" for e in exchanges]
        scores = judge.scores(asked, said, ended, self.context.desk.model.tokenizer)
        judge.give_back()
        return torch.tensor(scores)

    def _watch(self, exchanges: Sequence[Exchange]) -> JsonDict:
        """Return what flags of a hacked reward look at: a judge that training never sees, refusals, repetition."""
        found = judge_all(self.settings.guard, exchanges)
        refused = [v.behaviour in ("refusal", "safe_completion") for v in found]
        each = [earning.good(e.prompt, v) for e, v in zip(exchanges, found, strict=True)]
        known = [value for value in each if value is not None]
        return {
            "guard": fmean(known) if known else None, "refusals": fmean(refused),
            "repetition": fmean(repeated_share(words(e.reply.text)) for e in exchanges),
            **({"second": fmean(self.watching.rewards(exchanges))} if self.watching else {}),
        }  # fmt: skip
