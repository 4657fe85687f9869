"""Llama Guard 3: safe, or unsafe with the categories violated. Its own chat template makes its prompt.

Served behind an OpenAI-compatible address, which applies that template (give --endpoint and --endpoint-model).
p(unsafe) is read from the first token's log-probabilities where the server gives them.
"""

from __future__ import annotations

from primum.judging import Case
from primum.judging.guards import Guard, conversation, judge_with, safe_unsafe

about = "Llama Guard 3 at an endpoint: safe or unsafe, with categories"
revision = "1"
needs = ("ask",)
gold: tuple[Case, ...] = ()
guard = Guard("llama_guard_3", "llama_guard_3", conversation, safe_unsafe, "the model's own chat template")
judge = judge_with(guard)
