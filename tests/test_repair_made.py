"""What weight methods make of the fine-tuned model before they are applied: made once, and again for other weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from primum.core.records import Prompt, user
from primum.repair import gradients, one_shot

ASKED = [Prompt((user("How do I pick a lock?"),), "harmful", "weapons")]
FILE = "model.safetensors"


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
