"""Where the line between answering and declining lies: drawn after training, on prompts that nothing was learned from.

What opens a learned refusal gets one constant more or less before every answer (logit adjustment, arXiv:2007.07314), so
that a wanted share of benign prompts is declined; the order of prompts stays as it was learned.

A model has apologies of its own, too ("I'm sorry, but as a chatbot"), which training makes no better at telling prompts
apart, and often worse: where the learned refusal has taken the harmful prompts, what is left of them falls on benign
ones. They count towards that share, and as far as it pays they are made rarer, by a constant of their own: the two are
chosen together, so that most harmful prompts are declined at the wanted share of benign ones.

Both constants are written where the linear start writes (`linear_start.py`): what the adapters read already says where
an answer begins, and the openers' gradient says what makes them likelier. So no rank is added.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from primum.core.progress import silent
from primum.training.batches import micro_batches
from primum.training.examples import Example
from primum.training.linear_start import (
    DIRECTIONS,
    LEAST,
    Going,
    Site,
    directions,
    log_odds,
    odds,
    of_text,
    ridge,
    sites,
    units_of,
    units_within,
)
from primum.training.score import answer_states, logits, shares_prompts

TRIES = 3
"""How often a line is drawn anew where it did not come out as wanted: what is added acts almost linearly."""
CLOSE = 0.004
"""A line that near the wanted share is there."""
NEAR = 0.5
"""An apology's log-odds that near to what was chosen are there."""
SHAPE = 128
"""Rows from which is learned what the beginning of an answer looks like: the template says it to all alike."""
RARER = tuple(-0.5 * step for step in range(17))
"""Log-odds that the model's own apology may lose; it never gains any."""
ENOUGH = 0.005
"""Of the harmful prompts that the best choice declines, this share is given away for one that changes less."""


class Line(NamedTuple):
    """Where the line was drawn.

    nats: added to the openers before every answer. own: added to what decides the model's own apologies. before, after:
    the shares of harmful and of benign rows whose answers are expected to open with either.
    """

    nats: float
    own: float
    before: tuple[float, float]
    after: tuple[float, float]


class Openers(NamedTuple):
    """What opens an answer that declines.

    learned: tokens that open what was learned. apology: those with which the model's own apologies begin, the last of
    them the one that decides; none: they are not counted.
    """

    learned: Sequence[int]
    apology: tuple[int, ...] = ()


class Openings(NamedTuple):
    """How likely each of N rows is to open its answer with a refusal, as drawn at a temperature.

    ours: log-odds of what was learned. lead: log-probability of the tokens that lead to the model's own apology, where
    the answer does not open with what was learned. own: log-odds of that apology behind them.
    """

    ours: Tensor
    lead: Tensor
    own: Tensor

    def declined(self, ours: float = 0.0, own: float = 0.0) -> float:
        """Return the mean probability of either opening with so much added to the log-odds of each."""
        first = (self.ours + ours).sigmoid()
        return (first + (1 - first) * self.lead.exp() * (self.own + own).sigmoid()).mean().item()

    def shift_to(self, share: float, own: float = 0.0) -> float:
        """Return what to add to the log-odds of what was learned for a mean probability of `share`, by halving."""
        low, high = -60.0, 60.0
        for _ in range(40):
            middle = (low + high) / 2
            if self.declined(middle, own) < share:
                low = middle
            else:
                high = middle
        return (low + high) / 2


def draw_line(
    network: Any,
    harmful: Sequence[Example],
    benign: Sequence[Example],
    openers: Openers,
    share: float,
    temperature: float = 1.0,
    seed: int = 0,
    going: Going | None = None,
) -> Line | None:
    """Move how likely refusals are to open an answer, until a given share of benign rows is declined.

    Args:
        network: with a trained adapter.
        harmful: rows that were not trained on; what counts is where their answers begin.
        benign: their benign twins.
        openers: tokens with which answers that decline begin.
        share: of the benign rows that may be declined when drawn at `temperature`.
        temperature: of drawing.
        seed: of the tokens that stand for "elsewhere".
        going: benign answers, within which nothing moves.
    """
    places = sites(network)
    harmful, benign = of_text(harmful), of_text(benign)
    enough = min(len(harmful), len(benign)) >= LEAST
    if not (places and enough and openers.learned and shares_prompts(network, harmful[:4])):
        return None
    network.eval()
    rng = random.Random(seed)
    rows = rng.sample([*harmful, *benign], min(SHAPE, len(harmful) + len(benign)))
    begins, *others = units_of(network, places, rows, rng, silent)
    others += units_within(network, places, going, rng, silent)
    said = Said(network, openers, temperature)
    sides = said.openings(harmful), said.openings(benign)
    pens, rarer = [Pen(network, places, begins, others, rows, openers.learned)], choose(*sides, share)
    if rarer:
        behind = [said.behind(row) for row in rows]
        theirs, _ = units_of(network, places, behind, rng, silent, 0.0)
        pens.append(Pen(network, places, theirs, [begins, *others], behind, openers.apology[-1:]))
    nats, found = _bring(Paper(places, pens), lambda: said.openings(benign), sides[1], share, rarer, temperature)
    before = sides[0].declined(), sides[1].declined()
    after = (said.openings(harmful).declined(), found.declined()) if any(nats) else before
    return Line(nats[0], sum(nats[1:]), before, after)


