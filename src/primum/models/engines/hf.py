"""Replies by transformers on any device: a slot a conversation, refilled as soon as its reply has ended.

`generate` keeps a finished row in the batch until the slowest one ends; safety replies differ much in length (a refusal
is short), so the loop here takes the next conversation instead. A prompt that is asked for several replies is computed
once. Greedy decoding gives the tokens of `generate`; a sampled reply depends on its own seed, not on its batch.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from transformers import DynamicCache

from primum.core.progress import Advance, silent
from primum.core.records import Messages, files_of
from primum.models.chat import fitted
from primum.models.draw import draw, uniforms
from primum.models.ends import ends_of
from primum.models.likelihood import Continuation, Cut, Likelihood, cut_all
from primum.models.load import Model, load
from primum.models.sampling import Generated, Opening, Request, Sampling, reply_seeds
from primum.models.seeing import replies
from primum.models.slots import MOST, Slots, fits, together

about = "transformers, refilled batches, on CPU or GPU; vision-language models too"
rank = 10
cure = "make install"


def why_not(opening: Opening) -> str | None:
    """Return why this engine cannot run the model here: never known before it is loaded."""
    del opening


def open_engine(opening: Opening) -> HFEngine:
    """Load a model in the format that is fastest here (fp32 where `exact`)."""
    return HFEngine(load(opening.model, torch.float32 if opening.exact else None), opening.batch_size)


@dataclass
class HFEngine:
    """An engine over a model in memory.

    Args:
        model: the model and its tokenizer.
        batch_size: conversations decoded together; None takes what is fast here (`together`).
        advance: told of replies that ended.
    """

    model: Model
    batch_size: int | None = None
    advance: Advance = silent

    @property
    def model_name(self) -> str:
        """The name and weights of the model that answers."""
        return f"{self.model.name}@{self.model.hash}"

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Generate one reply per conversation, in the order given; longest prompts are decoded first.

        A conversation that stands in the batch k times gets k samples. With one seed for all, the i-th sample of a
        conversation is the same in every batch; with a seed for each, it is the seed's.
        """
        requests = [Request(i, m, s) for i, (m, s) in enumerate(zip(batch, reply_seeds(batch, seed), strict=True))]
        found = dict(self._run(requests, sampling, len(requests)))
        return [found[i] for i in range(len(batch))]

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) as replies end; looks a few batches ahead to find conversations alike."""
        return self._run(requests, sampling, 4 * (self.batch_size or MOST))

    def likelihoods(self, asked: Sequence[Continuation]) -> list[Likelihood]:
        """Return one log-likelihood for each continuation, in the order given; in the model's number format."""
        cut = cut_all(asked, self.model.tokenizer, ends_of(self.model.network, self.model.tokenizer).context)
        found = [Likelihood(0.0, 0)] * len(cut)
        due = sorted((i for i, row in enumerate(cut) if row.answer), key=lambda i: -sum(map(len, cut[i])))
        while due:
            size = max(1, PADDED // sum(map(len, cut[due[0]])))
            batch, due = due[:size], due[size:]
            for i, logp in zip(batch, answer_logps(self.model, [cut[i] for i in batch]), strict=True):
                found[i] = Likelihood(logp, len(cut[i].answer))
        return found

    def _run(self, requests: Iterable[Request], sampling: Sampling, ahead: int) -> Generator[tuple[int, Generated]]:
        if not self.model.sees:
            yield from self._read(requests, sampling, ahead)
            return
        source = iter(requests)
        while part := list(islice(source, max(1, ahead))):
            for index, reply in replies(self.model, [r for r in part if files_of(r.messages)], sampling):
                self.advance(1)
                yield index, reply
            yield from self._read([r for r in part if not files_of(r.messages)], sampling, ahead)

    def _read(self, requests: Iterable[Request], sampling: Sampling, ahead: int) -> Generator[tuple[int, Generated]]:
        """Answer prompts of text alone."""
        waiting = Waiting(self._tasks(requests, sampling), ahead)
        for row in decoded(self.model, waiting, sampling, self.batch_size):
            self.advance(1)
            yield row.task.index, self._reply(row.task, row.new)

    def _tasks(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Task]:
        limit, source = ends_of(self.model.network, self.model.tokenizer).room(sampling.max_new_tokens), iter(requests)
        while part := list(islice(source, 64)):  # the tokenizer is several times faster on many texts
            rows = fitted([request.messages for request in part], self.model.tokenizer, limit)
            for request, row in zip(part, rows, strict=True):
                yield Task(request.index, tuple(row.ids), uniforms(request.seed, sampling.max_new_tokens), row.cut)

    def _reply(self, task: Task, new: list[int]) -> Generated:
        ended = bool(new) and new[-1] in stop_ids(self.model)
        text = self.model.tokenizer.decode(new, skip_special_tokens=True).strip()
        finish = "stop" if ended else "length"
        return Generated(text, finish, len(task.prompt), len(new), prompt_cut=task.cut)


PADDED = 4096
"""Tokens of one batch of continuations, padding included."""


@torch.inference_mode()
def answer_logps(model: Model, batch: Sequence[Cut]) -> list[float]:
    """Return the summed log-probability (nats) of each answer, padded on the left so that answers end together."""
    place, width = model.place, max(sum(map(len, row)) - 1 for row in batch)
    lines = [[*row.context, *row.answer][:-1] for row in batch]
    pad = [width - len(line) for line in lines]
    tokens = torch.tensor([[0] * n + line for n, line in zip(pad, lines, strict=True)], device=place)
    mask = torch.tensor([[0] * n + [1] * len(line) for n, line in zip(pad, lines, strict=True)], device=place)
    keep = max(len(row.answer) for row in batch)
    logits = model.network(
        input_ids=tokens, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), logits_to_keep=keep
    ).logits
    found: list[float] = []
    for row, scores in zip(batch, logits, strict=True):
        wanted = torch.tensor(row.answer, device=place)[:, None]
        found.append(float(scores[-len(row.answer) :].float().log_softmax(-1).gather(1, wanted).sum()))
    return found


