"""Journeys on a tiny random model: every stage runs, a stopped run goes on, mistakes are told with file and line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from primum.cli import main
from primum.core.catalogue import member, names
from primum.core.errors import UsageError
from primum.pipeline import threshold
from primum.pipeline.recipe import bundled, read_recipe


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two layers with the embedded model's tokenizer; answers are noise, and journeys must run."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from primum.models.embedded import embedded_folder
    from primum.models.load import quiet

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


SMALL = (
    "--limit", "4", "--judges", "rules", "--set", "sampling.tokens=6", "--set", "sampling.temperature=1.0",
    "--set", "lora.start=0",
)  # fmt: skip


def run(recipe: str, tiny: Path, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    empty = out.parent / "no-public-data"
    empty.mkdir(exist_ok=True)
    code = main(["run", recipe, "--model", str(tiny), "--out", str(out), "--data", str(empty), *SMALL, *more])
    report = out / "report.json"
    return code, json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}


# ------------------------------------------------------------------------------------------------ the files
@pytest.mark.parametrize("name", bundled())
@pytest.mark.parametrize("budget", ["quick", "standard", "full"])
def test_a_bundled_journey_is_read_whole(name: str, budget: Any) -> None:
    recipe = read_recipe(name, budget)
    assert recipe.about and recipe.stages
    assert all(spec.do in names("stages") for spec in recipe.stages)


@pytest.mark.parametrize("name", names("stages"))
def test_a_stage_keeps_its_contract(name: str) -> None:
    from primum.core.config import Config

    module = member("stages", name)
    assert module.about and issubclass(module.Settings, Config) and callable(module.run) and callable(module.cost)
    assert all(field.description for field in module.Settings.model_fields.values())


def test_numbers_are_taken_by_budget(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "about: mine\nprompts: {train: {harmful: {quick: 7, full: all}}}\nstages:\n- {name: base, do: measure}\n"
    )
    assert read_recipe(str(file), "quick").prompts.train.harmful == 7
    assert read_recipe(str(file), "standard").prompts.train.harmful == 7
    assert read_recipe(str(file), "full").prompts.train.harmful is None
    assert read_recipe(str(file), "full", limit=3).prompts.train.harmful == 3
    assert read_recipe(str(file), "quick", ["sampling.tokens=5"]).sampling.tokens == 5


def test_a_limit_holds_for_counts_of_which_the_file_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("about: mine\nstages:\n- {name: base, do: measure}\n- {name: tuned, do: domain}\n- "
                    "{name: trained, do: ppo, iterations: 2}\n")  # fmt: skip
    found = read_recipe(str(file), "quick", limit=3)
    assert all(getattr(part, kind) == 3 for part in (found.prompts.train, found.prompts.test)
               for kind in ("harmful", "general"))  # fmt: skip
    _, tuned, trained = (spec.settings for spec in found.stages)
    assert (tuned.rows, trained.prompts, trained.batch, trained.iterations) == (3, 3, 3, 2)
    free = read_recipe(str(file), "quick")
    assert free.prompts.test.harmful is None and free.stages[1].settings.rows is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("about: x\nstages:\n- {name: a, do: mesure}\n", r"mine.yaml:3.*measure"),
        ("about: x\nstages:\n- {name: a, do: sft, epoch: 3}\n", r"mine.yaml:3.*epoch.*epochs"),
        ("about: x\nstages:\n- {name: a, do: sft, epochs: lots}\n", r"mine.yaml:3.*epochs"),
        ("about: x\nstages:\n- {name: a, do: measure}\n- {name: b, do: dpo, start: c}\n", r"mine.yaml:4.*'c'"),
        ("about: x\nstages:\n- {name: a, do: measure}\n- {name: a, do: measure}\n", r"mine.yaml:4.*two stages"),
        ("about: x\nstages:\n- {name: ../x, do: measure}\n", r"mine.yaml:3.*cannot name"),
        ("about: x\nstages:\n- just words\n", r"mine.yaml:3.*has a name"),
        ("about: x\nstages: []\n", r"mine.yaml.*no stages"),
        ("about: x\nmodle: y\nstages:\n- {name: a, do: measure}\n", r"mine.yaml.*modle.*model"),
        ("about: [x\n", r"mine.yaml:\d.*no valid YAML"),
        ("- a\n", r"mine.yaml.*settings by name"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=f"(?s){told}"):
        read_recipe(str(file), "quick")


def test_what_is_set_must_be_there() -> None:
    with pytest.raises(UsageError, match="repaired"):
        read_recipe("meditron", "quick", ["stages.repared.beta=0.2"])
    with pytest.raises(UsageError, match="KEY=VALUE"):
        read_recipe("meditron", "quick", ["beta"])
    with pytest.raises(UsageError, match=r"--set model:1: no valid YAML \(.*\n  cure: write KEY=VALUE"):
        read_recipe("meditron", "quick", ["model=[x"])
    with pytest.raises(UsageError, match="meditron"):
        read_recipe("meditrn", "quick")
    changed = read_recipe("meditron", "quick", ["stages.repaired.beta=0.3"])
    assert next(s.settings.beta for s in changed.stages if s.name == "repaired") == 0.3


def test_without_a_name_the_journeys_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in bundled())


def test_a_dry_run_says_what_would_run_and_writes_nothing(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = run("llama2", tiny, tmp_path / "run", "--dry-run", "--json")
    plan = json.loads(capsys.readouterr().out)
    assert code == 0 and not report and not (tmp_path / "run").exists()
    assert [row["name"] for row in plan["stages"]] == [s.name for s in read_recipe("llama2", "quick").stages]
    assert all(row["seconds"] >= 0 for row in plan["stages"]) and plan["stages"][2]["learned"] > 0


# ------------------------------------------------------------------------------------------------ whole journeys
LLAMA2 = (
    "--set", "stages.reward.judge=rules", "--set", "stages.reward.tokens=6", "--set", "stages.distilled.gate=false",
    "--set", "stages.rejection-1.samples=2", "--set", "stages.rejection-2.samples=2",
    "--set", "stages.rejection-1.tokens=6", "--set", "stages.rejection-2.tokens=6", "--set", "stages.ppo.tokens=6",
    "--set", "stages.ppo.samples=2", "--set", "stages.tension.tokens=6", "--set", "stages.tension.samples=2",
    "--set", "stages.distilled.tokens=8", "--set", "stages.sft.tokens=6",
    "--set", "stages.rejection-1.temperatures=[1.0]",
)  # fmt: skip


def voted(folder: Path) -> tuple[str, ...]:
    """People's preferences in two files: what a random model says gives none."""
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"A fine answer to question {i}.", "rejected": "What?"}
        for i in range(12)
    ]
    settings: list[str] = []
    for head in ("safety", "helpful"):
        file = folder / f"{head}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings += ["--set", f"stages.reward.{head}_files=[{file}]"]
    return tuple(settings)


