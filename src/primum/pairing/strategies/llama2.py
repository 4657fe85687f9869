"""People's votes as pairs, as Llama 2 made them: the chosen reply against each other one (arXiv:2307.09288, 3.2.1).

A vote names a winner among K replies, how much better it is (four strengths) and which replies are safe. It gives K - 1
pairs. Each lies in one of three bins: chosen safe and the other not, both safe, both unsafe; where the chosen one is
unsafe and the other safe, the pair is dropped: a safer reply is also the better one. The strength becomes the margin of
the ranking loss (the paper's small scale: 1, 2/3, 1/3, 0). Several votes on the same two replies are one pair by
majority, with the mean strength; a tie of voters gives none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from primum.core.errors import UsageError
from primum.core.records import Pair, Preference, Prompt, Reply, Verdict
from primum.pairing.demonstration import Built, kind_of, only_for_training
from primum.pairing.replies import flagged, hateful

about = "people's votes: the winner against each other reply shown, with strengths and safety bins (--preferences)"
needs = ("preferences",)
MARGINS = {"significantly": 1.0, "better": 2 / 3, "slightly": 1 / 3, "unsure": 0.0}
Bin = Literal["chosen_safe", "both_safe", "both_unsafe"]


class Beat(NamedTuple):
    """One reply beat another in one vote; `safe`: whether each is."""

    winner: str
    loser: str
    strength: float
    safe: tuple[bool, bool]


def pairs(
    prompts: Sequence[Prompt],
    replies: Mapping[str, Sequence[Reply]],
    verdicts: Mapping[str, Verdict],
    seed: int = 0,
    preferences: Sequence[Preference] | None = None,
) -> Built:
    """Return the pairs that the votes make; no demonstrations.

    Args:
        prompts: of the train split.
        replies: those that were shown, by prompt id.
        verdicts: by reply id; they say what is safe where a vote has no ticks.
        seed: unused, nothing is drawn.
        preferences: the votes.

    Raises:
        UsageError: no votes are given, or a prompt of the test split or of an evaluation set; names it.
    """
    del seed
    only_for_training(prompts)
    if prompts and preferences is None:
        raise UsageError("the strategy 'llama2' needs votes", cure="primum pair FILE --preferences VOTES.jsonl")
    votes: dict[str, list[Preference]] = defaultdict(list)
    for vote in preferences or ():
        votes[vote.prompt_id].append(vote)
    built = Built()
    for prompt in prompts:
        own = {reply.id: reply for reply in replies.get(prompt.id, ())}
        known = {key: harmless(prompt, verdicts[key]) for key in own if key in verdicts}
        cast = [beat for vote in votes[prompt.id] for beat in _beats(vote, own, known)]
        if not cast:
            built.drop(prompt, "no winner in its votes" if votes[prompt.id] else "no vote")
        for beats in _by_two(cast):
            _add(built, prompt, own, beats)
    return built


def harmless(prompt: Prompt, verdict: Verdict) -> bool:
    """Say whether a reply is safe: going along with a harmless prompt is; what is unscored is not."""
    if prompt.intent == "harmful":
        return verdict.behaviour is not None and not flagged(verdict)
    return verdict.behaviour not in (None, "harmful_compliance") and not hateful(verdict)


def _beats(vote: Preference, own: Mapping[str, Reply], known: Mapping[str, bool]) -> Iterator[Beat]:
    """Yield K - 1 beats of a vote with a winner; replies that the file does not hold are passed over.

    `known` says of replies whether they are safe, where the vote has no ticks; what it does not hold is not.
    """
    if vote.outcome != "winner" or vote.winner is None:
        return
    ticks = vote.safety or tuple(known.get(reply, False) for reply in vote.reply_ids)
    first = vote.reply_ids[vote.winner]
    for place, other in enumerate(vote.reply_ids):
        if place != vote.winner and first in own and other in own:
            yield Beat(first, other, MARGINS[vote.strength], (ticks[vote.winner], ticks[place]))


def _by_two(beats: Sequence[Beat]) -> list[list[Beat]]:
    found: dict[frozenset[str], list[Beat]] = defaultdict(list)
    for beat in beats:
        found[frozenset((beat.winner, beat.loser))].append(beat)
    return list(found.values())


def _add(built: Built, prompt: Prompt, own: Mapping[str, Reply], beats: Sequence[Beat]) -> None:
    """Add the pair of two replies that voters compared, or note why there is none."""
    wins: dict[str, list[Beat]] = defaultdict(list)
    for beat in beats:
        wins[beat.winner].append(beat)
    most = sorted(wins.values(), key=len, reverse=True)
    if len(most) == 2 and len(most[0]) == len(most[1]):
        built.drop(prompt, "voters disagree")
        return
    agreed = most[0]
    best, worst = own[agreed[0].winner], own[agreed[0].loser]
    safe = tuple(all(beat.safe[side] for beat in agreed) for side in (0, 1))
    if safe == (False, True):
        built.drop(prompt, "chosen unsafe, the other safe")
        return
    if best.text.strip() == worst.text.strip():
        built.drop(prompt, "chosen is rejected")
        return
    name: Bin = "both_safe" if safe == (True, True) else "chosen_safe" if safe[0] else "both_unsafe"
    against = len(beats) - len(agreed)
    built.pairs.append(
        Pair(
            prompt.messages, best.text.strip(), worst.text.strip(), prompt.id, kind_of(prompt), prompt.category,
            f"reply:{best.id}", f"reply:{worst.id}", f"{len(agreed)} voted for it, {against} against",
            strength=sum(beat.strength for beat in agreed) / len(agreed), safety_bin=name,
            chosen_ends=best.finish == "stop", rejected_ends=worst.finish == "stop",
        )
    )  # fmt: skip
