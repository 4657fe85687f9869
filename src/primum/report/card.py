"""Facts to the model card that lies beside the checkpoint: a README.md with Hugging Face's front matter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from markupsafe import escape

from primum.report import words
from primum.report.languages import language_rows
from primum.report.words import Facts

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SHOWN = (
    "harmful_compliance", "refusal_harmful", "refusal_twin", "refusal_general", "hateful", "incoherent",
    "discrimination", "d_prime", "nll", "nll_domain", "acc_domain",
)  # fmt: skip
LIMITS = """\
- Safety post-training can be undone by whoever holds the weights: a short fine-tune, a merge, a quantisation, a
  prefilled answer or another system prompt may bring the old behaviour back. This model is not tamper-proof, and
  nobody should say that it is. Measure again after every change.
- The numbers hold for the prompts, the language, the sampling settings and the judges named here. Judges err; where
  their agreement with labels by hand is known it is given above.
- The model may refuse what deserves an answer, and may still answer what it should refuse. Do not use it as the only
  safeguard, and not for medical, legal or financial decisions."""
LOADING = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

path = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path)
messages = [{"role": "user", "content": "Why is the sky blue?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=128)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""

SEEING = LOADING.replace("AutoModelForCausalLM", "AutoModelForImageTextToText").replace(
    '"content": "Why is the sky blue?"', '"content": [{"type": "text", "text": "Why is the sky blue?"}]'
)
"""The same for a vision-language model, whose template reads parts."""


def model_card(facts: Facts) -> str:
    """Return the README.md of the repaired checkpoint: front matter, what was done, numbers, limits, how to load."""
    model, decision = facts.get("model") or {}, facts.get("decision") or {}
    steps = [f"{number}. {_line(step['text'])}" for number, step in enumerate(facts.get("steps") or [], 1)]
    outcome = words.words(decision.get("outcome") or "undecided")
    parts = [
        f"---\n{yaml.safe_dump(_front(facts), sort_keys=False, allow_unicode=True, width=1000)}---",
        f"# {_line(model.get('name') or 'model')}, repaired with primum",
        f"{_line(facts.get('title') or '')}. Gate: **{outcome}**. {_line(words.reason(decision))}",
        *[f"- not passed: {_rule(rule)}" for rule in words.failing(facts)],
        "## What was done",
        "\n".join(steps) or "No steps were written down.",
        "## Numbers",
        "The same held-out prompts before and after, with 95% intervals and the number of prompts.",
        _numbers(facts),
        _trust(facts),
        _languages(facts),
        "## Limits",
        LIMITS,
        "## How to load it",
        SEEING if model.get("sees") else LOADING,
        f"Written by primum {_line(facts.get('primum') or '')}; seed {_line(facts.get('seed'))}, "
        f"budget {_line(facts.get('budget'))}. The full report lies in the run folder as report.html.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _flat(value: Any) -> str:
    """One line: a line of three dashes in a name must not end the front matter."""
    return " ".join(words.clip(value, 300).split())


def _line(value: Any) -> str:
    """One line of Markdown in which nothing is markup: names and texts come from outside."""
    text = str(escape(_flat(value)))
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text)


def _front(facts: Facts) -> dict[str, Any]:
    model = facts.get("model") or {}
    front: dict[str, Any] = {"license": _flat(model.get("licence") or "other")}
    if front["license"] == "other":
        front["license_name"] = "that-of-the-base-model"
    base = next((str(model[key]) for key in ("source", "name") if _HUB_ID.fullmatch(str(model.get(key, "")))), None)
    if base:
        front |= {"base_model": base, "base_model_relation": "finetune"}
    name = _flat(model.get("name") or "model")
    front |= {
        "library_name": "transformers", "pipeline_tag": "text-generation",
        "tags": ["primum", "safety", "alignment", "dpo", "lora"],
        "model-index": [{"name": f"{name}-repaired", "results": _results(facts)}],
    }  # fmt: skip
    return front


def _results(facts: Facts) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for judge in words.judges(facts):
        rows = [words.measured(facts, judge, "after", name) for name in SHOWN]
        metrics = [_metric(row, judge) for row in rows if row and words.finite(row["value"]) is not None]
        if metrics:
            dataset = {"name": f"primum held-out prompts, judge {_flat(judge)}", "type": "primum-held-out"}
            task = {"type": "text-generation", "name": "Text generation"}
            results.append({"task": task, "dataset": dataset, "metrics": metrics})
    return results


def _metric(row: Mapping[str, Any], judge: str) -> dict[str, Any]:
    about = words.metric(row["metric"])
    span = words.interval(row.get("low"), row.get("high"), about.unit)
    name = f"{about.label} ({_flat(judge)}; 95% interval {span or 'not known'}; n {words.figure(row.get('n'))})"
    return {"type": _flat(row["metric"]), "name": name, "value": round(float(row["value"]), 4)}


def _numbers(facts: Facts) -> str:
    head = ["| metric | judge | before | after | n |", "|---|---|---|---|---|"]
    rows = [
        _row(facts, name, judge)
        for name in SHOWN
        for judge in words.judges(facts)
        if words.measured(facts, judge, "after", name)
    ]
    return "\n".join(head + rows) if rows else "Nothing was measured."


def _languages(facts: Facts) -> str:
    """Return the numbers of each language that was measured; nothing where none was."""
    rows = language_rows(facts)
    if not rows:
        return ""
    judge = _line(facts["languages"]["judge"])
    head = [f"By language, judge {judge}, before and after; harmful compliance is an upper limit where the judge knows "
            "words of refusal only.", "",
            "| language | trained on | harmful compliance | twins refused | refusals in its language |",
            "|---|---|---|---|---|"]  # fmt: skip
    return "\n".join([*head, *map(_language, rows)])


def _language(row: Mapping[str, Any]) -> str:
    cells = [" to ".join(_value(side, "share") if side else words.NONE for side in row["cells"][name])
             for name in ("harmful_compliance", "refusal_twin", "same_language")]  # fmt: skip
    return "| " + " | ".join([_line(row["name"]), "yes" if row["trained"] else "no", *cells]) + " |"


def _row(facts: Facts, name: str, judge: str) -> str:
    about = words.metric(name)
    before, after = (words.measured(facts, judge, when, name) for when in ("before", "after"))
    cells = [f"{about.label} ({'lower' if about.lower_is_better else 'higher'} is better)", _line(judge)]
    cells += [_value(before, about.unit), _value(after, about.unit), words.figure((after or {}).get("n"))]
    return "| " + " | ".join(cells) + " |"


def _value(row: Mapping[str, Any] | None, unit: str) -> str:
    if row is None:
        return words.NONE
    span = words.interval(row.get("low"), row.get("high"), unit)
    return words.number(row["value"], unit) + (f" ({span})" if span else "")


def _rule(rule: Mapping[str, Any]) -> str:
    return f"{_line(rule.get('text') or rule['name'])}, judge {_line(rule.get('judge') or '-')}"


def _trust(facts: Facts) -> str:
    lines: list[str] = []
    for judge in facts.get("judges") or []:
        agreement = judge.get("agreement") or {}
        share = f"agrees with {words.percent(agreement.get('accuracy'))} of {words.figure(agreement.get('n'))}"
        left = sum((agreement.get("left_out") or {}).values())
        more = f" ({left} more, most of harmful compliance, could not be read)" if left else ""
        known = f"{share} labels by hand{more}" if agreement else "agreement with labels by hand was not measured"
        lines.append(f"- Judge {_line(judge['id'])} ({_line(judge.get('about') or '')}): {known}.")
    return "\n".join(lines)
