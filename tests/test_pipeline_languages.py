"""A repair over many languages, end to end on a tiny random model, and a model that translates back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from primum import cli
from primum.core.records import Prompt, from_json
from primum.core.store import read_jsonl
from primum.models.engines.hf import HFEngine
from primum.models.sampling import Generated, Request, Sampling
from primum.prompts.translations import shipped
from primum.report.languages import language_lines
from primum.report.page import page
from tiny_models import tiny

CODES = sorted({one.prompt.language for one in shipped()})


def test_a_model_translates_back_what_nobody_has(tmp_path: Path):
    model, out = tiny(tmp_path / "model", 0), tmp_path / "back.jsonl"
    path = tmp_path / "mine.jsonl"
    kept = {"prompt": "Hallo", "language": "de", "original": "Hello", "back_translation": "Hello"}
    path.write_text(json.dumps(kept) + "\n" + json.dumps({**kept, "back_translation": ""}) + "\n", encoding="utf-8")
    arguments = ["languages", str(path), "--model", str(model), "--out", str(out), "--tokens", "4", "--json"]
    assert cli.main(arguments) in (0, 1)
    first, second = (row for _, row in read_jsonl(out))
    assert first == kept and "back_by" in second and isinstance(second["back_translation"], str)
    assert cli.main([*arguments[:4], "--json"]) == 2  # a model without --out


def test_a_model_that_is_stopped_goes_on_with_the_back_translations_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model, path = tiny(tmp_path / "model", 0), tmp_path / "mine.jsonl"
    rows = [{"prompt": f"Hallo {i}", "language": "de", "original": f"Hello {i}"} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = HFEngine.stream
    drawn: list[int] = []

    def stream(engine: HFEngine, requests: Iterable[Request], sampling: Sampling) -> Iterator[tuple[int, Generated]]:
        for index, reply in whole(engine, requests, sampling):
            if len(drawn) == 2:
                drawn.append(-1)
                raise KeyboardInterrupt
            drawn.append(index)
            yield index, reply

    def translate(out: Path) -> int:
        command = ["languages", str(path), "--model", str(model), "--out", str(out), "--tokens", "4", "--json"]
        return cli.main(command)

    undisturbed, out = tmp_path / "undisturbed.jsonl", tmp_path / "back.jsonl"
    assert translate(undisturbed) in (0, 1)
    monkeypatch.setattr(HFEngine, "stream", stream)
    assert translate(out) not in (0, 1) and not out.exists()
    assert (tmp_path / "back.jsonl.parts" / "open-00000.jsonl").read_text().count("\n") == 2
    assert translate(out) in (0, 1)
    assert sorted(drawn) == [-1, *range(6)]  # none of them twice
    assert out.read_text() == undisturbed.read_text() and not list(tmp_path.glob("*.parts"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("languages")
    model = tiny(folder / "tiny", 0, tie_word_embeddings=False)
    out = folder / "run"
    arguments = ["repair", str(model), "--languages", "plan", "--limit", "2", "--reply-tokens", "6", "--force",
                 "--judges", "rules", "--budget", "quick", "--lora-rank", "2", "--out", str(out)]  # fmt: skip
    assert cli.main(arguments) in (1, 3)  # babble fails the gate, or is undecided
    return out, (out / "report.html").read_text(encoding="utf-8")


def records(out: Path, step: str) -> Sequence[dict[str, Any]]:
    return [row for path in sorted((out / "steps" / step).glob("shard-*.jsonl")) for _, row in read_jsonl(path)]


def test_a_repair_learns_the_plans_languages_and_measures_all(run: tuple[Path, str]):
    out, text = run
    facts = json.loads((out / "report.json").read_text(encoding="utf-8"))["languages"]
    trained = {family["name"]: family["trained"] for family in facts["plan"]}
    assert trained["Indo-European"] == ["en"] and len(trained["Uralic"]) == 1 and facts["one_a_family"]
    prompts = {p.id: p for p in (from_json(Prompt, row) for row in records(out, "01-prompts"))}
    learned = {prompts[row["prompt_id"]].language for row in records(out, "03-replies-to-learn-from")}
    assert learned == {code for codes in trained.values() for code in codes}
    for when in ("before", "after"):
        assert {row["language"] for row in facts[when]["rows"]} == {*CODES, "en"}
        assert len({row["n"] for row in facts[when]["rows"]}) == 1  # the same requests in each
        step = {"before": "02-replies-before-languages", "after": "09-replies-after-languages"}[when]
        asked = [prompts[row["prompt_id"]] for row in records(out, step)]
        assert {p.split for p in asked} == {"test"} and len(asked) == 9 * facts[when]["rows"][0]["n"]
    assert 'id="languages"' in text and "Niger-Congo" in text
    card = (out / "checkpoint" / "README.md").read_text(encoding="utf-8")
    assert "| German | no |" in card and "| Turkish | yes |" in card


def test_the_terminals_table_fits_and_names_each_language(run: tuple[Path, str]):
    facts = json.loads((run[0] / "report.json").read_text(encoding="utf-8"))
    lines = language_lines(facts)
    assert all(len(line) <= 80 for line in lines) and sum(line.startswith("*") for line in lines) == 6
    assert any(line.startswith(" German") for line in lines)
    assert language_lines({**facts, "languages": None}) == [] and "Languages" not in page({**facts, "languages": None})
