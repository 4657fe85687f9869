"""Messages to token ids through the model's own chat template; hostile text cannot forge a turn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import TemplateError

from primum.core.parts import takes
from primum.core.records import Kind, Message, Messages, digest, files_of

_MARK = "primumsanswer"
SEE = "name a vision-language model and --engine transformers, or an endpoint that sees (--url)"


def template_hash(tokenizer: Any) -> str:
    """Return the hash of the chat template: part of every result's key."""
    return digest(tokenizer.chat_template)


def neutralise(text: str, tokenizer: Any) -> str:
    """Break special tokens inside a user's text, so that `<|im_end|>` in a prompt stays text.

    A zero-width joiner after the first character keeps the text readable and the token apart.
    """
    for token in special_tokens(tokenizer):
        if token in text:
            text = text.replace(token, token[0] + "\u200d" + token[1:])
    return text


@cache
def special_tokens(tokenizer: Any) -> list[str]:
    """Return all special tokens, also those that a tokenizer adds without naming their part, longest first."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({t for t in (*tokenizer.all_special_tokens, *added) if t}, key=lambda t: (-len(t), t))


@cache
def end_of_turn(tokenizer: Any) -> int:
    """Return the token with which the template closes an answer (not every model's end-of-sequence token is it)."""
    pair = (Message("user", "a"), Message("assistant", _MARK))
    turns = [_turn(message, tokenizer) for message in pair]
    after = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(_MARK)[2]
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return ids[0] if ids and ids[0] in special else tokenizer.eos_token_id


@cache
def _wants_parts(tokenizer: Any) -> bool:
    """Whether the template shows words only where they stand in a part, as those of many models that see do."""
    turns = [{"role": "user", "content": _MARK}]
    try:
        return _MARK not in tokenizer.apply_chat_template(turns, tokenize=False)
    except (TemplateError, TypeError):  # it takes the letters of the text for parts
        return True


def _turn(message: Message, tokenizer: Any) -> dict[str, Any]:
    """Return a turn as the template wants it; a file is a mark of its kind, which the template puts into words."""
    if isinstance(message.content, str):
        text = neutralise(message.content, tokenizer)
        content = [{"type": "text", "text": text}] if _wants_parts(tokenizer) else text
        return {"role": message.role, "content": content}
    parts = [
        {"type": "text", "text": neutralise(part.text, tokenizer)} if part.type == "text" else {"type": part.type}
        for part in message.content
    ]
    return {"role": message.role, "content": parts}


def render(messages: Messages, tokenizer: Any, kinds: tuple[Kind, ...] = ()) -> str:
    """Return the conversation as the model sees it, ready for its answer.

    One that ends in an assistant turn is ready to be gone on with: the turn is the opening of the answer.

    Args:
        messages: the conversation.
        tokenizer: the model's own.
        kinds: of files that the model takes; each stands in the text as the template's mark of it.

    Raises:
        UsageError: it holds a file of another kind.
    """
    if files_of(messages):
        takes(messages, f"the model of '{tokenizer.name_or_path}' read as text", kinds, SEE)
    opening = ""
    if messages and messages[-1].role == "assistant":
        opening, messages = neutralise(messages[-1].text, tokenizer), messages[:-1]
    turns = [_turn(message, tokenizer) for message in messages]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) + opening


def encode(batch: Sequence[Messages], tokenizer: Any, max_tokens: int | None = None) -> list[list[int]]:
    """Return the token ids of each conversation, the template's own special tokens once.

    A conversation over `max_tokens` loses its middle-left: the end, where the question stands, is kept.
    """
    return [row.ids for row in fitted(batch, tokenizer, max_tokens)]


class Fitted(NamedTuple):
    """Token ids of a conversation, and how many were cut off its beginning."""

    ids: list[int]
    cut: int = 0


def fitted(batch: Sequence[Messages], tokenizer: Any, max_tokens: int | None = None) -> list[Fitted]:
    """Return the token ids of each conversation as `encode` does, and how many of them did not fit."""
    if not batch:
        return []
    texts = [render(messages, tokenizer) for messages in batch]
    rows: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    most = max_tokens or max(map(len, rows))
    return [Fitted(row[-most:] if most else row, max(0, len(row) - most)) for row in rows]


def encode_answer(text: str, tokenizer: Any, *, end: bool = True) -> list[int]:
    """Return the token ids of an answer, closed by the end-of-turn token where `end`."""
    ids = tokenizer(neutralise(text, tokenizer), add_special_tokens=False)["input_ids"]
    return [*ids, end_of_turn(tokenizer)] if end else ids
