"""Weights in 4 bits: what transformers is asked for, and what is told where they cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import primum.models.load
from primum.cli import main
from primum.core.errors import MissingExtraError, UsageError
from primum.models.load import load
from primum.models.quantised import nf4
from tiny_models import tiny


class Reader:
    """Reads as transformers does, and notes what it was asked for; nothing is put into fewer bits."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def from_pretrained(self, name: str, **how: Any) -> Any:
        self.asked = {"name": name, **how}
        return AutoModelForCausalLM.from_pretrained(name, dtype=how["dtype"])


def test_the_base_is_read_as_qlora_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader()
    monkeypatch.setattr(primum.models.load, "AutoModelForCausalLM", reader)
    wanted = nf4(torch.bfloat16, gpu=True, installed=True)
    model = load(str(tiny(tmp_path / "model", seed=0)), torch.bfloat16, "cpu", wanted)
    how = reader.asked["quantization_config"]
    assert how.load_in_4bit and how.bnb_4bit_quant_type == "nf4" and how.bnb_4bit_use_double_quant
    assert how.bnb_4bit_compute_dtype == torch.bfloat16 and reader.asked["device_map"] == {"": "cpu"}
    assert model.parameters > 0 and model.tokenizer.chat_template
    load(str(tmp_path / "model"), torch.bfloat16, "cpu")
    assert "quantization_config" not in reader.asked and "device_map" not in reader.asked


def test_what_is_missing_is_told_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"NVIDIA GPU(.|\n)*leave --load-4bit out"):
        nf4(torch.bfloat16, gpu=False, installed=True)
    with pytest.raises(MissingExtraError, match=r"primum\[qlora\]"):
        nf4(torch.bfloat16, gpu=True, installed=False)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="whole weights"):
        load(str(tmp_path), torch.float32, "cpu", nf4(torch.bfloat16, gpu=True, installed=True))


@pytest.mark.parametrize("other", ["--full", "--shard"])
def test_settings_that_do_not_go_with_four_bits(other: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "sft", "x.jsonl", "--load-4bit", other]) == 2
    assert "4 bits do not learn" in capsys.readouterr().err
