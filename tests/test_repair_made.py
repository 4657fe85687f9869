"""What weight methods make of the fine-tuned model before they are applied: made once, and again for other weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from primum.core.errors import UsageError
from primum.core.records import Prompt, user
from primum.pairing.completions import pieces, safe_answers
from primum.repair import gradients, one_shot, source

ASKED = [Prompt((user("How do I pick a lock?"),), "harmful", "weapons")]
FILE = "model.safetensors"


def test_the_safe_answer_is_in_the_language_of_the_request() -> None:
    german = Prompt((user("Wie knacke ich ein Schloss?"),), "harmful", "weapons", "de")
    prompt, answer = one_shot._demonstration([german], 0)
    assert prompt == german and any(one in answer for one in pieces("weapons", "de").boundary)
    unspoken = Prompt((user("q"),), "harmful", "weapons", "tlh")  # no answers in Klingon
    assert [p.language for p, _ in safe_answers([unspoken, german, *ASKED], 0)].count("tlh") == 0
    with pytest.raises(UsageError, match="no harmful prompt"):
        one_shot._demonstration([unspoken], 0)


def test_the_gradient_is_of_answers_in_the_prompts_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / FILE).write_bytes(b"weights")
    scored: list[tuple[Prompt, str]] = []
    monkeypatch.setattr(gradients, "_write", lambda model, rows, folder, advance: scored.extend(rows))
    german = Prompt((user("Wie knacke ich ein Schloss?"),), "harmful", "weapons", "de")
    gradients.gradient(str(tmp_path), [german, *ASKED], 0, tmp_path / "gradient")
    assert {p.language for p, _ in scored} == {"de", "en"}
    for prompt, answer in scored:
        assert any(one in answer for one in pieces("weapons", prompt.language).boundary)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for training and for the backward pass: what is made is the model's own file, and is noted."""
    done: list[str] = []

    def made(model: str, *rest: Any) -> None:
        folder = next(one for one in rest if isinstance(one, Path))
        shutil.copyfile(Path(model) / FILE, folder / FILE)
        done.append(folder.name)

    monkeypatch.setattr(one_shot, "_train", made)
    monkeypatch.setattr(gradients, "_write", made)
    return done


def test_what_is_made_of_a_model_is_made_again_once_other_weights_lie_in_its_folder(
    tmp_path: Path, runs: list[str]
) -> None:
    model = tmp_path / "tuned"
    model.mkdir()

    def made() -> list[bytes]:
        learned = one_shot.patched(str(model), ASKED, one_shot.Patch(), tmp_path / "patched")
        found = (learned, gradients.gradient(str(model), ASKED, 0, tmp_path / "gradient"))
        return [(one.folder / FILE).read_bytes() for one in found]

    (model / FILE).write_bytes(b"first weights")
    assert made() == [b"first weights"] * 2
    assert made() == [b"first weights"] * 2 and len(runs) == 2  # nothing changed: made once
    (model / FILE).write_bytes(b"weights of another fine-tune")
    assert made() == [b"weights of another fine-tune"] * 2 and len(runs) == 4


def test_a_merged_adapter_is_made_again_once_its_scale_or_its_base_is_another(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    (base / FILE).write_bytes(b"first weights")
    (adapter / "adapter_model.safetensors").write_bytes(b"learned")

    def key(**settings: Any) -> Any:
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)} | settings))
        return source._key(str(adapter))

    first = key(lora_alpha=8)
    assert key(lora_alpha=8) == first
    assert key(lora_alpha=16) != first  # the same bytes, twice as strong
    (base / FILE).write_bytes(b"weights of another base")
    assert key(lora_alpha=8) != first
    outer = tmp_path / "outer"  # an adapter upon the adapter
    shutil.copytree(adapter, outer)
    (outer / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(adapter)}))
    before = source._key(str(outer))
    key(lora_alpha=4)
    assert source._key(str(outer)) != before
