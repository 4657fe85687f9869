"""Two models compared a part at a time: large differences stop early, none runs to the end, looking costs nothing."""

import json
import random
from dataclasses import replace
from html import unescape
from itertools import pairwise

import pytest

import primum.models.engines.canned as canned
from primum.cli import main
from primum.core.errors import UsageError
from primum.core.records import Prompt, user
from primum.core.stats.anytime import first_alarm
from primum.core.stats.sequences import LEAST, BettingSequence, NormalSequence
from primum.evaluation.early import Race, Rule, parts
from primum.evaluation.items import Item, Metric
from primum.evaluation.own import read_own
from primum.models.engines.canned import CannedEngine
from primum.pipeline.benchmark import Ask, Subject
from primum.pipeline.evaluate_against import Asked, Other, race
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from tiny_models import tiny


# ---------------------------------------------------------------- the limits
def first_out(values, alpha):
    """After how many values 0 is left out, looking after each."""
    sequence = BettingSequence(alpha, cells=2)
    for i, value in enumerate(values, 1):
        sequence.add([value])
        if sequence.excludes(0.0):
            return i
    return None


def test_a_mean_is_left_out_where_either_one_sided_test_alarms():
    """The one-sided tests are `anytime.Betting`, on values moved from [-1, 1] to [0, 1]."""
    rng = random.Random(3)
    for shift in (-0.5, -0.2, 0.2, 0.5):
        values = [max(-1.0, min(1.0, rng.gauss(shift, 0.6))) for _ in range(200)]
        up = first_alarm([(v + 1) / 2 for v in values], 0.5, 0.025)
        down = first_alarm([(1 - v) / 2 for v in values], 0.5, 0.025)
        assert first_out(values, 0.05) == min((one for one in (up, down) if one is not None), default=None)
        assert first_out(values, 0.05) is not None or abs(shift) < 0.5


@pytest.mark.parametrize(("changing", "alpha"), [(0.1, 0.1), (0.5, 0.1), (1.0, 0.1)])
def test_stopping_at_the_first_sign_of_a_difference_raises_no_more_false_alarms_than_it_says(changing, alpha):
    """400 runs without a difference, looked at after every item: more than 59 draws of .1 have a chance of 1e-3."""
    rng = random.Random(11)
    runs = [[rng.choice((-1, 1)) if rng.random() < changing else 0 for _ in range(150)] for _ in range(400)]
    assert sum(first_out(values, alpha) is not None for values in runs) <= 59


def test_a_difference_is_found_long_before_the_end_and_the_limits_hold_it():
    rng = random.Random(5)
    used, held = [], 0
    for _ in range(60):
        sequence, stop = BettingSequence(0.05), None
        for i in range(1, 601):
            sequence.add([rng.choices((-1, 0, 1), (0.05, 0.6, 0.35))[0]])  # a mean of .3
            if stop is None and sequence.excludes(0.0):
                stop = i
        used.append(stop)
        low, high = sequence.limits()[1:]
        held += low <= 0.3 <= high
        assert low >= 0 and high - low < 0.4
    assert None not in used and sorted(used)[30] < 150
    assert held >= 54  # at .95 fewer than 54 of 60 would have a chance of .03


def test_limits_never_contradict_what_is_left_out():
    sequence = BettingSequence(0.05, exact=(-0.05,))
    for i in range(400):
        sequence.add([0.0])
        _, low, high = sequence.limits()
        assert low <= 0 <= high, "all values are 0"
        assert sequence.excludes(-0.05) == (low > -0.0501), i
    assert sequence.excludes(-0.05) and high < 0.1
    with pytest.raises(ValueError, match="need a value in"):
        sequence.add([1.5])


