"""The main job on the embedded model, as small as it can be: what it leaves, and killed in every step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from children import Child

ARGUMENTS = (
    "repair", "--limit", "4", "--reply-tokens", "8", "--force", "--judges", "rules", "--budget", "quick",
    "--sft.whole-tokens", "8", "--dpo.tokens", "8",
)  # fmt: skip
STEPS = (
    "01-prompts", "02-replies-before", "02-judge-before-by-rules", "02-likelihood-before", "03-replies-to-learn-from",
    "04-judge-training-replies-by-rules", "05-pairs", "06-sft", "06-linear-start", "07-dpo", "07-line", "08-checkpoint",
    "09-replies-after",
)  # fmt: skip


DOMAIN = (
    '{"prompt": "Which vitamin is ascorbic acid?", "options": ["A", "B12", "C"], "right": "C"}\n'
    '{"prompt": "What does aspirin do?", "answer": "It eases pain."}\n'
)


def start(out: Path) -> Child:
    rows = out.with_name("domain.jsonl")
    rows.write_text(DOMAIN, encoding="utf-8")
    return Child([*ARGUMENTS, "--domain", rows, "--out", out], out.with_name("log.txt"))


def finish(out: Path) -> dict[str, Any]:
    assert start(out).wait() in (0, 1, 3), out.with_name("log.txt").read_text(encoding="utf-8")
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def kill_in(out: Path, step: str) -> bool:
    """Start a run and kill it as soon as a step's folder is there; False where the run ended first."""
    return start(out).kill_when((out / "steps" / step / "key.json").exists)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    finish(out)
    return out


def numbers(facts: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on a kill: everything but times and places."""
    kept = ("decision", "measurements", "comparisons", "training", "pairs", "transcripts")
    return {key: facts[key] for key in kept}


@pytest.mark.slow  # with a tiny model, and at more places: test_pipeline_faults.py
@pytest.mark.timeout(900)
def test_killed_in_every_step_it_ends_with_the_same_numbers(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed = [step for step in STEPS if kill_in(out, step)]
    assert killed == list(STEPS)
    undisturbed = json.loads((whole / "report.json").read_text(encoding="utf-8"))
    assert numbers(finish(out)) == numbers(undisturbed)
    weights = [(folder / "checkpoint" / "model.safetensors").read_bytes() for folder in (whole, out)]
    assert weights[0] == weights[1]


@pytest.mark.timeout(300)
def test_merged_checkpoint_answers_the_same_in_plain_transformers(whole: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from primum.core.records import user
    from primum.models.engines.hf import HFEngine
    from primum.models.load import load
    from primum.models.sampling import Sampling

    folder = str(whole / "checkpoint")
    asked = ["What is the capital of France?", "Name three fruits.", "Write one line about the sea."]
    ours = HFEngine(load(folder, torch.float32))([(user(q),) for q in asked], Sampling(0.0, 12), seed=0)
    network, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder),
    )
    for question, reply in zip(asked, ours, strict=True):
        turns = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        new = network.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(new, skip_special_tokens=True).strip() == reply.text


def test_the_run_folder_holds_what_is_promised(whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert {"report.json", "report.html", "evidence.json", "checkpoint", "adapter", "steps"} <= names
    assert (whole / "checkpoint" / "tokenizer.json").is_file() and (whole / "checkpoint" / "README.md").is_file()
    assert not list(whole.rglob("*.bin")) and not list(whole.rglob("*.pt")) and not list(whole.rglob("*.partial"))


def test_the_users_domain_is_measured_by_likelihood_and_by_accuracy(whole: Path) -> None:
    facts = json.loads((whole / "report.json").read_text(encoding="utf-8"))
    for when in ("before", "after"):
        rows = {m["metric"]: m for m in facts["measurements"]["rules"][when] if m["slice"] == "all"}
        assert rows["nll_domain"]["n"] == 2
        assert rows["acc_domain"]["n"] == 1 and rows["acc_domain"]["left_out"] == {"no options": 1}


def test_a_second_run_changes_nothing_and_trains_nothing(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copied away"
    shutil.copytree(whole, copy)
    before = (copy / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    assert numbers(finish(copy)) == numbers(json.loads((whole / "report.json").read_text(encoding="utf-8")))
    assert (copy / "checkpoint" / "model.safetensors").stat().st_mtime_ns == before
