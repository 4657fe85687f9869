"""Safe to Serve's helpfulness (arXiv:2412.00074): how like replies are to the outputs of Alpaca's test instructions.

Where they are named, a reward model reads the replies too (mean and median), BERTScore or a learned metric compares.
The paper's file of 952 instructions is not in the public data; any file of instructions with outputs takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from primum.evaluation.data import asked, field, rows_of
from primum.evaluation.gauges import BERTSCORE, LEARNED, REWARD
from primum.evaluation.instructions import GREEDY
from primum.evaluation.items import Answer, Gold, Item
from primum.evaluation.likeness import PLAIN, likeness, metrics_of
from primum.evaluation.likeness import score as like

about = "Likeness of replies to reference answers (BLEU, ROUGE), and rewards, as Safe to Serve measures helpfulness."
licence = "the file's own"
judge = "text"
cluster = "an instruction"
comparable = "only with runs on the same rows: one reference is one good answer of many"
settings = GREEDY
metrics = metrics_of(PLAIN)
gauges = {"reward": REWARD, "bertscore": BERTSCORE, "learned": LEARNED}
HUB = "hub:yahma/alpaca-cleaned:train"


def items(source: Path | None = None) -> Iterator[Item]:
    """Yield instructions with their outputs, from columns `instruction`, `input`, `output`, or `prompt`, `answer`.

    Raises:
        BadInputError: no file, or a row without either; names file and line.
        MissingExtraError: no sacrebleu; told before replies are drawn.
    """
    likeness("bleu")
    for row in rows_of(source, HUB, "safe-to-serve/alpaca_test.jsonl", "instructions with outputs"):
        extra = row.values.get("input")
        text = field(row, "instruction", "prompt")
        text = f"{text}\n\n{extra}" if isinstance(extra, str) and extra.strip() else text
        yield Item(
            asked(text, "benign", "general", "helpfulness", licence), "",
            target={"answer": field(row, "output", "answer")},
        )  # fmt: skip


score = partial(like, PLAIN)
_CASE = Item(asked("Name it.", "benign", "general", "gold", "none"), "", target={"answer": "the cat sat on the mat"})
_ONE: Mapping[str, float] = dict.fromkeys(PLAIN, 1.0)
gold = (
    Gold(_CASE, Answer("the cat sat on the mat"), _ONE),
    Gold(_CASE, Answer(""), dict.fromkeys(PLAIN, 0.0)),
    # 2 of 2 words and of 6: F = 4/8; one pair of 1 and of 5: 2/6; the longest common run is both words
    Gold(_CASE, Answer("The cat!"), {"rouge1": 0.5, "rouge2": 1 / 3, "rougeL": 0.5}),
)
