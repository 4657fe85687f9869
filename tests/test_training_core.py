"""Batches, scoring and the loop on a two-layer model: exact against a plain computation, exact to resume."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from primum.core.errors import StepFailedError
from primum.core.records import JsonDict
from primum.models.load import Model
from primum.training import keeping
from primum.training.adapter import add_lora
from primum.training.batches import cut_rows, micro_batches, planned, steps
from primum.training.examples import Example, PairExample
from primum.training.loop import LoopConfig, MicroLoss, Run, schedule
from primum.training.methods import dpo, kto, sft
from primum.training.recompute import recompute, recomputes
from primum.training.score import States, answer_states, score, score_all


@pytest.fixture
def tiny() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).float().eval()


def rows(count: int = 16) -> list[Example]:
    random = torch.Generator().manual_seed(1)

    def draw(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(1, 64, (n,), generator=random).tolist())

    return [Example(draw(3 + i % 4), draw(2 + i % 5)) for i in range(count)]


def pairs(count: int = 16) -> list[PairExample]:
    chosen, rejected = rows(2 * count)[::2], rows(2 * count)[1::2]
    return [PairExample(c, Example(c.prompt, r.answer)) for c, r in zip(chosen, rejected, strict=True)]


def plain_logp(network: Any, example: Example) -> float:
    """One unpadded row, token by token."""
    ids = torch.tensor([example.prompt + example.answer])
    logps = network(ids).logits[0].log_softmax(-1)
    start = len(example.prompt)
    return sum(logps[t - 1, ids[0, t]].item() for t in range(start, ids.shape[1]))


def test_score_equals_a_plain_computation_whatever_the_padding(tiny: Any) -> None:
    examples = rows(8)
    with torch.no_grad():
        got = score(tiny, examples)
        expected = [plain_logp(tiny, e) for e in examples]
    assert got.logps.tolist() == pytest.approx(expected, abs=1e-4)
    assert got.lengths.tolist() == [len(e.answer) for e in examples]


def test_score_all_keeps_the_order(tiny: Any) -> None:
    examples = rows(9)
    got = score_all(tiny, examples, token_budget=20)
    with torch.no_grad():
        assert got.logps.tolist() == pytest.approx([plain_logp(tiny, e) for e in examples], abs=1e-4)


def test_steps_take_every_example_once_an_epoch() -> None:
    plan = steps(range(10), 4, 2, seed=3)
    assert [len(s) for s in plan] == [4, 4, 4, 4, 4]
    flat = [i for s in plan for i in s]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10)) and flat[:10] != flat[10:]
    assert sum(map(len, steps(range(10), 4, 0.5, 3))) == planned(10, 0.5) == 5


def test_a_group_is_never_cut() -> None:
    groups = ["a", "b", "a", "c", "b", "d", "e"]
    plan = steps(groups, 3, 2, seed=1)
    for key in "ab":
        members = {i for i, k in enumerate(groups) if k == key}
        assert [members <= set(step) for step in plan if members & set(step)] == [True, True]
    assert sorted(i for step in plan for i in step) == sorted([*range(7), *range(7)])
    assert max(map(len, plan)) == 3 and [len(s) for s in steps(["a"] * 5, 2, 1, 0)] == [5]


def test_micro_batches_stay_under_the_budget() -> None:
    groups = micro_batches(rows(20), 30)
    assert sum(map(len, groups)) == 20
    assert all(len(g) == 1 or sum(e.length for e in g) <= 30 for g in groups)


def test_answers_to_one_prompt_share_a_pass_where_rows_share_a_tree() -> None:
    def row(prompt: int, size: int, answer: int) -> Example:
        return Example((prompt,) * size, (9,) * answer)

    pairs = [row(1, 8, 2), row(1, 8, 7), row(2, 3, 1), row(2, 3, 1), row(3, 8, 30), row(3, 8, 9), row(1, 8, 2)]
    # together, the prompt once: 17, 5; 38 alone and 17 (47 would be over twice the budget); 10
    assert [list(group) for group in cut_rows(pairs, 20, True)] == [[4], [0, 1], [5], [6, 2, 3]]
    # by length alone: 38, 17, 15, 10, 10, 4, 4
    assert [list(group) for group in cut_rows(pairs, 20, False)] == [[4], [5], [1], [0, 6], [2, 3]]
    assert cut_rows([], 20, True) == []


def test_scores_do_not_depend_on_how_rows_are_cut(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [side for pair in pairs() for side in (pair.chosen, pair.rejected)]
    found = score_all(tiny, examples, 20).logps
    monkeypatch.setattr("primum.training.score.shares_prompts", lambda *_: False)
    assert torch.allclose(score_all(tiny, examples, 20).logps, found, atol=1e-5)


def test_schedule_warms_up_and_ends_at_a_tenth() -> None:
    config = LoopConfig(learning_rate=1.0, warmup=0.1)
    assert schedule(0, 100, config) == pytest.approx(0.1)
    assert schedule(9, 100, config) == pytest.approx(1.0)
    assert schedule(100, 100, config) == pytest.approx(0.1)


def test_gradient_does_not_depend_on_the_cut_into_micro_batches(tiny: Any, tmp_path: Path) -> None:
    found = []
    for budget in (12, 10_000):
        torch.manual_seed(0)
        network = type(tiny)(tiny.config)
        network.load_state_dict(tiny.state_dict())
        log, _ = train_sft(network, tmp_path / str(budget), token_budget=budget)
        found.append((log[-1]["loss"], network.model.layers[0].mlp.up_proj.weight.detach().clone()))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5)


class Reads(TorchFunctionMode):
    """Notes what a host waits for a device for: numbers that it reads, and masks whose members it must count."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the call, then make it."""
        name = getattr(func, "__name__", "")
        index = args[1] if name in ("__getitem__", "__setitem__") else ()
        each = index if isinstance(index, tuple) else (index,)
        masks = [torch.is_tensor(i) and i.dtype == torch.bool for i in each]
        if any(masks) or name in ("item", "tolist", "cpu", "numpy", "nonzero", "__float__", "__int__", "__bool__"):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_metrics_are_read_once_a_step_however_many_micro_batches_it_has(tiny: Any, tmp_path: Path) -> None:
    def loss(network: Any, micro: Any, scale: float) -> MicroLoss:
        each = network.get_input_embeddings().weight[[row.answer[0] for row in micro]].sum(-1)
        return MicroLoss(each.sum() / scale, {"each": each.sum(), "twice": 2 * each.sum()})

    found = []
    for budget in (1, 10_000):
        run = Run(tiny, rows(), loss, len, LoopConfig(0.0, 8, token_budget=budget), tmp_path / str(budget))
        with Reads() as reads:
            log = run.train()
        found.append((reads.found, [row["twice"] for row in log]))
    (many, ones), (few, twos) = found
    assert many == few and many  # eight micro-batches a step read what one does
    assert ones == pytest.approx(twos, abs=1e-6)


