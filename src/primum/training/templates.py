"""The Alpaca template as a chat template, for base models and for models that were tuned with it (spec T2).

The texts are those of tatsu-lab/stanford_alpaca (Apache-2.0), with and without an input. As a chat template it is saved
with the tokenizer, so that every other verb talks to the trained model in the same form.
"""

from __future__ import annotations

ALPACA_INPUT = "\n\n### Input:\n"
"""What stands between an instruction and its input inside a turn of the user."""
ALPACA = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% if '" + ALPACA_INPUT.replace("\n", "\\n") + "' in m['content'] %}"
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "{% else %}Below is an instruction that describes a task. {% endif %}"
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{{ m['content'] }}\n\n### Response:\n"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] }}{{ eos_token }}\n\n"
    "{% else %}{{ m['content'] }}\n\n{% endif %}{% endfor %}"
)
"""A turn of the user ends where the response begins; a response is closed by the end-of-sequence token."""
TEMPLATES = {"alpaca": ALPACA}


def instruction(text: str, more: str, template: str | None) -> str:
    """Return a turn of the user that says an instruction and its input, as the template wants them."""
    if not more.strip():
        return text
    return f"{text}{ALPACA_INPUT if template == 'alpaca' else chr(10) * 2}{more}"
