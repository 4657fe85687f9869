"""The runner: every reply once, in order, whatever was killed, and however the work was cut."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primum.core.errors import UsageError
from primum.core.records import Reply, from_json, to_json, user
from primum.core.store import read_json
from primum.models.engines.canned import CannedEngine
from primum.models.runner import Asked, Ledger, Plan, Tally, draw_all, replies
from primum.models.sampling import Generated, Request, Sampling, collect, reply_seed

KEY = {"model": "canned"}


def prompts(count: int) -> Iterator[Asked]:
    return (Asked(f"p{i}", (user(f"question {i}"),)) for i in range(count))


def draw(folder: Path, count: int, plan: Plan, engine: CannedEngine | None = None) -> Tally:
    return draw_all(folder, KEY, prompts(count), plan, lambda: engine or CannedEngine(), lambda *_: None)


class Failing(CannedEngine):
    """Ends replies out of order, and breaks down after some."""

    left = 0

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        held: list[tuple[int, Generated]] = []
        for item in super().stream(requests, sampling):
            held.append(item)
            if len(held) == 5:
                yield held.pop(item[1].reply_tokens % 5)
                Failing.left -= 1
                if Failing.left == 0:
                    raise KeyboardInterrupt
        yield from reversed(held)


def facts(folder: Path) -> list[tuple[str, str, str]]:
    return [(row["prompt_id"], row["variant"], row["text"]) for row in replies(folder)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(0, 30),
    samples=st.integers(1, 3),
    shard=st.integers(1, 12),
    stops=st.lists(st.integers(1, 20), max_size=3),
)
def test_every_reply_is_there_once_and_in_order_after_any_stops(
    tmp_path_factory: pytest.TempPathFactory, count: int, samples: int, shard: int, stops: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("run") / "v"
    plan = Plan(Sampling(0.5, 9), samples, seed=4, shard=shard)
    for left in stops:
        Failing.left = left
        try:
            draw(folder, count, plan, Failing())
        except KeyboardInterrupt:
            continue
    tally = draw(folder, count, plan)
    wanted = [(f"p{i}", f"t0.5-n9-{k}") for i in range(count) for k in range(samples)]
    assert [(p, v) for p, v, _ in facts(folder)] == wanted and tally.replies == len(wanted)
    assert not list(folder.glob("open-*"))
    straight = folder.with_name("straight")
    draw(straight, count, plan)
    assert facts(straight) == facts(folder)


def test_rows_are_the_records_own(tmp_path: Path) -> None:
    draw(tmp_path, 3, Plan(Sampling(0.5, 9), 2))
    for row in replies(tmp_path):
        assert to_json(from_json(Reply, row)) == row


def test_a_cut_last_line_is_drawn_again(tmp_path: Path) -> None:
    plan = Plan(Sampling(0.5, 9), shard=100)
    Failing.left = 10
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path, 30, plan, Failing())
    (path,) = tmp_path.glob("open-*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert draw(tmp_path, 30, plan).replies == 30
    assert [p for p, _, _ in facts(tmp_path)] == [f"p{i}" for i in range(30)]


def test_processes_that_share_the_work_draw_each_reply_once(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    draw(whole, 50, Plan(Sampling(0.5, 9), 2, shard=7))
    for offset in range(3):
        tally = draw(tmp_path / "parts", 50, Plan(Sampling(0.5, 9), 2, shard=7, offset=offset, modulo=3))
        assert tally.replies == (35, 35, 30)[offset]  # shards 0, 3, ..., 12; the last of 15 shards holds 2
        assert (tmp_path / "parts" / "manifest.json").exists() == (offset == 2)
    assert read_json(tmp_path / "parts" / "manifest.json")["replies"] == 100
    names = [path.name for path in (tmp_path / "parts").glob("shard-*")]
    assert len(names) == 15
    for name in names:
        assert (tmp_path / "parts" / name).read_bytes() == (whole / name).read_bytes()


def test_two_processes_never_write_one_shard(tmp_path: Path) -> None:
    plan = Plan(Sampling(0.5, 9), shard=100)
    with contextlib.closing(Ledger(tmp_path, plan, lambda *_: None)) as other:
        other.write(0, {"reply_tokens": 1, "prompt_tokens": 1, "finish": "stop"})
        before = (tmp_path / "open-00000.jsonl").read_bytes()
        with pytest.raises(UsageError, match="another process draws"):
            draw(tmp_path, 30, plan)
        draw(tmp_path, 30, Plan(Sampling(0.5, 9), shard=100, offset=1, modulo=2))  # its part holds no shard
        assert (tmp_path / "open-00000.jsonl").read_bytes() == before


def test_prompts_that_were_cut_are_counted_and_kept(tmp_path: Path) -> None:
    class Narrow(CannedEngine):
        def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
            for index, got in super().stream(requests, sampling):
                yield index, replace(got, prompt_cut=7 * (index == 2))

    tally = draw_all(tmp_path, KEY, prompts(5), Plan(Sampling(0.5, 9)), Narrow, lambda *_: None)
    assert tally.prompts_cut == 1 == read_json(tmp_path / "manifest.json")["prompts_cut"]
    assert [from_json(Reply, row).prompt_cut for row in replies(tmp_path)] == [0, 0, 7, 0, 0]


def test_a_finished_run_opens_no_engine(tmp_path: Path) -> None:
    plan = Plan(Sampling(0.5, 9))
    draw(tmp_path, 5, plan)

    def broken() -> CannedEngine:
        raise AssertionError("opened")

    assert draw_all(tmp_path, KEY, prompts(5), plan, broken, lambda *_: None).replies == 5


def test_replies_of_other_settings_are_never_touched(tmp_path: Path) -> None:
    draw(tmp_path, 5, Plan(Sampling(0.5, 9)))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="another model"):
        draw_all(tmp_path, {"model": "b"}, prompts(5), Plan(Sampling(0.5, 9)), CannedEngine, lambda *_: None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_seed_belongs_to_a_prompt_and_a_sample() -> None:
    hi, ho = (user("hi"),), (user("ho"),)
    seeds = [reply_seed(s, m, k) for s in (0, 1) for m in (hi, ho) for k in (0, 1)]
    assert len(set(seeds)) == 8
    one = collect(CannedEngine(), [hi, ho, hi], Sampling(1.0, 9), seed=3)
    two = collect(CannedEngine(), [ho, hi], Sampling(1.0, 9), seed=3)
    assert one[:2] == two[::-1]
    with pytest.raises(ValueError, match="1 seeds for 2"):
        collect(CannedEngine(), [hi, ho], Sampling(1.0, 9), seed=[1])


COUNTING = """
import sys
from pathlib import Path
from primum.core.records import user
from primum.models.engines.canned import CannedEngine
from primum.models.runner import Asked, Plan, draw_all
from primum.models.sampling import Sampling
n = int(sys.argv[2])
asked = (Asked(f"p{i}", (user(f"question {i}"),)) for i in range(n))
draw_all(Path(sys.argv[1]), {}, asked, Plan(Sampling(0.5, 9)), CannedEngine, lambda *_: None)
status = Path("/proc/self/status").read_text()  # getrusage would count what the forking parent held
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_the_prompts(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        command = [sys.executable, "-c", COUNTING, str(tmp_path / str(count)), str(count)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    small, large = peak(2_000), peak(12_000)
    assert large < 400 and large - small < 6  # MB; 10,000 replies more would be 3 MB as lines, 12 as objects


def test_killed_it_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNTING, str(tmp_path), "12000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=dict(os.environ))
    while not list(tmp_path.glob("shard-00003*")):
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    found = len(list(tmp_path.glob("shard-*"))) * 1000
    found += sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("open-*"))
    assert 4000 <= found < 12_000
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert [row["prompt_id"] for row in replies(tmp_path)] == [f"p{i}" for i in range(12_000)]
