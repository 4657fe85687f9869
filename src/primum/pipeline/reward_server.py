"""The combined reward for trainers that outgrow this: an HTTP server for OpenRLHF, a function for verl.

    primum reward serve runs/llama2 --port 8500

OpenRLHF posts {"query": [prompt and reply in one text], "prompts": [...], "labels": [...]} to its remote reward URL
and reads {"rewards": [...], "scores": [...], "extra_logs": {...}}. verl calls `compute_score(data_source, solution_str,
ground_truth, extra_info)`. Both get R_c of the gate, or of a model with one head its score. Prompts are plain text, as
users write them: the chat template is put around them here. The server listens on this machine alone unless told
otherwise.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard

from primum.core.errors import UsageError
from primum.core.records import JsonDict, Messages, user
from primum.core.serving import JsonHandler
from primum.core.store import read_json
from primum.models.chat import special_tokens
from primum.models.reward import load_reward
from primum.pipeline.desk import Desk
from primum.pipeline.recipe import LoraPart
from primum.pipeline.scoring import HEADS
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.pipeline.threshold import place

LARGEST = 16 << 20
"""Bytes of a request that are read."""
HARMFUL = "harmful"
"""The label (or verl's `ground_truth`) that tags a prompt."""


class Said(NamedTuple):
    """A reply, and whether it came to its end (one that a limit cut is read without an end-of-turn token)."""

    text: str
    ends: bool = True


class Rewarding(Protocol):
    """What gives rewards: per reply `reward`, `safety` and `helpfulness`. `special` are its tokenizer's own tokens."""

    @property
    def special(self) -> Sequence[str]:
        """Special tokens as text."""
        ...

    def __call__(
        self, prompts: Sequence[str], replies: Sequence[Said], tagged: Sequence[bool]
    ) -> list[dict[str, float]]:
        """Return the rewards of replies to prompts, some of which are tagged."""
        ...


Scores = Callable[[Sequence[Messages], Sequence[str], Sequence[bool]], Sequence[Mapping[str, float]]]
"""Conversations, the replies to them and whether each came to its end -> each head's score in (0, 1), by its name."""


@dataclass
class Rewards:
    """The gated reward of a reward model; of one with one head its score. Threads may share it: they take turns.

    `special` are the model's special tokens as text, longest first; `threshold` is the gate's.
    """

    scores: Scores
    special: Sequence[str]
    threshold: float
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(
        self, prompts: Sequence[str], replies: Sequence[Said], tagged: Sequence[bool]
    ) -> list[dict[str, float]]:
        """Return per reply the combined reward and each head's score, each in (0, 1)."""
        return self.of([(user(prompt),) for prompt in prompts], replies, tagged)

    def of(self, asked: Sequence[Messages], replies: Sequence[Said], tagged: Sequence[bool]) -> list[dict[str, float]]:
        """Return the same of replies to conversations."""
        with self._lock:
            scores = self.scores(asked, [reply.text for reply in replies], [reply.ends for reply in replies])
        return combined(scores, tagged, self.threshold)


def load_rewards(run: Path, threshold: float | None = None) -> Rewards:
    """Return the rewards of a journey's run folder, or of `primum train reward` (OUT or OUT/checkpoint).

    Args:
        run: the folder.
        threshold: of the gate; None takes the tuned one, else the published one.

    Raises:
        UsageError: no reward model there.
        BadInputError: it is not whole.
    """
    stage, folder = place(run)
    scores, tokenizer = _trained(folder) if stage is None else _of_journey(run, folder / "weights.safetensors")
    if threshold is None:
        said = folder.parent / "train.json"
        trained = read_json(said) if said.is_file() else {}
        threshold = _tuned(trained if stage is None else read_json(run / "report.json")["found"][stage])
    return Rewards(scores, special_tokens(tokenizer), threshold)


def _of_journey(run: Path, weights: Path) -> tuple[Scores, Any]:
    """Return the scores by a journey's reward model, another adapter over the journey's model, and its tokenizer."""
    settings = read_json(run / "settings.json", "run the journey again")
    desk = Desk(Journey(run, Terminal(quiet=True)), settings["model"], LoraPart(**settings["lora"]), settings["seed"])
    model, tokenizer = desk.reward_model(HEADS), desk.model.tokenizer
    model.take(weights)

    def scores(asked: Sequence[Messages], texts: Sequence[str], ends: Sequence[bool]) -> list[dict[str, float]]:
        return [dict(zip(HEADS, row, strict=True)) for row in model.scores(asked, texts, ends, tokenizer)]

    return scores, tokenizer


def _trained(folder: Path) -> tuple[Scores, Any]:
    """Return the scores by a checkpoint of `primum train reward`, and its tokenizer."""
    model = load_reward(str(folder))

    def scores(asked: Sequence[Messages], texts: Sequence[str], ends: Sequence[bool]) -> list[dict[str, float]]:
        raw = model.scores(asked, texts, ends)
        return [{head: 1 / (1 + math.exp(-value)) for head, value in row.items()} for row in raw]

    return scores, model.model.tokenizer


def _tuned(facts: JsonDict) -> float:
    """Return the threshold that was tuned when the model was trained; the published one where there is none."""
    from primum.training.rewards import THRESHOLD

    tuned = facts.get("threshold")
    return float(tuned["threshold"]) if tuned else THRESHOLD


def combined(scores: Sequence[Mapping[str, float]], tagged: Sequence[bool], threshold: float) -> list[dict[str, float]]:
    """Return scores with the reward of the gate beside them; of one head alone its score is the reward."""
    import torch

    from primum.training.rewards import piecewise

    if any(len(row) < len(HEADS) for row in scores):
        return [{"reward": next(iter(row.values())), **row} for row in scores]
    safety, helpfulness = (torch.tensor([row[head] for row in scores]) for head in HEADS)
    rewards = piecewise(safety, helpfulness, torch.tensor(list(tagged)), threshold).tolist()
    return [{"reward": reward, **row} for reward, row in zip(rewards, scores, strict=True)]


def answer(reward: Rewarding, body: Any) -> dict[str, Any]:
    """Return what OpenRLHF reads, for what it posts.

    Raises:
        ValueError: the body is not {"query": [...], "prompts": [...]}, with one prompt for each query, which begins it.
    """
    query, prompts = (body.get(key) if isinstance(body, dict) else None for key in ("query", "prompts"))
    if not _texts(query) or not _texts(prompts) or len(query) != len(prompts):
        raise ValueError('expected {"query": [text, ...], "prompts": [text, ...]} of equal lengths')
    labels = body.get("labels") or [""] * len(query)
    if not isinstance(labels, list) or len(labels) != len(query):
        raise ValueError("'labels' must be as many as 'query'")
    replies = [reply_of(q, p, reward.special) for q, p in zip(query, prompts, strict=True)]
    found = reward(prompts, replies, [str(label) == HARMFUL for label in labels])
    rewards = [one["reward"] for one in found]
    logs = {head: [one[head] for one in found] for head in HEADS if all(head in one for one in found)}
    return {"rewards": rewards, "scores": rewards, "extra_logs": logs}


def reply_of(query: str, prompt: str, special: Sequence[str]) -> Said:
    """Return the reply in a query of OpenRLHF, which is decoded with its special tokens: begin, end, pads.

    A reply that closes with a special token came to its end; without any in the query nobody knows, and it did.

    Raises:
        ValueError: the query does not begin with its prompt.
    """
    known = any(token in query for token in special)
    text = query if query.startswith(prompt) else _without(query, special, str.startswith, str.removeprefix)
    if not text.startswith(prompt):
        raise ValueError(f"the query does not begin with its prompt: {query[:60]!r}")
    reply = text.removeprefix(prompt)
    bare = _without(reply, special, str.endswith, str.removesuffix)
    return Said(bare.strip(), bare != reply or not known)


def _without(text: str, tokens: Sequence[str], stands: Any, remove: Any) -> str:
    """Return a text without the tokens at one of its ends."""
    while found := next((token for token in tokens if stands(text, token)), None):
        text = remove(text, found)
    return text


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def server(reward: Rewarding, address: tuple[str, int]) -> ThreadingHTTPServer:
    """Return the server, bound to (host, port) and not yet serving; port 0 takes a free one."""

    class Handler(JsonHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            if not 0 < size <= LARGEST:
                return self.answer(413 if size else 411, {"error": f"a body of 1 to {LARGEST} bytes is read"})
            try:
                found = answer(reward, json.loads(self.rfile.read(size)))
            except ValueError as error:  # broken JSON is one too
                return self.answer(400, {"error": str(error)})
            return self.answer(200, found)

    return ThreadingHTTPServer(address, Handler)


@cache
def _from_environment() -> Rewards:
    run = os.environ.get("PRIMUM_REWARD_RUN")
    if not run:
        raise UsageError(
            "PRIMUM_REWARD_RUN is not set", cure="set it to the run folder of a journey, or of primum train reward"
        )
    return load_rewards(Path(run))


def compute_score(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None) -> float:
    """Return the combined reward of one reply, as verl's custom_reward_function asks for it.

    Args:
        data_source: unused.
        solution_str: the reply.
        ground_truth: "harmful" tags the prompt.
        extra_info: holds the prompt's text under "question" (verl's own examples name it so) or "prompt".

    Raises:
        ValueError: no prompt in `extra_info`.
    """
    del data_source
    prompt = next((extra_info[key] for key in ("question", "prompt") if key in (extra_info or {})), None)
    if not isinstance(prompt, str):
        raise ValueError("extra_info needs the prompt's text under 'question' or 'prompt'")
    return _from_environment()([prompt], [Said(solution_str)], [str(ground_truth) == HARMFUL])[0]["reward"]
