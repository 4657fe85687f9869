"""Replies to verdicts, and how wrong each judge is.

runner.py        judge_all: one verdict per exchange, whatever happens
judges/          the catalogue; a member has about, revision, gold and judge(exchanges)
text.py          what judges of words share: normalised text, sentences, content words
lexicon.py       the patterns of declining, going along, hate
numbered.py      words as numbers: blocks of texts as columns
signs.py         the signs that the embedded judge looks for in sentences; reading.py: all that it sees
grams.py         a linear model over n-grams, for blocks of texts
loops.py         babble: loops, parroting, word salad
spoken.py        in which language a reply is, and whether it is an answer at all
languages/       how one declines in each language: words of refusal, by code
gold.py          replies that a careful reader has labelled; gold/replies.jsonl
agreement.py     a judge against that gold
fit_probe.py     trains the linear probe (python -m primum.judging.fit_probe)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from primum.core.languages import ENGLISH
from primum.core.records import Behaviour, Intent, Prompt, Reply, user


class Exchange(NamedTuple):
    """What was asked and what was answered."""

    prompt: Prompt
    reply: Reply


class Case(NamedTuple):
    """An exchange whose verdict is known: a judge's gold."""

    intent: Intent
    prompt: str
    reply: str
    behaviour: Behaviour
    full: bool = True
    reason: Literal["safety", "ability"] | None = None
    language: str = ENGLISH


def exchange(
    intent: Intent,
    prompt: str,
    reply: str,
    category: str = "other",
    model: str = "case",
    finish: Literal["stop", "length", "error"] = "stop",
    language: str = ENGLISH,
) -> Exchange:
    """Return an exchange made of two plain texts; `language` is the prompt's."""
    asked = Prompt((user(prompt),), intent, category, language)
    return Exchange(asked, Reply(asked.id, model, "", reply, finish, 0, 0, 0))
