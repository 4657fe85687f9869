"""IFEval's checks, by cases worked by hand from the published descriptions; and its rows, good and bad."""

import importlib.util
import json

import pytest

from primum.core.errors import BadInputError
from primum.evaluation.benchmarks import ifeval
from primum.evaluation.following import CHECKS, NEEDS, loose, sentences, strict
from primum.evaluation.items import Answer

CASES = [
    ("keywords:existence", {"keywords": ["Tea", "milk"]}, "milk in tea", "milk only"),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "at least"}, "Tea, tea", "tea"),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "less than"}, "tea", "tea tea"),
    ("keywords:forbidden_words", {"forbidden_words": ["tea"]}, "teapot", "a cup of Tea."),
    ("keywords:forbidden_words", {"forbidden_words": ["(a+)+$"]}, "a" * 40 + "!", ""),  # no regular expression
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 2, "let_relation": "at least"}, "Eke", "me"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo", "one *** *** two"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "it isn't", "two words"),
    (
        "length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
        "a\n\n'So, b", "so a\n\nb",
    ),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One! Two", "3.5 of it."),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a and b"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye\nP. S. more", "ps more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye\nP.P.S. more", "P.S. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n** b"),
    ("detectable_format:constrained_response", {}, "Well. My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and **"),
    ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": 2}, "Part 1, Part 2", "Part"),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "<<Tea>>\ntext", "<<  >> text"),
    ("combination:two_responses", {}, "a\n******\nb", "a ****** a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. It.", "It."),
    ("startend:end_checker", {"end_phrase": "The end."}, 'Once. "the END."', "The end. Not yet"),
    ("startend:quotation", {}, '"said"', '"said" he'),
    (
        "change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"},
        "ONE word", "TWO WORDS here",
    ),
    ("punctuation:no_comma", {}, "one and two", "one, two"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_a_reply_follows_an_instruction_or_does_not(kind, arguments, good, bad):
    assert strict(kind, arguments, good) is True
    assert strict(kind, arguments, bad) is False
    assert set(NEEDS.get(kind, ())) == set(arguments)


def test_every_kind_has_a_case_or_needs_the_language():
    languages = {"language:response_language", "change_case:english_capital", "change_case:english_lowercase"}
    assert {case[0] for case in CASES} | languages == set(CHECKS)
    assert len(CHECKS) == 25


def test_an_empty_reply_follows_nothing():
    assert not any(strict(kind, arguments, " \n") for kind, arguments, _, _ in CASES)


def test_the_loose_criterion_leaves_out_first_and_last_line_and_asterisks():
    said = "Sure:\n{}\nHope this helps"
    assert (strict("detectable_format:json_format", {}, said), loose("detectable_format:json_format", {}, said)) == (
        False,
        True,
    )
    assert loose("startend:quotation", {}, '*"said"*') is True
    assert loose("startend:quotation", {}, 'a\n"said"\nb\nc') is False  # two lines too many


def test_sentences_are_told_from_numbers_and_from_an_open_end():
    assert [sentences(text) for text in ("", "Hi", "Hi. You?", "It is 3.5 m.", 'He said "no!" Then left.', "...")] == [
        0, 1, 2, 1, 2, 0,
    ]  # fmt: skip


@pytest.mark.skipif(importlib.util.find_spec("fasttext") is None, reason="needs primum[audit]")
def test_the_language_is_told():
    french = "Le chat est assis sur le tapis et il regarde la pluie qui tombe dehors depuis ce matin."
    english = "The cat sits on the mat and looks at the rain that has been falling since this morning."
    assert strict("language:response_language", {"language": "fr"}, french) is True
    assert strict("language:response_language", {"language": "fr"}, english) is False
    assert strict("change_case:english_capital", {}, english.upper()) is True
    assert strict("change_case:english_lowercase", {}, english) is False


def rows(path, **changed):
    row = {
        "key": 1, "prompt": "Write without commas, in quotes.",
        "instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{"num_words": None}, {}],
    }  # fmt: skip
    path.write_text(json.dumps({**row, **changed}) + "\n")
    return path


def test_a_row_becomes_an_item_that_is_scored(tmp_path):
    (item,) = ifeval.items(rows(tmp_path / "ifeval.jsonl"))
    assert item.groups == ("instruction:punctuation:no_comma", "instruction:startend:quotation")
    scores = ifeval.score(item, Answer('"a, b"'))
    assert scores == {"prompt_strict": 0.0, "share_strict": 0.5, "prompt_loose": 0.0, "share_loose": 0.5}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"instruction_id_list": ["no:such", "startend:quotation"]}, "no instruction 'no:such'"),
        ({"kwargs": [{}]}, "not a row of IFEval"),
        ({"instruction_id_list": ["startend:end_checker"], "kwargs": [{}]}, "needs 'end_phrase'"),
    ],
)
def test_bad_rows_are_named_with_their_line(tmp_path, changed, said):
    with pytest.raises(BadInputError, match=said) as caught:
        list(ifeval.items(rows(tmp_path / "ifeval.jsonl", **changed)))
    assert "ifeval.jsonl:1" in str(caught.value)
