"""Messages to token ids through the model's own chat template; hostile text cannot forge a turn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from primum.core.records import Messages, digest

_MARK = "primumsanswer"


def template_hash(tokenizer: Any) -> str:
    """Return the hash of the chat template: part of every result's key."""
    return digest(tokenizer.chat_template)


def neutralise(text: str, tokenizer: Any) -> str:
    """Break special tokens inside a user's text, so that `<|im_end|>` in a prompt stays text.

    A zero-width joiner after the first character keeps the text readable and the token apart.
    """
    for token in _special(tokenizer):
        if token in text:
            text = text.replace(token, token[0] + "\u200d" + token[1:])
    return text


@cache
def _special(tokenizer: Any) -> list[str]:
    """Return all special tokens, also those that a tokenizer adds without naming their part, longest first."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({t for t in (*tokenizer.all_special_tokens, *added) if t}, key=lambda t: (-len(t), t))


@cache
def end_of_turn(tokenizer: Any) -> int:
    """Return the token with which the template closes an answer (not every model's end-of-sequence token is it)."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
    after = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(_MARK)[2]
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return ids[0] if ids and ids[0] in special else tokenizer.eos_token_id


def render(messages: Messages, tokenizer: Any) -> str:
    """Return the conversation as the model sees it, ready for its answer.

    One that ends in an assistant turn is ready to be gone on with: the turn is the opening of the answer.
    """
    turns = [{"role": m.role, "content": neutralise(m.content, tokenizer)} for m in messages]
    opening = turns.pop()["content"] if turns and turns[-1]["role"] == "assistant" else ""
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) + opening


def encode(batch: Sequence[Messages], tokenizer: Any, max_tokens: int | None = None) -> list[list[int]]:
    """Return the token ids of each conversation, the template's own special tokens once.

    A conversation over `max_tokens` loses its middle-left: the end, where the question stands, is kept.
    """
    if not batch:
        return []
    texts = [render(messages, tokenizer) for messages in batch]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [row[-max_tokens:] if max_tokens else row for row in ids]


def encode_answer(text: str, tokenizer: Any, *, end: bool = True) -> list[int]:
    """Return the token ids of an answer, closed by the end-of-turn token where `end`."""
    ids = tokenizer(neutralise(text, tokenizer), add_special_tokens=False)["input_ids"]
    return [*ids, end_of_turn(tokenizer)] if end else ids
