"""Processes that hold a model in parts (FSDP2 over gloo) learn what one process with the whole of it learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from primum.cli import main
from primum.training.sharding import Held, gathered
from primum.training.team import Team
from processes import launch, start
from tiny_models import tiny

WORKER = Path(__file__).with_name("shard_worker.py")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "weights.pt", weights_only=True)


def near(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.allclose(one[k], two[k], rtol=0, atol=1e-10) for k in one)


def test_a_process_alone_holds_all_of_it() -> None:
    network = torch.nn.Linear(2, 3)
    network.weight.grad, network.bias.grad = torch.full((3, 2), 2.0), torch.zeros(3)
    held = Held(network, Team())
    assert not held.parts and held.tensors["weight"] is network.weight
    assert torch.equal(held.own("weight", network.weight), network.weight)
    assert torch.equal(held.whole("bias", network.bias), network.bias)
    assert torch.equal(gathered(network, Team())["weight"], network.weight)
    held.forget_gradients()
    assert network.weight.grad is None


def test_parts_without_processes_are_told_with_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "dpo", "x.jsonl", "--shard"]) == 2
    assert "accelerate launch --num_processes" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("learns", ["full", "lora"])
def test_two_processes_with_parts_learn_what_one_learns(learns: str, tmp_path: Path) -> None:
    assert start(WORKER, tmp_path / "one", 1, LEARNS=learns) == [0]
    assert start(WORKER, tmp_path / "two", 2, LEARNS=learns) == [0, 0]
    assert near(weights(tmp_path / "one"), weights(tmp_path / "two"))
    norms = [torch.load(tmp_path / name / "norms.pt") for name in ("one", "two")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6) and max(norms[0]) > 0.5  # some were cut


@pytest.mark.slow
def test_parts_that_were_killed_go_on_in_parts_or_whole(tmp_path: Path) -> None:
    more = {"LEARNS": "full", "AVERAGE": "1"}
    assert start(WORKER, tmp_path / "whole", 2, **more) == [0, 0]
    for name, size in (("parts", 2), ("one", 1)):
        assert start(WORKER, tmp_path / name, 2, stop_after=4, **more) == [9]
        assert (tmp_path / name / "resume.json").exists()
        assert start(WORKER, tmp_path / name, size, **more) == [0] * size
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(whole[name], found) for name, found in weights(tmp_path / "parts").items())
    assert near(whole, weights(tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_accelerate_launch_trains_in_parts_and_writes_the_whole(method: str, tmp_path: Path) -> None:
    tiny(tmp_path / "model", seed=0)
    rows = [{"prompt": f"Say {n} in a word", "chosen": f"Here: {n}", "rejected": f"No, {n * n}"} for n in range(11)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found: list[dict[str, torch.Tensor]] = []
    for size in (1, 2):
        out = tmp_path / str(size)
        own = ["train", method, str(tmp_path / "rows.jsonl"), "--model", str(tmp_path / "model"), "--out", str(out)]
        own += ["--batch-size", "6", "--learning-rate", "1e-2", "--token-budget", "64", "--json"]
        own += ["--shard"] if size == 2 else []
        shared = {**os.environ, "PRIMUM_CACHE": str(tmp_path / f"cache{size}"), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            [sys.executable, *launch(size), "-m", "primum", *own], env=shared, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["steps"] == 2
        found.append(load_file(out / "checkpoint/model.safetensors"))
    assert found[0].keys() == found[1].keys()
    before = load_file(tmp_path / "model/model.safetensors")
    others = (found[1], before)
    far, learned = (torch.cat([(found[0][k] - one[k]).float().abs().flatten() for k in before]) for one in others)
    assert float(far.mean()) < 0.1 * float(learned.mean())  # rounding of bf16, far below what was learned