@pytest.mark.timeout(900)
def test_llama2_runs_every_stage_and_reports_them_in_one_table(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, more = tmp_path / "run", (*LLAMA2, *voted(tmp_path), "--skip", "distilled", "--skip", "line")
    code, report = run("llama2", tiny, out, *more)
    assert code == 0
    assert report["policies"] == ["base", "begun", "sft", "rejection-1", "rejection-2", "ppo"]
    assert set(report["rewards"]) == set(report["policies"])
    assert all(0 < report["rewards"][p]["safety"]["value"] < 1 for p in report["policies"])
    moves = [(row["before"], row["after"]) for row in report["reward_moves"]]
    assert moves == [
        ("base", "begun"), ("begun", "sft"), ("begun", "rejection-1"), ("sft", "rejection-1"),
        ("begun", "rejection-2"), ("rejection-1", "rejection-2"), ("rejection-2", "ppo"),
    ]  # fmt: skip
    fallen = [row["after"] for row in report["reward_moves"] if row["safety"]["value"] < 0]
    assert capsys.readouterr().out.count("safety fell, ") == len(fallen)
    assert report["found"]["ppo"]["log"][0]["ratio_off"] < 0.01 and abs(report["found"]["ppo"]["log"][0]["kl"]) < 0.01
    best = [row["best"] for row in report["found"]["rejection-2"]["curve"]]
    assert best == sorted(best) and len(best) == 2
    rules, reward = report["found"]["tension"]["rules"], report["found"]["reward"]
    assert len(rules) == 17 and rules[-1]["rule"] == "one reward model" and rules[-1]["heads"] == 1
    taught = report["found"]["tension"]["single"]["pairs"]["train"]
    assert taught == {head: sum(n for kind, n in reward["preferences"]["train"].items() if kind.startswith(head))
                      for head in ("safety", "helpfulness")} and min(taught.values()) >= 12  # fmt: skip
    assert (out / "steps" / "single-reward" / "weights.safetensors").is_file()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "Stage by stage" in page and 'class="scatter"' in page
    assert "gate 0.15, not tagged" in page and "tension: benign twins refused over threshold" in page
    assert '<th scope="row">one reward model</th>' in page and "tension: one reward model&#39;s loss" in page
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    again, _ = run("llama2", tiny, out, *more)
    assert again == 0 and before == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}