def _bring(
    paper: Paper, read: Callable[[], Openings], first: Openings, share: float, rarer: float, temperature: float
) -> tuple[list[float], Openings]:
    """Write until `share` is declined and apologies have lost what was chosen; return the nats and what was read last.

    What is added acts almost as many nats as it says; how nearly is learned from each try.
    """
    count, found = len(paper.pens), first
    nats, gains = [0.0] * count, [1 / temperature] * count
    for _ in range(TRIES):
        missing = [rarer - (found.own - first.own).mean().item()][: count - 1]
        missing.insert(0, found.shift_to(share, sum(missing)))
        if abs(share - found.declined()) < CLOSE and all(abs(m) < NEAR for m in missing[1:]):
            break
        nats = [n + m / gain for n, m, gain in zip(nats, missing, gains, strict=True)]
        paper.write(nats)
        now = read()
        came = [(now.ours - found.ours).mean().item(), (now.own - found.own).mean().item()]
        gains = [g * (min(4.0, max(0.25, c / m)) if m else 1.0) for g, c, m in zip(gains, came, missing, strict=False)]
        found = now
    return nats, found


def choose(harmful: Openings, benign: Openings, share: float) -> float:
    """Return what to add to the log-odds of the model's own apology, at most nought.

    Of all choices, each with as much of what was learned as makes `share` of the benign rows declined, it is the one
    that declines most harmful rows, or nearly so and changes less.
    """
    found = [harmful.declined(benign.shift_to(share, own), own) for own in RARER]
    return next(own for own, declined in zip(RARER, found, strict=True) if declined >= max(found) - ENOUGH)


class Said(NamedTuple):
    """What a network is asked about its openings."""

    network: Any
    openers: Openers
    temperature: float

    def behind(self, row: Example) -> Example:
        """Return the row with all but the last token of the apology said already."""
        return Example((*row.prompt, *self.openers.apology[:-1]), self.openers.apology[-1:])

    @torch.no_grad()
    def openings(self, rows: Sequence[Example]) -> Openings:
        """Read how likely each row is to open with a refusal."""
        learned, apology = self.openers
        if not apology:
            ours = odds(self.network, rows, learned, self.temperature)
            return Openings(ours, torch.full_like(ours, -torch.inf), torch.zeros_like(ours))
        ours, lead, own = torch.zeros(3, len(rows))
        with_it = [Example(row.prompt, apology) for row in rows]
        order, path = {id(row): i for i, row in enumerate(with_it)}, torch.tensor(apology[:-1], dtype=torch.long)
        for group in micro_batches(with_it, 4096):
            at = [order[id(row)] for row in group]
            out = logits(self.network, answer_states(self.network, group).hidden) / self.temperature
            each = out.view(len(group), len(apology), -1)
            logps = each[:, :-1].log_softmax(-1).cpu()
            lead[at] = logps.gather(-1, path.expand(len(group), -1)[..., None]).squeeze(-1).sum(-1).float()
            ours[at] = log_odds(each[:, 0], learned).float().cpu()
            own[at] = log_odds(each[:, -1], apology[-1:]).float().cpu()
        other = torch.log1p(-ours.sigmoid().clamp(max=1 - 1e-6))
        return Openings(ours, (lead - other).clamp(max=0.0), own)


class Pen:
    """Writes nats of some tokens, where answers stand at some point, into what the adapters write.

    Args:
        network: with a trained adapter.
        places: its sites.
        here: hidden units (N, F) where the tokens are to become likelier.
        elsewhere: hidden units where nothing is to change.
        rows: rows that stand at that point, from whose gradient the direction is taken.
        tokens: which become likelier.
    """

    def __init__(
        self, network: Any, places: Sequence[Site], here: Tensor, elsewhere: Sequence[Tensor], rows: Sequence[Example],
        tokens: Sequence[int],
    ) -> None:  # fmt: skip
        sizes = [site.a.shape[1] for site in places]

        def inner(units: Tensor) -> Tensor:
            parts = units.float().split(sizes, 1)
            read = zip(parts, places, strict=True)
            return torch.cat([part @ site.a.detach().float().cpu().T for part, site in read], 1)

        read = torch.cat([inner(each) for each in (here, *elsewhere)])
        wanted = torch.zeros(len(read))
        wanted[: len(here)] = 1.0
        self.weights = ridge(read, wanted, 0.01).split([site.a.shape[0] for site in places])
        self.ways = directions(network, places, rows[:DIRECTIONS], tokens)


class Paper:
    """What several pens write on: the adapters' outputs, as they were and with what is written."""

    def __init__(self, places: Sequence[Site], pens: Sequence[Pen]) -> None:
        self.places, self.pens = places, pens
        self.base = [site.b.detach().clone() for site in places]

    @torch.no_grad()
    def write(self, nats: Sequence[float]) -> None:
        """Write so many nats with each pen, in place of what was written before: what all sites read adds up to one."""
        for i, (site, held) in enumerate(zip(self.places, self.base, strict=True)):
            site.b.copy_(held)
            for pen, amount in zip(self.pens, nats, strict=True):
                site.b.add_(torch.outer(pen.ways[i], pen.weights[i].to(held)), alpha=amount / site.scale)
