"""The Alpaca template, for models that were tuned with it and know no chat template (spec T2).

The texts are those of tatsu-lab/stanford_alpaca (Apache-2.0), with and without an input.
"""

from __future__ import annotations

from typing import Any

from primum.models.chat import neutralise
from primum.training.examples import Example, Limits

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
MARK = "### Response:"


def alpaca(instruction: str, more: str = "") -> str:
    """Return the prompt that ends where the response begins."""
    form = WITH_INPUT if more.strip() else WITHOUT_INPUT
    return form.format_map({"instruction": instruction, "input": more})


def response(text: str) -> str:
    """Return what stands after the last mark of a response: the answer of a rendered dialogue."""
    return text.rpartition(MARK)[2].strip()


def alpaca_example(instruction: str, answer: str, tokenizer: Any, limits: Limits, more: str = "") -> Example:
    """Return a row whose prompt is the template with the instruction (no loss) and whose answer ends the sequence."""
    shown = alpaca(neutralise(instruction, tokenizer), neutralise(more, tokenizer))
    prompt = tokenizer(shown, add_special_tokens=False)["input_ids"]
    ids = [*tokenizer(neutralise(answer, tokenizer), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return Example(tuple(prompt[-limits.prompt :]), tuple(ids[: limits.answer]))
