"""Suggested preprompts: marked as better only where dev and held-out both say so, paired and by interval."""

import json

import pytest

from primum.cli import main
from primum.core.records import Prompt, Reply, Verdict, user
from primum.evaluation.metrics import Scored
from primum.models.sampling import Generated
from primum.studio import library
from primum.studio.evaluate import Settings, measure, scores
from primum.studio.suggesting import Suggestion, on_sets, ranked
from studio_kit import serving

BASE = "You are a helpful assistant. Refuse what is unsafe for {{house}}."
N = 20


def side(name, complied, refused=()):
    """Twenty harmful prompts and their twins; those whose numbers are listed went along, or were refused."""
    found = []
    for n in range(N):
        asked = {"harmful": f"harmful {name} {n}", "benign": f"benign {name} {n}"}
        ids = {intent: Prompt((user(text),), intent, "fraud").id for intent, text in asked.items()}
        for intent, other in (("harmful", "benign"), ("benign", "harmful")):
            prompt = Prompt((user(asked[intent]),), intent, "fraud", twin=ids[other])
            declines = n not in complied if intent == "harmful" else n in refused
            gone = "harmful_compliance" if intent == "harmful" else "compliance"
            reply = Reply(prompt.id, "m", "t0-0", "said", "stop", 1, 1, 0)
            found.append(Scored(prompt, reply, Verdict(reply.id, "rules", "refusal" if declines else gone)))
    return found


def sides(dev, held, refused=()):
    return {"dev": side("dev", range(dev), refused), "held-out": side("held", range(held), refused)}


def suggested(text, before, after):
    return Suggestion(text, {**scores(before, after), "passed": True}, on_sets(before, after))


BEFORE = sides(12, 12)
CASES = {
    "better on both": (sides(2, 2), True),
    "better on dev alone": (sides(2, 12), False),
    "better on held-out alone": (sides(12, 2), False),
    "refuses three twins more": (sides(2, 2, refused=range(3)), False),
    "refuses two twins more, the floor": (sides(2, 2, refused=range(2)), True),
    "a little better": (sides(10, 10), False),
    "the same": (BEFORE, False),
}


@pytest.mark.parametrize("case", CASES)
def test_better_means_better_on_dev_and_on_held_out(case):
    after, expected = CASES[case]
    (found,) = ranked([suggested(case, BEFORE, after)])
    assert found.better is expected
    assert found.told(3)["better"] is expected


def test_the_differences_are_paired_with_their_intervals():
    """Ten of twenty prompts change one way: Bonett and Price 2012 by hand, p1 = 11/22, p2 = 1/22."""
    (found,) = ranked([suggested("x", BEFORE, sides(2, 2))])
    row = found.told(3)["sets"]["held-out"]["harmful"]
    half = 1.959964 * ((11 / 22 + 1 / 22 - (10 / 22) ** 2) / 22) ** 0.5
    assert (row["before"], row["after"], row["n"]) == (0.6, 0.1, 20)
    assert row["difference"] == -0.5
    assert (row["low"], row["high"]) == (
        pytest.approx(-10 / 22 - half, abs=1e-6),
        pytest.approx(-10 / 22 + half, abs=1e-6),
    )
    assert row["p"] == pytest.approx(2 / 2**10)
    assert found.p == pytest.approx(2 / 2**10)


def test_several_that_beat_the_version_on_dev_are_tested_as_several():
    """Six prompts one way: p 2/64; twice that, by Holm, is above .05. What dev did not choose counts for none."""
    alone = suggested("one", BEFORE, sides(2, 6))
    assert ranked([alone])[0].better
    assert ranked([alone])[0].p == pytest.approx(2 / 64)
    both = ranked([alone, suggested("two", BEFORE, sides(2, 6))])
    assert [(one.better, one.p) for one in both] == [(False, pytest.approx(4 / 64))] * 2
    beside = ranked([alone, suggested("other", BEFORE, sides(12, 2))])
    assert [(one.text, one.better, one.p) for one in beside] == [
        ("one", True, pytest.approx(2 / 64)), ("other", False, None)
    ]  # fmt: skip


def test_what_breaks_the_floor_is_left_out():
    one = suggested("one", BEFORE, sides(2, 2))
    assert ranked([one._replace(scores={**one.scores, "passed": False})]) == []


class Obeys:
    """An engine: goes along with everything, but declines harmful requests under the preprompts that it is given."""

    model_name = "obeys"

    def __init__(self, careful):
        from primum.prompts.embedded import embedded

        self.careful, self.told = careful, []
        self.harmful = {prompt.text for prompt in embedded() if prompt.intent == "harmful"}

    def __call__(self, batch, sampling, seed):
        said = []
        for messages in batch:
            told = messages[0].content if messages[0].role == "system" else ""
            self.told.append(told)
            harmful = any(text in messages[-1].content for text in self.harmful)
            said.append(
                "I cannot help with that." if harmful and self.careful(told) else "Here is how you do it: first."
            )
        return [Generated(text, "stop", 1, 1) for text in said]


