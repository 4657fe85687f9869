"""Errors say what, where and how to mend it, and know their exit code."""

import pytest

from primum.core.errors import (
    BadInputError,
    Exit,
    MissingExtraError,
    PrimumError,
    StepFailedError,
    UsageError,
    did_you_mean,
)


def test_message_is_place_problem_cure():
    error = UsageError("no prompt", where="asked.jsonl:3", cure="add one")
    assert str(error) == "asked.jsonl:3: no prompt\n  cure: add one"
    assert str(UsageError("no prompt")) == "no prompt"


@pytest.mark.parametrize(("cls", "code"), [(PrimumError, 4), (StepFailedError, 4), (UsageError, 2), (BadInputError, 2)])
def test_exit_codes_of_errors(cls, code):
    assert cls("x").exit_code == code


def test_exit_codes_are_the_documented_ones():
    assert {code.name: int(code) for code in Exit} == {
        "PASSED": 0,
        "GATE_FAILED": 1,
        "USAGE": 2,
        "UNDECIDED": 3,
        "STEP_FAILED": 4,
    }


def test_missing_extra_is_a_usage_error_with_a_command():
    error = MissingExtraError("Parquet", "parquet")
    assert error.exit_code == Exit.USAGE
    assert "pip install" in str(error.cure)
    assert "parquet" in str(error.cure)


def test_did_you_mean_names_the_nearest_or_all():
    assert did_you_mean("budgt", ["budget", "seed"]) == "did you mean 'budget'?"
    assert did_you_mean("zzz", ["seed", "budget"]) == "known: budget, seed"
