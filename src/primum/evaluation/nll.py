"""Negative log-likelihood of texts: how surprised a model is, in nats a token. What benchmarks of it share."""

from __future__ import annotations

import math
from collections.abc import Mapping

from primum.evaluation.items import Answer, Item, Metric, Score

METRICS: Mapping[str, Metric] = {
    "nll": Metric("mean negative log-likelihood of a token, in nats", "lower_is_better", "nats"),
    "nll_byte": Metric(
        "negative log-likelihood of a byte of UTF-8, in nats: comparable between tokenizers", "lower_is_better", "nats",
        primary=False,
    ),
}  # fmt: skip


def score(item: Item, answer: Answer) -> Mapping[str, Score]:
    """Return nats a token and nats a byte of the one continuation."""
    if not answer.logps or math.isnan(answer.logps[0]) or not answer.lengths[0]:
        return dict.fromkeys(METRICS, "no likelihood")
    size = len(item.options[0].encode("utf-8", "surrogatepass"))
    return {"nll": -answer.logps[0] / answer.lengths[0], "nll_byte": -answer.logps[0] / size}