def test_losses_ask_the_device_for_nothing(tiny: Any) -> None:
    tiny.get_output_embeddings().weight.requires_grad_(False)
    known = dpo.reference(tiny, [replace(one, benign=i % 2 == 0) for i, one in enumerate(pairs(4))])
    kept = [*map(keeping.Kept, rows(8)[:4]), *keeping.keep(tiny, rows(8)[4:])]
    sides = [one.pair.chosen for one in known] + [one.pair.rejected for one in known]
    judged = [
        kto.Referenced(one, -5.0, -5.0) for one in kto.mismatched(rows(6), [True, False, True, True, False, False])
    ]

    def reads(loss: Any) -> list[str]:
        with Reads() as found:
            loss()
        return found.found

    config = keeping.KeepConfig()
    assert reads(lambda: score(tiny, sides).logps[0].item())  # what is looked for is found
    assert reads(lambda: dpo.objective(dpo.Config())(tiny, known, 1.0)) == reads(lambda: score(tiny, sides))
    scored = reads(lambda: score(tiny, [one.row.example for one in judged]))
    assert reads(lambda: kto.Objective(kto.Config())(tiny, judged, 1.0)) == scored
    plain = reads(lambda: answer_states(tiny, [one.example for one in kept]))
    assert reads(lambda: keeping.keeping_loss(config, tiny, kept)) == plain


def train_sft(network: Any, folder: Path, token_budget: int = 4096, epochs: float = 1, **more: Any) -> Any:
    def loss(net: Any, micro: Any, scale: float) -> MicroLoss:
        return MicroLoss(-score(net, micro).logps.sum() / scale, {})

    config = LoopConfig(1e-2, batch_size=8, epochs=epochs, token_budget=token_budget, **more)
    run = Run(network, rows(), loss, lambda ex: sum(len(e.answer) for e in ex), config, folder)
    return run.train(), run.alarms


