"""The evidence file, the model card, and the files of a run folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from primum.core.errors import UsageError
from primum.report.card import model_card
from primum.report.evidence import evidence
from primum.report.example import example_facts
from primum.report.write import load_facts, write_report

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # sha256 of "abc", FIPS 180-2, appendix B.1
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_evidence_holds_the_hash_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "adapter" / "deep").mkdir(parents=True)
    (tmp_path / "adapter" / "deep" / "b.txt").write_bytes(b"")
    (tmp_path / "adapter" / "a.txt").write_bytes(b"abc")
    (tmp_path / "data.jsonl").write_bytes(b"abc")
    files = {"data": tmp_path / "data.jsonl", "adapter": tmp_path / "adapter", "gone": tmp_path / "gone"}
    found = evidence(example_facts(), files)["files"]
    assert list(found) == ["adapter", "data", "gone"]
    assert found["data"] == {"name": "data.jsonl", "bytes": 3, "sha256": ABC}
    assert found["adapter"]["files"] == {"a.txt": ABC, "deep/b.txt": EMPTY} and found["adapter"]["bytes"] == 3
    assert found["gone"] == {"name": "gone", "missing": True}


def test_evidence_is_stable_and_sees_a_changed_byte(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"abc")
    files = {"b": file, "a": tmp_path}
    first = json.dumps(evidence(example_facts(), files))
    assert json.dumps(evidence(example_facts(), dict(reversed(files.items())))) == first
    file.write_bytes(b"abd")
    assert json.dumps(evidence(example_facts(), files)) != first
    assert str(tmp_path) not in first


def test_evidence_names_judges_versions_settings_and_decision() -> None:
    facts = example_facts()
    found = evidence(facts, {})
    assert [judge["id"] for judge in found["judges"]] == ["classifier", "rules"]
    assert (found["versions"], found["decision"]) == (facts["versions"], facts["decision"])
    changed = evidence(facts | {"settings": facts["settings"] | {"beta": 0.2}}, {})
    assert len(found["settings_sha256"]) == 64 and changed["settings_sha256"] != found["settings_sha256"]


def _front(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_has_the_front_matter_that_the_hub_reads() -> None:
    front = _front(model_card(example_facts()))
    assert front["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct" and front["license"] == "apache-2.0"
    results = front["model-index"][0]["results"]  # type: ignore[index]
    assert [set(result) for result in results] == [{"task", "dataset", "metrics"}] * 2
    assert results[0]["metrics"][0] == {
        "type": "harmful_compliance",
        "name": "Harmful compliance (rules; 95% interval 5.2–12.1%; n 240)",
        "value": 0.08,
    }


def test_the_card_validates_with_the_hub_client() -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(model_card(example_facts())).data
    assert data.eval_results and data.eval_results[0].metric_value == 0.08


def test_the_card_says_numbers_limits_and_how_to_load() -> None:
    card = model_card(example_facts("failed"))
    assert "Gate: **Failed**" in card and "not passed: general: refusal of general prompts" in card
    assert "| Harmful compliance (lower is better) | rules | 62% (55.7–67.9%) | 8% (5.2–12.1%) | 240 |" in card
    assert "not tamper-proof" in card and "AutoModelForCausalLM.from_pretrained" in card


def test_a_local_model_and_hostile_names_do_not_break_the_card() -> None:
    facts = example_facts()
    facts["model"] = {"name": 'x"\n---\nlicense: mit\n<b>|`', "source": "/some/folder"}
    front = _front(model_card(facts))
    assert "base_model" not in front and front["license"] == "other"
    body = model_card(facts).split("---\n", 2)[2]
    assert body.startswith("\n# x") and "&lt;b&gt;\\|\\`" in body and "<b>" not in body


def test_facts_come_back_and_a_number_that_json_cannot_hold_is_null(tmp_path: Path) -> None:
    facts = example_facts()
    facts["training"]["sft"][3]["loss"] = math.nan
    path = write_report(tmp_path / "run", facts)
    assert path == tmp_path / "run" / "report.html" and path.read_text().startswith("<!DOCTYPE html>")
    read = load_facts(tmp_path / "run")
    assert read["training"]["sft"][3]["loss"] is None
    assert read["decision"] == facts["decision"]
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "no report.json"), ("{broken", "broken JSON"), ("[1]", "not written by primum")],
)
def test_a_folder_that_is_no_run_names_the_cure(tmp_path: Path, content: str | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(UsageError, match=problem) as caught:
        load_facts(tmp_path)
    assert "primum repair" in (caught.value.cure or "") and caught.value.exit_code == 2


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        load_facts(tmp_path / "nowhere")