def test_a_reward_model_is_not_learned_again_for_another_precision(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "short.yaml"
    recipe.write_text(
        "about: x\nstages:\n- {name: base, do: measure}\n"
        "- {name: reward, do: reward, judge: rules, tokens: 6, lent_pairs: any, lent_to_helpful: 0.5}\n"
    )
    out, more = tmp_path / "run", voted(tmp_path)
    code, report = run(str(recipe), tiny, out, *more)
    assert code == 0 and "labelled replies" in capsys.readouterr().err
    found, weights = report["found"]["reward"], out / "steps" / "stage-reward" / "weights.safetensors"
    labelled, before = threshold.read(weights.parent), weights.stat().st_mtime_ns
    assert found["wanted_precision"] == 0.89 and found["labelled"]["replies"] == len(labelled.scores)
    assert found["reliability"]["safe"]["n"] == len(labelled.scores)
    page = (out / "report.html").read_text(encoding="utf-8")
    for head, one in found["reliability"].items():
        what = "replies that are safe" if head == "safe" else f"pairs of {head} in order"
        assert (f"reward: share of {what} (n {one['n']}" in page) == bool(one["n"]), head
    code, report = run(str(recipe), tiny, out, *more, "--set", "stages.reward.precision=0.3")
    assert code == 0 and weights.stat().st_mtime_ns == before
    assert report["found"]["reward"]["wanted_precision"] == 0.3
    run(str(recipe), tiny, out, *more, "--set", "stages.reward.centre_weight=0.3")
    assert weights.stat().st_mtime_ns != before


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_journey_ends_with_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    data = tmp_path / "no-public-data"
    data.mkdir()
    recipe = tmp_path / "short.yaml"
    recipe.write_text(
        "about: x\nstages:\n- {name: base, do: measure}\n"
        "- {name: tuned, do: domain, rows: 12, tokens: 8}\n- {name: sft, do: sft, start: tuned, tokens: 6}\n"
    )

    def start(out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "primum", "run", str(recipe), "--model", str(tiny), "--out", str(out)]
        return subprocess.Popen(
            [*command, "--data", str(data), *SMALL], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=dict(os.environ),
        )  # fmt: skip

    whole, out = tmp_path / "whole", tmp_path / "killed"
    process = start(whole)
    _, said = process.communicate()
    assert process.returncode == 0, said
    process = start(out)
    while process.poll() is None and not (out / "steps" / "stage-tuned" / "key.json").exists():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    process = start(out)
    _, said = process.communicate()
    assert process.returncode == 0, said
    weights = [(folder / "checkpoint" / "model.safetensors").read_bytes() for folder in (whole, out)]
    assert weights[0] == weights[1]


def test_a_stage_without_what_it_needs_says_so(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run("llama2", tiny, tmp_path / "run", *LLAMA2, "--skip", "reward", "--skip", "sft")
    assert code == 4 and "needs reward" in capsys.readouterr().err
    assert run("llama2", tiny, tmp_path / "other", "--skip", "rewad")[0] == 2
    assert "did you mean 'reward'" in capsys.readouterr().err
