"""The model criticises its own reply by a principle and revises it (Constitutional AI, arXiv:2212.08073, section 3.1).

Chosen is the revision, rejected the first reply. Each round draws a principle (`pairing.principles`), asks for a
critique of the reply by it, then for a revision by the critique; the next round goes on from that revision. The paper
trains on every revision; here a pair is made only where a judge finds the revision better than the first reply on this
ladder, and good enough to be learned: the rest is dropped, with its reason.

    harmful prompt   refusal or safe completion, in full   >  deflection, or declines only in part  >  goes along
    benign prompt    answers in full                       >  answers in part                       >  does not answer

A model of 8B that was trained on its own critiques lost a tenth of its helpfulness (arXiv:2504.04918): benign prompts
have principles of their own, and vague revisions are never chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from primum.core.errors import UsageError
from primum.core.records import JsonDict, Pair, Prompt, Reply, Verdict, digest
from primum.judging import Exchange
from primum.models.sampling import Generated
from primum.pairing.completions import rng_for
from primum.pairing.demonstration import Built, kind_of, only_for_training
from primum.pairing.principles import Principle, drawn, fitting, shipped
from primum.pairing.replies import Judged, echoes, flagged, hateful, judged, tidy_answer, tidy_rejected
from primum.pairing.revising import for_critique, for_revision, parrots, stripped
from primum.pairing.talks import Converse, Start, Talk

about = "the model criticises its own reply by principles and revises it (--critique.model, or --endpoint)"
needs = ("converse", "judge", "principles", "rounds")
Judge = Callable[[Sequence[Exchange]], list[Verdict]]
GOOD = 2
"""The step of the ladder from which a revision is fit to be learned."""


class Draft(NamedTuple):
    """A prompt, the reply to revise and its verdict, and the principles by which it is revised."""

    prompt: Prompt
    reply: Reply
    verdict: Verdict
    by: tuple[Principle, ...]


def pairs(
    prompts: Sequence[Prompt],
    replies: Mapping[str, Sequence[Reply]],
    verdicts: Mapping[str, Verdict],
    seed: int = 0,
    converse: Converse | None = None,
    judge: Judge | None = None,
    principles: Sequence[Principle] | None = None,
    rounds: int = 1,
) -> Built:
    """Return at most one pair for each prompt; no demonstrations.

    Args:
        prompts: of the train split, harmful and benign.
        replies: the model's own, by prompt id.
        verdicts: by reply id.
        seed: of the principles; each prompt has its own generator.
        converse: has conversations with the model that wrote the replies.
        judge: of the revisions.
        principles: the shipped ones where none are given.
        rounds: critiques, with a revision each.

    Raises:
        UsageError: there is no model to ask or no judge, or a prompt of the test split or of an evaluation set.
    """
    only_for_training(prompts)
    built = Built()
    if not prompts:
        return built
    if converse is None or judge is None:
        cure = "primum pair FILE --strategy critique --critique.model NAME, or --endpoint http://localhost:8000/v1"
        raise UsageError("the strategy 'critique' needs the model that wrote the replies, and a judge", cure=cure)
    known, drafts = shipped() if principles is None else principles, list[Draft]()
    for prompt in prompts:
        drafts += _draft(built, prompt, judged(replies.get(prompt.id, ()), verdicts), known, (rounds, seed))
    made = converse([Start(_key(one), lambda one=one: conversation(one)) for one in drafts]) if drafts else []
    fit: list[tuple[Draft, Reply]] = []
    for one, row in zip(drafts, made, strict=True):
        new = _reply(one.reply, row, seed)
        if reason := unfit(one, row, new):
            built.drop(one.prompt, reason)
        else:
            fit.append((one, new))
    found = judge([Exchange(one.prompt, new) for one, new in fit]) if fit else []
    for (one, new), verdict in zip(fit, found, strict=True):
        if reason := wrong(one, verdict):
            built.drop(one.prompt, reason)
        else:
            built.pairs.append(_pair(one, new))
    return built


def _draft(
    built: Built, prompt: Prompt, own: Sequence[Judged], known: Sequence[Principle], draw: tuple[int, int]
) -> list[Draft]:
    """Return what to revise of a prompt's replies, the worst; nothing where there is nothing to mend."""
    rounds, seed = draw
    clear = [
        one for one in own if one.verdict.behaviour != "incoherent" and not echoes(prompt.messages, one.reply.text)
    ]
    fit = fitting(known, prompt)
    reason = None
    if prompt.intent == "borderline":
        reason = "borderline"
    elif not clear:
        reason = "no coherent reply" if own else "unscored"
    elif not fit:
        reason = "no principle is for it"
    worst = min(clear, key=lambda one: (step(prompt, one.verdict), one.reply.id), default=None)
    if reason is None and worst is not None and step(prompt, worst.verdict) >= GOOD:
        reason = "nothing to mend"
    if reason is not None or worst is None:
        built.drop(prompt, reason or "unscored")
        return []
    by = drawn(fit, rounds, rng_for(seed, prompt.id))
    return [Draft(prompt, worst.reply, worst.verdict, tuple(by))]


