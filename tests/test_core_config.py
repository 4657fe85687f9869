"""One declaration: flags, help, YAML keys and defaults follow from the model."""

import argparse
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from primum.core.config import Config, add_flags, build, from_flags
from primum.core.errors import UsageError


class Cooking(Config):
    dish: str = Field("soup", description="what to cook", json_schema_extra={"positional": True})
    portions: int = Field(4, description="how many, at 100% appetite", ge=1)
    heat: Literal["low", "high"] = Field("low", description="how hot")
    salt: float | None = Field(None, description="grams of salt")
    herbs: tuple[str, ...] = Field((), description="which herbs")
    dry_run: bool = Field(False, description="only say what would be cooked")


def parse(*arguments: str) -> Cooking:
    parser = argparse.ArgumentParser()
    add_flags(parser, Cooking)
    return from_flags(Cooking, parser.parse_args(arguments))


def test_no_flags_are_the_models_defaults():
    assert parse() == Cooking()


def test_every_kind_of_flag_is_read():
    given = parse(
        "stew", "--portions", "2", "--heat", "high", "--salt", "1.5", "--herbs", "sage", "--herbs", "bay", "--dry-run"
    )
    assert given == Cooking(dish="stew", portions=2, heat="high", salt=1.5, herbs=("sage", "bay"), dry_run=True)
    assert parse("--no-dry-run").dry_run is False


def test_help_shows_the_models_default_and_survives_percent_signs():
    parser = argparse.ArgumentParser()
    add_flags(parser, Cooking)
    text = " ".join(parser.format_help().split())
    assert "how many, at 100% appetite (default: 4)" in text
    assert "how hot (default: low)" in text


def test_unknown_key_names_the_nearest_and_the_place():
    with pytest.raises(UsageError) as caught:
        build(Cooking, {"portion": 2}, where="dinner.yaml")
    assert str(caught.value) == "dinner.yaml: unknown key 'portion'\n  cure: did you mean 'portions'?"


def test_a_value_that_does_not_fit_names_its_key_and_what_was_given():
    with pytest.raises(UsageError) as caught:
        build(Cooking, {"portions": 0}, where="dinner.yaml")
    assert str(caught.value).startswith("dinner.yaml: portions:")
    assert "got 0" in str(caught.value)
    assert caught.value.cure == "how many, at 100% appetite"


def test_configuration_is_frozen():
    with pytest.raises(ValidationError):
        Cooking().portions = 5


def test_a_list_does_not_swallow_the_positional_behind_it():
    got = parse("--herbs", "dill", "--herbs", "mint", "stew")
    assert (got.dish, got.herbs) == ("stew", ("dill", "mint"))
