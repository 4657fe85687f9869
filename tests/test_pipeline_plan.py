"""How long a repair takes here, and the share of a budget that ends in some minutes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from primum.core.records import Prompt, user
from primum.models import device as devices
from primum.pipeline.choose import choose, readable
from primum.pipeline.plan import estimate, fitted
from primum.pipeline.settings import LineConfig, RepairConfig
from primum.prompts.rows import twins

MODEL: Any = SimpleNamespace(parameters=100_000_000, name="made up")


def prompts(n: int) -> list[Prompt]:
    found: list[Prompt] = []
    for part in ("train", "dev", "test"):
        for i in range(n):
            found += twins(
                Prompt((user(f"{part} harmful {i}"),), "harmful", "fraud", split=part),
                Prompt((user(f"{part} twin {i}"),), "benign", "fraud", split=part),
            )
            found.append(Prompt((user(f"{part} general {i}"),), "benign", "general", split=part))
    return found


ALL = prompts(100)


def chosen(config: RepairConfig) -> tuple[list[Prompt], list[Prompt]]:
    return choose(ALL, "train", config.size), choose(ALL, "test", config.size)


def known(config: RepairConfig) -> list[Prompt]:
    return readable(ALL, config.size, config.sft.linear_share)


def on(monkeypatch: pytest.MonkeyPatch, rate: float | None) -> None:
    rates = {} if rate is None else {"fp32": rate}
    monkeypatch.setattr(devices, "device", lambda: devices.Device("cpu", torch.float32, rates))


def minutes(config: RepairConfig) -> float:
    return sum(estimate(config, *chosen(config), MODEL, known(config))["seconds"].values()) / 60


def test_a_share_is_of_every_kind_of_prompt_and_twins_stay_together() -> None:
    train, test = chosen(RepairConfig(budget="quick", share=0.3))
    for part in (train, test):
        kinds = [p.text.split()[1] for p in part]
        assert {kind: kinds.count(kind) for kind in set(kinds)} == {"harmful": 30, "twin": 30, "general": 30}
        harmful = {p.id for p in part if p.intent == "harmful"}
        assert {p.twin for p in part if p.text.split()[1] == "twin"} == harmful


def test_replies_cost_what_their_tokens_do(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, 100.0)
    config = RepairConfig(budget="quick")
    found = estimate(config, *chosen(config), MODEL, known(config))
    # 300 prompts: 25 tokens read (the template's head once for many) and four fifths of 64 written
    assert found["tokens"]["replies before"] == round(300 * (25 + 0.8 * 64))
    # two operations a parameter, at 42% of the measured rate
    assert found["seconds"]["replies before"] == round(300 * 76.2 * 2 * 100e6 / (0.42 * 100e9))


def test_a_slow_machine_takes_the_largest_share_that_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, 100.0)
    config = RepairConfig(budget="quick", minutes=minutes(RepairConfig(budget="quick")) / 2)
    found, said = fitted(config, tmp_path, lambda: MODEL, chosen, known)
    assert minutes(found) <= config.minutes < minutes(found.model_copy(update={"share": found.share + 0.05}))
    assert f"{found.share:.0%} of the quick budget's prompts" in said
    on(monkeypatch, 1000.0)  # a quiet moment later: a run that goes on keeps to its prompts
    assert fitted(config, tmp_path, lambda: MODEL, chosen, known)[0] == found
    bolder = config.model_copy(update={"line": LineConfig(share=0.3)})  # no step takes longer for it
    assert fitted(bolder, tmp_path, lambda: MODEL, chosen, known)[0].share == found.share
    other = config.model_copy(update={"seed": 1})
    assert fitted(other, tmp_path, lambda: MODEL, chosen, known) == (other, "")
    on(monkeypatch, 0.1)  # hopeless: there is a least of both
    least, said = fitted(config.model_copy(update={"seed": 2}), tmp_path, lambda: MODEL, chosen, known)
    assert (least.share, least.sft.linear_share) == (0.2, 0.4)
    assert "20% of the quick budget's prompts, 40% of those that the linear start could read" in said


def test_the_linear_start_reads_fewer_prompts_only_where_the_least_share_is_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, 100.0)
    least = RepairConfig(budget="quick", share=0.2)
    half = least.model_copy(update={"sft": least.sft.model_copy(update={"linear_share": 0.5})})
    # what is between reading all 300 prompts to learn from and reading half of them, of 25 tokens each
    saved = 150 * 25 * 2 * 100e6 / (0.65 * 100e9) / 60
    assert minutes(least) - minutes(half) == pytest.approx(saved, abs=1 / 60)
    for budget, read in ((minutes(least) + 0.001, 1.0), (minutes(half) + 0.001, 0.5)):
        config = RepairConfig(budget="quick", minutes=budget)
        found, _ = fitted(config, tmp_path / str(read), lambda: MODEL, chosen, known)
        assert (found.share, found.sft.linear_share) == (0.2, read)
        again, _ = fitted(config, tmp_path / str(read), lambda: MODEL, chosen, known)
        assert again == found


def test_nothing_is_cut_where_nothing_was_asked_or_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> Any:
        raise AssertionError("no model is needed")

    on(monkeypatch, 0.1)
    for config in (RepairConfig(budget="quick"), RepairConfig(budget="quick", minutes=0)):
        assert fitted(config, tmp_path, never, chosen, known) == (config, "")
    on(monkeypatch, None)  # a GPU: its rate is not measured
    config = RepairConfig(budget="quick", minutes=0.001)
    assert fitted(config, tmp_path, never, chosen, known) == (config, "")
    assert not list(tmp_path.iterdir())


def test_a_dry_run_notes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, 0.1)
    config = RepairConfig(budget="quick", minutes=1, dry_run=True)
    assert fitted(config, tmp_path, lambda: MODEL, chosen, known)[0].share == 0.2
    assert not list(tmp_path.iterdir())
    fitted(config.model_copy(update={"dry_run": False}), tmp_path, lambda: MODEL, chosen, known)
    assert json.loads((tmp_path / "fitted.json").read_text())["share"] == 0.2
