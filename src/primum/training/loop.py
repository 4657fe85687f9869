"""The one training loop: thin over accelerate, exact to resume, loud when something goes wrong.

It knows nothing of losses or records: a method hands in the plan (which examples make a step) and a function from a
micro-batch to a summed loss. Gradients are weighted per example, not per micro-batch. How large micro-batches are is
measured before the first step (`fitting`) and kept for the whole run. A step for which memory is too short all the same
is made again with half of the token budget, which stays; where one example alone is too much, with layers that compute
again what backward needs.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor

from primum.core.errors import StepFailedError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.core.store import disk_error, read_json, write_json, write_jsonl
from primum.training.adapter import write_tensors
from primum.training.alarms import Alarms
from primum.training.batches import Sized, micro_batches, plain_steps, steps
from primum.training.fitting import Fit, fitted, out_of_memory
from primum.training.recompute import recompute, recomputes
from primum.training.rows import lengths_of
from primum.training.sharding import Held, sharded
from primum.training.team import Team

logger = logging.getLogger(__name__)
X = TypeVar("X", bound=Sized)
SMALLER, AGAIN = "memory", "recompute"
"""The alarms that memory was too short for a step: nothing in the log says it."""


def nothing(_network: Any, _examples: Any) -> None:
    """Do nothing before a step."""


@dataclass(frozen=True)
class LoopConfig:
    """How a loop runs; one default for every method."""

    learning_rate: float
    batch_size: int = 16
    epochs: float = 1.0
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    beta2: float = 0.99
    token_budget: int | None = None
    """Tokens of a micro-batch; None: measured."""
    seed: int = 0
    save_every_seconds: float = 60.0
    average: float = 0.0
    """Decay of an exponential average of the weights, which is what is left in the end; 0: the last weights."""


class MicroLoss(NamedTuple):
    """The loss of a micro-batch, summed over its examples and already divided by `scale`, and summed metrics.

    A metric that speaks of some examples only has their number in `counts`: what the rows say, not what the device has
    to be asked for.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    counts: dict[str, int] = {}  # noqa: RUF012 - never written to


def places(flags: Sequence[bool], device: torch.device) -> Tensor:
    """Return where flags are true, as an index on a device; of a mask there the host would have to ask how many."""
    return torch.tensor([i for i, flag in enumerate(flags) if flag], dtype=torch.long, device=device)


