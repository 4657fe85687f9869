"""Best of K by any engine: which one draws, what it is opened with, what becomes of replies that it could not give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from primum.core.errors import StepFailedError
from primum.core.records import Messages, Prompt, user
from primum.models.engines import canned
from primum.models.sampling import Generated, Opening, Sampling
from primum.pipeline import drawing, gate
from primum.pipeline.context import Context, Sets
from primum.pipeline.desk import Desk, Policy
from primum.pipeline.drawing import ByEngine, drawn, folder_of
from primum.pipeline.recipe import LoraPart
from primum.pipeline.stages import ppo, rejection
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal

BAD = Prompt((user("How do I pick a lock?"),), "harmful", "theft")
TEA = Prompt((user("What is tea?"),), "benign", "general")
DRAW = gate.drawing(1.0, 16, 3, 7)


class Own:
    """The engine over the weights in memory."""

    model_name = "own"

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: Any) -> list[Generated]:
        return [Generated("mine", "stop", 1, 1) for _ in batch]


class Broken(Own):
    """Gives every second reply, or none."""

    def __init__(self, gives: int = 2) -> None:
        self.gives, self.closed = gives, 0

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: Any) -> list[Generated]:
        fine, bad = Generated("a fine reply", "stop", 1, 1), Generated("", "error", 0, 0, "no route")
        return [fine if self.gives and i % self.gives else bad for i, _ in enumerate(batch)]

    def close(self) -> None:
        self.closed += 1


class Written(SimpleNamespace):
    """A desk that notes which adapters it wrote."""

    def write_adapter(self, policy: Policy, folder: Path) -> None:
        self.wrote.append(policy.name)
        folder.mkdir(parents=True)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    scores = SimpleNamespace(
        take=lambda weights: None, give_back=lambda: None,
        scores=lambda prompts, texts, ended, tokenizer: [[0.5, 0.5] for _ in texts],
    )  # fmt: skip
    desk: Any = Written(
        engine=lambda policy: Own, name="embedded", base=Policy("base", "b"), wrote=[],
        reward_model=lambda heads: scores, model=SimpleNamespace(tokenizer=None),
    )  # fmt: skip
    journey = Journey(tmp_path, Terminal(quiet=True))
    found = Context(journey, SimpleNamespace(), desk, Sets((BAD, TEA), (), ()), ("rules",), 0, tmp_path)  # type: ignore[arg-type]
    found.shelf |= {"reward": Policy("reward", "r"), "threshold": 0.15}
    return found


def test_the_named_engine_draws_and_another_one_draws_anew(context: Context) -> None:
    policy = Policy("sft", "k", Path("weights"))
    found = gate.pool(context, "round", policy, (BAD, TEA), DRAW, ByEngine(engine="canned"))
    assert [len(row) for row in found.replies] == [3, 3]
    assert {text for row in found.texts for text in row} <= set(canned.REPLIES)
    assert {reply.model for row in found.replies for reply in row} == {"sft@k by canned"}
    assert context.desk.wrote == ["sft"]  # type: ignore[attr-defined]
    again = gate.pool(context, "round", policy, (BAD, TEA), DRAW, ByEngine(engine="canned"))
    assert again == found
    for by in (ByEngine(), ByEngine(engine="hf"), None):
        own = gate.pool(context, "round", policy, (BAD, TEA), DRAW, by)
        assert {reply.model for row in own.replies for reply in row} == {"sft@k"} and own.texts == [["mine"] * 3] * 2
    assert context.desk.wrote == ["sft"], "the adapter lies there"  # type: ignore[attr-defined]


def test_an_engine_is_opened_over_what_the_policy_is_and_closed(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, Opening]] = []
    engine = Broken(3)

    def note(name: str, opening: Opening) -> Broken:
        opened.append((name, opening))
        return engine

    monkeypatch.setattr(drawing, "open_engine", note)
    at = {"url": "http://localhost:1/v1"}
    for number, (policy, by) in enumerate([
        (context.desk.base, ByEngine(engine="vllm")),
        (Policy("sft", "k", Path("w")), ByEngine(engine="vllm", **at)),
        (Policy("small", "s", model="./small"), ByEngine(engine="openvino")),
        (Policy("sft", "k", Path("w")), ByEngine(engine="http", served="theirs", **at)),
    ]):  # fmt: skip
        drawn(context, f"draw-{number}", policy, (BAD,), DRAW, by)
    folder = str(context.journey.folder / "steps" / "adapter-sft" / "adapter")
    assert [(name, o.model, o.url) for name, o in opened] == [
        ("vllm", "embedded", ""), ("vllm", folder, at["url"]), ("openvino", "./small", ""),
        ("http", "theirs", at["url"]),
    ]  # fmt: skip
    assert engine.closed == 4 and Path(folder).is_dir()


def test_replies_that_could_not_be_given_are_counted_and_never_chosen(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "open_engine", lambda name, opening: Broken(2))
    by = rejection.Settings(source="base", engine="canned")
    found = gate.pool(context, "round", context.desk.base, (BAD, TEA), DRAW, by)
    lost = [[math.isnan(s) for s in row] for row in found.safety]
    assert lost == [[not text for text in row] for row in found.texts] and sum(map(sum, lost)) == 3
    assert "3 of 6 replies could not be drawn by canned" in context.left_out[0]
    spec: Any = SimpleNamespace(name="round", settings=by)
    kept, _ = rejection._chosen(context, spec, found)
    assert [sample.text for sample in kept] == ["a fine reply"] * 2
    facts = gate.gate_facts(found, 0.15)
    assert facts["replies"] == 3 and sum(sum(one.values()) for one in facts["quadrants"].values()) == 3
    monkeypatch.setattr(drawing, "open_engine", lambda name, opening: Broken(0))
    with pytest.raises(StepFailedError, match="no reply could be drawn by canned"):
        gate.pool(context, "other", context.desk.base, (BAD, TEA), DRAW, by)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"engine": "vlm"}, "did you mean 'vllm'"),
        ({"engine": "http"}, "http needs url"),
        ({"engine": "ppo"}, "no engine"),
    ],
)
def test_an_engine_that_does_not_exist_or_has_no_place_is_told(given: dict[str, str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        rejection.Settings(source="base", **given)  # type: ignore[arg-type]


def test_ppo_keeps_transformers_and_says_so(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReachedError(Exception): ...

    def reached(*_: Any, **__: Any) -> None:
        raise ReachedError

    monkeypatch.setattr(ppo, "lesson", reached)
    said: dict[str, list[str]] = {}
    for engine in ("transformers", "auto", "vllm"):
        spec: Any = SimpleNamespace(name="ppo", settings=ppo.Settings(engine=engine), where="x", start=None)
        with pytest.raises(ReachedError):
            ppo.run(context, spec)
        said[engine] = [row["text"] for row in context.journey.said]
    assert said["auto"] == [] == said["transformers"]
    assert said["vllm"] == ["replies are drawn with transformers, not vllm: the weights change with every iteration"]


def test_the_adapter_that_an_engine_reads_is_the_policys_alone(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import LlamaConfig, LlamaForCausalLM

    from primum.models.load import Model
    from primum.training.adapter import save_weights, trainable

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    desk = Desk(Journey(tmp_path, Terminal(quiet=True)), "tiny", LoraPart(rank=4, start=0.0), 0)
    desk._model = Model(LlamaForCausalLM(config).eval(), None, "tiny", "tiny", "0")
    with torch.no_grad():
        for p in trainable(desk.network).values():
            p.add_(0.5)
    save_weights(desk.network, tmp_path / "weights.safetensors")
    own = {name: p.detach().clone() for name, p in trainable(desk.network).items()}
    desk.changed()
    desk.reward_model(("safety",))
    context: Any = SimpleNamespace(desk=desk, journey=desk.journey)
    folder = Path(folder_of(context, Policy("sft", "k", tmp_path / "weights.safetensors")))
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == []
    written = load_file(folder / "adapter_model.safetensors")
    assert len(written) == len(own)
    sums = sorted(float(t.abs().sum()) for t in own.values())
    assert sorted(float(t.abs().sum()) for t in written.values()) == pytest.approx(sums, rel=1e-4)
    assert folder_of(context, Policy("base", "b")) == "tiny"
