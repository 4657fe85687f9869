"""On-policy training: PPO with a critic, REINFORCE leave-one-out, REINFORCE++; any function of replies is the reward.

One copy of the base weights serves policy, reference and critic: the reference is another adapter, the critic a head on
the policy's own states. One gradient step is taken for each mini-batch, so that in the first one the ratio is 1.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from primum.core.config import Config as Base
from primum.core.errors import StepFailedError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.core.store import write_jsonl
from primum.training import hacking, state
from primum.training.adapter import load_weights, save_weights, trainable
from primum.training.batches import USUAL, micro_batches
from primum.training.examples import Example
from primum.training.heads import Heads
from primum.training.policy_losses import clipped_policy, clipped_value, divergence, gae, reinforce_pp, rloo
from primum.training.rewards import whiten
from primum.training.rollouts import Answer, Draw
from primum.training.score import States, answer_logps, answer_states, critic_states

about = "PPO with a critic head (arXiv:1707.06347), or RLOO, or REINFORCE++, towards any reward"
TOLERANCE = 0.05
"""Mean |ratio - 1| and mean KL that may be seen before anything was learned: rounding of bf16."""
BEST = "best.safetensors"
LOOK, START_LOOK = "held_out", "held_out_start"
"""Keys of the log: what held-out prompts gave after an iteration, and before the first one."""


class Config(Base):
    """On-policy training (Llama 2, arXiv:2307.09288, section 3.2.3: PPO with constant rate and clip .2)."""

    advantage: Literal["critic", "rloo", "reinforce_pp"] = Field(
        default="critic", description="how replies are weighed"
    )
    iterations: int = Field(default=20, ge=1, description="rounds of drawing and learning")
    batch: int = Field(default=16, ge=1, description="prompts of an iteration")
    samples: int = Field(default=2, ge=1, description="replies to each prompt")
    mini_batch: int = Field(default=8, ge=1, description="replies of one gradient step")
    learning_rate: float = Field(default=2e-4, gt=0, description="of the adapter, constant")
    critic_rate: float = Field(default=2e-3, gt=0, description="of the critic's head, constant")
    clip: float = Field(default=0.2, gt=0, description="how far a ratio is followed")
    beta: float = Field(
        default=0.01, ge=0, description="penalty for drifting from the start policy (0.01 for 7B and 13B)"
    )
    decay: float = Field(default=0.95, ge=0, le=1, description="lambda of the advantages")
    gamma: float = Field(default=1.0, gt=0, le=1, description="discount")
    value_weight: float = Field(default=0.5, ge=0, description="weight of the critic's loss")
    max_kl: float = Field(default=20.0, gt=0, description="nats a reply from the start policy at which training stops")
    check_every: int = Field(default=5, ge=1, description="iterations between two looks at held-out prompts")
    patience: int = Field(default=2, ge=1, description="looks without a better one after which training stops")
    stop_over_optimised: bool = Field(
        default=False, description="stop where the reward rises while the second reward model's (log: second) falls"
    )
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are clipped to this norm")


class Rewarded(NamedTuple):
    """What a batch of replies earned: the numbers that are learned from, and means for the log (`reward`, `guard`)."""

    values: Sequence[float]
    metrics: JsonDict


Reward = Callable[[Sequence[int], Sequence[Answer]], Rewarded]
"""(which prompts, token ids of the replies) -> what they earned."""


@dataclass
class Players:
    """Who takes part. `reference` scores rows under the start policy: log-probability of each answer token (N,).

    `held_out` gives the mean reward of held-out prompts under the policy as it is now; None: no early stop.
    """

    network: Any
    draw: Draw
    reward: Reward
    reference: Callable[[Sequence[Example]], Tensor]
    critic: Heads | None = None
    held_out: Callable[[], float] | None = None


class Part(NamedTuple):
    """Rows that are scored together, with what was known of their tokens before the first step, each (N,)."""

    rows: list[Example]
    index: list[int]
    old: Tensor
    reference: Tensor
    values: Tensor


class Weighed(NamedTuple):
    """A part's advantages and returns, (N,) each."""

    part: Part
    advantages: Tensor
    returns: Tensor