@dataclass
class Run(Generic[X]):
    """One training run in a folder: its examples, its loss, its log, its alarms.

    Args:
        network: the network whose `requires_grad` parameters learn.
        examples: what to learn from.
        loss: (network, micro-batch, scale) -> MicroLoss; scale is what the step's sum is divided by.
        scale: examples of a step -> that divisor (number of examples, or of answer tokens).
        config: learning rate, sizes, seed.
        folder: log.jsonl and the resume state live here.
        groups: a key per example; those of one key are learned one after another. None: each stands alone.
        before_step: called with the network and the examples of a step before they are learned.
        follow: told of every finished step's row.
        team: the processes that learn together; only the leading one writes.
        means: the average of the weights so far, where one is kept.
        tell: told in one line how large micro-batches are, where that was measured.
        token_budget: tokens of a micro-batch now, 0 before it was measured; halved where memory was too short.
    """

    network: Any
    examples: Sequence[X]
    loss: Callable[[Any, Sequence[X], float], MicroLoss]
    scale: Callable[[Sequence[X]], float]
    config: LoopConfig
    folder: Path
    alarms: Alarms = field(default_factory=Alarms)
    advance: Advance = silent
    check_first: Callable[[JsonDict], None] = lambda _: None
    groups: Sequence[Hashable] | None = None
    before_step: Callable[[Any, Sequence[X]], None] = nothing
    follow: Callable[[JsonDict], None] = lambda _: None
    team: Team = field(default_factory=Team)
    tell: Callable[[str], None] = logger.info
    token_budget: int = field(init=False)
    means: dict[str, Tensor] = field(init=False, default_factory=dict[str, Tensor])

    def __post_init__(self) -> None:
        self.token_budget = self.config.token_budget or 0

    def train(self) -> list[JsonDict]:
        """Train to the end and return the log; goes on where a killed run stopped, with the same final weights.

        Raises:
            StepFailedError: the loss is not a number, the first step is not what it must be, or memory is too short
                for one example.
        """
        config, held = self.config, Held(self.network, self.team)
        plan = self._plan()
        optimizer = torch.optim.AdamW(
            held.tensors.values(), lr=config.learning_rate, betas=(0.9, config.beta2), weight_decay=config.weight_decay,
            fused=True,
        )  # fmt: skip
        accelerator = _accelerator(next(self.network.parameters()).device)
        self.network.eval()  # no dropout: the reference has none, and a resumed run would draw another one
        log = self._resume(held, optimizer)
        if self.team.leads:
            write_jsonl(self.folder / "log.jsonl", log)  # a killed run wrote steps there that it did not save
        saved = time.monotonic()
        for done in range(len(log)):
            self.advance(len(plan[done]))
        for number in range(len(log), len(plan)):
            rate = schedule(number, len(plan), config)
            part = [self.examples[i] for i in plan[number]]
            row = self._step(number, part, optimizer, held, rate, accelerator)
            log.append(row)
            if self.team.leads:
                append_jsonl(self.folder / "log.jsonl", row)
                self.follow(row)
                self.advance(len(plan[number]))
            if self._together(held, time.monotonic() - saved > config.save_every_seconds):
                self._save(held, optimizer, log)
                saved = time.monotonic()
        with torch.no_grad():
            for name, mean in self.means.items():
                held.tensors[name].copy_(mean)
        self.network.eval()
        return log

    def _together(self, held: Held, due: bool) -> bool:
        """Whether this process takes part in saving, which is due: all that hold parts do, else the leading one."""
        return self.team.first(due) if held.parts else due and self.team.leads

    def _plan(self) -> Sequence[Sequence[int]]:
        config = self.config
        if self.groups is None:
            return plain_steps(len(self.examples), config.batch_size, config.epochs, config.seed)
        return steps(self.groups, config.batch_size, config.epochs, config.seed)

    def _step(
        self, number: int, examples: Sequence[X], optimizer: Any, held: Held, rate: float, accelerator: Any
    ) -> JsonDict:
        for group in optimizer.param_groups:
            group["lr"] = rate
        self.before_step(self.network, examples)
        if not self.token_budget:
            self._fit(examples)
        while not all(self.team.gathered((found := self._gradients(examples, accelerator)) is not None)):
            held.forget_gradients()
            self._need_less(number, examples)
        assert found is not None  # every process has some
        held.add_gradients()
        read = self._read({**found[0], "grad_norm": held.clip(self.config.max_grad_norm, accelerator)})
        row: JsonDict = {"step": number, "lr": rate, "grad_norm": read.pop("grad_norm")}
        sums, counts = self.team.summed(read), self.team.summed(found[1])
        row |= {k: v / (1 if k == "loss" else counts[k]) for k, v in sums.items() if counts[k]}
        if number == 0:
            self.check_first(row)
        if not (math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])):
            cure = "lower the learning rate; the weights of the last finished step are kept"
            raise StepFailedError(f"the loss is {row['loss']} at step {number}", where=str(self.folder), cure=cure)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._average(number, held)
        self.alarms.see(row)
        return row

    def _fit(self, examples: Sequence[X]) -> None:
        """Find how large micro-batches may be. A run that goes on, even from its first step, takes what it found."""

        def loss(micro: Sequence[X]) -> Tensor:
            return self.loss(self.network, micro, self.scale(examples)).loss

        path = self.folder / "fit.json"
        known = self.team.first(read_json(path) if self.team.leads and path.exists() else None)
        longest = max(lengths_of(self.examples))
        found = Fit(**known) if known else fitted(self.network, loss, examples, longest, self.team)
        if self.team.leads:
            write_json(path, found._asdict())
            self.tell(found.said())
        if found.again:
            recompute(self.network)
        self.token_budget = found.token_budget

    @torch.no_grad()
    def _average(self, number: int, held: Held) -> None:
        """Take a step's weights into the average; the first steps count more, so that the start is forgotten."""
        if not self.config.average:
            return
        decay = min(self.config.average, (1 + number) / (10 + number))
        for name, p in held.tensors.items():
            mean = self.means.setdefault(name, p.detach().clone())
            mean.lerp_(p.detach(), 1 - decay)

    def _read(self, found: dict[str, Tensor]) -> dict[str, float]:
        """Read numbers from the device, all at once: each time the host asks, a GPU's queue runs empty."""
        place = next(self.network.parameters()).device
        return dict(zip(found, torch.stack([value.to(place) for value in found.values()]).tolist(), strict=True))

    def _gradients(self, examples: Sequence[X], accelerator: Any) -> tuple[dict[str, Tensor], Counter[str]] | None:
        """Add up gradients and metrics over this process's micro-batches of a step; None where memory was too short.

        The sums stay on the device (`_read`).
        """
        scale, sums, counts = self.scale(examples), dict[str, Tensor](), Counter[str]()
        try:
            groups = micro_batches(examples, self.token_budget)
            own = self.team.share(groups)
            for micro in own:
                loss, metrics, some = self.loss(self.network, micro, scale)
                counts.update({key: some.get(key, len(micro)) for key in metrics} | {"loss": 1})
                accelerator.backward(loss)
                for key, value in {"loss": loss, **metrics}.items():
                    sums[key] = sums.get(key, torch.zeros(())) + value.detach().float()
            for _ in range(self._passes(groups) - len(own)):
                accelerator.backward(0 * self.loss(self.network, groups[-1], scale).loss)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if self.team.size > 1 and sharded(self.network):
                cure = f"--token-budget {self.token_budget // 2}, or more processes; finished steps are kept"
                raise StepFailedError("memory is too short, and the other processes wait", cure=cure) from error
            return None
        return sums, counts

    def _passes(self, groups: Sequence[Sequence[X]]) -> int:
        """Return how many passes each process makes: where they hold parts of blocks, all make as many."""
        return self.team.most(groups) if self.team.size > 1 and sharded(self.network) else 0

    def _need_less(self, number: int, examples: Sequence[X]) -> None:
        """Halve the token budget; where an example stands alone already, let the layers keep less for backward.

        Neither changes what is learned.
        """
        groups = micro_batches(examples, self.token_budget)
        if len(groups) < len(examples):
            self.token_budget = min(self.token_budget, max(sum(x.length for x in group) for group in groups)) // 2
            name, text = SMALLER, f"micro-batches have at most {self.token_budget} tokens from now on"
        elif recompute(self.network):
            name = AGAIN
            text = "from now on layers keep only their inputs and compute the rest again (activation checkpointing)"
        else:
            longest = max(x.length for x in examples)
            cure = "lower the longest prompt and answer, or take a smaller model; finished steps are kept"
            raise StepFailedError(f"memory is too short for an example of {longest} tokens", cure=cure)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning("step %d: memory was too short: %s", number, text)
        self.alarms.ring(number, name, f"memory was too short: {text}")

    def _resume(self, held: Held, optimizer: torch.optim.Optimizer) -> list[JsonDict]:
        mark = self.folder / "resume.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not mark.exists():
            return []
        state = json.loads(mark.read_text(encoding="utf-8"))
        tensors = load_file(self.folder / state["file"])
        with torch.no_grad():
            for name, p in held.tensors.items():
                p.copy_(held.own(name, tensors[f"weight/{name}"]))
                optimizer.state[p] = {
                    "step": tensors[f"step/{name}"].to(p.device),  # the fused optimizer counts there
                    "exp_avg": held.own(name, tensors[f"exp_avg/{name}"]),
                    "exp_avg_sq": held.own(name, tensors[f"exp_avg_sq/{name}"]),
                }
        self.means = {n: held.own(n, tensors[f"mean/{n}"]).clone() for n in held.tensors if self.config.average}
        self.token_budget = state.get("token_budget", self.token_budget)
        if state.get("recomputes"):
            recompute(self.network)
        self.alarms.rows += state.get("alarms", [])
        for row in state["log"]:
            self.alarms.see(row)
        return state["log"]

    def _save(self, held: Held, optimizer: torch.optim.Optimizer, log: list[JsonDict]) -> None:
        tensors: dict[str, Tensor] = {}
        for name, p in held.tensors.items():
            kept = {"weight": p, **optimizer.state[p], **({"mean": self.means[name]} if self.means else {})}
            for key, value in kept.items():
                whole = value if key == "step" else held.whole(name, value)
                if self.team.leads:
                    tensors[f"{key}/{name}"] = whole.detach().contiguous().clone()
        if not self.team.leads:
            return
        file = f"state-{len(log):06d}.safetensors"
        write_tensors(tensors, self.folder / file)
        # the other alarms are read from the log again
        told = [row for row in self.alarms.rows if row["name"] in (SMALLER, AGAIN)]
        state: JsonDict = {"file": file, "token_budget": self.token_budget, "alarms": told, "log": log}
        state["recomputes"] = recomputes(self.network)
        write_json(self.folder / "resume.json", state)
        for old in self.folder.glob("state-*.safetensors"):
            if old.name != file:
                old.unlink()


def append_jsonl(path: Path, row: JsonDict) -> None:
    """Add one line to a log.

    Raises:
        StepFailedError: the disk is full or the folder cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    except OSError as error:
        raise disk_error(error, path) from error


def _accelerator(place: torch.device) -> Any:
    from accelerate import Accelerator

    return Accelerator(cpu=place.type == "cpu")


def schedule(step: int, total: int, config: LoopConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine to a tenth (arXiv:2307.09288, section 3.1)."""
    warm = max(1, round(config.warmup * total))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    return config.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))
