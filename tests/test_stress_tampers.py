"""Every tamper against numbers worked out by hand, and against other implementations where there are some."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from primum.core.catalogue import member, names
from primum.core.records import Message, user
from primum.models.load import Model
from primum.models.sampling import Sampling
from primum.stress.catalogue import cells
from primum.stress.finetune import curve, run_of, runs
from primum.stress.hidden import _direction, input_norms, refusal_direction
from primum.stress.layers import linear_layers, writers
from primum.stress.setting import (
    Aids,
    Lesson,
    Setup,
    Shape,
    SkippedError,
    Tamper,
    both,
    opened,
    with_system,
    without_system,
)
from primum.stress.tampers import abliterate, decode, languages, prefill, prune, quantize, strip, system_prompt
from primum.training.examples import Example

SHAPE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
ALL = Shape(shots=(3, 5), ways=("lora", "full"), rates={"lora": (1e-2,), "full": (1e-3,)}, steps=(0, 1, 12), batch=2)


def network(config: Any = LlamaConfig, **more: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(**{**SHAPE, **more})).eval()


class Words:
    """A tokenizer of letters, enough for what tampers ask of one."""

    chat_template = "{% for m in messages %}{{ m['role'][0] }}{{ m['content'] }}{% endfor %}a"
    pad_token_id, eos_token_id, all_special_tokens = 0, 1, ()
    added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012

    def __len__(self) -> int:
        return 64

    def __call__(self, text: Any, **_: Any) -> dict[str, Any]:
        if isinstance(text, str):
            return {"input_ids": [2 + ord(c) % 60 for c in text]}
        return {"input_ids": [[2 + ord(c) % 60 for c in one] for one in text]}

    def apply_chat_template(self, turns: Any, **_: Any) -> str:
        return "".join(turn["role"][0] + turn["content"] for turn in turns) + "a"

    def decode(self, ids: Any, **_: Any) -> str:
        return "".join(chr(97 + i % 26) for i in ids)


def setup(net: Any) -> Setup:
    return Setup(Model(net, Words(), "tiny", "tiny", "0"), Sampling(0.0, 4))


def aids(**more: Any) -> Aids:
    from primum.prompts.embedded import embedded

    prompts = embedded()
    harmful = [p for p in prompts if p.intent == "harmful"][:4]
    benign = [p for p in prompts if p.intent == "benign"][:4]
    rows = [Example((2, 3), (10, 11)), Example((4, 5), (12, 13)), Example((6,), (14,))]
    return Aids(harmful, benign, lambda kind, many, model, wrap: Lesson(rows[:many]), ALL, **more)


@pytest.mark.parametrize("name", names("tampers"))
def test_every_tamper_says_what_it_is_and_has_levels(name: str) -> None:
    one = cast(Tamper, member("tampers", name))
    levels = one.levels(ALL)
    assert one.about and one.source.startswith("https://arxiv.org/") and one.kind in ("asking", "weights", "training")
    assert levels and len(set(levels)) == len(levels)
    ids = [cell.id for cell in cells([name], ALL)]
    assert len(set(ids)) == len(ids) and not any("/" in i or " " in i for i in ids)


def test_cheap_cells_come_first() -> None:
    order = [cell.kind for cell in cells((), ALL)]
    assert order == sorted(order, key=["asking", "weights", "training"].index)


def test_int8_rounds_to_the_rows_own_scale() -> None:
    weight = torch.tensor([[127.0, 1.4, -0.6], [0.5, -12.7, 0.0]])
    # row 1: steps of 1; row 2: steps of 0.1
    assert torch.allclose(quantize.int8(weight), torch.tensor([[127.0, 1.0, -1.0], [0.5, -12.7, 0.0]]))


def test_int4_has_sixteen_levels_a_group() -> None:
    # group 1: from 0 to 15, steps of 1; group 2: from -3 to 0, steps of 0.2
    weight = torch.tensor([[0.0, 15.0, 7.4, 7.6, -3.0, -0.1, 0.0, -1.29]])
    expected = torch.tensor([[0.0, 15.0, 7.0, 8.0, -3.0, -0.0, 0.0, -1.2]])
    found = quantize.int4(weight, group=4)
    # -0.1 lies between two levels; rounding half to even may go either way
    assert torch.allclose(found[:, [0, 1, 2, 3, 4, 6, 7]], expected[:, [0, 1, 2, 3, 4, 6, 7]], atol=1e-6)
    assert float(found[0, 5]) in (pytest.approx(0.0, abs=1e-6), pytest.approx(-0.2, abs=1e-6))


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([5, 128, 200]))
@settings(deadline=None, max_examples=40)
def test_rounding_errs_by_at_most_half_a_step(seed: int, rows: int, columns: int) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    step8 = weight.abs().amax(1, keepdim=True) / 127
    assert bool(((quantize.int8(weight) - weight).abs() <= step8 / 2 + 1e-6).all())
    widest = (weight.amax().clamp(min=0) - weight.amin().clamp(max=0)) / 15
    assert bool(((quantize.int4(weight) - weight).abs() <= widest + 1e-6).all())
    assert all(len(set(row.tolist())) <= 16 for group in quantize.int4(weight).split(128, 1) for row in group)


def test_magnitude_takes_the_smallest_of_the_whole_matrix() -> None:
    weight = torch.tensor([[1.0, -0.1, 5.0], [0.2, 3.0, -4.0]])
    assert prune.magnitude(weight, 0.34).tolist() == [[1.0, 0.0, 5.0], [0.0, 3.0, -4.0]]


def test_wanda_weighs_by_the_norm_of_inputs_row_by_row() -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0, 0.5], [4.0, 0.1, 1.0, 1.0]])
    norms = torch.tensor([10.0, 1.0, 1.0, 8.0])
    # scores: 10, 2, 3, 4 and 40, 0.1, 1, 8: half of each row goes
    assert prune.wanda(weight, norms, 0.5).tolist() == [[1.0, 0.0, 0.0, 0.5], [4.0, 0.0, 0.0, 1.0]]


def test_input_norms_are_those_of_the_layers_inputs() -> None:
    net = network()
    layer = linear_layers(net)[0]
    prompts = list(aids().benign[:2])
    found = input_norms(setup(net), [layer], prompts)[layer.name]
    seen: list[torch.Tensor] = []
    hook = layer.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    for prompt in prompts:
        text = "u" + prompt.text + "a"
        net(input_ids=torch.tensor([[2 + ord(c) % 60 for c in text]]))
    hook.remove()
    assert torch.allclose(found, torch.cat(seen).norm(dim=0), atol=1e-3)


def test_the_direction_is_the_difference_in_means_and_the_separation_is_known() -> None:
    harmful = torch.tensor([[3.0, 1.0], [5.0, 1.0]])
    benign = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    found = _direction(harmful, benign, 7)  # means (4, 1) and (0, 1); variances along e1: 1 and 0
    assert found.vector.tolist() == [1.0, 0.0] and found.block == 7
    assert found.separation == pytest.approx(4 / 0.5**0.5)


def test_abliteration_leaves_nothing_along_the_direction() -> None:
    net = network(Qwen2Config, tie_word_embeddings=False)
    one = setup(net)
    vector = refusal_direction(one, aids().harmful, aids().benign).vector
    embedding = net.get_input_embeddings().weight.detach().clone()
    points = list(abliterate.tamper(one, "1 direction", aids()))
    assert len(points) == 1 and {name.name.rpartition(".")[2] for name in writers(net)} == {"o_proj", "down_proj"}
    for layer in writers(net):
        assert float((vector @ layer.module.weight.detach()).abs().max()) < 1e-5
    assert float((net.get_input_embeddings().weight.detach() @ vector).abs().max()) < 1e-5
    assert not torch.equal(embedding, net.get_input_embeddings().weight)


def test_abliteration_leaves_a_tied_embedding() -> None:
    net = network(tie_word_embeddings=True)
    before = net.get_input_embeddings().weight.detach().clone()
    list(abliterate.tamper(setup(net), "1 direction", aids()))
    assert torch.equal(before, net.get_input_embeddings().weight)


def test_projection_by_hand() -> None:
    # r = e1: the first row goes
    assert abliterate.without(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 0.0])).tolist() == [
        [0.0, 0.0],
        [3.0, 4.0],
    ]


def test_stripping_a_rank_one_patch_gives_the_base_back(tmp_path: Any) -> None:
    from primum.repair.checkpoint import Checkpoint

    net = network()
    net.save_pretrained(tmp_path)
    base = {name: p.detach().clone() for name, p in net.named_parameters()}
    for layer in linear_layers(net):
        out, width = layer.module.weight.shape
        layer.module.weight.data += torch.outer(torch.linspace(-1, 1, out), torch.linspace(0, 1, width))
    list(strip.tamper(setup(net), "rank 1", aids(base=Checkpoint(tmp_path))))
    assert all(torch.allclose(p, base[name], atol=1e-5) for name, p in net.named_parameters())
    with pytest.raises(SkippedError, match="--base"):
        list(strip.tamper(setup(net), "rank 1", aids()))


@pytest.mark.parametrize("level", ["int8", "int4", "magnitude 50%", "wanda 50%"])
def test_weights_change_in_the_blocks_only(level: str) -> None:
    net = network()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    module = prune if "%" in level else quantize
    assert len(list(module.tamper(setup(net), level, aids()))) == 1
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {f"{layer.name}.weight" for layer in linear_layers(net)}


def test_ways_of_asking() -> None:
    asked = (user("x"),)
    told = with_system("be safe")(asked)
    assert [m.role for m in told] == ["system", "user"] and without_system(told) == asked
    assert with_system("")(asked) == asked and opened("")(asked) == asked
    assert both(with_system("s"), opened("Sure"))(asked)[-1] == Message("assistant", "Sure")
    one = Setup(setup(None).model, Sampling(0.4, 8), with_system("be safe"))
    removed, empty = (next(iter(system_prompt.tamper(one, level, aids()))).setup for level in ("removed", "empty"))
    assert removed.wrap(asked) == asked and empty.wrap(asked)[0].content == ""
    samplings = [point.setup.sampling for point in decode.tamper(one, "any of 6", aids())]
    assert len({s.name for s in samplings}) == 6 and all(s.max_new_tokens == 8 for s in samplings)
    openings = {n: next(iter(prefill.tamper(one, f"{n} tokens", aids()))).setup.wrap(asked)[-1] for n in prefill.DEPTHS}
    assert openings[0].role == "user" and [len(openings[n].content) for n in (5, 10, 20, 40)] == [5, 10, 20, 40]


def test_other_languages_ask_translations_of_held_out_requests_and_their_twins() -> None:
    from primum.core.taxonomy import policy

    asked = languages.prompts(10_000)
    # docs/languages.md: 21 pairs of each language are of held-out categories
    assert [p.intent for p in asked] == ["harmful", "benign"] * 21
    assert all(b.id == a.twin for a, b in zip(asked[::2], asked[1::2], strict=True))
    assert all(policy().categories[p.category].held_out for p in asked)
    assert languages.prompts(3) == asked[:6]
    codes = {level: {languages.posed(p, level).language for p in asked} for level in languages.levels(ALL)}
    assert codes["German"] == {"de"} and codes["Chinese"] == {"zh"} and len(codes) == 8
    for p in asked:
        told = languages.posed(p, "Turkish")
        assert told.translation_of == p.id and told.intent == p.intent and told.text != p.text


def test_levels_of_a_training_are_read_as_they_are_written() -> None:
    assert run_of(runs(ALL)[0]) == (3, "lora", 1e-2, 0) and len(runs(ALL)) == 4
    assert [run_of(level).shots for level in runs(ALL, (5,))] == [5, 5]


@pytest.mark.parametrize("way", ["lora 0.01", "full 0.001"])
def test_training_starts_at_the_untouched_model_and_learns(way: str) -> None:
    net = network().to(torch.bfloat16)
    rows = aids().examples("harmful", 3, setup(net).model, lambda m: m)
    ids = torch.tensor([[2, 3, 10]])
    with torch.no_grad():
        untouched = net(ids).logits.clone()
    outputs: list[torch.Tensor] = []
    losses: list[dict[str, float]] = []
    for point in curve(setup(net), rows, f"3 {way} s0", aids()):
        with torch.no_grad():
            outputs.append(point.setup.model.network(ids).logits.clone())
        losses.append(dict(point.facts))
    assert [row["step"] for row in losses] == [0, 1, 12]
    assert torch.equal(outputs[0], untouched)  # step 0 is the untouched model, bit for bit
    assert not torch.equal(outputs[1], untouched) and losses[-1]["last_loss"] < losses[-1]["first_loss"]
    # 12 batches of 2 of 3 rows (4, 4 and 2 tokens long): eight passes over all
    assert losses[-1]["tokens"] == 8 * (4 + 4 + 2)


def test_the_same_seed_trains_the_same_and_another_does_not() -> None:
    ends = []
    for seed in (0, 0, 1):
        net = network()
        rows = aids().examples("harmful", 3, setup(net).model, lambda m: m)
        last = list(curve(setup(net), rows, f"3 lora 0.01 s{seed}", aids()))[-1]
        ends.append(last.setup.model.network(torch.tensor([[2, 3]])).logits.detach())
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
