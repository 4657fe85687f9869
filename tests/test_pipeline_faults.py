"""`primum repair` is killed, or finds the disk full, at one file after the other, and ends with the same numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from children import Child, Fault
from few_prompts import few
from primum.core.errors import Exit
from tiny_models import agreeing

DOMAIN = (
    '{"prompt": "Which vitamin is ascorbic acid?", "options": ["A", "B12", "C"], "right": "C"}\n'
    '{"prompt": "What does aspirin do?", "answer": "It eases pain."}\n'
)
WITHIN = (
    "05-pairs/pairs.jsonl", "06-sft/log.jsonl", "07-dpo/weights.safetensors", "run/checkpoint", "run/report.json",
    "run/report.html", "run/evidence.json",
)  # fmt: skip
"""Files that are not a step's last one: a kill there leaves a part of a step."""
FULL = (
    "steps/01-prompts/shard-00000.jsonl.partial", "steps/02-replies-before/shard-00000.jsonl.partial",
    "steps/02-judge-before-by-rules/shard-00000.jsonl.partial", "steps/05-pairs/pairs.jsonl.partial",
    "steps/07-dpo/reference.json.partial", "checkpoint.partial/tokenizer.json", "run/report.json.partial",
    "run/evidence.json.partial",
)  # fmt: skip
"""A file of every kind that a repair writes, in the order in which it does."""


@dataclass(frozen=True)
class Start:
    """Starts the same run in any folder, far from the public data, whose sets would be read at every start."""

    place: Path
    arguments: tuple[str | Path, ...]

    def __call__(self, out: Path, log: Path, fault: Fault | None = None) -> int:
        return Child([*self.arguments, "--out", out], log, fault, self.place / "work").wait()

    def finish(self, out: Path, fault: Fault | None = None) -> dict[str, Any]:
        log = out.with_name("log.txt")
        assert self(out, log, fault) in (0, 1, 3), log.read_text(encoding="utf-8")
        return json.loads((out / "report.json").read_text(encoding="utf-8"))


class Whole(NamedTuple):
    """A run that nothing befell: how it is started, its folder, and the names that its files got, in their order."""

    start: Start
    out: Path
    names: list[str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = tmp_path_factory.mktemp("whole")
    (place / "domain.jsonl").write_text(DOMAIN, encoding="utf-8")
    arguments = (
        "repair", agreeing(place / "model"), *few(place), "--reply-tokens", "8", "--force", "--judges", "rules",
        "--budget", "quick", "--sft.whole-tokens", "8", "--dpo.tokens", "8", "--domain", place / "domain.jsonl",
    )  # fmt: skip
    for folder in ("work", "shared/data"):
        (place / folder).mkdir(parents=True)
    start = Start(place, arguments)
    start.finish(place / "run", Fault("note", notes=str(place / "names.txt")))
    return Whole(start, place / "run", (place / "names.txt").read_text(encoding="utf-8").splitlines())


def the_same(found: dict[str, Any], out: Path, whole: Whole) -> None:
    """Everything is equal but times and places, and the weights are, bit for bit."""
    undisturbed = json.loads((whole.out / "report.json").read_text(encoding="utf-8"))
    for key in ("decision", "measurements", "comparisons", "training", "pairs", "transcripts"):
        assert found[key] == undisturbed[key]
    weights = [(folder / "checkpoint" / "model.safetensors").read_bytes() for folder in (whole.out, out)]
    assert weights[0] == weights[1]
    assert not list(out.rglob("*.partial"))


@pytest.mark.timeout(600)
def test_killed_in_every_step_it_ends_with_the_same_numbers(whole: Whole, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log.txt"
    steps = {path.name for path in (whole.out / "steps").iterdir()}
    ends = {f"{step}/manifest.json" for step in steps}
    points = [name for name in whole.names if name.endswith((*ends, *WITHIN))]
    at = list(dict.fromkeys("/".join(name.split("/")[-2:]) for name in points))
    assert set(at) == ends | set(WITHIN)  # every step is killed where its work is done and nobody knows
    for place in at:
        assert whole.start(out, log, Fault("kill", place)) == -9, place
        assert not (out / "evidence.json").exists()
    the_same(whole.start.finish(out), out, whole)


@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_is_full_is_told_and_the_rerun_goes_on(whole: Whole, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for number, place in enumerate(FULL):
        log = tmp_path / f"log-{number}.txt"
        code = whole.start(out, log, Fault("full", place))
        said = log.read_text(encoding="utf-8")
        assert code == Exit.STEP_FAILED, (place, said)
        # the tokenizer's library does not say which of the folder's files it was
        named = "run/checkpoint" if place.startswith("checkpoint.partial") else place.removesuffix(".partial")
        assert f"{named}: the disk is full" in said, (place, said)
        assert "cure: free some space" in said and "run the same command again" in said
        assert "Traceback" not in said
    the_same(whole.start.finish(out), out, whole)


@pytest.mark.timeout(600)
def test_weights_for_which_there_is_no_room_are_told(whole: Whole, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log.txt"
    code = whole.start(out, log, Fault("large", "checkpoint.partial/model.safetensors"))
    said = log.read_text(encoding="utf-8")
    assert code == Exit.STEP_FAILED and f"{out / 'checkpoint'}: cannot write: File too large" in said
    assert "run the same command again" in said and "Traceback" not in said
    assert not (out / "checkpoint").exists() and not (out / "report.json").exists()
    the_same(whole.start.finish(out), out, whole)
