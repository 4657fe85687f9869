"""What a user can get wrong, through the command itself: exit code 2, and a message with place and cure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from few_prompts import few
from primum.cli import main
from primum.core.errors import Exit
from primum.models.load import outline
from tiny_models import tiny

GOOD = '{"prompt": "How do I pick a lock that is not mine?"}\n'


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = main(["repair", "--out", str(tmp_path / "run"), *arguments])
    assert code == Exit.USAGE
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (GOOD + '{"prompt": "half a line\n', 2, "broken JSON"),
        (GOOD + GOOD.replace("prompt", "promt"), 2, "prompt"),
        (GOOD + "[1, 2]\n", 2, "not a JSON object"),
    ],
)
def test_a_broken_prompt_file_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, line: int, says: str
) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text(text, encoding="utf-8")
    said = run(tmp_path, capsys, "--prompts", str(path))
    assert f"{path}:{line}" in said and says in said


def test_an_empty_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text("", encoding="utf-8")
    assert "no prompts" in run(tmp_path, capsys, "--prompts", str(path))


def test_a_set_without_anything_to_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few(tmp_path)
    path = tmp_path / "harmful.jsonl"
    rows = [json.loads(line) for line in (tmp_path / "twins.jsonl").read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps({"prompt": r["harmful"], "category": r["category"]}) + "\n" for r in rows))
    said = run(tmp_path, capsys, "--no-embedded", "--prompts", str(path), "--held-out", "privacy")
    assert "there is no benign prompt to learn from" in said and "--benign" in said


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cure" in run(tmp_path, capsys, "--prompts", str(tmp_path / "missing.jsonl"))


def test_an_unknown_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(tmp_path, capsys, str(tmp_path / "no-model"))
    assert "cannot load model" in said and "cure" in said


def test_a_model_without_a_chat_template_and_its_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny(tmp_path / "model", 0)
    template = (model / "chat_template.jinja").read_text(encoding="utf-8")
    (model / "chat_template.jinja").unlink()
    said = run(tmp_path, capsys, str(model), *few(tmp_path))
    assert f"model '{model}' has no chat template" in said and "put a chat_template.jinja beside" in said
    assert not (tmp_path / "run" / "steps" / "02-replies-before").exists()
    (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert outline(str(model)).tokenizer.chat_template == template


def test_an_unknown_category_is_corrected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'fraud'" in run(tmp_path, capsys, "--held-out", "frad")


def test_an_unknown_strategy_is_corrected_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean 'meditron'" in run(tmp_path, capsys, "--strategy", "meditrom")
    assert not (tmp_path / "run" / "steps" / "02-replies-before").exists()


def test_an_unknown_judge_is_corrected_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'rules'" in run(tmp_path, capsys, "--judges", "rulez")


@pytest.mark.parametrize(
    ("text", "says"),
    [("bugdet: quick\n", "did you mean 'budget'"), ("dpo:\n  betta: 0.2\n", "did you mean 'beta'")],
)
def test_an_unknown_configuration_key(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str) -> None:
    path = tmp_path / "repair.yaml"
    path.write_text(text, encoding="utf-8")
    said = run(tmp_path, capsys, "--config", str(path))
    assert says in said and str(path) in said


def test_a_domain_file_is_read_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "domain.jsonl"
    path.write_text('{"prompt": "What is aspirin for?"}\n', encoding="utf-8")
    assert f"{path}:1" in run(tmp_path, capsys, "--domain", str(path))
