"""An audit on three nodes of a Ray cluster, one killed in the middle: every block is done once, as on one machine.

What needs no Ray runs with the other tests; the cluster itself with `make check-ray`.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from primum.audit.cluster import Cluster, Run, check, do, take
from primum.audit.engine import Extra, Plan, Progress, Task, run
from primum.audit.notes import Counts, Note, Step
from primum.audit.reading.files import Input
from primum.audit.reading.records import Fields
from primum.audit.reading.sources import Limits, parts
from primum.audit.settings import Settings, make
from primum.audit.terms.lexicon import builtin
from primum.cli import main
from primum.core.errors import BadInputError, MissingExtraError, PrimumError, StepFailedError, UsageError
from primum.models.cluster import Workers
from ray_kit import three_nodes

SETTINGS = Settings(("language", "pii", "terms", "duplicates"), builtin(), mask=True)
TEXTS = ("She wrote to ann@mail.example.org from 8.8.8.8.", "The old bridge over the river was built by many hands.")


def corpus(folder: Path, rows: int = 600) -> Input:
    path = folder / "corpus.jsonl"
    lines = [json.dumps({"id": str(i), "source": f"s{i % 7}", "text": f"{i}: {TEXTS[i % 2]}"}) for i in range(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Input(path.name, str(path), "jsonl")


def plan_in(folder: Path, makes: Callable[[Any], tuple[list[Step], list[Extra]]] = make) -> Plan:
    (folder / "work").mkdir(parents=True)
    return Plan(str(folder / "work"), Limits(1024, 1 << 20, "file"), Fields("", "source", "id"), makes, SETTINGS)


def first_task(one: Input, plan: Plan) -> Task:
    return Task(0, 0, one.name, next(parts(one, plan.limits)))


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "work").glob("00000-*")}


# ---------------------------------------------------------------- without Ray


def test_on_names_a_cluster_and_ray_is_an_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = corpus(tmp_path)
    assert main(["audit", one.place, "--out", str(tmp_path / "out"), "--on", "spark"]) == 2
    assert "--on ray" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "error",
    [
        BadInputError("bad", where="a:1", cure="mend it"),
        UsageError("wrong"),
        MissingExtraError("Ray", "ray"),
        StepFailedError("full", where="b"),
    ],
)
def test_what_a_worker_raises_reaches_the_user_as_it_was(error: PrimumError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)
    assert (again.problem, again.where, again.cure) == (error.problem, error.where, error.cure)


def test_what_a_process_cannot_load_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["audit", corpus(tmp_path).place, "--out", str(tmp_path / "out"), "--workers", "2", "--block", "1024"]
    assert main([*command, "--steps", "toxicity", "--classifier", "/none/such"]) == 2
    assert "/none/such" in capsys.readouterr().err


@pytest.mark.parametrize("held", [None, {"id": "another run"}])
def test_a_node_that_does_not_see_the_folder_is_refused(tmp_path: Path, held: dict[str, str] | None) -> None:
    if held:
        (tmp_path / "cluster.json").write_text(json.dumps(held))
    from primum import __version__

    with pytest.raises(UsageError, match=r"does not see the folder.*\n.*every node shares"):
        check(Run("this run", None, str(tmp_path), __version__))
    with pytest.raises(UsageError, match=r"has primum .*, this is 0\.0\.0-other"):
        check(Run("this run", None, str(tmp_path), "0.0.0-other"))


def test_an_attempt_is_taken_whole_and_what_comes_late_changes_nothing(tmp_path: Path) -> None:
    for attempt in ("first", "late"):
        (tmp_path / "attempts" / attempt).mkdir(parents=True)
    (tmp_path / "attempts" / "late" / "00000-00000.jsonl").write_text("broken o")  # no counts: it has not ended
    (tmp_path / "attempts" / "first" / "00000-00000.jsonl").write_text("row\n")
    (tmp_path / "attempts" / "first" / "00000-00000.json").write_text("{}")
    take(tmp_path, "first", "00000-00000")
    with pytest.raises(StepFailedError, match="cannot be seen here"):
        take(tmp_path, "late", "00000-00000")
    assert {path.name: path.read_text() for path in tmp_path.glob("00000-*")} == {
        "00000-00000.jsonl": "row\n", "00000-00000.json": "{}",
    }  # fmt: skip
    assert not (tmp_path / "attempts" / "first").exists()


def test_a_late_worker_does_not_make_the_folder_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, plan = corpus(tmp_path), plan_in(tmp_path)
    from primum.audit import cluster as room
    from primum.audit.engine import Worker

    monkeypatch.setitem(room._HELD, "this run", Worker(plan))
    gone = tmp_path / "gone"
    with pytest.raises(StepFailedError):
        do(Run("this run", None, str(gone), ""), first_task(one, plan), "attempt")
    assert not gone.exists()


# ---------------------------------------------------------------- on a cluster


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Three nodes; what this file defines is sent to them by value."""
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with three_nodes(ray) as made:
        yield made
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def stuck_on(node: str, caught: Path) -> Callable[[Any], tuple[list[Step], list[Extra]]]:
    """Return what makes the usual steps, and one that never ends on a node; it leaves a file there."""

    def makes(settings: Any) -> tuple[list[Step], list[Extra]]:
        import ray

        def stay(notes: Sequence[Note], counts: Counts) -> None:
            del notes, counts
            time.sleep(0.1)
            if ray.get_runtime_context().get_node_id() == node:
                caught.touch()
                time.sleep(1000)

        steps, extras = make(settings)
        return [*steps, stay], extras

    return makes