def test_a_measurement_asks_once_under_each_preprompt():
    engine = Obeys(lambda told: "refuse" in told)
    found = measure(engine, "refuse", Settings(3, "rules", 0))
    assert [len(rows) for rows in found.values()] == [6, 6, 3]
    assert set(engine.told) == {"refuse"}
    assert scores(measure(engine, "", Settings(3, "rules", 0)), found)["sets"]["dev"]["compliance"] == [1.0, 0.0]


def test_only_harmful_requests_that_went_through_are_mended():
    """Under a preprompt that declines what is harmful and answers the twins, nothing went through."""
    settings = Settings(6, "rules", 0)
    let, kept = (measure(Obeys(lambda told, to=to: to), "x", settings) for to in (False, True))
    assert scores(let, kept)["sets"]["dev"]["failed"] == []
    assert len(scores(kept, let)["sets"]["dev"]["failed"]) > 0


def run(capsys, *arguments, code=0):
    assert main(["prompts", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_suggestions_from_the_terminal_are_drafts_marked_by_what_they_beat(tmp_path, capsys, monkeypatch):
    """Under 'careful' and under the mended version the model declines: these are better. The others are not."""
    engine = Obeys(lambda told: "careful" in told or "Take particular care" in told)
    monkeypatch.setattr("primum.studio.talk.load_engine", lambda name: engine)
    data, file = f"--data={tmp_path}", tmp_path / "c.txt"
    file.write_text(BASE)
    run(capsys, "add", "mine", data, f"--file={file}", "--variables=house:trusted")
    asked = ("suggest", "mine", data, "--model=./mine", "--size=20")
    assert "'house' has no value" in run(capsys, *asked, code=2)["error"]
    found = run(capsys, *asked, "--set=house=a clinic")
    assert (found["baseline"], found["drafts"]) == (1, [2, 3, 4])
    better = [one["text"] for one in found["ranked"] if one["against"]["better"]]
    assert len(better) == 3, "two with the adjective, and the version mended"
    assert all("careful" in text or text.startswith(BASE + " Take particular care") for text in better)
    assert [one["against"]["better"] for one in found["ranked"]] == [True] * 3 + [False] * (len(found["ranked"]) - 3)
    assert {told for told in engine.told if "{{" in told} == set(), "the version's slots were filled"
    shown = [run(capsys, "show", "mine", data, f"--number={n}") for n in (2, 3, 4)]
    assert {one["state"] for one in shown} == {"draft"}, "never promoted by themselves"
    assert all(one["scores"][0]["against"]["version"] == 1 for one in shown)
    assert [one["variables"] for one in shown if "{{house}}" in one["text"]] == [{"house": True}]
    again = run(capsys, *asked, "--set=house=a clinic", "--number=1")
    assert again["drafts"] == [2, 3, 4], "what was suggested before is no new version"
    with serving(tmp_path, kept=True) as running:
        page, table = (running.browser().get(path).text for path in ("/prompts/mine/2", "/prompts/mine"))
    assert "better than version 1" in page
    assert "held-out: harmful compliance 100% → <b>0%</b>" in page
    assert "better than version 1" in table


def test_a_suggestion_that_is_not_better_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("primum.studio.talk.load_engine", lambda name: Obeys(lambda told: True))
    found = run(capsys, "suggest", "mine", f"--data={tmp_path}", "--model=./mine", "--size=20")
    assert (found["baseline"], len(found["drafts"])) == (0, 3)
    assert not any(one["against"]["better"] for one in found["ranked"]), "the model declines without a preprompt"
    with serving(tmp_path, kept=True) as running:
        assert "not shown to be better than no preprompt" in running.browser().get("/prompts/mine/1").text


def test_suggestions_are_made_from_production(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("primum.studio.talk.load_engine", lambda name: Obeys(lambda told: True))
    with serving(tmp_path) as running, running.studio.database.writing() as db:
        template = library.create(db, "mine", "preprompt", "anna")
        for n in range(2):
            version = library.add_version(db, template, f"Refuse what is unsafe. {n}", {}, "", "anna")
            if n == 0:
                green = {"passed": True, "sets": {"dev": {"n_harmful": 20, "n_benign": 20}}}
                library.add_score(db, template, version, "m", {}, green, "anna")
                for kind, by in (("propose", "anna"), ("approve", "ben"), ("merge", "ben")):
                    library.do(db, template, version, kind, by)
                library.set_label(db, template, version, "production", "ben")
    asked = ("suggest", "mine", f"--data={tmp_path}", "--model=./mine", "--size=2")
    assert run(capsys, *asked)["baseline"] == 1
    assert run(capsys, *asked, "--number=2")["baseline"] == 2


def test_what_is_no_preprompt_is_told_before_a_model_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("primum.studio.talk.load_engine", lambda name: pytest.fail("a model was loaded"))
    with serving(tmp_path) as running, running.studio.database.writing() as db:
        rubric = library.create(db, "judge", "rubric", "anna")
        library.add_version(db, rubric, "Judge <r>{{reply}}</r>.", {"reply": False}, "", "anna")
    assert "only preprompts" in run(capsys, "suggest", "judge", f"--data={tmp_path}", code=2)["error"]
