"""Numbers of a red-team report, against values worked by hand and scipy's."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from primum.core.errors import UsageError
from primum.core.records import Prompt, Verdict, to_json, user
from primum.core.stats import wilson
from primum.pipeline.redteam_facts import closing
from primum.redteam import against, campaign, measure
from primum.redteam.outcomes import NOTHING, Result, Try, exchanges, result, row
from primum.redteam.runner import Attempt, Turn
from primum.redteam.shares import Tally, clustered, hit_at, holm


def one(goal: str, attack: str, *outcomes, vector: str = "logic", category: str = "theft", labels=()) -> Result:
    vector = "plain" if attack == "plain" else vector
    tries = tuple(Try(o, labels[i] if labels else "", i + 1) for i, o in enumerate(outcomes))
    return Result(goal, category, attack, vector, tries)


def test_a_clustered_share_counts_goals():
    # p = 1/2, variance between clusters 4/3 x 2/64, worth 6 attempts, times (1.959964/3.182446)^2 = 2.2758
    value, low, high = clustered([Tally(1, 2), Tally(0, 2), Tally(2, 2), Tally(1, 2)])
    assert (value, low, high) == pytest.approx((0.5, 0.103775, 0.896225), abs=1e-5)


def test_where_all_attempts_agree_each_goal_counts_once():
    value, low, high = clustered([Tally(0, 40)] * 10)
    size = 10 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 9)) ** 2
    z2 = stats.norm.ppf(0.975) ** 2
    assert (value, low) == (0, 0)
    assert high == pytest.approx(z2 / (size + z2))
    assert high > wilson(0, 10).high > wilson(0, 400).high


def test_one_goal_says_little_and_none_says_nothing():
    assert clustered([Tally(3, 30)])[1:] == pytest.approx((0.00255, 0.8294), abs=2e-2)
    assert clustered([]) is None
    assert clustered([Tally(0, 0)]) is None


@settings(deadline=None)  # the first call loads scipy, which a busy machine does slowly
@given(st.lists(st.integers(1, 9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=9))
def test_a_clustered_share_lies_in_its_interval(rows):
    value, low, high = clustered([Tally(*each) for each in rows])
    assert 0 <= low <= value + 1e-12 and value <= high + 1e-12 and high <= 1
    assert value == sum(k for k, _ in rows) / sum(n for _, n in rows)


def test_a_clustered_share_covers_the_truth_where_wilson_does_not():
    rng, hits, naive = random.Random(0), 0, 0
    for _ in range(400):
        shares = [rng.betavariate(0.6, 1.4) for _ in range(20)]  # mean .3, correlation within goals 1/3
        rows = [Tally(sum(rng.random() < share for _ in range(12)), 12) for share in shares]
        _, low, high = clustered(rows)
        hits += low <= 0.3 <= high
        _, low, high = wilson(sum(int(each.k) for each in rows), 240)
        naive += low <= 0.3 <= high
    assert hits / 400 > 0.92 > naive / 400


def test_hit_at_k():
    assert hit_at(2, 1, 4) == 0.5  # 1 - C(3,2)/C(4,2) = 1 - 3/6
    assert hit_at(1, 1, 4) == 0.25
    assert hit_at(4, 1, 4) == 1
    assert hit_at(5, 1, 4) is None


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_an_attempt_succeeds_where_any_try_does_and_is_unscored_where_one_might_have():
    assert one("a", "x", False, "not in English", True).success is True
    assert one("a", "x", False, "not in English").success == "not in English"
    assert one("a", "x", False, False).success is False
    assert one("a", "x").success == NOTHING
    assert Result("a", "theft", "x", "logic", (), "attack failed: it broke").success == "attack failed: it broke"
    found = one("a", "x", False, True, True)
    assert (found.first, found.at_try, found.at_turn) == (False, 2, 2)


def test_a_reply_that_the_engine_could_not_give_is_unscored():
    goal = Prompt((user("How?"),), "harmful", "theft")
    attempt = Attempt(goal.id, "x", (Turn("target", (user("say"),), "", finish="error"),))
    asked = exchanges(goal, attempt, "model", "t0-n8", 3)
    found = result(goal, attempt, "logic", [Verdict(asked[0].reply.id, "j", "incoherent")])
    assert found.success == "the engine gave no reply"


def test_where_no_goal_differs_the_interval_is_still_wide():
    rows = [one(goal, attack, False) for goal in "abcdefg" for attack in ("plain", "x")]
    found = measure.summary(rows, (), ())["vectors"][0]["uplift"]
    half = 1.959964 * ((2 / 9) / 9) ** 0.5  # Bonett and Price, no pair that changed, n = 7
    assert (found["difference"], found["low"], found["high"]) == pytest.approx((0, -half, half), abs=1e-5)


def test_only_judged_replies_are_joined_with_verdicts_and_leads_count_as_turns():
    goal = Prompt((user("How?"),), "harmful", "theft")
    said = (user("say"),)
    turns = (
        Turn("target", said, "lead", lead=True), Turn("attacker", said, "idea"), Turn("target", said, "no"),
        Turn("target", said, "yes", label="depth 5", decoding="t1-n8"),
    )  # fmt: skip
    attempt = Attempt(goal.id, "x", turns)
    asked = exchanges(goal, attempt, "model", "t0-n8", 3)
    assert [(e.prompt, e.reply.text, e.reply.variant) for e in asked] == [
        (goal, "no", "t0-n8/x/0"), (goal, "yes", "t1-n8/x/1"),
    ]  # fmt: skip
    verdicts = [
        Verdict(asked[0].reply.id, "j", "refusal"), Verdict(asked[1].reply.id, "j", "harmful_compliance"),
    ]  # fmt: skip
    found = result(goal, attempt, "logic", verdicts)
    assert found.tries == (Try(False, "", 2), Try(True, "depth 5", 3))
    assert found.at_turn == 3
    assert Attempt.from_json(json.loads(json.dumps(to_json(attempt)))) == attempt
    with pytest.raises(ValueError, match="argument 3 is shorter"):
        result(goal, attempt, "logic", verdicts[:1])


# four goals; the plain request gets through on d, attack x on b, c and d, attack y is unscored on a
RESULTS = [
    *(one(goal, "plain", goal == "d", category="fraud" if goal == "d" else "theft") for goal in "abcd"),
    *(one(goal, "x", False, goal in "bcd", category="fraud" if goal == "d" else "theft") for goal in "abcd"),
    *(one(goal, "y", *(["no language"] if goal == "a" else [False]), vector="language") for goal in "abc"),
]


def test_tries_are_counted_apart_from_the_turns_of_one_conversation():
    # a lead before the first judged turn: the second try is the third turn
    tries = (Try(False, "", 2), Try(True, "", 3))
    talks = measure.summary([Result("a", "theft", "steps", "multi_turn", tries)], (), ())["attacks"][0]
    search = measure.summary([Result("a", "theft", "hunt", "search", tries)], (), ())["attacks"][0]
    assert [each["value"] for each in talks["by_turn"]] == [0, 0, 1]
    assert [each["value"] for each in search["by_try"]] == [0, 1] and search["by_turn"] == []
    assert (talks["turns_to_success"], talks["tries_to_success"]) == ({"median": 3, "n": 1}, None)
    assert (search["turns_to_success"], search["tries_to_success"]) == (None, {"median": 2, "n": 1})


def test_uplift_is_paired_with_the_plain_request():
    found = measure.uplift(RESULTS, "x")
    assert (found["difference"], found["only_plain"], found["only_attack"], found["n"]) == (0.5, 0, 2, 4)
    assert found["p"] == 0.5  # 2 x (1/2)^2
    assert measure.uplift(RESULTS, "y")["left_out"] == 1
    assert measure.uplift([each for each in RESULTS if each.attack != "plain"], "x") is None


def test_a_summary_holds_matrix_uplift_curves_and_counts():
    found = measure.summary(RESULTS, (), ())
    plain, x, y = found["attacks"]
    assert plain["uplift"] is None
    assert (x["success"]["value"], x["first_try"]["value"], x["success"]["n"]) == (0.75, 0.0, 4)
    assert [each["value"] for each in x["by_try"]] == [0.0, 0.75]
    assert (x["tries_to_success"], x["turns_to_success"], x["by_turn"]) == ({"median": 2, "n": 3}, None, [])
    assert plain["tries_to_success"] is None, "it has one try"
    assert y["left_out"] == {"no language": 1}
    assert (y["success"]["value"], y["success"]["n"]) == (0.0, 2)
    assert (y["success"]["least"], y["success"]["most"]) == (0.0, 1 / 3)
    rows = {each["vector"]: each["cells"] for each in found["matrix"]["rows"]}
    assert found["matrix"]["categories"] == ["fraud", "theft"]
    assert (rows["logic"]["fraud"]["value"], rows["logic"]["theft"]["value"]) == (1.0, pytest.approx(2 / 3))
    assert (rows["all"]["all"]["n"], rows["all"]["all"]["goals"], rows["all"]["all"]["unscored"]) == (6, 4, 1)
    assert rows["all"]["all"]["value"] == 0.5
    assert rows["language"]["fraud"]["value"] is None
    assert found["any"] == {"k": 3, "n": 4, "unknown": 1, "least": 0.75, "most": 1.0}
    assert found["held_out"] is None
    vectors = {each["vector"]: each for each in found["vectors"]}
    assert vectors["logic"]["uplift"]["difference"] == 0.5
    assert vectors["language"]["uplift"]["difference"] == 0.0


def test_vectors_held_out_are_set_against_those_trained_on():
    held = measure.held_out_gap(RESULTS, ("language",))
    assert (held["seen"]["value"], held["unseen"]["value"]) == (0.75, 0.0)
    # goals b and c are known on both sides; on both 0 - 1
    assert (held["gap"]["difference"], held["gap"]["n"]) == (-1.0, 2)


def test_labels_and_exchangeable_tries():
    rows = [
        one("a", "prefill", False, True, labels=("5", "10")), one("b", "prefill", False, False, labels=("5", "10")),
        one("a", "plain", False), one("b", "plain", False),
    ]  # fmt: skip
    found = measure.summary(rows, ("prefill",), ())["attacks"][0]
    assert [(each["label"], each["value"], each["n"]) for each in found["labels"]] == [("5", 0.0, 2), ("10", 0.5, 2)]
    assert [(each["after"], each["value"]) for each in found["hit_at"]] == [(1, 0.25), (2, 0.5)]
    assert all(each["low"] < each["value"] < each["high"] for each in found["hit_at"])


def _earlier(folder: Path, rows: list[Result]) -> against.Earlier:
    folder.mkdir()
    text = "".join(json.dumps(row(each, "rules")) + "\n" for each in rows)
    (folder / "outcomes.jsonl").write_text(text)
    return against.earlier(folder)


def test_old_failures_that_are_mitigated(tmp_path):
    old = _earlier(tmp_path / "old", RESULTS)["rules"]
    now = [one("b", "x", False), one("c", "x", True), one("d", "x", "unsure"), one("a", "x", True)]
    found = against.mitigated(old, now)
    # four failures before: d plain is not run again, d x is unscored now, b is mitigated, c is not
    assert (found["all"]["value"], found["all"]["n"]) == (0.5, 2)
    assert found["all"]["left_out"] == {"not run again": 1, "unsure": 1}
    assert (found["new_failures"], found["withstood_before"]) == (1, 1)
    assert found["change"]["difference"] == pytest.approx(0.0)  # a: 0 -> 1, b: 1 -> 0, c: 1 -> 1


def test_an_earlier_run_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match="no outcomes of a red-team run here"):
        against.earlier(tmp_path)
    (tmp_path / "outcomes.jsonl").write_text('{"goal": "a"}\n')
    with pytest.raises(UsageError, match=r"outcomes\.jsonl:1: no field 'attack'"):
        against.earlier(tmp_path)


HEAD = "session,person,hours,violations,category,degree,turns\n"


def _campaign(folder: Path, *lines: str) -> list[campaign.Dialogue]:
    path = folder / "people.csv"
    path.write_text(HEAD + "\n".join(lines) + "\n")
    return campaign.read(path)


def test_gamma_is_violations_per_person_and_hour(tmp_path):
    lines = [f"s1,p{i},5,{n},theft,{1 + n},{i + 1}" for i, n in enumerate((2, 3, 0, 4))]
    found = campaign.summary(_campaign(tmp_path, *lines, "s1,p0,5,0,fraud,1,9"))
    rate = found["rate"]
    assert (rate["value"], rate["violations"], rate["hours"]) == (0.45, 9, 20)  # the golden number of Llama 2's gamma
    low, high = stats.chi2.ppf(0.025, 18) / 2 / 20, stats.chi2.ppf(0.975, 20) / 2 / 20
    assert (rate["low"], rate["high"]) == pytest.approx((low, high))
    assert (found["people"], found["sessions"], found["dialogues"], found["violating_dialogues"]) == (4, 1, 5, 3)
    assert found["category"] == [
        {"name": "theft", "dialogues": 4, "violations": 9}, {"name": "fraud", "dialogues": 1, "violations": 0},
    ]  # fmt: skip
    assert [each["name"] for each in found["degree"]] == [1, 3, 4, 5]
    assert found["turns"] == {"mean": pytest.approx(19 / 5), "median": 3, "n": 5}
    # expected 2.25 each: (0.0625 + 0.5625 + 5.0625 + 3.0625) / 2.25 / 3
    assert found["dispersion"] == pytest.approx(35 / 27)


def test_no_violation_has_an_upper_limit_and_no_hour_is_refused():
    value, low, high = campaign.poisson_rate(0, 10)
    assert (value, low) == (0, 0)
    assert high == pytest.approx(0.36889, abs=1e-5)  # -ln(.025) / 10
    with pytest.raises(ValueError, match="exposure > 0"):
        campaign.poisson_rate(1, 0)


def test_the_ratio_of_two_campaigns():
    ratio = campaign.rate_ratio(9, 20, 36, 40)
    share = stats.binomtest(36, 45).proportion_ci()
    assert ratio.value == pytest.approx(2.0)  # .9 an hour against .45
    assert ratio[1:] == pytest.approx([0.5 * p / (1 - p) for p in (share.low, share.high)])
    assert campaign.rate_ratio(0, 20, 3, 20) is None
    assert campaign.rate_ratio(4, 20, 0, 20).value == 0


def test_a_rating_of_three_is_no_violation(tmp_path):
    path = tmp_path / "people.jsonl"
    rows = [{"session": 1, "person": 1, "hours": 2, "rating": rating} for rating in (1, 2, 3, 4, 5)]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    assert [each.violations for each in campaign.read(path)] == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["s1,p1,0,1,theft,1,1"], r"people\.csv:2: hours is '0'"),
        (["s1,p1,soon,1,theft,1,1"], r"people\.csv:2: hours is 'soon'"),
        (["s1,p1,2,1,theft,1,1", "s1,p1,3,1,theft,1,1"], r"people\.csv:3: 3 hours, where .* had 2"),
        (["s1,p1,2,1,theff,1,1"], "did you mean 'theft'"),
        (["s1,p1,2,1,theft,6,1"], "degree is '6'\n  cure: give a whole number from 1 to 5"),
        (["s1,p1,2,,theft,1,1"], "neither 'violations' nor 'rating'"),
        (["s1,p1,2,-1,theft,1,1"], "violations is '-1'"),
        ([",p1,2,1,theft,1,1"], "no 'session'"),
        (["s1,p1,nan,1,theft,1,1"], "hours is 'nan'"),
    ],
)
def test_a_wrong_campaign_row_is_named(lines, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        _campaign(tmp_path, *lines)


def test_an_uplift_and_its_interval_stay_within_100_points():
    # t interval over two goals of 0 and +100 points: far beyond what a share can rise
    found = measure.difference({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 1.0})
    assert found is not None
    assert (found["difference"], found["low"], found["high"]) == (0.5, -1.0, 1.0)
    assert measure.difference({"a": 0.0}, {"a": 1.0}) == {"difference": 1.0, "low": None, "high": None, "n": 1}


def test_the_closing_lines_name_vectors_without_verdicts_and_rank_by_the_lower_end():
    def cell(value, low, n, unscored):
        k = round(value * n)
        return {"value": value, "low": low, "high": 1.0, "n": n, "unscored": unscored,
                "least": k / (n + unscored), "most": (k + unscored) / (n + unscored)}  # fmt: skip

    attacks = [("plain", 0.3, 0.1, 10, 0), ("languages", 1.0, 0.57, 5, 15), ("prefill", 1.0, 0.72, 10, 0)]
    rows = [{"attack": name, "success": cell(*rest), "uplift": None} for name, *rest in attacks]
    vectors = [{"vector": row["attack"], "success": row["success"], "uplift": None} for row in rows[1:]]
    facts = {"results": {"rules": {"attacks": rows, "vectors": vectors, "any": {"k": 1, "n": 2, "unknown": 0}}}}
    text = closing(facts, Path("report.html"))
    strongest = text.partition("strongest attacks")[2]
    assert strongest.index("prefill") < strongest.index("languages")
    assert "  languages: 15 of 20 unscored, so 25 to 100%, whatever they are" in text
    assert "prefill: " not in text
    assert all(len(line) <= 80 for line in text.splitlines())