def deadly(settings: Any) -> tuple[list[Step], list[Extra]]:
    def die(notes: Sequence[Note], counts: Counts) -> None:
        del notes, counts
        os._exit(1)

    return [die], []


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_node_dies_and_every_block_is_done_once(cluster: Any, tmp_path: Path) -> None:
    one, caught = corpus(tmp_path), tmp_path / "caught"
    doomed = cluster.nodes[-1]

    def seen(size: int) -> None:
        del size
        if caught.exists() and doomed in cluster.nodes:
            cluster.nodes.remove(doomed)
            cluster.remove_node(doomed, allow_graceful=False)

    many, progress = Cluster(Workers(count=3, patience=300)), Progress(seen)
    plan = plan_in(tmp_path / "many", stuck_on(doomed.node_id, caught))
    stems = run([one], plan, many.count, progress, many)
    assert many.lost >= 1 and doomed not in cluster.nodes
    assert progress.documents == 600 and len(stems) > 40
    assert run([one], plan_in(tmp_path / "one"), 1, Progress()) == stems
    assert shards(tmp_path / "many") == shards(tmp_path / "one")
    assert not list((tmp_path / "many" / "work" / "attempts").glob("*/*.json"))


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_node_without_the_folder_and_a_deadly_block_end_the_run_with_the_cure(cluster: Any, tmp_path: Path) -> None:
    one, plan = corpus(tmp_path), plan_in(tmp_path / "blind")
    with Cluster(Workers(patience=300))(plan, 3) as submit:
        (Path(plan.work) / "cluster.json").unlink()  # as a node finds it that has another disk there
        with pytest.raises(UsageError, match="does not see the folder"):
            submit(first_task(one, plan)).result()
    killed = Cluster(Workers(patience=300))
    with pytest.raises(StepFailedError, match="5 workers were lost with the same block"):
        run([one], plan_in(tmp_path / "deadly", deadly), 1, Progress(), killed)
    assert killed.lost >= 5


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_the_command_writes_the_bytes_of_one_machine(cluster: Any, tmp_path: Path) -> None:
    """A relative --out, which the workers, who began elsewhere, find all the same."""
    printed: list[bytes] = []
    for where, more in (("many", ("--on", "ray", "--workers", "2")), ("one", ("--workers", "1"))):
        (tmp_path / where).mkdir()
        corpus(tmp_path / where)
        command = [sys.executable, "-m", "primum", "audit", "corpus.jsonl", "--out", "out", "--block", "4096", "--json"]
        command += ["--mask", "--steps", "duplicates,risk", "--drop", *more]
        ran = subprocess.run(command, cwd=tmp_path / where, check=True, timeout=800, capture_output=True)
        printed.append(ran.stdout)
    assert tree(tmp_path / "many" / "out") == tree(tmp_path / "one" / "out")
    assert printed[0] == printed[1] and json.loads(printed[0])["documents"] == 600
