"""Two processes that learn together get what one gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from primum.training.team import Team, team
from processes import launch, start
from tiny_models import tiny

WORKER = Path(__file__).with_name("team_worker.py")


class Sized(NamedTuple):
    length: int


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "weights.pt", weights_only=True)


def test_rows_are_dealt_once_each_and_evenly() -> None:
    groups = [[Sized(n)] for n in (9, 8, 7, 3, 3, 3, 1)]
    own = [Team(rank, 2).share(groups) for rank in range(2)]
    # by hand, the heaviest first: 9 | 8, then 7 to the 8, 3 to the 9, 3 to the 12, 3 and 1 to the 15s
    assert sorted(sum(one.length for group in part for one in group) for part in own) == [16, 18]
    assert Counter(map(str, groups)) == Counter(str(group) for part in own for group in part)
    assert Team().share(groups) == groups
    assert [len(Team(rank, 3).share(groups[:1])) for rank in range(3)] == [1, 0, 0]


def test_a_process_that_was_started_alone_is_its_own_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert team() == Team(0, 1)
    assert Team().summed({"a": 1.5}) == {"a": 1.5}
    assert Team().first("x") == "x"


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    assert start(WORKER, tmp_path / "one", 1) == [0]
    assert start(WORKER, tmp_path / "two", 2) == [0, 0]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], rtol=0, atol=1e-12) for name in one)
    losses = [torch.load(tmp_path / name / "losses.pt") for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)  # the log is in float32
    assert losses[0][-1] < losses[0][0]
    rows = [json.loads(line) for line in (tmp_path / "two/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(len(rows)))  # written by one of them
    assert all(row["answers"] == 1 for row in rows)  # a mean over the rows of both


@pytest.mark.slow
def test_two_processes_that_were_killed_go_on_to_the_same_weights(tmp_path: Path) -> None:
    assert start(WORKER, tmp_path / "whole", 2) == [0, 0]
    assert start(WORKER, tmp_path / "killed", 2, stop_after=4) == [9]
    assert (tmp_path / "killed/resume.json").exists()
    assert start(WORKER, tmp_path / "killed", 2) == [0, 0]
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


@pytest.mark.slow
def test_memory_that_is_short_in_one_process_halves_the_budget_in_both(tmp_path: Path) -> None:
    assert start(WORKER, tmp_path / "one", 1) == [0]
    assert start(WORKER, tmp_path / "short", 2, SHORT_ON="1") == [0, 0]
    one, short = weights(tmp_path / "one"), weights(tmp_path / "short")
    assert all(torch.allclose(one[name], short[name], rtol=0, atol=1e-12) for name in one)


@pytest.mark.slow
def test_accelerate_launch_trains_one_model_in_two_processes(tmp_path: Path) -> None:
    tiny(tmp_path / "model", seed=0)
    rows = [{"prompt": f"Say {n} in a word", "chosen": f"Here: {n}", "rejected": f"No, {n * n}"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found: list[dict[str, torch.Tensor]] = []
    for size in (1, 2):
        out = tmp_path / str(size)
        own = ["train", "dpo", str(tmp_path / "rows.jsonl"), "--model", str(tmp_path / "model"), "--out", str(out)]
        more = ["--full", "--batch-size", "6", "--learning-rate", "1e-2", "--token-budget", "64", "--json"]
        shared = {**os.environ, "PRIMUM_CACHE": str(tmp_path / f"cache{size}"), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            [sys.executable, *launch(size), "-m", "primum", *own, *more], env=shared, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["steps"] == 2  # one of them speaks
        found.append(load_file(out / "checkpoint/model.safetensors"))
    moved = load_file(tmp_path / "model/model.safetensors")
    assert any(not torch.allclose(moved[name].float(), value.float(), atol=1e-3) for name, value in found[0].items())
    # Adam's first steps are nearly signs: a gradient that is rounding alone may go either way by the rate
    differences = torch.cat([(found[0][k] - found[1][k]).float().abs().flatten() for k in found[0]])
    assert float(differences.quantile(0.99)) < 1e-4
