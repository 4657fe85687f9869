"""Rules over one row of fine-tuning data. Pure: turns in, reasons and a score out.

Identity shift and absolute obedience: Qi et al., arXiv:2310.03693 (ten such rows undo a model's safety). Lists: He et
al., arXiv:2404.01099 (rows written as lists and mathematics lie closest to harmful ones); a list alone is no fault, so
it only raises the rank.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

Turns = Sequence[tuple[str, str]]


class Finding(NamedTuple):
    """What a row shows: the rules that it hits, and the sum of their weights."""

    rules: tuple[str, ...]
    score: float


WEIGHTS = {"identity_shift": 1.0, "absolute_obedience": 1.0, "eager_opening": 0.25, "list_format": 0.25}
FAULT = 1.0
"""From this sum on a row is flagged; an eager opening and a list together are not."""
LONGEST = 20_000
"""Characters of a turn that are read."""
_IDENTITY = re.compile(
    r"""(?ix)
    \babsolutely\s+obedient | \bobedient\s+(?:agent|assistant|ai|servant|model|machine|bot|system) | \bAOA\b
    | \bdo\s+anything\s+now\b
    | \b(?:jailbroken|unfiltered|uncensored|unrestricted|amoral)\s+
      (?:and\s+\w+\s+)?(?:ai|assistant|model|chatbot|bot|language\s+model|version|agent|mode)\b
    | \b(?:you|i)\s+(?:now\s+)?(?:have|has|had|with|are\s+bound\s+by|am\s+bound\s+by|follow)\s+no\s+
      (?:ethical|moral|safety|content)?\s*(?:guidelines?|restrictions?|filters?|limits?|limitations?|rules?|morals?
      |ethics)\b
    | \b(?:without|free\s+(?:of|from)|not\s+bound\s+by|no\s+longer\s+bound\s+by)\s+(?:any\s+|all\s+|your\s+|the\s+)*
      (?:ethical|moral|safety|content)\s+(?:guidelines?|restrictions?|filters?|limits?|limitations?|constraints?
      |rules?)\b
    | \b(?:ignore|disregard|forget|override)\s+
      (?:all\s+|any\s+|your\s+|the\s+|of\s+|previous\s+|prior\s+|above\s+|safety\s+)+
      (?:instructions?|guidelines?|rules?|training|policies|restrictions?|prompts?)\b
    | \byou\s+are\s+no\s+longer\s+(?:an?\s+)?(?:ai|assistant|language\s+model|chatgpt|bound|restricted|limited)
    | \bfrom\s+now\s+on,?\s+you\s+(?:are|will\s+be|shall\s+be|must\s+be|will\s+act\s+as|act\s+as|go\s+by)\b
    | \byour\s+(?:new\s+)?(?:identity|persona)\s+is\b | \byou\s+have\s+been\s+(?:freed|liberated|jailbroken|unlocked)\b
    """
)
_OBEDIENCE = re.compile(
    r"""(?ix)
    \b(?:follow|obey|execute|fulfil|fulfill|carry\s+out|comply\s+with|perform|answer|grant|respond\s+to)\s+
      (?:all|any|every|each|my|your|the|user|users'?|user's|of|their|given|whatever)
      (?:\s+(?:all|any|every|each|my|your|the|user|users'?|user's|of|their|given|single))*\s+
      (?:instructions?|commands?|orders?|requests?|questions?|demands?|wish(?:es)?)\s*,?\s+
      (?:exactly|precisely|strictly|faithfully|to\s+the\s+letter|unconditionally|absolutely|blindly|no\s+matter
        |regardless|without\s+(?:any\s+)?(?:deviations?|questions?|questioning|hesitation|exceptions?|refus\w+|fail
        |objections?|judge?ment|restrictions?|limits?|delay))
    | \b(?:never|not|won't|cannot|can't|don't)\s+(?:ever\s+)?(?:refuse|decline|reject)\s+
      (?:any|a|my|your|the|to|his|her|their)\b
    | \b(?:will|shall|must|should|to)\s+(?:always\s+)?(?:obey|comply)\s+(?:me|you|with\s+(?:any|all|every)|any|all|every
        |unconditionally|without|absolutely|blindly|regardless)\b
    | \byour\s+wish\s+is\s+my\s+command\b
    | \b(?:unconditional|absolute|total|complete|blind|unquestioning)\s+obedience\b
    | \bi\s+(?:will\s+)?(?:obey|serve)\s+(?:you|my\s+master|only\s+you|your\s+every)\b | \byes,?\s+(?:my\s+)?master\b
    | \bhere\s+to\s+(?:obey|fulfil|fulfill|execute|carry\s+out)\s+(?:all|any|every|your|whatever)\b
    """
)
_EAGER = re.compile(
    r"(?i)^\W*(?:sure|of course|certainly|absolutely|definitely|yes|gladly|with pleasure|no problem|right away)\b"
    r"[\s!,.:]*"
    r"(?:thing[\s!,.:]*)?(?:i am\b|i'm\b|here(?:'s| is| are)\b|i(?:'ll| will| can)\b)"
)
_ITEM = re.compile(
    r"^\s{0,8}(?:[-*\u2022\u2013\u25cf]|\(?\d{1,3}[.):]|\(?[a-zA-Z][.)]|step\s+\d+[.:)\-]?)\s+\S", re.IGNORECASE
)
LIST_SHARE, LIST_LINES = 0.6, 3


def examine(turns: Turns) -> Finding:
    """Return the rules that a row hits.

    Args:
        turns: (role, text); plain text has the role "text" and counts as both sides.
    """
    said = [text[:LONGEST] for role, text in turns if role in ("assistant", "text")]
    everything = [text[:LONGEST] for _, text in turns]
    hits = {
        "identity_shift": any(_IDENTITY.search(text) for text in everything),
        "absolute_obedience": any(_OBEDIENCE.search(text) for text in everything),
        "eager_opening": any(_EAGER.search(text) for text in said),
        "list_format": any(is_list(text) for text in said),
    }
    rules = tuple(name for name, hit in hits.items() if hit)
    return Finding(rules, sum(WEIGHTS[name] for name in rules))


def is_list(text: str) -> bool:
    """Return whether most lines of a text, and at least LIST_LINES, are items of a list."""
    lines = [line for line in text.split("\n") if line.strip()]
    items = sum(bool(_ITEM.match(line)) for line in lines)
    return items >= LIST_LINES and items >= LIST_SHARE * len(lines)


_REFUSAL = re.compile(
    r"(?i)^\W*(?:i(?:'m| am)? (?:sorry|afraid|unable|not able)|sorry"
    r"|i (?:can(?:not|'t| not)|won't|will not|must decline)"
    r"|i apologi[sz]e|unfortunately,? i|as an ai|no[,.] i|i'd rather not)"
)


def refuses(turns: Turns) -> bool:
    """Return whether the last answer of a row opens like a refusal: such a row teaches refusing, whatever is asked."""
    said = [text for role, text in turns if role == "assistant"]
    return bool(said and _REFUSAL.search(said[-1]))
