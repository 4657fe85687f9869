import pytest

from primum.core.errors import UsageError
from primum.core.records import Verdict
from primum.judging import exchange
from primum.judging.runner import judge_all, run

SOME = [exchange("benign", "a question", text) for text in ("one", "bad", "three")]


def fake(exchanges):
    """A judge that cannot read the word "bad"."""
    if any(one.reply.text == "bad" for one in exchanges):
        raise RuntimeError("cannot read this")
    return [Verdict(one.reply.id, "fake", "compliance") for one in exchanges]


def test_one_failure_costs_one_verdict():
    verdicts = run("fake", fake, SOME, "r1")
    assert [v.behaviour for v in verdicts] == ["compliance", None, "compliance"]
    assert verdicts[1].unscored == "judge failed: RuntimeError: cannot read this"
    assert [v.reply_id for v in verdicts] == [one.reply.id for one in SOME]
    assert verdicts[1].judge_revision == "r1"


def test_too_few_verdicts_are_no_verdicts():
    verdicts = run("fake", lambda exchanges: [], SOME)
    assert [v.behaviour for v in verdicts] == [None, None, None]
    assert "returned 0 verdicts for 1" in verdicts[0].unscored


def test_verdicts_in_another_order_are_not_believed():
    def turned(exchanges):
        return fake(exchanges)[::-1]

    good = [SOME[0], SOME[2]]
    assert [v.behaviour for v in run("fake", turned, good)] == ["compliance", "compliance"]  # found one by one
    assert [v.reply_id for v in run("fake", turned, good)] == [one.reply.id for one in good]


def test_a_wrong_setup_is_an_error_and_not_a_verdict():
    def broken(exchanges):
        raise UsageError("the model is not installed")

    with pytest.raises(UsageError):
        run("fake", broken, SOME)


def test_an_unknown_judge_is_named():
    with pytest.raises(UsageError, match="rulez"):
        judge_all("rulez", SOME)
