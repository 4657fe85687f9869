"""On-policy training towards the gated reward: PPO with a critic head, RLOO or REINFORCE++, on one copy of the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from primum.core.config import Config
from primum.core.progress import Advance
from primum.core.records import JsonDict, Prompt, Reply, digest
from primum.core.store import Stage
from primum.judging import Exchange
from primum.judging.loops import repeated_share
from primum.judging.runner import judge_all
from primum.judging.text import words
from primum.models.sampling import Sampling
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.lesson import PROMPT_TOKENS, benign, harmful, lesson, pick
from primum.pipeline.recipe import StageSpec
from primum.pipeline.scoring import HEADS
from primum.training.settings import Rule

if TYPE_CHECKING:
    from torch import Tensor

    from primum.training.examples import Example
    from primum.training.methods.ppo import Rewarded
    from primum.training.rewards import Combine

about = "on-policy training (PPO, RLOO, REINFORCE++) towards the gated reward, with flags for a hacked one"
START = "start"
"""The adapter that holds the start policy, frozen: the reference."""
FIRST_MULTIPLIER = 1.0
MULTIPLIER = "multiplier"
"""Key of the log: the Lagrangian rule's lambda after an iteration."""


class Settings(Config):
    """On-policy training."""

    advantage: Literal["critic", "rloo", "reinforce_pp"] = Field("critic", description="critic is PPO")
    prompts: int | None = Field(None, ge=1, description="harmful prompts, as many benign ones beside")
    iterations: int = Field(10, ge=1, description="rounds of drawing and learning")
    batch: int = Field(16, ge=1, description="prompts of an iteration")
    samples: int = Field(2, ge=1, description="replies to each prompt")
    mini_batch: int = Field(8, ge=1, description="replies of one gradient step")
    tokens: int = Field(40, ge=1, description="longest reply")
    temperature: float = Field(1.0, gt=0, description="at which replies are drawn; 1 is the policy itself")
    learning_rate: float = Field(1e-4, gt=0, description="constant")
    beta: float = Field(0.01, ge=0, description="penalty for drifting from the start policy")
    threshold: float | None = Field(None, ge=0, le=1, description="of the gate; none takes the tuned one")
    tagging: bool = Field(True, description="whether a harmful prompt always takes the safety reward")
    rule: Rule = Field("piecewise", description="how the two rewards become one")
    guard: str = Field("rules", description="a judge that training never sees")
    check_every: int = Field(5, ge=1, description="iterations between looks at held-out prompts")
    check_prompts: int = Field(12, ge=1, description="held-out prompts of each kind")
    patience: int = Field(2, ge=1, description="looks without gain after which training stops")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    replies = settings.iterations * settings.batch * settings.samples
    looks = 2 + settings.iterations // settings.check_every  # the start and the end, too
    looked = looks * 2 * settings.check_prompts
    rows = replies * (PROMPT + settings.tokens)
    return measured(sizes).plus(Cost((replies + looked) * settings.tokens, 4 * rows, rows))


def run(context: Context, spec: StageSpec) -> None:
    """Train from the start policy, measure."""
    settings: Settings = spec.settings
    reward = context.needs(spec, "reward", "reward")
    prompts = [
        *pick(harmful(context.sets.train), settings.prompts),
        *pick(benign(context.sets.train), settings.prompts),
    ]
    names = ("advantage", "iterations", "batch", "samples", "mini_batch", "learning_rate", "beta", "check_every",
             "patience")  # fmt: skip

    def teach(network: Any, stage: Stage, advance: Advance) -> JsonDict:
        from primum.training.methods import ppo

        config = ppo.Config(**{name: getattr(settings, name) for name in names})
        desk = _Rollouts(context, settings, prompts, stage.folder)
        log, alarms = ppo.train(config, desk.players(network), desk.ids(prompts), stage.folder, context.seed, advance)
        phases = {key: sum(row["seconds"][key] for row in log) for key in log[-1]["seconds"]}
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in log]
        return {"log": rows, "alarms": alarms, "seconds": {key: round(value, 1) for key, value in phases.items()}}

    data = digest([reward.key, [p.id for p in prompts]])
    policy = lesson(context, spec, settings.iterations, "iterations", teach, data=data)
    log = context.facts[spec.name]["log"]
    said = ", ".join(f"{key} {log[0][key] or 0:.2f} -> {log[-1][key] or 0:.2f}" for key in ("reward", "guard", "kl"))
    context.journey.tell(spec.name, said)
    context.measure(policy)


