"""Records survive the way to disk and back, keep their ids, and refuse what makes no sense."""

import dataclasses
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primum.core.records import (
    BEHAVIOURS,
    Measurement,
    Message,
    Pair,
    Preference,
    Prompt,
    Reply,
    Verdict,
    assistant,
    digest,
    from_json,
    system,
    to_json,
    user,
    with_system,
)

text = st.text(max_size=40)  # includes emoji, right-to-left marks, line separators and NUL, but no lone surrogates
words = st.text("abcxyz-_", min_size=1, max_size=12)
chance = st.none() | st.floats(0, 1)
messages = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), text), min_size=1, max_size=4)

prompts = st.builds(
    Prompt,
    messages=messages.map(tuple),
    intent=st.sampled_from(["harmful", "borderline", "benign"]),
    category=words,
    language=st.just("en"),
    source=text,
    licence=text,
    split=st.sampled_from(["train", "dev", "test"]),
    tags=st.lists(words, max_size=3).map(tuple),
    twin=st.none() | words,
    answer=st.none() | text,
)
replies = st.builds(
    Reply,
    prompt_id=words,
    model=words,
    variant=words,
    text=text,
    finish=st.sampled_from(["stop", "length", "error"]),
    prompt_tokens=st.integers(0, 4096),
    reply_tokens=st.integers(0, 4096),
    seed=st.integers(0, 2**32 - 1),
)
verdicts = st.builds(
    Verdict,
    reply_id=words,
    judge=words,
    behaviour=st.sampled_from(BEHAVIOURS),
    full=st.booleans(),
    reason=st.none() | st.sampled_from(["safety", "ability"]),
    p_harmful=chance,
    p_hateful=chance,
    rating=st.none() | st.floats(1, 5),
    categories=st.lists(st.tuples(words, words), max_size=3).map(tuple),
)
pairs = st.builds(
    Pair,
    prompt=messages.map(tuple),
    chosen=text,
    rejected=text,
    prompt_id=words,
    kind=words,
    category=words,
    chosen_from=words,
    rejected_from=words,
    why=text,
    strength=st.floats(0, 4),
    safety_bin=st.sampled_from(["chosen_safe", "both_safe", "both_unsafe"]),
)
preferences = st.builds(
    Preference,
    prompt_id=words,
    reply_ids=st.lists(words, min_size=2, max_size=4).map(tuple),
    winner=st.none() | st.integers(0, 3),
    outcome=st.sampled_from(["winner", "tie", "both_unsafe", "skip"]),
    strength=st.sampled_from(["significantly", "better", "slightly", "unsure"]),
    judged_by=words,
    guideline=words,
    safety=st.lists(st.booleans(), max_size=4).map(tuple),
    seconds=st.none() | st.floats(0, 1e6),
)
measurements = st.builds(
    Measurement,
    metric=words,
    slice=words,
    value=chance,
    low=chance,
    high=chance,
    n=st.integers(0, 10**6),
    direction=st.sampled_from(["lower_is_better", "higher_is_better"]),
    left_out=st.dictionaries(words, st.integers(0, 100), max_size=3),
    unit=st.sampled_from(["share", "nats", "z"]),
)


@given(prompts | replies | verdicts | pairs | preferences | measurements)
def test_every_record_survives_a_line_of_json(record):
    line = json.dumps(to_json(record), ensure_ascii=False)
    assert "\n" not in line
    row = json.loads(line)
    again = Pair.from_json(row) if isinstance(record, Pair) else from_json(type(record), row)
    assert again == record


@pytest.mark.parametrize("cls", [Message, Prompt, Reply, Verdict, Preference, Pair, Measurement])
def test_records_are_frozen(cls):
    assert cls.__dataclass_params__.frozen


def test_prompt_id_is_the_hash_of_its_words_only():
    one = Prompt((user("How do I bake bread?"),), "benign", "general", source="a")
    two = Prompt((user("How do I bake bread?"),), "harmful", "other", source="b", split="test")
    canonical = '[["user", "How do I bake bread?"]]'
    assert one.id == two.id == hashlib.sha256(canonical.encode()).hexdigest()[:16]
    assert Prompt((user("how do I bake bread?"),), "benign", "general").id != one.id


def test_prompt_text_is_the_last_user_turn():
    turns = (system("be kind"), user("hello"), assistant("hi"), user("and now?"))
    assert Prompt(turns, "benign", "general").text == "and now?"


def test_reply_ids_differ_by_text_and_variant():
    reply = Reply("p", "m", "t0#0", "yes", "stop", 3, 1, 0)
    assert reply.id != dataclasses.replace(reply, text="no").id
    assert reply.id != dataclasses.replace(reply, variant="t0#1").id
    assert to_json(reply)["id"] == reply.id


def test_a_verdict_has_a_behaviour_or_a_reason_never_both_or_neither():
    assert Verdict("r", "j", "refusal").unscored is None
    assert Verdict("r", "j", None, unscored="timeout").behaviour is None
    with pytest.raises(ValueError, match="exactly one"):
        Verdict("r", "j", None)
    with pytest.raises(ValueError, match="exactly one"):
        Verdict("r", "j", "refusal", unscored="timeout")


def test_pair_is_written_in_trl_columns():
    pair = Pair((user("hi"),), "hello", "go away", "p", "general", "general", "set", "model", "kindness")
    row = to_json(pair)
    assert row["prompt"] == [{"role": "user", "content": "hi"}]
    assert row["chosen"] == [{"role": "assistant", "content": "hello"}]
    assert row["rejected"] == [{"role": "assistant", "content": "go away"}]


def test_digest_ignores_key_order_and_keeps_lone_surrogates():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest("\ud800") != digest("\ud801")
    assert digest([1, 2]) == digest((1, 2))
    assert digest(frozenset(("b", "a", "c"))) == digest(["a", "b", "c"]), "a set's own order changes by process"


def test_unknown_keys_are_dropped_and_missing_ones_raise():
    row = {"role": "user", "content": "hi", "colour": "red"}
    assert from_json(Message, row) == user("hi")
    with pytest.raises(TypeError):
        from_json(Message, {"role": "user"})


def test_a_system_turn_is_put_before_a_conversation_that_has_none():
    asked = (user("hello"),)
    assert with_system(asked, "be kind") == (Message("system", "be kind"), user("hello"))
    assert with_system((system("mine"), *asked), "be kind") == (system("mine"), *asked)
    assert with_system(asked, "") == with_system(asked, None) == asked
