"""How surprised the model is by held-out text: mean negative log-likelihood of a token. What tuning must not raise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from primum.evaluation.data import asked, field
from primum.evaluation.items import Answer, Gold, Item
from primum.evaluation.nll import METRICS, score
from primum.prompts.embedded import embedded
from primum.prompts.files import read_rows

__all__ = ["score"]
about = "NLL of held-out text: --data FILE with a column text (or prompt and answer); else primum's own benign answers."
licence = "Apache-2.0"
judge = "likelihood"
cluster = "a text"
metrics = METRICS


def items(source: Path | None = None) -> Iterator[Item]:
    """Yield texts: the whole of `text`, or `answer` after `prompt`.

    Raises:
        BadInputError: no file, or neither column.
    """
    if source is None:
        # all that come with an answer are for the test (prompts/split.py)
        kept = (prompt for prompt in embedded() if prompt.intent == "benign" and prompt.answer)
        yield from (_item(prompt.text, str(prompt.answer)) for prompt in kept)
        return
    for row in read_rows(source):
        before = field(row, "prompt", "question") if "answer" in row.values else ""
        yield _item(before, field(row, "answer", "text"))


def _item(before: str, text: str) -> Item:
    item = Item(asked(before, "benign", "general", "nll", licence), "", (), (f"\n\n{text}" if before else text,))
    return Item(item.prompt, item.id, (), item.options)


_ITEM = Item(asked("", "benign", "general", "gold", licence), "", (), ("four",))
gold = (
    Gold(_ITEM, Answer(logps=(-3.0,), lengths=(2,)), {"nll": 1.5, "nll_byte": 0.75}),
    Gold(_ITEM, Answer(logps=(float("nan"),), lengths=(2,)), {"nll": "", "nll_byte": ""}),
    Gold(_ITEM, Answer(logps=(0.0,), lengths=(0,)), {"nll": "", "nll_byte": ""}),
)
