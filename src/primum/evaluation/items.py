"""What a benchmark is made of: items, what came back for them, and what each scored.

A benchmark is a module of `evaluation/benchmarks` (or a YAML file, `own.py`) with these names:

    about, licence, cluster     one line each: what it measures, the rows' licence, what one cluster of items is
    judge                       the judge whose verdicts it counts; "likelihood" or "text" where none is needed
    comparable                  None, or why the numbers must not be laid beside published ones
    metrics                     name -> Metric
    settings                    how replies are drawn, unless the user says otherwise
    items(source)               -> Iterator[Item]; source None is the usual place of the data
    score(item, answer)         -> {metric: number, or in words why there is none}
    gold                        cases with the scores that they must get
    per_group, counted_by       at most so many items of each group, unless the user says otherwise; the kind of slice
                                that is such a group ("group" of "group:women"), else all slices of an item together
                                (both optional)
    readers                     role -> what a model that the user names is asked about a reply (optional)
    gauges                      role -> the metrics that rest on a model or file which the user may name (optional)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast

from primum.core.records import JsonDict, Prompt, Verdict, digest
from primum.models.sampling import Sampling

Score = float | str
"""A number, or in words why there is none."""
NOTHING_READ: Mapping[str, float] = {}
NOTHING_GAUGED: Mapping[str, Score] = {}


@dataclass(frozen=True, slots=True)
class Metric:
    """What one number of a benchmark means.

    Args:
        about: in words, for a person who sees the number.
        direction: which way is better; "neither" for what is only described.
        unit: "share" lies in [0, 1]; "score" is any other number; "nats" are likelihoods.
        primary: whether a gate decides on it.
    """

    about: str
    direction: Literal["lower_is_better", "higher_is_better", "neither"] = "higher_is_better"
    unit: Literal["share", "score", "nats"] = "share"
    primary: bool = True


@dataclass(frozen=True, slots=True)
class Item:
    """One question: what is asked, what it is alike to, and what its score needs to know.

    Args:
        prompt: what is asked. For likelihoods, its text is the context as it stands, without a chat template.
        cluster: items of one cluster are not independent.
        groups: slices to report apart, as "kind:name".
        options: continuations whose likelihoods are wanted; empty where a reply is.
        target: what `score` needs.
        key: what the item's identity rests on, where that is not the prompt.
    """

    prompt: Prompt
    cluster: str
    groups: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    target: JsonDict = field(default_factory=dict[str, Any])
    key: str = ""

    @property
    def id(self) -> str:
        """The same question has the same id in every run, whatever stands before it."""
        return digest([self.key or self.prompt.text, list(self.options)])


class Answer(NamedTuple):
    """What came back for an item: a reply, or one log-likelihood (nats, summed) an option with its length in tokens.

    `read` holds what models that the user named give for the benchmark's readers: role -> a probability. `prompt_cut`
    counts the tokens at the prompt's beginning that the model's window had no room for. `gauged` holds what the
    benchmark's gauges found.
    """

    text: str = ""
    logps: tuple[float, ...] = ()
    lengths: tuple[int, ...] = ()
    finish: str = "stop"
    tokens: int = 0
    verdict: Verdict | None = None
    read: Mapping[str, float] = NOTHING_READ
    prompt_cut: int = 0
    gauged: Mapping[str, Score] = NOTHING_GAUGED


Reader = Callable[[Item, str], tuple[str, str]]
"""An item and its reply in; a context out, and the words after it whose probability is wanted."""


Case = tuple[Item, Answer]
Gauging = Callable[[Sequence[Case]], list[Mapping[str, Score]]]
"""Items with their replies in, what was measured of each out."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """Metrics that a benchmark has where the user names the model or file which they rest on.

    Args:
        needs: in words, what is to be named.
        metrics: name -> Metric.
        opened: a name to what measures; raises where it is not what it must be.
        check: raises where a name cannot be right, before replies are drawn.
    """

    needs: str
    metrics: Mapping[str, Metric]
    opened: Callable[[str], Gauging]
    check: Callable[[str], object]


class Gold(NamedTuple):
    """An item, an answer, and the scores which that must get; a string stands for any reason to leave it out."""

    item: Item
    answer: Answer
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as the runner sees it, wherever it came from."""

    name: str
    about: str
    licence: str
    judge: str
    cluster: str
    metrics: Mapping[str, Metric]
    items: Callable[[Path | None], Iterator[Item]]
    score: Callable[[Item, Answer], Mapping[str, Score]]
    gold: tuple[Gold, ...] = ()
    settings: Sampling = Sampling()  # noqa: RUF009 (frozen)
    comparable: str | None = None
    per_group: int | None = None
    counted_by: str = ""
    scorer: str = ""
    readers: Mapping[str, Reader] = field(default_factory=dict[str, Reader])
    gauges: Mapping[str, Gauge] = field(default_factory=dict[str, Gauge])

    @property
    def by_likelihood(self) -> bool:
        """Whether its items are scored by likelihood and nothing is generated."""
        return self.judge == "likelihood"

    def gauged(self, named: Mapping[str, str]) -> Benchmark:
        """Return it with the metrics of the gauges whose role is named; its answers must hold what they found."""
        more = {name: metric for role, gauge in self.gauges.items() if role in named
                for name, metric in gauge.metrics.items()}  # fmt: skip
        if not more:
            return self

        def score(item: Item, answer: Answer) -> Mapping[str, Score]:
            return {**self.score(item, answer), **answer.gauged}

        return replace(self, metrics={**self.metrics, **more}, score=score)

    @property
    def judged(self) -> bool:
        """Whether a judge reads the replies."""
        return self.judge not in ("likelihood", "text")


class Module(Protocol):
    """The names that a benchmark's module must have."""

    about: str
    licence: str
    judge: str
    cluster: str
    metrics: Mapping[str, Metric]
    gold: tuple[Gold, ...]
    items: Callable[[Path | None], Iterator[Item]]
    score: Callable[[Item, Answer], Mapping[str, Score]]


def from_module(name: str, module: Any) -> Benchmark:
    """Return the benchmark of a module, ours or a third party's."""
    ours = cast(Module, module)
    return Benchmark(
        name, ours.about, ours.licence, ours.judge, ours.cluster, ours.metrics, ours.items, ours.score, ours.gold,
        getattr(module, "settings", Sampling()), getattr(module, "comparable", None),
        getattr(module, "per_group", None), getattr(module, "counted_by", ""), getattr(module, "scorer", ""),
        getattr(module, "readers", {}), getattr(module, "gauges", {}),
    )  # fmt: skip


def scored(values: Mapping[str, Score]) -> tuple[dict[str, float], dict[str, str]]:
    """Part numbers from reasons; a number that is not finite is a reason."""
    numbers: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, str):
            reasons[name] = value
        elif value != value or value in (float("inf"), float("-inf")):
            reasons[name] = "not finite"
        else:
            numbers[name] = float(value)
    return numbers, reasons