class Task(NamedTuple):
    """One reply to draw: its place in the batch, its prompt, a uniform number for each of its tokens, and what was cut.

    `cut` counts the tokens of the prompt that did not fit before it.
    """

    index: int
    prompt: tuple[int, ...]
    points: np.ndarray
    cut: int = 0


@dataclass
class Row:
    """A task under way."""

    task: Task
    new: list[int] = field(default_factory=list[int])


class Waiting:
    """Tasks that wait for a slot, longest prompt first among the next `ahead`; the rest is drawn when it is needed."""

    def __init__(self, tasks: Iterable[Task], ahead: int) -> None:
        self._source, self._ahead = iter(tasks), max(1, ahead)
        self._held: list[Task] = []
        self._fill()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt held."""
        return len(self._held[0].prompt) if self._held else 0

    def pop(self, count: int) -> list[Task]:
        """Take up to `count` tasks."""
        taken, self._held = self._held[:count], self._held[count:]
        if len(self._held) < self._ahead // 2:
            self._fill()
        return taken

    def _fill(self) -> None:
        new = list(islice(self._source, self._ahead - len(self._held)))
        if new:
            self._held = sorted([*self._held, *new], key=lambda task: (-len(task.prompt), task.prompt))


def stop_ids(model: Model) -> frozenset[int]:
    """Return the tokens that end a reply: the tokenizer's, the generation config's and the template's."""
    return ends_of(model.network, model.tokenizer).stops