def test_sft_learns_sixteen_rows_by_heart(tiny: Any, tmp_path: Path) -> None:
    learned = [keeping.Kept(row) for row in rows()]
    log, _ = sft.train(sft.Config(learning_rate=2e-2, epochs=60, batch_size=16), tiny, learned, tmp_path)
    assert log[-1]["loss"] < 0.2 < log[0]["loss"]


def test_what_is_kept_stays_and_what_is_learned_changes(tiny: Any, tmp_path: Path) -> None:
    learned, kept = rows()[:8], rows()[8:]
    with pytest.raises(ValueError, match="frozen"):
        keeping.keep(tiny, kept)
    tiny.get_output_embeddings().weight.requires_grad_(False)
    before, untouched = score_all(tiny, kept).logps, score_all(tiny, learned).logps
    config = sft.Config(learning_rate=2e-2, epochs=150, batch_size=16, keep_weight=3.0)
    log, _ = sft.train(config, tiny, [*map(keeping.Kept, learned), *keeping.keep(tiny, kept)], tmp_path)
    assert log[0]["divergence"] == pytest.approx(0.0, abs=1e-5)  # at the start nothing has moved
    assert log[-1]["nll"] < 0.85 * log[0]["nll"]
    moved = (score_all(tiny, kept).logps - before).abs()
    assert 2 * moved.mean() < (score_all(tiny, learned).logps - untouched).mean()


def test_the_opening_weighs_as_much_as_a_row_of_its_own() -> None:
    states = States(torch.zeros(9, 1), torch.zeros(9), torch.tensor([0] * 6 + [1] * 3), torch.tensor([6, 3]))
    values = torch.tensor([1.0, 1.0, 1.0, 5.0, 10.0, 20.0, 3.0, 4.0, 5.0])
    # row 0: (1 + 1 + 1 + 5) / 4 + 0.5 * (10 + 20) / 2 = 2 + 7.5; row 1 has no rest: (3 + 4 + 5) / 3
    assert keeping.weighed(values, states, opening=4, rest_weight=0.5).tolist() == pytest.approx([9.5, 4.0])


def test_a_lead_raises_the_opener_before_the_first_token_only(tiny: Any) -> None:
    learned = [keeping.Kept(row) for row in rows()]
    raised = keeping.openers(learned)
    assert raised == sorted({t for t, n in Counter(r.answer[0] for r in rows()).items() if n >= 0.1 * len(rows())})
    config = keeping.KeepConfig(opening=1, rest_weight=0.0, lead=1.5)
    for row in learned:
        logits = tiny(torch.tensor([row.example.prompt])).logits[0, -1].detach().clone()
        logits[raised] += 1.5
        expected = -torch.log_softmax(logits, -1)[row.example.answer[0]]
        found = keeping.keeping_loss(config, tiny, [row], raised).loss.detach()
        assert found.item() == pytest.approx(expected.item(), abs=1e-4)


def test_replayed_rows_come_with_their_pair(tiny: Any, tmp_path: Path) -> None:
    known = dpo.reference(tiny, pairs())
    keys = [str(i) for i in range(len(known))]
    config, keep = dpo.Config(learning_rate=5e-3, epochs=4, batch_size=2, nll_weight=0.0), keeping.KeepConfig()
    replay = dpo.Replay([keeping.Kept(r) for r in rows()[: len(known)]], keys[: len(rows())], keep)
    log, _ = dpo.train(config, tiny, known, tmp_path, groups=keys, replay=replay)
    assert all({"dpo", "replay_nll"} <= set(row) for row in log)
    assert log[0]["loss"] == pytest.approx((log[0]["dpo"] + log[0]["replay_nll"]) / 2, abs=1e-3)
    assert log[-1]["replay_nll"] < log[0]["replay_nll"]
    with pytest.raises(ValueError, match="no pair"):
        dpo.train(config, tiny, known[:1], tmp_path, groups=["0"], replay=replay)


def test_divergence_is_kl_as_scipy_has_it() -> None:
    from scipy.special import rel_entr, softmax

    random = torch.Generator().manual_seed(2)
    a, b = torch.randn(5, 7, generator=random), torch.randn(5, 7, generator=random)
    expected = rel_entr(softmax(a.numpy(), 1), softmax(b.numpy(), 1)).sum(1)
    assert keeping.divergence(a, b).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_dpo_starts_at_ln2_and_separates_the_pairs(tiny: Any, tmp_path: Path) -> None:
    known = dpo.reference(tiny, pairs())
    config = dpo.Config(learning_rate=5e-3, epochs=12, batch_size=16)
    log, _ = dpo.train(config, tiny, known, tmp_path)
    assert log[0]["dpo"] == pytest.approx(0.693147, abs=1e-4)
    assert log[0]["accuracy"] < 1 and log[-1]["accuracy"] == 1.0
    assert log[-1]["chosen_logp"] > log[0]["chosen_logp"]  # the anchor keeps the chosen answers likely