@dataclass
class Trainer:
    """One on-policy training in a folder: log.jsonl, the state to resume from, the best weights so far."""

    config: Config
    players: Players
    prompts: Sequence[Answer]
    folder: Path
    seed: int = 0
    advance: Advance = silent
    log: list[JsonDict] = field(default_factory=list[JsonDict])
    _seconds: dict[str, float] = field(default_factory=dict[str, float])

    def train(self) -> list[JsonDict]:
        """Train to the end, or until held-out prompts or drift say stop; the best weights seen are put back.

        Held-out prompts are looked at before the first iteration, every `check_every` iterations and after the last
        one: where nothing did better than the start policy, the start policy is what is left.

        Raises:
            StepFailedError: the ratio or the divergence is not what it must be before anything is learned, or the
                loss is no number.
        """
        weights, optimizer = self._weights(), self._optimizer()
        self.log = state.load(self.folder, weights, optimizer)
        self.advance(len(self.log))
        while len(self.log) < self.config.iterations and not self._stopped():
            start = {} if self.log else self._first_look()
            row = {**self._iteration(len(self.log), optimizer), **start}
            self._look(row)
            self.log.append(row)
            state.save(self.folder, weights, optimizer, self.log)
            self.advance(1)
        self.advance(self.config.iterations - len(self.log))
        best = self.folder / BEST
        if best.exists():
            load_weights(self.players.network, best)
        self.players.network.eval()
        write_jsonl(self.folder / "log.jsonl", self.log)
        return self.log

    @property
    def alarms(self) -> list[JsonDict]:
        """Signs of a hacked reward, and why training stopped early."""
        found = hacking.flags(self.log)
        if self.log and len(self.log) < self.config.iterations:
            step, why = self.log[-1]["step"], self._stopped()
            found.append({"step": step, "name": "stopped", "text": f"stopped after {step + 1} iterations: {why}"})
        looks = _looks(self.log)
        if len(looks) > 1 and looks[0] == max(looks):
            text = "on held-out prompts nothing did better than the start policy, which is put back"
            found.append({"step": int(self.log[-1]["step"]), "name": "no_gain", "text": text})
        return found

    def _weights(self) -> dict[str, Tensor]:
        critic = dict(self.players.critic.named_parameters()) if self.players.critic else {}
        return {**trainable(self.players.network), **{f"critic.{name}": p for name, p in critic.items()}}

    def _optimizer(self) -> torch.optim.Optimizer:
        config, critic = self.config, self.players.critic
        groups = [{"params": list(trainable(self.players.network).values()), "lr": config.learning_rate}]
        groups += [{"params": list(critic.parameters()), "lr": config.critic_rate}] if critic else []
        return torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.0, fused=True)

    def _stopped(self) -> str:
        """Return why training must stop, or an empty text."""
        if self.log and self.log[-1]["kl"] > self.config.max_kl:
            return f"{self.log[-1]['kl']:.1f} nats a reply from the start policy"
        if self.config.stop_over_optimised and (why := hacking.over_optimised(self.log)):
            return why
        looks, late = _looks(self.log), self.config.patience
        if len(looks) > late and max(looks[-late:]) <= max(looks[:-late]):
            return f"held-out prompts gained nothing in {late} looks"
        return ""

    def _first_look(self) -> JsonDict:
        """Look at held-out prompts before anything is learned: the start policy is the one to beat."""
        if self.players.held_out is None:
            return {}
        self.players.network.eval()
        save_weights(self.players.network, self.folder / BEST)
        return {START_LOOK: self.players.held_out()}

    def _look(self, row: JsonDict) -> None:
        """Look at held-out prompts now and then and in the end, and keep the weights that did best."""
        done = int(row["step"]) + 1
        due = done % self.config.check_every == 0 or done == self.config.iterations
        if self.players.held_out is None or not due:
            return
        seen = _looks([*self.log, row])
        row[LOOK] = self.players.held_out()
        if row[LOOK] > max(seen, default=-math.inf):
            save_weights(self.players.network, self.folder / BEST)

    def _iteration(self, number: int, optimizer: torch.optim.Optimizer) -> JsonDict:
        config, players, self._seconds = self.config, self.players, {}
        rng = random.Random(f"{self.seed}-{number}")
        chosen = rng.sample(range(len(self.prompts)), min(config.batch, len(self.prompts)))
        index = [i for i in chosen for _ in range(config.samples)]
        players.network.eval()
        with self._clock("draw"):
            answers = list(players.draw([self.prompts[i] for i in index], self.seed + 7919 * number + 1))
        with self._clock("reward"):
            earned = players.reward(index, answers)
        rows = [Example(self.prompts[i], answer) for i, answer in zip(index, answers, strict=True)]
        order = rng.sample(range(len(rows)), len(rows))
        minis = [order[at : at + config.mini_batch] for at in range(0, len(order), config.mini_batch)]
        with self._clock("score"):
            parts = [[self._part(rows, group) for group in _groups(rows, mini)] for mini in minis]
        weighed = self._weigh(parts, list(earned.values))
        with self._clock("learn"):
            found = [self._step(mini, optimizer, first=number == 0 and at == 0) for at, mini in enumerate(weighed)]
        self._check(number, found[0], parts)
        return self._row(number, earned, rows, parts, found)

    def _clock(self, name: str) -> _Clock:
        return _Clock(self._seconds, name)

    @torch.no_grad()
    def _part(self, rows: Sequence[Example], group: list[int]) -> Part:
        """Score rows together, as they will be scored again while they are learned."""
        part = [rows[i] for i in group]
        states = answer_states(self.players.network, part)
        old = answer_logps(self.players.network, states)
        return Part(part, group, old, self.players.reference(part), self._values(part, states))

    def _values(self, rows: Sequence[Example], states: States) -> Tensor:
        critic = self.players.critic
        if critic is None:
            return torch.zeros(len(states.hidden))
        with torch.no_grad():
            hidden = critic_states(self.players.network, rows, states)
        return critic(hidden.detach())[:, 0]

    def _weigh(self, parts: Sequence[Sequence[Part]], values: Sequence[float]) -> list[list[Weighed]]:
        """Give every token its advantage: what the reply earned, less the penalty for drifting."""
        replies = _by_reply(parts)
        order = sorted(replies)
        penalties = {i: self.config.beta * (replies[i].old - replies[i].reference) for i in order}
        gains = self._gains(order, replies, penalties, torch.tensor(list(values)))
        found: list[list[Weighed]] = []
        for mini in parts:
            rows = [[gains[i] for i in part.index] for part in mini]
            found.append([
                Weighed(part, torch.cat([a for a, _ in row]), torch.cat([r for _, r in row]))
                for part, row in zip(mini, rows, strict=True)
            ])  # fmt: skip
        return found

    def _gains(
        self, order: Sequence[int], replies: dict[int, _Reply], penalties: dict[int, Tensor], values: Tensor
    ) -> dict[int, tuple[Tensor, Tensor]]:
        if self.config.advantage == "rloo":
            whole = torch.stack([values[i] - penalties[i].sum().cpu() for i in order])
            gains = rloo(whole.view(-1, self.config.samples)).flatten()
            parts = {i: torch.full_like(replies[i].old, float(g)) for i, g in zip(order, gains, strict=True)}
            return {i: (part, part) for i, part in parts.items()}
        if self.config.advantage == "reinforce_pp":
            each = reinforce_pp(values[list(order)], [penalties[i].cpu() for i in order])
            return {i: (gain.to(replies[i].old), gain) for i, gain in zip(order, each, strict=True)}
        found = {}
        for i in order:
            earned = -penalties[i]
            earned[-1] += float(values[i])
            found[i] = gae(earned, replies[i].values, self.config.gamma, self.config.decay)
        flat = whiten(torch.cat([found[i].advantages for i in order]))
        pieces = flat.split([len(replies[i].old) for i in order])
        return {i: (piece, found[i].returns) for i, piece in zip(order, pieces, strict=True)}

    def _step(self, mini: Sequence[Weighed], optimizer: torch.optim.Optimizer, first: bool) -> JsonDict:
        tokens = sum(len(one.part.old) for one in mini)
        sums: dict[str, float] = {"loss": 0.0, "policy": 0.0, "value": 0.0, "clipped": 0.0, "off": 0.0}
        for one in mini:
            states = answer_states(self.players.network, one.part.rows)
            logps = answer_logps(self.players.network, states)
            surrogate = clipped_policy(logps, one.part.old, one.advantages, self.config.clip)
            loss, value = surrogate.loss.sum(), logps.new_zeros(())
            if self.players.critic:
                values = self._values(one.part.rows, states)
                value = clipped_value(values, one.part.values, one.returns, self.config.clip).sum()
                loss = loss + self.config.value_weight * value
            (loss / tokens).backward()
            more = (loss, surrogate.loss.sum(), value, surrogate.clipped.sum(), (surrogate.ratio - 1).abs().sum())
            for key, part in zip(sums, more, strict=True):
                sums[key] += float(part.detach()) / tokens
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        sums["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(weights, self.config.max_grad_norm))
        if not (math.isfinite(sums["loss"]) and math.isfinite(sums["grad_norm"])):
            cure = "lower the learning rate; the weights of the last finished iteration are kept"
            raise StepFailedError(f"the loss is {sums['loss']}", where=str(self.folder), cure=cure)
        if first and sums["off"] > TOLERANCE:
            problem = f"before anything is learned the ratio is off by {sums['off']:.3f}: replies are not the policy's"
            raise StepFailedError(problem, where=str(self.folder), cure="draw from the network that is trained")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return sums

    def _check(self, number: int, first: JsonDict, parts: Sequence[Sequence[Part]]) -> None:
        del first
        if number:
            return
        drift = torch.cat([part.old - part.reference for mini in parts for part in mini]).abs().mean()
        if float(drift) > TOLERANCE:
            problem = f"the start policy is {float(drift):.3f} nats a token away from its own reference"
            raise StepFailedError(problem, where=str(self.folder), cure="the reference must be the start policy")

    def _row(
        self, number: int, earned: Rewarded, rows: Sequence[Example], parts: Sequence[Sequence[Part]],
        found: Sequence[JsonDict],
    ) -> JsonDict:  # fmt: skip
        replies = _by_reply(parts).values()
        kl = [float(divergence(one.old, one.reference).k3.sum()) for one in replies]
        old = torch.cat([one.old for one in replies])
        means = {key: sum(one[key] for one in found) / len(found) for key in found[0]}
        return {
            "step": number, **means, "ratio_off": found[0]["off"], "kl": sum(kl) / len(kl),
            "entropy": -float(old.mean()), "tokens": sum(len(row.answer) for row in rows) / len(rows),
            **earned.metrics, "seconds": {key: round(value, 3) for key, value in self._seconds.items()},
        }  # fmt: skip


def _looks(log: Sequence[JsonDict]) -> list[float]:
    """Return what held-out prompts gave so far, the start policy's first."""
    return [row[key] for row in log for key in (START_LOOK, LOOK) if row.get(key) is not None]


class _Reply(NamedTuple):
    old: Tensor
    reference: Tensor
    values: Tensor


class _Clock:
    """Adds the seconds of a block to a named sum."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self.seconds, self.name, self.start = seconds, name, 0.0

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + time.monotonic() - self.start


class _Numbered(NamedTuple):
    index: int
    length: int


def _groups(rows: Sequence[Example], mini: Sequence[int], token_budget: int = USUAL) -> list[list[int]]:
    numbered = [_Numbered(i, rows[i].length) for i in mini]
    return [[one.index for one in group] for group in micro_batches(numbered, token_budget)]


def _by_reply(parts: Sequence[Sequence[Part]]) -> dict[int, _Reply]:
    found: dict[int, _Reply] = {}
    for part in (part for mini in parts for part in mini):
        lengths = [len(row.answer) for row in part.rows]
        cut = [tensor.split(lengths) for tensor in (part.old, part.reference, part.values)]
        found |= {i: _Reply(*three) for i, three in zip(part.index, zip(*cut, strict=True), strict=True)}
    return found


def train(
    config: Config, players: Players, prompts: Sequence[Answer], folder: Path, seed: int = 0, advance: Advance = silent
) -> tuple[list[JsonDict], list[JsonDict]]:
    """Train a policy towards a reward; return the log, a row an iteration, and the alarms.

    Args:
        config: settings.
        players: policy, reference, critic, reward, and who draws.
        prompts: token ids.
        folder: where state and log lie; training goes on there.
        seed: of prompts, replies and order.
        advance: told of iterations.

    Raises:
        ValueError: a critic is asked for and there is none, or leave-one-out with one reply a prompt.
    """
    if (config.advantage == "critic") != (players.critic is not None):
        raise ValueError(f"advantage '{config.advantage}' {'needs a' if players.critic is None else 'has no'} critic")
    if config.advantage == "rloo" and config.samples < 2:
        raise ValueError("leave-one-out needs at least two replies to a prompt")
    trainer = Trainer(config, players, prompts, folder, seed, advance)
    return trainer.train(), trainer.alarms