def decode(model: Model, rows: list[list[int]], sampling: Sampling, random: torch.Generator) -> list[list[int]]:
    """Decode new tokens for prompts, all together, until each ends or has `max_new_tokens`.

    Args:
        model: network and tokenizer.
        rows: prompt token ids.
        sampling: temperature, top-p, top-k, length.
        random: source of the draws; the same state gives the same tokens.

    Returns:
        New token ids per row, the stop token included where it came.
    """
    points = torch.rand(len(rows), sampling.max_new_tokens, generator=random, device=random.device).cpu().numpy()
    tasks = [Task(i, tuple(row), points[i]) for i, row in enumerate(rows)]
    found = {row.task.index: row.new for row in decoded(model, Waiting(tasks, len(tasks)), sampling, len(tasks))}
    return [found[i] for i in range(len(rows))]


@torch.inference_mode()
def decoded(model: Model, waiting: Waiting, sampling: Sampling, batch_size: int | None) -> Iterator[Row]:
    """Decode every waiting task, at most `batch_size` at a time; yield each row when it has ended."""
    batch_size = batch_size or together(model.network, waiting.longest + sampling.max_new_tokens)
    run = _in_slots if fits(model.network) else _in_batches
    yield from run(model, waiting, sampling, max(1, min(batch_size, len(waiting))))


def _in_slots(model: Model, waiting: Waiting, sampling: Sampling, size: int) -> Iterator[Row]:
    slots, rows = Slots(model.network, size), list[Row]()
    stops, least = stop_ids(model), max(1, size // 8)  # refilling a few at a time keeps prompts' products large
    while waiting or rows:
        if waiting and size - len(rows) >= min(least, len(waiting)):
            new = waiting.pop(size - len(rows))
            slots.add([task.prompt[:-1] for task in new])
            rows += map(Row, new)
        logits = slots.step([row.new[-1] if row.new else row.task.prompt[-1] for row in rows])
        _extend(rows, logits, sampling)
        for at in reversed(range(len(rows))):
            if _done(rows[at], stops, sampling):
                yield rows[at]
                slots.drop(at)
                rows[at] = rows[-1]
                rows.pop()


def _extend(rows: Sequence[Row], logits: torch.Tensor, sampling: Sampling) -> None:
    points = torch.tensor([row.task.points[len(row.new)] for row in rows], device=logits.device)
    for row, token in zip(rows, draw(logits, sampling, points).tolist(), strict=True):
        row.new.append(token)


def _done(row: Row, stops: frozenset[int], sampling: Sampling) -> bool:
    return row.new[-1] in stops or len(row.new) == sampling.max_new_tokens


def _in_batches(model: Model, waiting: Waiting, sampling: Sampling, size: int) -> Iterator[Row]:
    """Decode with the network's own cache (sliding windows, states): finished rows leave, none is refilled."""
    while waiting:
        yield from _batch(model, [Row(task) for task in waiting.pop(size)], sampling)


def _batch(model: Model, rows: list[Row], sampling: Sampling) -> Iterator[Row]:
    place, width = model.place, max(len(row.task.prompt) for row in rows)
    pad = cast(int, model.tokenizer.pad_token_id)
    empty = [width - len(row.task.prompt) for row in rows]
    tokens = torch.tensor([[pad] * n + [*row.task.prompt] for n, row in zip(empty, rows, strict=True)], device=place)
    mask = torch.tensor([[0] * n + [1] * (width - n) for n in empty], device=place)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache, stops = DynamicCache(config=model.network.config), stop_ids(model)
    while rows:
        logits = model.network(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache,
            use_cache=True, logits_to_keep=1,
        ).logits[:, -1]  # fmt: skip
        _extend(rows, logits, sampling)
        keep = [k for k, row in enumerate(rows) if not _done(row, stops, sampling)]
        for k in set(range(len(rows))) - set(keep):
            yield rows[k]
        if len(keep) < len(rows):
            mask, positions = _select(keep, cache, mask, positions)
            rows = [rows[k] for k in keep]
        tokens = torch.tensor([[row.new[-1]] for row in rows], device=place)
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)


def _select(keep: list[int], cache: Any, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    index = torch.tensor(keep, dtype=torch.long, device=tensors[0].device)
    cache.batch_select_indices(index)
    return tuple(tensor[index] for tensor in tensors)
