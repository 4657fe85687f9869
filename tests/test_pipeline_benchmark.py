"""What a run folder of `primum evaluate` keeps where the same benchmark is asked in another way. Loads no model."""

import json
from types import SimpleNamespace

import pytest

from primum.core.records import Prompt, user
from primum.models.engines.canned import CannedEngine
from primum.models.sampling import Sampling
from primum.pipeline.benchmark import Ask, Subject, _replies
from primum.pipeline.evaluate import _differs, _kept
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal

QUESTIONS = ("Say hello.", "Say goodbye.", "Name a bird.", "Name a tree.", "Count to ten.")
ITEMS = [
    SimpleNamespace(prompt=Prompt((user(text),), "benign", None, "en", "test", "CC0", "test")) for text in QUESTIONS
]


class Asking:
    """Asks the first items; `drawn` counts the replies that the engine gave."""

    def __init__(self, folder):
        self.journey, self.drawn = Journey(folder, Terminal(quiet=True)), 0
        self.subject = Subject("model", "model", "canned", lambda: self, None)
        self.model_name = "canned"

    def __call__(self, limit, seed=0, tokens=4):
        ask = Ask(Sampling(0.0, tokens), seed)
        replies = _replies(self.journey, SimpleNamespace(name="said"), ITEMS[:limit], ask, self.subject)
        return [reply.text for reply in replies]

    def stream(self, requests, sampling):
        for one in CannedEngine().stream(requests, sampling):
            self.drawn += 1
            yield one


@pytest.fixture
def asking(tmp_path):
    return Asking(tmp_path)


def mark(folder):
    """Mark the replies of a full shard, so that one that is used again is seen; return the shard."""
    shard = folder / "steps" / "1-said-replies" / "shard-00000.jsonl"
    shard.write_text(shard.read_text().replace('"text": "', '"text": "kept '))
    return shard


def test_a_larger_limit_draws_only_what_is_missing(asking, tmp_path):
    three = asking(3)
    assert asking.drawn == 3
    mark(tmp_path)
    five = asking(5)
    assert asking.drawn == 5
    assert five[:3] == [f"kept {text}" for text in three] and not any(text.startswith("kept") for text in five[3:])
    assert json.loads((tmp_path / "steps" / "1-said-replies" / "manifest.json").read_text())["replies"] == 5
    assert asking(2) == five[:2] and asking.drawn == 5


def test_what_was_drawn_in_another_way_or_failed_is_drawn_anew(asking, tmp_path):
    asking(2)
    shard = mark(tmp_path)
    rows = [json.loads(line) for line in shard.read_text().splitlines()]
    shard.write_text(
        "".join(json.dumps({**row, "finish": "error"}) + "\n" for row in rows[:1]) + json.dumps(rows[1]) + "\n"
    )
    assert sum(text.startswith("kept") for text in asking(3)) == 1 and asking.drawn == 2 + 2
    for way in ({"seed": 1}, {"tokens": 8}):
        mark(tmp_path)
        assert not any(text.startswith("kept") for text in asking(4, **way)), way


def test_replies_of_a_run_that_was_stopped_under_a_smaller_limit_count_too(asking, tmp_path):
    asking(3)
    shard = mark(tmp_path)
    lines = shard.read_text().splitlines(keepends=True)
    shard.with_name("open-00000.jsonl").write_text(f"0\t{lines[0]}1\t{lines[1]}2\t{lines[2][:20]}")
    shard.unlink()
    (shard.parent / "manifest.json").unlink()
    assert sum(text.startswith("kept") for text in asking(5)) == 2 and asking.drawn == 3 + 3


def results(**settings):
    """What a run says of itself, as far as another one is compared with it."""
    return {
        "format": 1, "model": {"source": "here", "weights": "w"},
        "settings": {"reply_tokens": 64, "system": None, **settings},
        "tables": [{"rows": "items/said.jsonl", "benchmark": "said"}],
    }  # fmt: skip


@pytest.fixture
def evaluated(tmp_path):
    (tmp_path / "items").mkdir()
    for name, text in (("items/said.jsonl", "{}\n"), ("results.html", "page"), ("labels.csv", "labels")):
        (tmp_path / name).write_text(text)
    (tmp_path / "results.json").write_text(json.dumps(results()))
    return tmp_path


def test_tables_of_the_same_way_stay_beside_new_ones(evaluated):
    other = {**results(), "tables": [{"rows": "items/other.jsonl", "benchmark": "other"}]}
    assert _kept(Journey(evaluated, Terminal(quiet=True)), other) == results()["tables"]
    assert not (evaluated / "earlier").exists()


def test_results_of_another_reply_length_are_set_aside_whole(evaluated, capsys):
    journey = Journey(evaluated, Terminal())
    assert _kept(journey, results(reply_tokens=128)) == []
    told = " ".join(capsys.readouterr().err.split())
    assert "held results of other settings (reply_tokens 64)" in told and told.endswith("now: said")
    aside = evaluated / "earlier" / "1"
    assert json.loads((aside / "results.json").read_text()) == results()
    texts = [(aside / name).read_text() for name in ("items/said.jsonl", "results.html", "labels.csv")]
    assert texts == ["{}\n", "page", "labels"]
    assert not (evaluated / "results.json").exists() and not (evaluated / "items").exists()
    (evaluated / "results.json").write_text(json.dumps(results(reply_tokens=128)))
    assert _kept(journey, results()) == []
    assert sorted(one.name for one in (evaluated / "earlier").iterdir()) == ["1", "2"]


def test_what_differs_is_said(evaluated):
    now = results()
    assert _differs(results(), now) == "" == _differs({**results(), "model": {"source": "here"}}, now)
    assert _differs({**results(), "model": {"source": "here", "weights": "v"}}, now) == "another model"
    assert _differs({**results(), "format": 0}, now) == "another format"
    assert _differs(results(), results(system="be kind")) == "other settings (system not set)"