def test_any_numbers_have_asymptotic_limits_and_none_at_first():
    sequence = NormalSequence(0.05, plan=50)
    sequence.add([2.0, 2.1] * (LEAST // 2 - 1))
    assert not sequence.excludes(0.0)
    sequence.add([2.0, 2.1])
    assert sequence.excludes(0.0) and sequence.limits().value == pytest.approx(2.05)


# ---------------------------------------------------------------- parts
def item(text, cluster):
    return Item(Prompt((user(text),), "benign", "other"), cluster)


def test_parts_hold_whole_clusters_in_an_order_of_their_own_and_grow():
    items = [item(f"{i}?", f"c{i // 2}") for i in range(400)]
    found = list(parts(items, 20))
    assert [len(part) for part in found[:3]] == [20, 20, 20]
    used = [sum(map(len, found[: i + 1])) for i in range(len(found))]
    assert used[-1] == 400 and len(found) < 15
    assert all(len(part) >= before // 4 for part, before in zip(found[1:-1], used, strict=False))
    assert all(part[i].cluster == part[i + 1].cluster for part in found for i in range(0, len(part), 2))
    again = list(parts([*items[200:], *items[:200]], 20))
    assert [{one.id for one in part} for part in again] == [{one.id for one in part} for part in found]
    first = [int(one.cluster[1:]) for one in found[0]]
    assert any(a > b for a, b in pairwise(first)), "not the benchmark's order"


def test_the_decision_is_about_the_metrics_better_way_and_the_margin():
    def after(changes, direction, margin):
        run = Race("m", Metric("m", direction), Rule(margin=margin), 1000)
        run.limits.add(run.sign * one for one in changes)
        run.clusters = len(changes)
        return run.decision

    worse, same = [1, 0, 0, 0] * 50, [0] * 400
    assert after(worse, "lower_is_better", 0.0) == "worse"
    assert after(worse, "higher_is_better", 0.0) == "better"
    assert after(worse, "lower_is_better", 0.05) == "worse" and after(worse, "lower_is_better", 0.6) == "no worse"
    assert after(same, "lower_is_better", 0.0) == "not decided" and after(same, "lower_is_better", 0.1) == "no worse"
    assert after([], "lower_is_better", 0.0) == "not decided"


# ---------------------------------------------------------------- fake models
class Fake:
    """Answers with the right word to a share of the questions; counts what it was asked."""

    model_name = "fake"

    def __init__(self, share, salt=""):
        self.share, self.salt, self.asked = share, salt, 0

    def stream(self, requests, sampling):
        for one in requests:
            self.asked += 1
            right = random.Random(self.salt + one.messages[-1].text).random() < self.share
            yield from CannedEngine(("the word is right" if right else "no idea",)).stream([one], sampling)

    def __call__(self, batch, sampling, seed):
        raise NotImplementedError


class Held:
    """What `race` asks of a model."""

    def __init__(self, fake):
        self.fake = fake

    def subject(self, likelihood):
        return Subject(f"fake-{self.fake.share}", "", "fake", lambda: self.fake, None)


@pytest.fixture
def asked(tmp_path):
    rows = [{"q": f"Question {i}?", "a": "right"} for i in range(600)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.yaml").write_text("name: own\nrows: rows.jsonl\nkind: contains\nprompt: q\nanswer: a\n")
    benchmark = read_own(tmp_path / "own.yaml")
    return Asked(benchmark, Ask(benchmark.settings), ())


def raced(asked, folder, new, old, rule=Rule()):  # noqa: B008 (frozen)
    journey = Journey(folder, Terminal(quiet=True))
    other = Other("old", models=Held(old), journey=Journey(folder / "against", journey.terminal))
    return race(journey, asked, rule, Held(new), other), other


def test_a_large_difference_stops_early_and_draws_no_more(asked, tmp_path):
    new, old = Fake(0.9), Fake(0.4)
    (outcome, tables), other = raced(asked, tmp_path / "run", new, old)
    assert outcome["decision"] == "better" and outcome["stopped_early"] and outcome["of"] == 600
    assert 50 <= outcome["used"] < 200 and new.asked == old.asked == outcome["used"]
    assert outcome["low"] >= 0 and outcome["low"] < outcome["difference"] < outcome["high"]
    assert [len(tables[0].rows), len(other.tables[0].rows)] == [outcome["used"]] * 2
    assert tables[0].name == "own" and tables[0].facts["stopped"] == {"used": outcome["used"], "of": 600}
    right = [sum(row.scores["correct"] for row in table.rows) for table in (tables[0], other.tables[0])]
    assert outcome["difference"] == pytest.approx((right[0] - right[1]) / outcome["used"])
    assert outcome["looks"][-1]["used"] == outcome["used"]
    (worse, _), _ = raced(asked, tmp_path / "turned", Fake(0.4), Fake(0.9))
    assert (worse["decision"], worse["used"]) == ("worse", outcome["used"])


def test_no_difference_runs_to_the_end_or_stops_where_a_margin_is_given(asked, tmp_path):
    (outcome, _), _ = raced(asked, tmp_path / "run", Fake(0.5), Fake(0.5))
    assert (outcome["decision"], outcome["used"], outcome["stopped_early"]) == ("not decided", 600, False)
    assert outcome["low"] < 0 < outcome["high"]
    (outcome, _), _ = raced(asked, tmp_path / "margin", Fake(0.5), Fake(0.5), Rule(margin=0.1))
    assert outcome["decision"] == "no worse" and outcome["used"] < 600 and outcome["low"] > -0.1001


def test_a_run_that_was_stopped_goes_on_where_it_was_and_comes_to_the_same_end(asked, tmp_path):
    whole, _ = raced(asked, tmp_path / "whole", Fake(0.6), Fake(0.4, "other"))
    dying = Fake(0.6)

    def stream(requests, sampling):
        for i, one in enumerate(Fake.stream(dying, requests, sampling)):
            if dying.asked > 70 and i > 3:
                raise KeyboardInterrupt
            yield one

    dying.stream = stream
    old = Fake(0.4, "other")
    with pytest.raises(KeyboardInterrupt):
        raced(asked, tmp_path / "cut", dying, old)
    fresh = Fake(0.6)
    again, _ = raced(asked, tmp_path / "cut", fresh, old)
    assert again == whole and whole.outcome["used"] > 100
    assert fresh.asked < whole.outcome["used"] == old.asked, "what lay on disk was not drawn again"


def test_a_metric_that_decides_nothing_is_refused(asked):
    with pytest.raises(UsageError, match="did you mean 'correct'"):
        Rule(metric="corect").decides(asked.benchmark)
    described = {"words": Metric("words", "neither", "score")}
    with pytest.raises(UsageError, match="no metric with a better way"):
        Rule().decides(replace(asked.benchmark, metrics=described))


# ---------------------------------------------------------------- the verb
@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny(tmp_path_factory.mktemp("model"), 0))


def html(path):
    return unescape(path.read_text())


def evaluated(capsys, *arguments, code=0):
    assert main(["evaluate", *map(str, arguments), "--engine=canned", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_evaluate_against_a_kept_run_stops_where_it_is_decided(asked, model, tmp_path, capsys, monkeypatch):
    before, after = tmp_path / "before", tmp_path / "after"
    own = ["--benchmark", tmp_path / "own.yaml"]
    evaluated(capsys, model, *own, "--out", before, "--limit=400")
    monkeypatch.setattr(canned, "open_engine", lambda opening: CannedEngine(("That is right.",)))
    document = evaluated(capsys, model, *own, "--out", after, "--against", before)
    (outcome,) = document["against"]["outcomes"]
    assert (outcome["decision"], outcome["used"], outcome["of"], outcome["missing"]) == ("better", 50, 400, 200)
    assert "better. +100.0 points" in outcome["text"] and outcome["text"] in html(after / "results.html")
    assert outcome["difference"] == 1.0 and document["tables"][0]["n"] == 50
    assert evaluated(capsys, model, *own, "--out", after, "--against", before)["against"] == document["against"]
    assert main(["compare", str(before), str(after)]) == 0
    assert "own: drawn until a comparison was decided" in " ".join(capsys.readouterr().out.split())
    turned = evaluated(capsys, model, *own, "--out", tmp_path / "x", "--against", after, code=3)
    assert turned["against"]["outcomes"][0]["used"] == 50, "only what the kept run holds"


def test_evaluate_against_a_model_keeps_both_and_says_what_was_used(asked, model, tmp_path, capsys):
    """One fake answers for both models: nothing differs."""
    out = tmp_path / "run"
    arguments = ["evaluate", model, f"--benchmark={tmp_path / 'own.yaml'}", "--limit=120", f"--out={out}"]
    arguments += ["--engine=canned", f"--against={model}"]
    assert main(arguments) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "not decided" in said and "120 of 120 items used" in said
    assert main(["compare", str(out / "against"), str(out), "--json"]) == 0
    assert {one["difference"] for one in json.loads(capsys.readouterr().out)["changes"]} == {0}
    assert main([*arguments, "--margin=0.2"]) == 0
    assert "worse by less than 20.0 points, if at all" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--decide=corect"], "did you mean 'correct'"),
        (["--against={out}"], "share a folder"),
        (["--against={tmp}/rows.jsonl"], "unknown kind"),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_drawn(asked, flags, says, model, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "results.json").write_text('{"tables": []}')
    given = [flag.format(out=out, tmp=tmp_path) for flag in flags]
    arguments = ["evaluate", model, f"--benchmark={tmp_path / 'own.yaml'}", "--engine=canned", f"--out={out}"]
    assert main([*arguments, f"--against={model}", *given]) == 2
    assert says in capsys.readouterr().err
    assert not (out / "steps").exists()
