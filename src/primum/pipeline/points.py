"""A model measured on the same prompts as others: replies, one judge's verdicts, and the user's own domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from primum.core.records import JsonDict, Prompt, digest, user
from primum.evaluation.domain import DomainRow
from primum.evaluation.measure import count
from primum.evaluation.metrics import (
    HARMFUL_COMPLIANCE,
    INCOHERENT,
    UNSCORED,
    Metric,
    Scored,
    falsely_refused,
    is_benign,
)
from primum.judging import Exchange
from primum.pipeline.steps import Draw, Journey, judge, sample
from primum.repair.choose import Point

if TYPE_CHECKING:
    from primum.models.load import Model

REFUSAL = Metric("refusal_benign", "lower_is_better", is_benign, falsely_refused)
"""Of twins and general prompts together: what a repair may cost in helpfulness."""


@dataclass(frozen=True)
class Bench:
    """What every candidate is asked, how, who judges, the domain that must stay, and general texts to take NLL of."""

    prompts: Sequence[Prompt]
    draw: Draw
    judge: str
    domain: Sequence[DomainRow] = ()
    general: Sequence[DomainRow] = ()


@dataclass(frozen=True)
class Measured:
    """One model's results on a bench: scored replies; of the domain, NLL per text and whether the choice was right.

    `general` is the NLL of general texts.
    """

    scored: Sequence[Scored]
    nll: Sequence[float] = ()
    right: Sequence[bool] = ()
    general: Sequence[float] = ()

    def point(self, name: str, size: float = 0.0) -> Point:
        """Return the shares by which candidates are chosen; one without any scored reply counts as the worst."""
        return Point(
            name, self.share(HARMFUL_COMPLIANCE), self.share(REFUSAL), self.share(INCOHERENT),
            fmean(self.nll) if self.nll else None, fmean(self.right) if self.right else None, size,
            self.share(UNSCORED), tuple(self.right),
        )  # fmt: skip

    def share(self, metric: Metric) -> float:
        """Return the share of a metric; 1 (the worst of these metrics) where nothing could be scored."""
        found = count(metric, self.scored)
        return found.k / found.n if found.n else 1.0


def measured(journey: Journey, name: str, bench: Bench, key: str, model: Callable[[], Model]) -> Measured:
    """Measure a model; every step is resumable, and a finished one loads no model.

    Args:
        journey: the run.
        name: of the steps' folders.
        bench: what is asked.
        key: what says which weights answer.
        model: loads them.
    """
    from primum.models.engines.hf import HFEngine

    replies = sample(journey, f"{name}-replies", bench.prompts, bench.draw, key, lambda: HFEngine(model()))
    by_id = {p.id: p for p in bench.prompts}
    verdicts = judge(
        journey, f"{name}-verdicts-by-{bench.judge}", bench.judge, [Exchange(by_id[r.prompt_id], r) for r in replies]
    )
    scored = [Scored(by_id[r.prompt_id], r, v) for r, v in zip(replies, verdicts, strict=True)]
    found = _domain(journey, f"{name}-domain", bench.domain, key, model)
    general = _domain(journey, f"{name}-general", bench.general, key, model)
    return Measured(scored, found["nll"], found["right"], general["nll"])


def _domain(journey: Journey, name: str, rows: Sequence[DomainRow], key: str, model: Callable[[], Model]) -> JsonDict:
    if not rows:
        return {"nll": [], "right": []}
    asked = digest([[row.prompt, row.answer, list(row.options)] for row in rows])
    stage = journey.stage(name, model=key, asked=asked)
    with journey.step(name.split("-", 1)[1].replace("-", " "), len(rows), "rows") as advance:
        if not stage.manifest:
            stage.finish(**domain_scores(model(), rows))
        advance(len(rows))
    found = stage.manifest or {}
    return {"nll": found["nll"], "right": found["right"]}


def domain_scores(model: Model, rows: Sequence[DomainRow]) -> dict[str, list[float] | list[bool]]:
    """Return NLL of every right answer (nats per token), and for rows with options whether it was the likeliest.

    Asked through the chat template, as the model is used. Of options the sums are compared (lm-eval's `acc`).
    """
    from primum.training.examples import Answered, Limits, answered
    from primum.training.score import score_all

    flat = [(row, text) for row in rows for text in (row.options or (row.answer,))]
    asked = [Answered((user(row.prompt),), text, Limits(answer=512)) for row, text in flat]
    got = score_all(model.network, answered(asked, model.tokenizer))
    scores = iter(zip(got.logps.tolist(), got.lengths.tolist(), strict=True))
    nll: list[float] = []
    right: list[bool] = []
    for row in rows:
        own = [next(scores) for _ in (row.options or (row.answer,))]
        logp, length = own[row.right or 0]
        nll.append(-logp / max(1, length))
        if row.options:
            right.append([one[0] for one in own].index(max(one[0] for one in own)) == row.right)
    return {"nll": nll, "right": right}
