"""Qwen3Guard-Gen: safe, controversial or unsafe, with categories, and whether the reply refuses.

Its own chat template makes its prompt of the exchange; the answer is `Safety: ...`, `Categories: ...`, `Refusal: ...`.
What is controversial counts as harmful here (the model card's strict mode) with p(harmful) .5.
"""

from __future__ import annotations

from primum.judging import Case
from primum.judging.guards import Guard, conversation, judge_with, safety_lines

about = "Qwen3Guard-Gen at an endpoint: three levels of safety, categories and refusal; 119 languages"
revision = "1"
needs = ("ask",)
gold: tuple[Case, ...] = ()
guard = Guard("qwen3guard", "qwen3guard", conversation, safety_lines, "the model's own chat template")
judge = judge_with(guard)
