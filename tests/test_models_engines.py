"""What every engine of the catalogue must have, and how one is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from primum.core.catalogue import member, names
from primum.core.errors import UsageError
from primum.core.records import user
from primum.models.cluster import Workers, room
from primum.models.device import Device
from primum.models.opening import choose, open_engine
from primum.models.sampling import Opening, Sampling


@pytest.mark.parametrize("name", names("engines"))
def test_an_engine_says_what_it_is_and_why_it_cannot_run(name: str) -> None:
    module = member("engines", name)
    assert isinstance(module.rank, int) and module.about and module.cure and callable(module.open_engine)
    problem = module.why_not(Opening("no/such-model-anywhere"))
    assert problem is None or (problem and "\n" not in problem)


def test_auto_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRIMUM_VLLM", "/nowhere/vllm")
    monkeypatch.setattr("primum.models.device.device", lambda: Device("cpu", torch.float32, {}))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    engine, why = choose("auto", Opening(str(tmp_path)))
    assert engine == "hf" and "'gpt2' is none of the architectures" in why and "no vllm command" in why
    assert choose("auto", Opening(url="http://localhost:1/v1")).engine == "http"
    assert choose("auto", Opening("canned")) == ("canned", "the fake was asked for")
    assert choose("transformers", Opening()).engine == "hf"
    with pytest.raises(UsageError, match="no engine 'opnvino'"):
        choose("opnvino", Opening())


@pytest.mark.parametrize(
    ("name", "dtype", "taken"),
    [("cpu", torch.float32, "openvino"), ("cpu", torch.bfloat16, "hf"), ("cuda", torch.bfloat16, "hf")],
)
def test_auto_takes_what_is_fast_on_this_kind_of_machine(
    monkeypatch: pytest.MonkeyPatch, name: str, dtype: torch.dtype, taken: str
) -> None:
    monkeypatch.setenv("PRIMUM_VLLM", "/nowhere/vllm")
    monkeypatch.setattr("primum.models.device.device", lambda: Device(name, dtype, {}))
    monkeypatch.setattr("primum.models.engines.openvino.why_not", lambda _opening: None)
    assert choose("auto", Opening()).engine == taken


def test_the_fake_has_a_speed_and_nothing_else() -> None:
    opening = Opening("canned:100000")
    asked = [(user(f"{i}"),) for i in range(20)]
    quick, slow = open_engine("canned", Opening("canned")), open_engine("canned", opening)
    assert quick(asked, Sampling(0.5, 9), 3) == slow(asked, Sampling(0.5, 9), 3)
    for name in ("canned:", "canned:0", "canned:x", "canned:-1"):
        with pytest.raises(UsageError, match="names no speed"):
            open_engine("canned", Opening(name))


def test_workers_that_fit_a_cluster() -> None:
    held = {"CPU": 20.0, "GPU": 8.0}
    asked = [Workers(cpus=8), Workers(cpus=1, gpus=4), Workers(cpus=0, gpus=1), Workers(cpus=0.5)]
    assert [room(workers, held) for workers in asked] == [2, 2, 8, 40]
    for workers, says in (
        (Workers(cpus=21), "no room"),
        (Workers(gpus=9), "no room"),
        (Workers(cpus=0), "need nothing"),
    ):
        with pytest.raises(UsageError, match=says):
            room(workers, held)
