"""`primum repair --rounds` on a tiny random model: each round draws from, and learns upon, what the last one made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import primum.pipeline.repair as repairing
from primum import cli
from tiny_models import tiny

SMALL = ("--limit", "2", "--reply-tokens", "4", "--judges", "rules", "--budget", "quick", "--sft.whole-tokens", "8",
         "--dpo.tokens", "8", "--dpo.learning-rate", "1e-2")  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("models") / "m", 0)


def repaired(model: Path, out: Path, *more: str) -> dict[str, Any]:
    assert cli.main(["repair", str(model), *SMALL, *more, "--out", str(out)]) in (0, 1, 3)
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def weights(folder: Path) -> bytes:
    return (folder / "checkpoint" / "model.safetensors").read_bytes()


def test_a_round_begins_where_the_last_one_ended(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    facts = repaired(model, out, "--rounds", "2", "--force")
    first, second = out / "rounds" / "1", out / "rounds" / "2"
    assert weights(out) == weights(second) != weights(first)

    # its replies are drawn from the first round's checkpoint, and its adapter lies on that
    drawn = json.loads((second / "steps" / "03-replies-to-learn-from" / "key.json").read_text())["facts"]
    assert drawn["model"].startswith(f"{first / 'checkpoint'}@")
    adapter = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str((first / "checkpoint").resolve())
    moved = load_file(second / "adapter" / "adapter_model.safetensors")
    assert any(tensor.any() for name, tensor in moved.items() if "lora_B" in name)

    # the linear start is the first round's alone; what the report says of the training is the last one's
    assert (first / "steps" / "06-linear-start").is_dir() and not (second / "steps" / "06-linear-start").exists()
    assert any(row["name"] == "rounds" and row["text"].startswith("round 2: ") for row in facts["steps"])

    before = (second / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    repaired(model, out, "--rounds", "2", "--force")  # what is done is not done again
    assert (second / "checkpoint" / "model.safetensors").stat().st_mtime_ns == before


def test_a_round_with_hardly_anything_flagged_is_not_learned(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flagged = iter([repairing.LEAST_FLAGGED, repairing.LEAST_FLAGGED, repairing.LEAST_FLAGGED - 1])
    monkeypatch.setattr(repairing, "_flagged", lambda pairs: next(flagged))
    monkeypatch.setattr(repairing, "refuse", lambda found, force: None)  # the lint would refuse babble
    out = tmp_path / "run"
    repaired(model, out, "--rounds", "4")
    assert weights(out) == weights(out / "rounds" / "2")
    assert not (out / "rounds" / "3" / "checkpoint").exists() and not (out / "rounds" / "4").exists()
    assert next(flagged, None) is None  # the first pairs, the second round, the third
