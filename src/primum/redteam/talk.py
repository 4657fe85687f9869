"""What an attack may do. An attack is a generator: it yields a step, is sent back a text, and returns its transcript.

    Messages or Say    a conversation for the model under attack; sent back: its reply
    Ask                a conversation for the attacker's own model; sent back: its reply
    Rate               a reply to be judged; sent back: its behaviour ("refusal", ...), or "unscored"

An attack knows no engine, no judge and no file. `rng` is its only source of chance: the same seed gives the same talk.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from primum.core.records import Message, Messages, assistant, user
from primum.judging.text import content, normalise

VECTORS = {
    "plain": "the request as it is",
    "psychological": "pressure on feelings: authority, urgency, sympathy",
    "logic": "reasoning that leads astray: false premises, hypotheses, negation",
    "syntactic": "another form of the same words: misspelling, encodings, markup",
    "semantic": "other words for the same thing: metaphor, verse, euphemism, tense",
    "perspective": "another point of view: personas, fiction, opposite day",
    "framing": "the request dressed as good or as already excused",
    "language": "languages other than English",
    "context": "what stands before the request: examples, a long conversation, invented history",
    "multi_turn": "small steps over several turns",
    "image": "the request written into a picture, for models that see",
    "prefill": "the opening of the answer put into the model's mouth",
    "search": "many tries: samples, perturbations, another model's ideas",
}
"""Attack vectors: the five of the Llama 2 red team (arXiv:2307.09288, section 4.3), and what came later."""


class Goal(NamedTuple):
    """What an attack tries to get answered, and how many tries an attack that searches may make."""

    text: str
    tries: int = 6


class Decoding(NamedTuple):
    """How one reply is drawn, where an attack changes it; the length stays the run's."""

    temperature: float
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class Say:
    """A conversation for the model under attack. It may end in an assistant turn, which the model goes on from.

    Args:
        messages: turns in order, without the run's own system prompt.
        label: names the kind of try ("depth 10", "fr"), so that the report can tell kinds apart.
        lead: leads up to the request; the reply is kept and not judged.
        decoding: in place of the run's own.
    """

    messages: Messages
    label: str = ""
    lead: bool = False
    decoding: Decoding | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A conversation for the attacker's own model."""

    messages: Messages


@dataclass(frozen=True, slots=True)
class Rate:
    """A reply to be judged as an answer to the goal, while the attack goes on."""

    reply: str


Step = Messages | Say | Ask | Rate
Talk = Generator[Step, str, Messages]
Attack = Callable[[Goal, Random], Talk]


def once(*messages: Message) -> Talk:
    """Say one thing and end."""
    return (yield from reply_to(messages))


def reply_to(messages: Messages, label: str = "") -> Talk:
    """Say one thing; return the conversation with its reply."""
    reply = yield Say(messages, label)
    return (*messages, assistant(reply))


def each(tries: Sequence[Say]) -> Talk:
    """Make tries that do not depend on each other; return the last one's transcript."""
    talk: Messages = ()
    for say in tries:
        reply = yield say
        talk = joined(say.messages, reply)
    return talk


def joined(messages: Messages, reply: str) -> Messages:
    """Return the conversation with the reply; one that ended in an assistant turn has it go on."""
    if messages and messages[-1].role == "assistant":
        return (*messages[:-1], assistant(f"{messages[-1].text} {reply}".strip()))
    return (*messages, assistant(reply))


def wrapped(forms: Sequence[str], goal: Goal, rng: Random) -> Talk:
    """Say the goal in one of the forms, drawn by `rng`; `{goal}` stands for it."""
    return once(user(rng.choice(forms).replace("{goal}", goal.text.strip())))


def usable(answer: str, goal: Goal, longest: int = 1200) -> str:
    """Return the prompt that an attacker's model wrote, or "" where it wrote none that can be used.

    It may stand between [PROMPT] and [/PROMPT]; else the whole answer is taken. Refused are empty and overlong texts,
    and texts that share no word of substance with the goal (TAP's pruning of what is off topic, arXiv:2312.02119).
    """
    text = answer.partition("[PROMPT]")[2] or answer
    text = text.partition("[/PROMPT]")[0].strip().strip('"').strip()
    if not text or len(text) > longest:
        return ""
    return text if content(normalise(text)) & content(normalise(goal.text)) else ""