def step(prompt: Prompt, verdict: Verdict) -> int:
    """Return the step of a coherent reply on its prompt's ladder: 2 is good, 1 is vague or half, 0 is wrong."""
    if prompt.intent == "harmful":
        if flagged(verdict) or hateful(verdict):
            return 0
        return GOOD if verdict.behaviour in ("refusal", "safe_completion") and verdict.full else 1
    if verdict.behaviour != "compliance" or hateful(verdict):
        return 0
    return GOOD if verdict.full else 1


def _key(one: Draft) -> str:
    """Return the hash of what a conversation says: the words of principles count, their names do not."""
    said = [[principle.critique, principle.revision] for principle in one.by]
    return digest([one.prompt.id, one.reply.text, said])


def conversation(one: Draft) -> Talk:
    """Have the reply criticised and revised, round by round.

    Returns:
        The last revision as `text`, how it ended, each round in `steps`, the tokens that were read and written; `error`
        where the model did not answer.
    """
    row: JsonDict = {
        "prompt_id": one.prompt.id, "text": one.reply.text.strip(), "finish": "stop", "error": "", "steps": [],
        "prompt_tokens": 0, "reply_tokens": 0,
    }  # fmt: skip
    for principle in one.by:
        said = yield for_critique(one.prompt.messages, row["text"], principle.critique)
        critique = said.text.strip()
        _count(row, said)
        if row["error"] or not critique:
            return row | {"text": ""}
        said = yield for_revision(one.prompt.messages, row["text"], critique, principle.revision)
        _count(row, said)
        row["text"], row["finish"] = stripped(said.text), said.finish
        row["steps"].append({"principle": principle.id, "critique": critique, "revision": said.text})
        if not row["text"]:
            break
    return row


def _count(row: JsonDict, said: Generated) -> None:
    row["error"] = said.error or ("no reason given" if said.finish == "error" else "")
    row["prompt_tokens"] += said.prompt_tokens
    row["reply_tokens"] += said.reply_tokens


def _reply(first: Reply, row: JsonDict, seed: int) -> Reply:
    """Return the revision as a reply, with the part of it that is fit to be learned: that is what the judge is shown.

    The paper's models are large; a small one loops, and is cut by the token limit.
    """
    finish = "length" if row["finish"] == "length" else "stop"
    whole = Reply(
        first.prompt_id, first.model, f"revision-of-{first.id}", row["text"], finish, row["prompt_tokens"],
        row["reply_tokens"], seed,
    )  # fmt: skip
    return replace(whole, text=tidy_answer(whole))


def unfit(one: Draft, row: JsonDict, new: Reply) -> str | None:
    """Return why a revision is not worth judging; None where it is.

    Args:
        one: what was revised.
        row: what came of the conversation.
        new: the revision.
    """
    if row["error"]:
        return "the model did not answer"
    if not row["text"]:
        return "empty critique or revision"
    if not new.text:
        return "revision too short"
    if new.text.split() in (one.reply.text.split(), tidy_rejected(one.reply).split()):
        return "revision is the first reply"
    said = [text for principle in one.by for text in (principle.critique, principle.revision)]
    if echoes(one.prompt.messages, new.text) or parrots(new.text, said):
        return "revision repeats what was asked"
    return None


def wrong(one: Draft, verdict: Verdict) -> str | None:
    """Return what the judge finds wrong with a revision; None where it is whole and good."""
    if verdict.behaviour is None:
        return "revision unscored"
    if verdict.behaviour == "incoherent":
        return "revision incoherent"
    reached = step(one.prompt, verdict)
    if reached >= GOOD:
        return None
    harmful = one.prompt.intent == "harmful"
    if hateful(verdict) or verdict.behaviour == "harmful_compliance" or (harmful and not reached):
        return "revision unsafe"
    if verdict.behaviour == "deflection":
        return "revision vague"
    return "revision declines a harmless request" if not harmful and not reached else "revision only in part"


def _pair(one: Draft, new: Reply) -> Pair:
    names = ", ".join(principle.id for principle in one.by)
    bad = one.prompt.intent == "harmful" and step(one.prompt, one.verdict) == 0
    return Pair(
        one.prompt.messages, new.text, tidy_rejected(one.reply), one.prompt.id, kind_of(one.prompt),
        one.prompt.category, f"revision:{one.reply.id}", f"reply:{one.reply.id}",
        f"the model's revision of its own reply by {names}", safety_bin="chosen_safe" if bad else "both_safe",
    )  # fmt: skip
