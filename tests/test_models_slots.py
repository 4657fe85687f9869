"""Decoding in refilled slots: the tokens of `generate`, whatever the batch, on several architectures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Gemma2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.models.auto import AutoModelForCausalLM

from primum.core.records import user
from primum.models.chat import render
from primum.models.draw import HEAD, draw, uniforms
from primum.models.embedded import embedded_folder
from primum.models.engines.hf import HFEngine, Task, Waiting, decoded
from primum.models.head import PIECE, logits_of, output_matrix
from primum.models.load import Model, quiet
from primum.models.sampling import Request, Sampling, reply_seed
from primum.models.slots import Slots, fits, together

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 49152, "max_position_embeddings": 256, "head_dim": 8,
}  # fmt: skip
PLAIN = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
OTHER = {"sliding window": MistralConfig, "soft cap and windows": Gemma2Config}


def tiny(kind: Any, **more: Any) -> Model:
    torch.manual_seed(0)
    with quiet():
        network = AutoModelForCausalLM.from_config(kind(**SIZES, **more), dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    for parameter in network.parameters():  # random networks repeat one token; larger weights make them wander
        parameter.data *= 3
    network.generation_config.eos_token_id = 2
    return Model(network, tokenizer, "tiny", "tiny", "0")


def prompts() -> list[tuple[int, ...]]:
    """Seven prompts of several lengths: one twice, four that begin alike."""
    random = np.random.default_rng(0)
    fresh = [tuple(map(int, random.integers(100, 40000, n))) for n in (3, 9, 14, 1)]
    return [*fresh, fresh[1], fresh[1][:6] + fresh[0], fresh[1][:8]]


def decode_tasks(model: Model, tasks: list[Task], sampling: Sampling, batch_size: int) -> dict[int, list[int]]:
    return {row.task.index: row.new for row in decoded(model, Waiting(tasks, len(tasks)), sampling, batch_size)}


def by_generate(model: Model, row: tuple[int, ...], count: int) -> list[int]:
    ids = torch.tensor([row])
    out = model.network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=2
    )
    return out[0, len(row) :].tolist()


@pytest.mark.parametrize("kind", [*PLAIN.values(), *OTHER.values()], ids=[*PLAIN, *OTHER])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_greedy_tokens_are_those_of_generate(kind: Any, batch_size: int) -> None:
    model = tiny(kind, **({"sliding_window": 6} if kind in OTHER.values() else {}))
    assert fits(model.network) == (kind in PLAIN.values())
    tasks = [Task(i, row, uniforms(i, 12)) for i, row in enumerate(prompts())]
    found = decode_tasks(model, tasks, Sampling(0.0, 12), batch_size)
    assert [found[i] for i in range(len(tasks))] == [by_generate(model, row, 12) for row in prompts()]


def test_replies_that_end_at_different_times_refill_their_slots() -> None:
    model = tiny(LlamaConfig)
    alone = [by_generate(model, row, 12) for row in prompts()]
    model.network.generation_config.eos_token_id = [2, *(tokens[3 + i] for i, tokens in enumerate(alone[:4]))]
    tasks = [Task(i, row, uniforms(i, 12)) for i, row in enumerate(prompts())]
    found = decode_tasks(model, tasks, Sampling(0.0, 12), 3)
    assert [found[i] for i in range(7)] == [by_generate(model, row, 12) for row in prompts()]
    assert len({len(tokens) for tokens in found.values()}) > 2


@pytest.mark.parametrize("kind", [LlamaConfig, MistralConfig])
def test_a_sample_depends_on_its_seed_and_not_on_its_batch(kind: Any) -> None:
    asked = [(user(text),) for text in ("Hi", "Tell me more about the sea.", "Hi", "Name a bird", "Hi")]
    model = tiny(kind)
    whole = HFEngine(model, batch_size=2)(asked, Sampling(1.0, 8), seed=5)
    other = HFEngine(model, batch_size=8)(asked[::-1], Sampling(1.0, 8), seed=5)
    part = HFEngine(model)(asked[1:2], Sampling(1.0, 8), seed=[reply_seed(5, asked[1], 0)])
    # reversed, the k-th "Hi" is still the k-th: samples are counted by conversation
    assert [whole[i].text for i in range(5)] == [other[i].text for i in (0, 3, 2, 1, 4)]
    assert part[0].text == whole[1].text
    assert len({whole[i].text for i in (0, 2, 4)}) == 3


def test_the_tokens_of_a_prompt_that_do_not_fit_are_counted() -> None:
    model = tiny(LlamaConfig)  # its window is 256 tokens, of which 6 are for the reply
    long, short = (user(" ".join(["word"] * 400)),), (user("Hi"),)
    whole = len(model.tokenizer(render(long, model.tokenizer), add_special_tokens=False)["input_ids"])
    cut, kept = HFEngine(model)([long, short], Sampling(0.0, 6), 0)
    assert (cut.prompt_tokens, cut.prompt_cut) == (250, whole - 250) and whole > 400
    assert kept.prompt_cut == 0


def test_a_stream_draws_requests_as_it_has_room() -> None:
    model, drawn = tiny(LlamaConfig), list[int]()

    def requests() -> Any:
        for i in range(400):
            drawn.append(i)
            yield Request(i, (user(f"Say {i}"),), i)

    replies = HFEngine(model, batch_size=4).stream(requests(), Sampling(1.0, 2))
    first = next(replies)
    assert len(drawn) <= 64  # what the tokenizer takes at a time, of 400
    indices = [first[0], *(i for i, _ in replies)]
    assert sorted(indices) == list(range(400))


def test_several_samples_of_a_prompt_compute_it_once() -> None:
    model = tiny(LlamaConfig)
    seen: list[int] = []
    model.network.model.embed_tokens.register_forward_hook(lambda _, given, __: seen.append(given[0].numel()))
    row = tuple(range(100, 140))
    decode_tasks(model, [Task(i, row, uniforms(i, 4)) for i in range(8)], Sampling(1.0, 4), 4)
    # 39 prompt tokens once; the last prompt token and 3 of 4 new ones go through with each of the 8 samples
    assert sum(seen) == 39 + 8 * 4


def test_prompts_that_begin_alike_compute_their_beginning_once() -> None:
    model = tiny(LlamaConfig)
    seen: list[int] = []
    model.network.model.embed_tokens.register_forward_hook(lambda _, given, __: seen.append(given[0].numel()))
    head = tuple(range(100, 140))
    Slots(model.network, 4).add([(*head, 1, 2), (*head, 3, 4), (*head, 5, 6)])
    assert seen == [40, 6]


def test_the_network_is_left_as_it_was() -> None:
    model = tiny(LlamaConfig)
    before = model.network.config._attn_implementation
    decode_tasks(model, [Task(0, (5, 6, 7), uniforms(0, 2))], Sampling(0.0, 2), 1)
    assert model.network.config._attn_implementation == before == "sdpa"


def nucleus(p: np.ndarray, top_p: float) -> set[int]:
    """By its definition (arXiv:1904.09751): the smallest set of likeliest tokens whose mass reaches top_p."""
    kept: set[int] = set()
    for token in np.argsort(-p):
        if sum(p[list(kept)]) >= top_p:
            break
        kept.add(int(token))
    return kept


@pytest.mark.parametrize("size", [40, 3 * HEAD])  # the second has a nucleus wider than what is looked at first
def test_a_nucleus_is_drawn_from_and_nothing_else(size: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 0.3, size))
    wanted = nucleus(logits.softmax(-1).numpy(), 0.8)
    points = torch.linspace(0, 1, 20_001)[:-1]
    assert set(draw(logits.repeat(20_000, 1), Sampling(1.0, 1, top_p=0.8), points).tolist()) == wanted


def test_uniform_numbers_repeat_and_cover_the_unit_interval() -> None:
    first, again, other = uniforms(7, 4000), uniforms(7, 4000), uniforms(8, 4000)
    assert (first == again).all() and not (first == other).any()
    assert first.min() >= 0 and first.max() < 1 and abs(float(first.mean()) - 0.5) < 5 * (1 / 12 / 4000) ** 0.5


def test_as_many_rows_go_together_as_their_keys_and_values_fit() -> None:
    """2 layers x 2 heads x 8 numbers x 4 bytes, keys and values: 256 bytes a token, so 2 GiB hold 8,388,608 tokens."""
    network = tiny(LlamaConfig).network
    assert [together(network, width) for width in (100, 30_000, 1_000_000)] == [384, 279, 96]
    assert together(tiny(MistralConfig).network, 100) == 96  # not decoded in slots


@pytest.mark.parametrize("size", [4 * PIECE, 4 * PIECE + 5, 100])
def test_products_with_the_output_matrix_in_pieces_are_those_of_the_whole(size: int) -> None:
    random = torch.Generator().manual_seed(0)
    states, matrix = torch.randn(7, 16, generator=random), torch.randn(size, 16, generator=random)
    assert torch.allclose(logits_of(states, matrix), states @ matrix.T, atol=1e-5)
    learned = matrix.clone().requires_grad_()
    logits_of(states, learned).sum().backward()
    assert learned.grad is not None and torch.allclose(learned.grad, states.sum(0).expand_as(matrix), atol=1e-5)


def test_the_output_matrix_is_not_taken_where_logits_are_more_than_it() -> None:
    plain = tiny(LlamaConfig).network
    assert output_matrix(plain) is plain.get_output_embeddings().weight
    assert output_matrix(tiny(Gemma2Config).network) is None  # capped
