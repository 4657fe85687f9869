"""`primum repair --parent --minutes`: what is counted, by hand, and the share that ends in time or a clear error."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from primum.core.errors import UsageError
from primum.core.records import Prompt, user
from primum.evaluation.domain import DomainRow
from primum.models.sampling import Sampling
from primum.pipeline.parent_plan import weight_seconds, within
from primum.pipeline.parented import _alone, _restore_config
from primum.pipeline.points import Bench
from primum.pipeline.restore import Sets
from primum.pipeline.settings import RepairConfig
from primum.pipeline.steps import Draw

NAMED = {"model": "tuned", "parent": "parent", "base": "base"}


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 1 GFLOP/s in fp32."""
    here = SimpleNamespace(rates={"fp32": 1.0}, dtype="torch.float32")
    monkeypatch.setattr("primum.models.device.device", lambda: here)


def sets(dev: int, test: int, rows: int = 0) -> Sets:
    def bench(n: int) -> Bench:
        asked = [Prompt((user(f"{n} {i}"),), "harmful", "fraud") for i in range(n)]
        return Bench(asked, Draw(Sampling(0.4, 50), 1, 0), "rules", [DomainRow("q", "a")] * rows, [])

    return Sets([], bench(dev), bench(test), [])


def test_what_grows_with_the_prompts_is_counted_by_hand() -> None:
    # 1e6 weights, 1e9 operations a second, of which drawing reaches .42: a reply of 25 + .8 x 50 = 65 tokens takes
    # 65 x 2 x 1e6 / 1e9 / .42 s; (2 + 3) models answer 10 prompts, 3 answer 20
    config = RepairConfig(**NAMED, train="never")
    growing, fixed = weight_seconds(config, sets(10, 20), 3, 1_000_000)
    assert growing == pytest.approx((5 * 10 + 3 * 20) * 65 * 2e-3 / 0.42) and fixed == 0.0
    # a training is measured, too; without a domain nobody teaches
    more, fixed = weight_seconds(config.model_copy(update={"train": "auto"}), sets(10, 20), 3, 1_000_000)
    assert more == pytest.approx((6 * 10 + 3 * 20) * 65 * 2e-3 / 0.42) and fixed == 0.0


def test_teachers_do_not_take_fewer_prompts() -> None:
    given = {**NAMED, "domain": "rows.jsonl", "budget": "quick"}
    growing, fixed = weight_seconds(RepairConfig(**given), sets(10, 0, rows=4), 0, 1_000_000)
    # 4 models on 10 replies and 4 texts of 200 tokens (read at .65); on nothing to prove there are texts, too
    texts = 4 * 200 * 2e-3 / 0.65
    assert growing == pytest.approx(4 * (10 * 65 * 2e-3 / 0.42 + texts) + 3 * texts)
    # 120 steps, a third of them with quick, of 16 replies of 25 + .8 x 64 = 76.2 tokens; drawn, read and learned
    tokens = 40 * 16 * 76.2
    assert fixed == pytest.approx(tokens * 2e-3 / 0.42 + tokens * 8e-3 / 0.65)


def plan(minutes: float, folder: Path, **more: Any) -> tuple[RepairConfig, str]:
    """100 minutes that grow with the prompts, 10 that do not, and a training of 5 + 45 x share."""
    config = RepairConfig(**{**NAMED, "minutes": minutes, **more})
    return within(config, folder, lambda: (6000.0, 600.0), lambda settings: 60 * (5 + 45 * settings.share))


def test_the_largest_share_that_ends_in_time_is_taken_and_kept(tmp_path: Path) -> None:
    # 10 + 5 + 145 x share minutes: all 160, .5 is 87.5, .55 is 94.75
    assert plan(160.0, tmp_path / "all")[0].share == 1.0
    found, said = plan(90.0, tmp_path)
    assert found.share == 0.5 and "50% of the standard" in said and "160 minutes, these 88" in said
    # without a training 10 + 100 x share
    assert plan(90.0, tmp_path / "never", train="never")[0].share == 0.8
    config = RepairConfig(**{**NAMED, "minutes": 90.0})

    def again(*_: Any) -> Any:
        raise AssertionError("a run that goes on keeps to its prompts")

    assert within(config, tmp_path, again, again) == (found, said)


def test_what_cannot_end_in_time_is_told_before_anything_runs(tmp_path: Path) -> None:
    # .2 is 10 + 5 + 29 = 44 minutes
    with pytest.raises(UsageError, match=r"even 20% of the prompts .* about 44 minutes") as told:
        plan(43.0, tmp_path)
    assert "--minutes 45" in str(told.value) and not list(tmp_path.iterdir())
    assert plan(44.5, tmp_path)[0].share == pytest.approx(0.2)
    assert plan(0.0, tmp_path / "none") == (RepairConfig(**{**NAMED, "minutes": 0.0}), "")


def test_the_share_is_of_what_chooses_and_of_what_is_learned() -> None:
    config = RepairConfig(**{**NAMED, "minutes": 9.0, "share": 0.5, "limit": 30})
    assert _restore_config(config).limit == 15
    alone = _alone(config, "start")
    assert (alone.model, alone.share, alone.minutes, alone.parent, alone.base) == ("start", 0.5, None, None, None)
