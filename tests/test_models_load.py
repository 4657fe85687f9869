"""Which weights a model has is known exactly, whatever machine asks; and an adapter's base is found, or asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from primum.core.errors import UsageError
from primum.models.load import adapter_base, base_of, load, weights_hash


def test_the_hash_of_weights_knows_their_bits_and_not_the_number_of_threads() -> None:
    layer = torch.nn.Linear(300, 700, bias=False).to(torch.bfloat16)
    threads = torch.get_num_threads()
    found = set()
    for n in (1, 2):
        torch.set_num_threads(n)
        found.add(weights_hash(layer))
    torch.set_num_threads(threads)
    assert len(found) == 1
    with torch.no_grad():
        layer.weight[0, :2] = layer.weight[0, :2].flip(0).clone()  # two numbers trade places
    assert weights_hash(layer) not in found


def adapter(folder: Path, base: str | None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return folder


@pytest.mark.parametrize("base", ["/another/machine/model", "../gone", "~/models/gone", "C:\\models\\gone", None])
def test_an_adapter_that_came_without_its_base_says_where_to_write_it(base: str | None, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", base)
    for read in (load, adapter_base):
        with pytest.raises(UsageError, match=r"base model is not at|does not name its base") as told:
            read(str(folder))
        assert told.value.where == str(folder / "adapter_config.json")
        assert (base or "") in told.value.problem and "base_model_name_or_path" in str(told.value.cure)


def test_a_base_is_a_hub_id_or_the_embedded_model_or_a_path_from_here_or_from_the_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("org/model-1.5_b", "gpt2", "embedded"):
        assert base_of(adapter(tmp_path / "adapter", name)) == name
    beside = tmp_path / "run" / "base"
    beside.mkdir(parents=True)
    folder = adapter(tmp_path / "run" / "adapter", "../base")
    assert Path(base_of(folder)).resolve() == beside
    assert Path(adapter_base(str(folder))).resolve() == beside
    monkeypatch.chdir(tmp_path)
    assert base_of(adapter(folder, "run/base")) == "run/base"
