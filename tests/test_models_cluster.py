"""Three nodes of a Ray cluster on this machine, one killed in the middle: every prompt is answered once, as by one.

Not among the tests that run by default: `make check-ray`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from primum.core.errors import UsageError
from primum.core.records import user
from primum.models.cluster import AHEAD, ClusterEngine, Workers
from primum.models.engines.canned import CannedEngine
from primum.models.runner import Asked, Plan, draw_all, replies
from primum.models.sampling import Opening, Sampling
from primum.models.spread import spread
from ray_kit import three_nodes

ray: Any = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def cluster() -> Iterator[Any]:
    with three_nodes(ray) as made:
        yield made


def asked(count: int) -> list[Asked]:
    return [Asked(f"p{i}", (user(f"question {i}"),)) for i in range(count)]


def test_a_node_dies_and_every_prompt_is_answered_once(cluster: Any, tmp_path: Path) -> None:
    plan = Plan(Sampling(1.0, 9), samples=2, shard=50)
    drawn = 0

    def seen(count: int, tokens: int) -> None:
        nonlocal drawn
        drawn += count
        if drawn >= 100 and len(cluster.nodes) == 3:
            cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)

    made: list[ClusterEngine] = []

    def engine() -> ClusterEngine:
        made.append(ClusterEngine("canned", Opening("canned:40", batch_size=8), Workers(patience=300)))
        return made[0]

    tally = draw_all(tmp_path / "many", {}, asked(300), plan, engine, seen)
    assert tally.replies == 600 and made[0].lost >= 1
    draw_all(tmp_path / "one", {}, asked(300), plan, CannedEngine, lambda *_: None)
    assert list(replies(tmp_path / "many")) == list(replies(tmp_path / "one"))


def test_an_engine_that_cannot_be_opened_says_why(cluster: Any) -> None:
    with pytest.raises(UsageError, match=r"names no speed\n  cure: canned, or"):
        ClusterEngine("canned", Opening("canned:x"), Workers(count=1, patience=300))
    with pytest.raises(UsageError, match="no room for one worker"):
        ClusterEngine("canned", Opening("canned"), Workers(gpus=1))


def test_greedy_replies_of_the_embedded_model_are_those_of_one_machine(cluster: Any, tmp_path: Path) -> None:
    """Through the command; the transformers engine in one process each."""

    def run(out: str, *more: str) -> None:
        command = [sys.executable, "-m", "primum", "sample", "--limit", "12", "--reply-tokens", "8", "--engine"]
        command += ["transformers", "--batch-size", "4", "--out", str(tmp_path / out), *more]
        subprocess.run(command, check=True, timeout=800)

    run("many", "--on", "ray", "--workers", "2")
    run("one")
    (many,), (one,) = ([p for p in (tmp_path / out).iterdir() if p.is_dir()] for out in ("many", "one"))
    texts = [[(row["prompt_id"], row["text"]) for row in replies(folder)] for folder in (many, one)]
    assert len(texts[0]) == 12 and texts[0] == texts[1]


HELD = 7
"""The part that does not end where it first began."""


def part_of_a_job(where: str, number: int) -> int:
    """Say on which node it began; the held part waits there for its node to die."""
    again = any(Path(where).glob(f"{number}-*"))
    Path(where, f"{number}-{ray.get_runtime_context().get_node_id()}-{time.monotonic_ns()}").touch()
    if number == HELD and not again:
        time.sleep(600)
    if number == 99:
        raise UsageError("a part that cannot be", cure="none")
    return number * number


def test_parts_of_a_lost_worker_are_done_again_and_come_once_in_order(cluster: Any, tmp_path: Path) -> None:
    workers, found = Workers(patience=300), list[int]()
    job = partial(part_of_a_job, str(tmp_path))
    for square in spread(workers, job, range(30)):
        found.append(square)
        if len(found) == 5:
            cluster.remove_node(node_of(cluster, tmp_path), allow_graceful=False)
    assert found == [i * i for i in range(30)]
    assert len(list(tmp_path.glob(f"{HELD}-*"))) == 2
    with pytest.raises(UsageError, match="a part that cannot be"):
        list(spread(workers, job, [1, 99, 2]))


def node_of(cluster: Any, begun: Path) -> Any:
    """Wait until the held part has begun; return its node, no longer among those of the cluster."""
    for _ in range(3000):
        for mark in begun.glob(f"{HELD}-*"):
            (held,) = (node for node in cluster.nodes if node.node_id == mark.name.split("-")[1])
            cluster.nodes.remove(held)
            return held
        time.sleep(0.1)
    raise AssertionError("the held part never began")


def test_verdicts_of_a_cluster_are_those_of_one_machine(cluster: Any, tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    texts = ("I can't help with that.", "Boil it for eight minutes, then cool it.", "")
    rows = [{"id": i, "prompt": f"Question {i}?", "reply": texts[i % 3]} for i in range(1300)]  # three shards
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for out, more in (("one", []), ("many", ["--on", "ray"])):
        command = [sys.executable, "-m", "primum", "judge", str(file), "--out", str(tmp_path / out), *more]
        subprocess.run(command, check=True, timeout=800)
    one, many = ((tmp_path / out / "verdicts.jsonl").read_bytes() for out in ("one", "many"))
    assert one == many and one.count(b"\n") == 1300


def test_workers_share_the_work(cluster: Any) -> None:
    """Each is given as much as it may hold before any is given more."""
    engine = ClusterEngine("canned", Opening("canned:100", batch_size=4), Workers(count=3, patience=300))
    engine.wait_for(3)
    answered: Counter[int] = Counter()
    received = engine._received

    def counted(held: Any, *more: Any) -> Any:
        found = received(held, *more)
        answered[id(held)] += len(found)
        return found

    engine._received = counted  # type: ignore[method-assign]
    engine([(user(f"q{i}"),) for i in range(600)], Sampling(1.0, 9), 0)
    engine.close()
    assert sum(answered.values()) == 600
    assert len(answered) == 3 and min(answered.values()) >= AHEAD * 4