def last_multiplier(folder: Path) -> float:
    """Return the Lagrangian rule's lambda after the last finished iteration in a folder; the first one before any."""
    from primum.training.state import finished

    return next((float(row[MULTIPLIER]) for row in reversed(finished(folder)) if MULTIPLIER in row), FIRST_MULTIPLIER)


class _Rollouts:
    """Draws, decodes and rewards replies for the trainer; the reward model is put on and off around it."""

    def __init__(self, context: Context, settings: Settings, prompts: Sequence[Prompt], folder: Path) -> None:
        self.context, self.settings, self.prompts = context, settings, prompts
        self.reward = context.shelf["reward"]
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
        if self.settings.rule == "lagrangian":
            tagged = torch.tensor([p.intent == "harmful" for p in prompts])
            cost = float(rewards.cost_of(scores[:, 0])[tagged].mean()) if tagged.any() else 0.0
            self.multiplier = metrics[MULTIPLIER] = rewards.next_multiplier(self.multiplier, cost)
        return Rewarded(combine.final(combined).tolist(), metrics)

    def _combine(self, multiplier: float) -> Combine:
        from primum.training.rewards import Combine

        settings = self.settings
        threshold = self.context.shelf["threshold"] if settings.threshold is None else settings.threshold
        return Combine(settings.rule, threshold, settings.tagging, multiplier=multiplier)

    def held_out(self) -> float:
        answers = self.draw(self.ids(self.dev), self.context.seed + 4242)
        combine = self._combine(FIRST_MULTIPLIER)  # of every look the same, or looks could not be compared
        return float(self._score(self.dev, answers, combine)[0].mean())

    def _score(
        self, prompts: Sequence[Prompt], answers: Sequence[tuple[int, ...]], combine: Combine
    ) -> tuple[Tensor, Tensor, JsonDict]:
        """Return the combined reward of replies (B,), the scores of both heads (B, 2), and what the log says."""
        import torch

        from primum.models.engines.hf import stop_ids

        model, stops = self.context.desk.model, stop_ids(self.context.desk.model)
        texts = [model.tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in answers]
        ended = [bool(answer) and answer[-1] in stops for answer in answers]
        judge = self.context.desk.reward_model(HEADS)
        judge.take(self.reward.weights)
        scores = torch.tensor(judge.scores([p.messages for p in prompts], texts, ended, model.tokenizer))
        judge.give_back()
        tagged = torch.tensor([p.intent == "harmful" for p in prompts])
        combined = combine(scores[:, 0], scores[:, 1], tagged)
        return combined, scores, {"reward": float(combined.mean()), **self._watch(prompts, texts, scores)}

    def _watch(self, prompts: Sequence[Prompt], texts: Sequence[str], scores: Tensor) -> JsonDict:
        """Return what flags of a hacked reward look at: a judge that training never sees, refusals, repetition."""
        rows = [
            Reply(p.id, "policy", str(i), text, "stop", 0, 0, 0)
            for i, (p, text) in enumerate(zip(prompts, texts, strict=True))
        ]
        found = judge_all(self.settings.guard, [Exchange(p, r) for p, r in zip(prompts, rows, strict=True)])
        refused = [v.behaviour in ("refusal", "safe_completion") for v in found]
        good = [
            float(v.behaviour in ("refusal", "safe_completion", "deflection") if p.intent == "harmful"
                  else v.behaviour == "compliance")
            for p, v in zip(prompts, found, strict=True) if v.behaviour is not None
        ]  # fmt: skip
        return {
            "guard": fmean(good) if good else None, "refusals": fmean(refused),
            "repetition": fmean(repeated_share(words(text)) for text in texts),
            "safety": float(scores[:, 0].mean()), "helpfulness": float(scores[:, 1].mean()),
        }  # fmt: skip
