"""One declaration: flags, help, YAML keys and defaults follow from the model."""

import argparse
from typing import ClassVar, Literal

import pytest
from pydantic import Field, ValidationError

from primum.core.config import Config, add_flags, build, flag_values, from_flags, read_settings
from primum.core.errors import BadInputError, UsageError


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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"a: 1\nb: [\n", "{path}:3: no valid YAML"),
        (b"- a\n", "{path}: must hold settings by name\n  cure: see there"),
        (b"\xff\xfe", "{path}: not a UTF-8 text file"),
        (b"a: 2026-02-30\n", "{path}: no valid YAML (day is out of range for month)\n  cure: see there"),
    ],
)
def test_one_reader_of_settings_names_file_line_and_cure(text, says, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(text)
    with pytest.raises(BadInputError) as told:
        read_settings(str(path), "file of limits", "see there")
    assert str(told.value).startswith(says.format(path=path))
    with pytest.raises(BadInputError, match="no such file of limits"):
        read_settings(str(tmp_path / "none.yaml"), "file of limits")
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_settings(str(path)) == {"a": 1}
    path.write_bytes(b"# nothing\n")
    assert read_settings(str(path)) == {}


def test_a_flag_may_have_a_second_name():
    class Two(Config):
        judges: tuple[str, ...] = Field(("a",), description="who", json_schema_extra={"also": "judge"})

    parser = argparse.ArgumentParser()
    add_flags(parser, Two)
    assert from_flags(Two, parser.parse_args(["--judge", "x", "--judges", "y"])).judges == ("x", "y")
    assert from_flags(Two, parser.parse_args([])).judges == ("a",)


def test_flags_with_a_title_stand_behind_the_others():
    class Lent(Config):
        flag_group: ClassVar[str] = "what helpers need"
        rubric: str = "plain"

    class Own(Lent):
        limit: int = 3

    parser = argparse.ArgumentParser()
    add_flags(parser, Own)
    text = parser.format_help()
    assert text.index("--limit") < text.index("what helpers need") < text.rindex("--rubric")
    assert flag_values(Own, parser.parse_args(["--rubric", "x", "--limit", "4"])) == {"rubric": "x", "limit": 4}
