from __future__ import annotations

from primum.core.records import Prompt, user
from primum.prompts.decontaminate import benchmarks_at, decontaminate
from primum.prompts.rows import twins

BENCHMARKS = {"bench-a": ["One two three four five six seven eight nine."], "bench-b": ["Short question here?"]}


def ask(text: str, intent="harmful", **more) -> Prompt:
    return Prompt((user(text),), intent, "other", **more)


def kept_texts(*texts: str) -> list[str]:
    return [p.text for p in decontaminate([ask(text) for text in texts], BENCHMARKS).kept]


def test_eight_words_in_a_row_are_too_many_and_seven_are_not():
    eight = "so: ONE, two three four - five six seven eight!"
    seven = "so one two three four five six seven and then some"
    assert kept_texts(eight, seven) == [seven]


def test_the_reason_names_the_benchmark_and_the_words():
    dropped = decontaminate([ask("two three four five six seven eight nine")], BENCHMARKS).dropped[0]
    assert (dropped.reason, dropped.of) == ("in_benchmark", "bench-a")
    assert "two three four five six seven eight nine" in dropped.detail


def test_short_prompts_must_equal_a_whole_benchmark_text():
    assert kept_texts("short QUESTION here", "A short question here?", "short question") == [
        "A short question here?", "short question"
    ]  # fmt: skip


def test_n_can_be_chosen():
    assert decontaminate([ask("zero one two three zero")], BENCHMARKS, n=3).kept == []


def test_a_dropped_prompts_twin_stays_alone():
    harmful, benign = twins(ask("Short question here"), ask("Something harmless", "benign"))
    kept = decontaminate([harmful, benign], BENCHMARKS).kept
    assert [(p.text, p.twin) for p in kept] == [("Something harmless", None)]


def test_evaluation_sets_are_not_cleaned_of_themselves():
    prompt = ask("Short question here?", tags=("acceptance",))
    assert decontaminate([prompt], BENCHMARKS) == ([prompt], [])


def test_no_benchmarks_drop_nothing(tmp_path):
    assert benchmarks_at(tmp_path / "nowhere") == {}
    assert len(decontaminate([ask("Short question here?")], {}).kept) == 1


def test_every_benchmark_of_the_public_data_is_read(public_data):
    counts = {name: len(texts) for name, texts in benchmarks_at(public_data).items()}
    assert counts["xstest"] == 450
    assert counts["harmbench"] == 400
    assert counts["truthfulqa"] == 817
    assert counts["bold"] == 23679
    assert {n.split("/")[1]: c for n, c in counts.items() if n.startswith("safe-to-serve/")} == {
        "I-MaliciousInstructions": 100, "I-CoNa": 178, "I-Controversial": 40, "I-PhysicalSafetyUnsafe": 100,
        "I-PhysicalSafetySafe": 100, "I-Alpaca": 50, "Q-Harm": 100,
    }  # fmt: skip


def test_a_real_benchmark_prompt_is_recognised_inside_another(public_data):
    benchmarks = benchmarks_at(public_data)
    long = next(text for text in benchmarks["xstest"] if len(text.split()) >= 8)
    dropped = decontaminate([ask(f"please, {long.upper()} thanks")], benchmarks).dropped
    assert [d.reason for d in dropped] == ["in_benchmark"]
