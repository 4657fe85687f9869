"""Reward models, rejection sampling, PPO and RLOO, distillation and ghost attention on tiny random models."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from primum.core.errors import StepFailedError
from primum.core.records import assistant, user
from primum.training import hacking, score
from primum.training.examples import Example
from primum.training.heads import Heads, RewardModel, adapter_on, add_reward, copy_adapter, last_states
from primum.training.methods import distill, gatt, ppo, rejection, reward
from primum.training.score import answer_states, critic_states, score_all

WIDTH, WORDS = 16, 32


def network(seed: int = 0, words: int = WORDS) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=words, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).float().eval()


def adapted(seed: int = 0) -> Any:
    from primum.models.load import Model
    from primum.training.adapter import add_lora

    return add_lora(Model(network(seed), None, "tiny", "tiny", "0"), 4, 8, seed).eval()


def rows(count: int, seed: int = 1) -> list[Example]:
    random = torch.Generator().manual_seed(seed)

    def draw(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(1, WORDS, (n,), generator=random).tolist())

    return [Example(draw(3 + i % 3), draw(2 + i % 4)) for i in range(count)]


# ------------------------------------------------------------------------------------------------ reward models
def preferences(count: int, head: str = "safety", seed: int = 2) -> list[reward.Judged]:
    """Answers that hold token 5 are preferred: a rule that a head can learn."""
    found = []
    for i, row in enumerate(rows(count, seed)):
        good, bad = (*row.answer, 5), (*(7 if t == 5 else t for t in row.answer), 7)
        strength = reward.STRENGTHS[i % 4]
        found.append(reward.Judged(Example(row.prompt, good), Example(row.prompt, bad), head, strength, (True, False)))
    return found


def test_a_score_is_read_at_the_last_token_whatever_stands_beside_it() -> None:
    policy = adapted()
    examples = rows(6)
    with torch.no_grad():
        together = last_states(policy, examples)
        base = policy.get_base_model()
        for row, found in zip(examples, together, strict=True):
            ids = torch.tensor([row.prompt + row.answer])
            assert torch.allclose(base.model(input_ids=ids).last_hidden_state[0, -1], found, atol=1e-4)


def test_a_reward_model_learns_its_rule_and_leaves_the_policy_as_it_was(tmp_path: Path) -> None:
    policy = adapted()
    before = score_all(policy, rows(4)).logps
    model = add_reward(policy, ("safety", "helpfulness"), seed=0)
    assert torch.allclose(score_all(policy, rows(4)).logps, before)
    held_out = preferences(40, seed=9)
    config = reward.Config(learning_rate=2e-2, batch_size=16, margin="small")
    log, _ = reward.train(config, model, preferences(320), tmp_path)
    assert log[0]["accuracy"] < 0.8
    model.put_on()
    assert reward.judge_pairs(model, held_out, "safety").k >= 36  # of 40
    scores = model.score_examples([p.chosen for p in held_out])
    assert all(0 < s < 1 for row in scores for s in row) and len(scores[0]) == 2
    model.give_back()
    assert torch.allclose(score_all(policy, rows(4)).logps, before)


def test_only_the_trunk_and_the_heads_of_a_reward_model_learn() -> None:
    from primum.training.heads import learned

    model = add_reward(adapted(), ("safety",), seed=0)
    model.put_on()
    names = learned(model)
    assert names and all(".reward." in name or name.startswith("heads.") for name in names)


def test_a_margin_asks_for_a_larger_gap_where_the_preference_is_stronger(tmp_path: Path) -> None:
    gaps = {}
    for scale in ("none", "large"):
        model = add_reward(adapted(), ("safety",), seed=0)
        config = reward.Config(learning_rate=2e-2, batch_size=16, margin=scale, safety_weight=0, centre_weight=0)
        reward.train(config, model, preferences(240), tmp_path / scale)
        model.put_on()
        gaps[scale] = fmean(reward.judge_pairs(model, preferences(40, seed=9), "safety").gaps)
    assert gaps["large"] > gaps["none"]


def test_the_negative_of_a_cost_model_puts_unsafe_answers_under_zero(tmp_path: Path) -> None:
    model, pairs = add_reward(adapted(), ("safety",), seed=0), preferences(20, seed=9)
    config = reward.Config(learning_rate=2e-2, batch_size=16, loss="cost")
    log, _ = reward.train(config, model, preferences(320), tmp_path)
    model.put_on()
    with torch.no_grad():
        safe = model.raw([p.chosen for p in pairs])[:, 0]
        unsafe = model.raw([p.rejected for p in pairs])[:, 0]
    assert float((unsafe < 0).float().mean()) >= 0.9 <= float((safe > 0).float().mean())
    # what is in order is the same thing as with the ranking loss: the safe answer lies over the unsafe one
    assert log[-1]["accuracy"] > 0.8 and reward.judge_pairs(model, pairs, "safety").k >= 18


def test_the_cost_of_safe_rlhf_is_ranking_and_labels_of_its_negative() -> None:
    """C = -r: -log s(C_w - C_l) is the ranking of the rewards, -log s(s C) the cross-entropy of the label with r."""
    model, pairs = add_reward(adapted(), ("safety",), seed=0), preferences(6, seed=9)
    model.put_on()
    plain = {"margin": "none", "safety_weight": 1.0, "centre_weight": 0.0}
    both = [
        reward.objective(config, ("safety",))(model, pairs, 1.0).loss.item()
        for config in (reward.Config(loss="cost"), reward.Config(**plain))
    ]
    assert both[0] == pytest.approx(both[1], rel=1e-5)


def test_one_head_is_taught_every_pair_and_labels_of_safety_by_safety_pairs_alone() -> None:
    model = add_reward(adapted(), ("reward",), seed=0)
    pairs = [*preferences(3, "safety", seed=9), *preferences(3, "helpfulness", seed=10)]
    model.put_on()
    config = reward.Config(margin="none", safety_weight=0.5, centre_weight=0.0)
    found = reward.objective(config, ("reward",))(model, pairs, 2.0)
    raw = model.raw([p.chosen for p in pairs] + [p.rejected for p in pairs])[:, 0].tolist()
    expected = 0.0
    for place, pair in enumerate(pairs):
        good, bad = raw[place], raw[place + 6]
        expected += math.log1p(math.exp(bad - good))  # -log sigma(r_c - r_r)
        if pair.head == "safety":  # the chosen one is safe, the other is not
            expected += 0.5 * (math.log1p(math.exp(-good)) + math.log1p(math.exp(bad)))
    assert found.loss.item() == pytest.approx(expected / 2, rel=1e-5)
    with pytest.raises(KeyError):
        reward.objective(config, ("safety", "reward"))(model, pairs, 2.0)


def test_a_mix_holds_the_share_asked_for() -> None:
    own, other = preferences(90, "safety"), preferences(50, "helpfulness")
    mix = reward.mixed(own, other, 0.1, seed=0)
    assert len(mix) == 100 and all(one.head == "safety" for one in mix)
    assert len(reward.mixed(own[:20], other, 0.5, seed=0)) == 40 and reward.mixed(own, other, 0.0, seed=0) == own
    # helpfulness borrows an equal share: of pairs with two safe answers, of which there are none, or of any
    pairs, heads = [*own, *other[:30]], ("safety", "helpfulness")
    assert all(one.safe != (True, True) for one in own)
    counts = [
        [sum(one.head == head for one in reward.mixes(pairs, heads, (0.0, 0.5), 0, any_pair=free)) for head in heads]
        for free in (False, True)
    ]
    assert counts == [[90, 30], [90, 60]]


def test_calibration_by_hand_and_the_alarm_on_overfitting() -> None:
    # orders with gaps 0 and +-ln 3: 50, 75 and 75% sure; a tie is no order, one of the other two is right
    sure = reward.sure([0.0, math.log(3), -math.log(3)])
    assert sure["n"] == 3 and sure["error"] == pytest.approx((0.5 + 2 * 0.25) / 3)
    assert [(row["score"], row["share"], row["n"]) for row in sure["bins"]] == [
        (0.5, 0, 1), (pytest.approx(0.75), 0.5, 2)
    ]  # fmt: skip
    found = reward.calibration([0.1, 0.1, 0.9, 0.9], [False, True, True, True])
    # two bins of two: |.1 - .5| and |.9 - 1|, half of the replies each
    assert found["error"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    log = [{"accuracy": 0.99}] * 20
    assert reward.overfitted(log, 0.7) and not reward.overfitted(log, 0.9)


# ------------------------------------------------------------------------------------------------ rejection sampling
def test_the_best_is_kept_and_ties_go_to_the_first() -> None:
    scores = [[0.2, 0.9, 0.9], [float("nan"), 0.1, 0.4], [0.5, 0.4, 0.3], [float("nan")] * 3]
    texts = [["a", "b", "c"], ["a", "b", " "], ["", "x", "y"], ["a", "b", "c"]]
    found = rejection.best(scores, texts)
    assert [(one.prompt, one.index) for one in found] == [(0, 1), (1, 1), (2, 1)]


@given(st.lists(st.lists(st.floats(-3, 3), min_size=5, max_size=5), min_size=1, max_size=4))
def test_the_curve_is_the_mean_best_of_all_subsets_and_never_falls(scores: list[list[float]]) -> None:
    found = rejection.curve(scores)
    for k, row in enumerate(found, 1):
        expected = fmean(fmean(max(part) for part in combinations(one, k)) for one in scores)
        assert row["best"] == pytest.approx(expected, abs=1e-9)
    assert all(a["best"] <= b["best"] + 1e-9 for a, b in pairwise(found))
    assert found[0]["best"] == pytest.approx(fmean(fmean(row) for row in scores), abs=1e-9)


def test_replay_keeps_the_best_of_all_rounds() -> None:
    first = [rejection.Sample("p", "old and good", 0.9, "r1"), rejection.Sample("q", "old", 0.2, "r1")]
    second = [rejection.Sample("p", "new", 0.5, "r2"), rejection.Sample("q", "new", 0.6, "r2")]
    found = rejection.replayed([first, second])
    assert [(one.prompt_id, one.text) for one in found] == [("p", "old and good"), ("q", "new")]
    assert len(rejection.replayed([first, second], most=2)) == 4


def test_the_temperature_with_the_best_of_k_is_taken() -> None:
    curves = {0.4: [{"best": 0.5}], 1.0: [{"best": 0.7}], 1.3: [{"best": 0.7}]}
    assert rejection.temperature(curves) == 1.0


def test_fine_tuning_on_the_best_makes_it_likely(tmp_path: Path) -> None:
    policy, learned = adapted(), rows(8)
    before = score_all(policy, learned).logps.sum()
    rejection.train(rejection.Config(learning_rate=3e-2, epochs=60), policy, learned, tmp_path)
    assert score_all(policy, learned).logps.sum() > before + 5  # of about -100; the output matrix is frozen


# ------------------------------------------------------------------------------------------------ on-policy training
TARGET = {1: 9, 2: 5}
"""What each prompt wants to hear: the share of such tokens is the reward, and 1 is the optimum."""
LENGTH, TOY_WORDS = 3, 12


def toy(seed: int = 0) -> Any:
    return network(seed, TOY_WORDS)


def draw_from(policy: Any) -> ppo.Draw:
    def draw(prompts: Sequence[tuple[int, ...]], seed: int) -> list[tuple[int, ...]]:
        generator = torch.Generator().manual_seed(seed)
        ids = torch.tensor(prompts)
        with torch.no_grad():
            for _ in range(LENGTH):
                shares = policy(input_ids=ids).logits[:, -1].softmax(-1)
                ids = torch.cat([ids, torch.multinomial(shares, 1, generator=generator)], 1)
        return [tuple(row) for row in ids[:, len(prompts[0]) :].tolist()]

    return draw


PROMPTS = [(1,), (2,)]


def earned(index: Sequence[int], answers: Sequence[tuple[int, ...]]) -> ppo.Rewarded:
    values = [sum(t == TARGET[PROMPTS[i][0]] for t in a) / LENGTH for i, a in zip(index, answers, strict=True)]
    return ppo.Rewarded(values, {"reward": fmean(values)})


def players(policy: Any, critic: bool) -> ppo.Players:
    frozen = copy.deepcopy(policy)

    def reference(part: Sequence[Example]) -> torch.Tensor:
        with torch.no_grad():
            return score.token_scores(frozen, part).logps

    heads = Heads(WIDTH, ("value",)) if critic else None
    return ppo.Players(policy, draw_from(policy), earned, reference, heads)


TOY = {"iterations": 70, "batch": 2, "samples": 24, "mini_batch": 16, "learning_rate": 1e-2, "beta": 0.0,
       "max_kl": 1e9}  # fmt: skip


@pytest.mark.parametrize("advantage", ["critic", "rloo", "reinforce_pp"])
def test_the_known_optimum_of_a_toy_task_is_reached(advantage: str, tmp_path: Path) -> None:
    policy = toy()
    # a shared critic makes both prompts pull at once: with the larger rate one prompt's answer drowns the other's
    rate = 4e-3 if advantage == "critic" else TOY["learning_rate"]
    config = ppo.Config(advantage=advantage, **{**TOY, "learning_rate": rate})
    log, _ = ppo.train(config, players(policy, advantage == "critic"), PROMPTS, tmp_path)
    drawn = draw_from(policy)([p for p in PROMPTS for _ in range(100)], 12345)
    final = earned([i for i in range(2) for _ in range(100)], drawn).metrics["reward"]
    assert log[0]["reward"] < 0.3 and final >= 0.95


def test_the_first_step_has_ratio_one_and_no_divergence(tmp_path: Path) -> None:
    config = ppo.Config(**{**TOY, "iterations": 1})
    log, _ = ppo.train(config, players(toy(), critic=True), PROMPTS, tmp_path)
    assert log[0]["ratio_off"] == pytest.approx(0.0, abs=1e-4) and log[0]["kl"] == pytest.approx(0.0, abs=1e-4)
    assert set(log[0]["seconds"]) == {"draw", "reward", "score", "learn"}


def test_a_critic_reads_the_trunk_where_logits_are_capped(tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=TOY_WORDS, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=64, final_logit_softcapping=30.0, pad_token_id=0,
        bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    policy = Gemma2ForCausalLM(config).float().eval()
    row = Example((1, 4), (9, 5))
    with torch.no_grad():
        found = critic_states(policy, [row], answer_states(policy, [row]))
        hidden = policy.model(input_ids=torch.tensor([[1, 4, 9]])).last_hidden_state[0, 1:]
    assert torch.allclose(found, hidden, atol=1e-5)
    log, _ = ppo.train(ppo.Config(**{**TOY, "iterations": 2}), players(policy, critic=True), PROMPTS, tmp_path)
    assert len(log) == 2 and log[0]["ratio_off"] < 1e-3


@pytest.mark.parametrize("frozen", [True, False])
def test_ppo_learns_from_token_scores_what_full_logits_would_teach(
    frozen: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(score, "CHUNK", 2 * 4 * TOY_WORDS)  # two tokens at a time
    policy, part = toy(), [Example(PROMPTS[i % 2], (3, 1 + i, 2, 5)[i % 2 :]) for i in range(4)]
    policy.get_output_embeddings().weight.requires_grad_(not frozen)
    plain, gains = copy.deepcopy(policy), torch.linspace(-1, 1, sum(len(row.answer) for row in part))
    config = ppo.Config(**{**TOY, "advantage": "rloo", "max_grad_norm": 1e9})
    trainer = ppo.Trainer(config, players(policy, critic=False), PROMPTS, tmp_path)
    found = trainer._part(part, list(range(4)))

    logps = torch.cat([
        plain(torch.tensor([row.prompt + row.answer])).logits[0].log_softmax(-1)[
            range(len(row.prompt) - 1, row.length - 1), list(row.answer)
        ]
        for row in part
    ])  # fmt: skip
    assert torch.allclose(found.old, logps, atol=1e-5) and torch.allclose(found.reference, logps, atol=1e-5)
    (-(gains * logps).sum() / len(gains)).backward()  # where the ratio is 1, its gradient is that of the logarithm
    weights = [p for p in policy.parameters() if p.requires_grad]
    expected = [p - q.grad for p, q in zip(weights, (q for q in plain.parameters() if q.requires_grad), strict=True)]
    trainer._step([ppo.Weighed(found, gains, gains)], torch.optim.SGD(weights, lr=1.0), first=True)
    assert all(torch.allclose(p, q, atol=1e-5) for p, q in zip(weights, expected, strict=True))


def test_a_reference_that_is_not_the_start_policy_stops_training(tmp_path: Path) -> None:
    wrong = players(toy(), critic=True)
    wrong.reference = players(toy(7), critic=False).reference
    with pytest.raises(StepFailedError, match="own reference"):
        ppo.train(ppo.Config(**TOY), wrong, PROMPTS, tmp_path)


def test_a_large_penalty_keeps_the_policy_where_it_was(tmp_path: Path) -> None:
    ends = {}
    for beta in (0.0, 5.0):
        config = ppo.Config(advantage="rloo", **{**TOY, "iterations": 12, "beta": beta})
        log, _ = ppo.train(config, players(toy(), False), PROMPTS, tmp_path / str(beta))
        ends[beta] = log[-1]["kl"]
    assert ends[5.0] < 0.25 * ends[0.0]


def test_training_that_was_stopped_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    class Stop(Exception):
        """Stands in for a kill between two iterations."""

    whole, config = toy(), ppo.Config(**{**TOY, "iterations": 4})
    ppo.train(config, players(whole, critic=True), PROMPTS, tmp_path / "whole")
    stopped, seen = players(toy(), critic=True), 0

    def advance(count: int) -> None:
        nonlocal seen
        seen += count
        if seen == 2:
            raise Stop

    with pytest.raises(Stop):
        ppo.train(config, stopped, PROMPTS, tmp_path / "cut", advance=advance)
    again = toy()
    log, _ = ppo.train(config, players(again, critic=True), PROMPTS, tmp_path / "cut")
    assert [row["step"] for row in log] == [0, 1, 2, 3]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_no_gain_on_held_out_prompts_stops_training_and_the_best_weights_return(tmp_path: Path) -> None:
    looks = iter([0.4, 0.5, 0.4, 0.3, 0.2, 0.1])  # the start policy's first
    policy = toy()
    team = players(policy, critic=True)
    team.held_out = lambda: next(looks)
    config = ppo.Config(**{**TOY, "check_every": 1, "patience": 2})
    log, alarms = ppo.train(config, team, PROMPTS, tmp_path)
    assert len(log) == 3 and [a["name"] for a in alarms] == ["stopped"]
    kept = toy()
    ppo.train(ppo.Config(**{**TOY, "iterations": 1}), players(kept, critic=True), PROMPTS, tmp_path / "one")
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), policy.parameters(), strict=True))


@pytest.mark.parametrize(("best", "iterations", "named"), [(0, 0, ["no_gain"]), (1, 2, []), (2, 3, [])])
def test_the_start_policy_and_the_last_iteration_are_looked_at_too(
    best: int, iterations: int, named: list[str], tmp_path: Path
) -> None:
    """Of three iterations, looked at every second one, the looks are: the start, after 2, after 3."""
    values, policy = [0.5 + 0.1 * (place == best) for place in range(3)], toy()
    looks, team = iter(values), players(policy, critic=True)
    team.held_out = lambda: next(looks)
    config = ppo.Config(**{**TOY, "iterations": 3, "check_every": 2, "patience": 3})
    log, alarms = ppo.train(config, team, PROMPTS, tmp_path)
    seen = [log[0]["held_out_start"], *(row["held_out"] for row in log if "held_out" in row)]
    assert seen == values and [a["name"] for a in alarms] == named
    kept = toy()
    if iterations:
        ppo.train(ppo.Config(**{**TOY, "iterations": iterations}), players(kept, True), PROMPTS, tmp_path / "part")
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), policy.parameters(), strict=True))


def test_the_reference_can_be_an_adapter_of_the_same_base() -> None:
    from primum.training.heads import add_adapter

    policy = adapted()
    add_adapter(policy, "start", 4, seed=3)
    with torch.no_grad():
        for name, p in policy.named_parameters():
            if "lora_B.default" in name:
                p.fill_(0.05)
    copy_adapter(policy, "default", "start")
    own = score_all(policy, rows(3)).logps
    with adapter_on(policy, "start"):
        assert torch.allclose(score_all(policy, rows(3)).logps, own, atol=1e-5)
    with adapter_on(policy, None):
        assert not torch.allclose(score_all(policy, rows(3)).logps, own, atol=1e-3)
    assert torch.allclose(score_all(policy, rows(3)).logps, own, atol=1e-5)


def test_signs_of_a_hacked_reward() -> None:
    def log(**last: float) -> list[dict[str, float]]:
        fine = {"tokens": 30.0, "entropy": 2.0, "refusals": 0.1, "repetition": 0.0, "reward": 0.5, "guard": 0.5}
        return [{"step": i, **fine} for i in range(3)] + [{"step": 3 + i, **fine, **last} for i in range(3)]

    assert hacking.flags(log()) == [] and hacking.flags(log()[:4]) == []
    named = {
        "length": {"tokens": 80.0}, "entropy": {"entropy": 0.1}, "refusals": {"refusals": 0.6},
        "repetition": {"repetition": 0.5}, "over_optimised": {"reward": 0.9, "guard": 0.3},
        "unmoved_guard": {"reward": 0.9, "guard": 0.53},
    }  # fmt: skip
    for name, last in named.items():
        assert [row["name"] for row in hacking.flags(log(**last))] == [name]
    assert hacking.flags(log(reward=0.9, guard=0.55)) == []  # follows by more than a tenth of the reward's rise
    assert hacking.flags(log(reward=0.58)) == []  # too little to tell
    full = [{**row, "guard": 0.97} for row in log(reward=0.9)]
    assert hacking.flags(full) == []  # a guard that has nowhere to rise
    both = [{**row, "guard": row["reward"], "second": 0.6 if row["step"] < 3 else 0.35} for row in log(reward=0.9)]
    (found,) = hacking.flags(both)
    assert found == {"step": 5, "name": "over_optimised",
                     "text": "the reward rose by 0.40 while the second reward model's fell by 0.25"}  # fmt: skip
    assert hacking.over_optimised(both) == found["text"] and hacking.over_optimised(both[:4]) == ""
    assert hacking.over_optimised(log(reward=0.9)) == "", "nobody watches"


def test_what_another_model_gives_the_best_of_k() -> None:
    # of the order .3, .6, 0 (by the first's scores): one alone .3; the best of two is the third in 2 of 3 pairs, else
    # the second: .6 / 3; the best of three is the third
    assert rejection.followed([[0.5, 0.1, 0.9]], [[0.6, 0.3, 0.0]]) == pytest.approx([0.3, 0.2, 0.0])
    # of equals the first is the best; what has no score counts for nothing
    assert rejection.followed([[0.5, 0.5, math.nan]], [[1.0, 0.0, 9.0]]) == pytest.approx([0.5, 1.0])
    scores = [[0.2, 0.7, 0.4], [0.9, 0.1, 0.3]]
    assert rejection.followed(scores, scores) == pytest.approx([row["best"] for row in rejection.curve(scores)])
    assert rejection.followed([], []) == []


def test_ppo_stops_where_the_second_model_says_that_the_first_is_hacked(tmp_path: Path) -> None:
    fine = {"kl": 0.1, "reward": 0.5, "second": 0.6}
    log = [{"step": i, **fine} for i in range(3)] + [
        {"step": 3 + i, **fine, "reward": 0.9, "second": 0.3} for i in range(3)
    ]
    for stop in (True, False):
        trainer = ppo.Trainer(ppo.Config(stop_over_optimised=stop), cast(Any, None), [], tmp_path, log=log)
        assert ("second reward model's fell by 0.30" in trainer._stopped()) is stop
        assert ("stopped" in [row["name"] for row in trainer.alarms]) and trainer.alarms[0]["name"] == "over_optimised"


# ------------------------------------------------------------------------------------------------ distillation, turns
def lessons(count: int) -> list[distill.Lesson]:
    return [distill.Lesson(row, Example((9, 9, *row.prompt), row.answer)) for row in rows(count)]


def test_the_soft_loss_is_kl_over_the_kept_tokens_and_one_rest() -> None:
    teacher, student = torch.tensor([[0.6, 0.3, 0.1]]).log(), torch.tensor([[0.2, 0.5, 0.3]]).log()
    shares, tokens = teacher.topk(2, -1)
    found = distill.soft_loss(student, tokens, shares).item()
    expected = 0.6 * math.log(0.6 / 0.2) + 0.3 * math.log(0.3 / 0.5) + 0.1 * math.log(0.1 / 0.3)
    assert found == pytest.approx(expected, abs=1e-6)
    assert distill.soft_loss(teacher, tokens, shares).item() == pytest.approx(0.0, abs=1e-6)


def test_distillation_brings_the_student_to_its_teacher(tmp_path: Path) -> None:
    policy = adapted()
    with torch.no_grad():
        for name, p in policy.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.2)
    taught = distill.teach(policy, lessons(8), top=WORDS)
    config = distill.Config(form="soft", learning_rate=1e-2, epochs=40)
    log, _ = distill.train(config, policy, taught, tmp_path)
    assert log[-1]["divergence"] < 0.3 * log[0]["divergence"]
    with pytest.raises(ValueError, match="teach"):
        distill.train(config, policy, [distill.Taught(one) for one in lessons(2)], tmp_path / "none")
    with pytest.raises(ValueError, match="different answers"):
        distill.Lesson(Example((1,), (2,)), Example((1,), (3,)))


def test_ghost_attention_keeps_the_instruction_in_the_first_turn_only() -> None:
    asked, said = ["Who?", "Where?", "When?"], ["Me.", "Here."]
    everywhere = gatt.everywhere("Act as Ada.", asked, said)
    assert [m.content for m in everywhere if m.role == "user"] == [f"Act as Ada.\n\n{q}" for q in asked]
    learned = gatt.first_only("Act as Ada.", asked, said)
    assert learned == (
        user("Act as Ada.\n\nWho?"), assistant("Me."), user("Where?"), assistant("Here."), user("When?"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="questions"):
        gatt.first_only("Act as Ada.", asked, [])


def test_half_of_the_instructions_are_short() -> None:
    figures = [gatt.Constraint("figure", f"Always act as {name}.", f"Figure: {name}.") for name in ("Ada", "Ida")]
    given = [*figures, gatt.Constraint("language", "Answer in French.", "French.")]
    found = gatt.instructions(given, 400, seed=0)
    short = sum("Figure" in one.text or one.text.startswith("French") for one in found)
    assert 150 < short < 250 and found == gatt.instructions(given, 400, seed=0)
    assert {one.parts for one in found} == {(0,), (1,), (2,), (0, 2), (1, 2)}, "never two figures at once"
    assert all(one.text in ("Always act as Ada. Answer in French.", "Figure: Ada. French.")
               for one in found if one.parts == (0, 2))  # fmt: skip


def test_a_reward_model_can_be_saved_and_read(tmp_path: Path) -> None:
    from primum.training.adapter import save_weights

    model = add_reward(adapted(), ("safety", "helpfulness"), seed=0)
    reward.train(reward.Config(learning_rate=2e-2, batch_size=16), model, preferences(64), tmp_path)
    model.put_on()
    save_weights(model, tmp_path / "reward.safetensors")
    expected = model.score_examples(rows(5))
    other: RewardModel = add_reward(adapted(), ("safety", "helpfulness"), seed=5)
    other.take(tmp_path / "reward.safetensors")
    assert torch.allclose(torch.tensor(other.score_examples(rows(5))), torch.tensor(expected), atol=1e-6)