def test_dpo_with_a_foreign_reference_stops(tiny: Any, tmp_path: Path) -> None:
    known = [dpo.Referenced(p, -100.0, -1.0) for p in pairs()]
    with pytest.raises(StepFailedError, match="reference is not the policy"):
        dpo.train(dpo.Config(), tiny, known, tmp_path)


class Stop(Exception):
    """Stands in for a kill: the process ends between two steps."""


def test_a_killed_run_ends_with_the_same_bits(tiny: Any, tmp_path: Path) -> None:
    start = {k: v.clone() for k, v in tiny.state_dict().items()}
    train_sft(tiny, tmp_path / "whole", epochs=3, save_every_seconds=0)
    whole = {k: v.clone() for k, v in tiny.state_dict().items()}

    for kill_after in (1, 3, 5):
        folder = tmp_path / f"killed{kill_after}"
        tiny.load_state_dict(start)
        seen = 0

        def advance(_: int, limit: int = kill_after) -> None:
            nonlocal seen
            seen += 1
            if seen > limit:
                raise Stop

        run = Run(tiny, rows(), lambda n, m, s: MicroLoss(-score(n, m).logps.sum() / s, {}),
                  lambda ex: sum(len(e.answer) for e in ex), LoopConfig(1e-2, 8, 3, save_every_seconds=0), folder,
                  advance=advance)  # fmt: skip
        with pytest.raises(Stop):
            run.train()
        tiny.load_state_dict(start)  # a new process begins from the untouched model
        log, _ = train_sft(tiny, folder, epochs=3, save_every_seconds=0)
        assert len(log) == 6 and [row["step"] for row in log] == list(range(6))
        assert all(torch.equal(whole[k], v) for k, v in tiny.state_dict().items())
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("cuda"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_short_memory_halves_the_budget_and_changes_nothing_else(
    tiny: Any, tmp_path: Path, error: RuntimeError
) -> None:
    def loss(network: Any, micro: Any, scale: float) -> MicroLoss:
        if sum(e.length for e in micro) > limit:
            raise error
        return MicroLoss(-score(network, micro).logps.sum() / scale, {})

    start, found = {k: v.clone() for k, v in tiny.state_dict().items()}, []
    for limit in (10_000, 20):
        tiny.load_state_dict(start)
        run = Run(tiny, rows(), loss, len, LoopConfig(1e-2, batch_size=8, epochs=2), tmp_path / str(limit))
        found.append((run.train(), {k: v.clone() for k, v in tiny.state_dict().items()}))
    assert run.token_budget <= 20 and [row["name"] for row in run.alarms.rows] == ["memory"]
    assert [r["loss"] for r in found[0][0]] == pytest.approx([r["loss"] for r in found[1][0]], abs=1e-5)
    assert all(torch.allclose(found[0][1][k], v, atol=1e-4) for k, v in found[1][1].items())


def test_a_resumed_run_still_says_that_memory_was_short(tiny: Any, tmp_path: Path) -> None:
    def loss(network: Any, micro: Any, scale: float) -> MicroLoss:
        if sum(e.length for e in micro) > 20:
            raise torch.OutOfMemoryError("cuda")
        return MicroLoss(-score(network, micro).logps.sum() / scale, {})

    config = LoopConfig(1e-2, batch_size=8, epochs=2, save_every_seconds=0)
    for _ in range(2):  # the second run finds a finished state
        run = Run(tiny, rows(), loss, len, config, tmp_path)
        log = run.train()
        assert [(row["step"], row["name"]) for row in run.alarms.rows] == [(0, "memory")] and len(log) == 4


def test_dropout_is_off_while_a_model_learns(tmp_path: Path) -> None:
    """The reference of DPO has none, and a run that was killed would draw another one."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=64, resid_pdrop=0.5, embd_pdrop=0.5)
    network = GPT2LMHeadModel(config).eval()
    rate = dpo.Config(learning_rate=1e-9, batch_size=4, nll_weight=0)
    log, _ = dpo.train(rate, network, dpo.reference(network, pairs()), tmp_path)
    assert all(row["dpo"] == pytest.approx(math.log(2), abs=1e-3) for row in log)


def test_where_one_row_is_too_much_layers_compute_again_and_learn_the_same(tiny: Any, tmp_path: Path) -> None:
    seen: list[bool] = []

    def loss(network: Any, micro: Any, scale: float) -> MicroLoss:
        seen.append(recomputes(network))
        if short and not seen[-1]:
            raise torch.OutOfMemoryError("cuda")
        return MicroLoss(-score(network, micro).logps.sum() / scale, {})

    start, found = {k: v.clone() for k, v in tiny.state_dict().items()}, []
    for short in (False, True):
        tiny.load_state_dict(start)
        config = LoopConfig(1e-2, batch_size=4, token_budget=1)
        run = Run(tiny, rows(8), loss, len, config, tmp_path / str(short))
        found.append((run.train(), {k: v.clone() for k, v in tiny.state_dict().items()}))
    assert seen[:8] == [False] * 8 and all(seen[9:])
    assert [row["name"] for row in run.alarms.rows] == ["recompute"]
    assert [r["loss"] for r in found[0][0]] == pytest.approx([r["loss"] for r in found[1][0]], abs=1e-5)
    assert all(torch.allclose(found[0][1][k], v, atol=1e-4) for k, v in found[1][1].items())
    assert not recomputes(tiny)  # training is over


@pytest.mark.parametrize("adapter", [False, True])
def test_layers_that_compute_again_run_twice_and_give_the_same_gradients(tiny: Any, adapter: bool) -> None:
    tiny.requires_grad_(False)
    network = add_lora(Model(tiny, None, "tiny", "tiny", "0"), 4, 8, seed=0) if adapter else tiny.requires_grad_(True)
    runs: list[int] = []
    tiny.model.layers[0].mlp.act_fn.register_forward_hook(lambda *_: runs.append(1))
    gradients: list[list[torch.Tensor]] = []
    score(network, rows(6)).logps.sum().backward()  # finds the way in which rows are scored
    for again in (False, True):
        network.zero_grad()
        runs.clear()
        assert not again or (recompute(network) and not recompute(network))
        score(network, rows(6)).logps.sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
        assert not again or len(runs) == 2
    assert len(gradients[0]) > 3
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_memory_too_short_for_one_row_is_told(tiny: Any, tmp_path: Path) -> None:
    def loss(*_: Any) -> MicroLoss:
        raise torch.OutOfMemoryError("always")

    with pytest.raises(StepFailedError, match="an example of 11 tokens"):
        Run(tiny, rows(), loss, len, LoopConfig(1e-2, batch_size=16), tmp_path).train()


def test_another_error_is_not_taken_for_short_memory(tiny: Any, tmp_path: Path) -> None:
    def loss(*_: Any) -> MicroLoss:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        Run(tiny, rows(), loss, len, LoopConfig(1e-2), tmp_path).train()


def test_the_log_is_there_while_training_goes_on(tiny: Any, tmp_path: Path) -> None:
    seen: list[int] = []

    def advance(_: int) -> None:
        seen.append(len((tmp_path / "log.jsonl").read_text().splitlines()))

    run = Run(tiny, rows(), lambda n, m, s: MicroLoss(-score(n, m).logps.sum() / s, {}), len, LoopConfig(1e-2, 8),
              tmp_path, advance=advance)  # fmt: skip
    run.train()
    assert seen == [1, 2]


def test_a_tracker_is_told_of_every_step_once(tiny: Any, tmp_path: Path) -> None:
    told: list[JsonDict] = []
    run = Run(tiny, rows(), lambda n, m, s: MicroLoss(-score(n, m).logps.sum() / s, {}), len, LoopConfig(1e-2, 8),
              tmp_path, follow=told.append)  # fmt: skip
    log = run.train()
    assert told == log and [row["step"] for row in told] == [0, 1]


def test_a_loss_that_is_no_number_stops_with_a_cure(tiny: Any, tmp_path: Path) -> None:
    run = Run(tiny, rows(), lambda n, m, s: MicroLoss(score(n, m).logps.sum() * float("nan"), {}),
              lambda ex: 1.0, LoopConfig(1e-2), tmp_path)  # fmt: skip
    with pytest.raises(StepFailedError, match="learning rate"):
        run.train()
