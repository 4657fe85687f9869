"""The line: which openings decline, how the two kinds are weighed, and what is written into a small network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from primum.training import line, linear_start
from primum.training.examples import Example
from primum.training.line import Openers, Openings, Said, choose, draw_line
from primum.training.linear_start import StartConfig, odds, start
from primum.training.score import logits
from test_training_linear_start import OPENER, network, prompts

__all__ = ["network"]
APOLOGY = (5, 9, 33)


def openings(ours: list[float], lead: list[float], own: list[float]) -> Openings:
    """Openings by their probabilities: of what was learned, of the apology's lead elsewhere, of the apology then."""
    p = [torch.tensor(each) for each in (ours, lead, own)]
    return Openings(p[0].logit(), p[1].log(), p[2].logit())


def test_both_openings_are_declined() -> None:
    one = openings([0.5, 0.2], [0.4, 1.0], [0.5, 0.25])
    assert one.declined() == pytest.approx((0.5 + 0.5 * 0.4 * 0.5 + 0.2 + 0.8 * 0.25) / 2)
    three = torch.tensor(3.0).log().item()
    assert one.declined(three, -three) == pytest.approx((0.75 + 0.25 * 0.4 * 0.25 + 3 / 7 + 4 / 7 / 10) / 2), (
        "odds of 1 and 1/4 become 3 and 3/4, those of 1 and 1/3 a third of that"
    )


def test_a_shift_makes_the_wanted_share() -> None:
    one = openings([0.5, 0.2, 0.01], [0.4, 0.3, 0.2], [0.5, 0.5, 0.5])
    for own in (0.0, -4.0):
        assert one.declined(one.shift_to(0.3, own), own) == pytest.approx(0.3, abs=1e-6)


def test_an_apology_that_tells_nothing_apart_is_made_rarer_and_another_is_kept() -> None:
    ours = [0.9] * 6 + [0.1] * 4, [0.9] * 2 + [0.1] * 8
    harmful, benign = (openings(side, [0.5] * 10, [0.5] * 10) for side in ours)
    assert choose(harmful, benign, 0.3) < -2
    good = openings(ours[0], [0.9] * 10, [0.9] * 10), openings(ours[1], [0.01] * 10, [0.5] * 10)
    assert choose(*good, 0.3) == 0


def test_openings_are_those_of_the_whole_softmax(network: Any) -> None:
    """Against plain passes of the network, one prompt at a time."""
    rows, heat = [*prompts(True, 3, 1), *prompts(False, 3, 2)], 0.7
    found = Said(network, Openers([OPENER, 61], APOLOGY), heat).openings(rows)
    for i, row in enumerate(rows):
        with torch.no_grad():
            logits = network(torch.tensor([[*row.prompt, *APOLOGY]])).logits[0] / heat
        p = logits[len(row.prompt) - 1 :].softmax(-1)
        ours, lead, own = p[0, [OPENER, 61]].sum(), p[0, APOLOGY[0]] * p[1, APOLOGY[1]], p[2, APOLOGY[2]]
        assert found.ours[i].sigmoid().item() == pytest.approx(ours.item(), rel=1e-4)
        assert found.lead[i].exp().item() == pytest.approx((lead / (1 - ours)).item(), rel=1e-4)
        assert found.own[i].sigmoid().item() == pytest.approx(own.item(), rel=1e-4)


def test_a_line_makes_the_models_own_apologies_rarer(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias makes the random network apologise: to about an eighth of all prompts, harmful or not."""
    start(StartConfig(), network, prompts(True, 300, 1), prompts(False, 300, 2), [OPENER])
    harmful, benign = prompts(True, 80, 3), prompts(False, 80, 4)
    openers = Openers([OPENER], (5, 33))
    said = Said(network, openers, 1.0)
    _apologise(said, benign, monkeypatch)
    before = said.openings(benign)
    assert 0.1 < (before.lead.exp() * before.own.sigmoid()).mean() < 0.5
    drawn = draw_line(network, harmful, benign, openers, 0.06)
    after = said.openings(benign)
    assert drawn is not None and drawn.own < -0.5
    assert drawn.after == pytest.approx((said.openings(harmful).declined(), after.declined()), abs=1e-6)
    assert drawn.after[1] == pytest.approx(0.06, abs=0.02) and drawn.before[1] > 0.11
    assert (after.own - before.own).mean() < -1
    assert drawn.after[0] - drawn.after[1] > drawn.before[0] - drawn.before[1]


def _apologise(said: Said, rows: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the logits of the apology's tokens everywhere, each to odds of e squared: two share them."""
    lift = torch.zeros(64)
    for i, token in enumerate(said.openers.apology):
        behind = [Example((*row.prompt, *said.openers.apology[:i]), (token,)) for row in rows]
        lift[token] = 2.0 - odds(said.network, behind, [token]).mean()
    for module in (line, linear_start):
        monkeypatch.setattr(module, "logits", lambda network, hidden: logits(network, hidden) + lift)
