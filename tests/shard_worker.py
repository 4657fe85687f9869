"""One of several processes that hold a model in parts: started by test_training_sharding.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from primum.models.load import Model
from primum.training.adapter import add_lora, trainable
from primum.training.examples import Example
from primum.training.loop import LoopConfig, Run
from primum.training.methods import sft
from primum.training.sharding import Held, gathered, shard, sharded
from primum.training.team import team


def network() -> Any:
    """A random Llama in float64: what differs between runs is the order of addition alone. 3 rows halve unevenly."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=18, intermediate_size=27, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    base = LlamaForCausalLM(config)
    base.get_input_embeddings().weight.data.mul_(20)
    if os.environ["LEARNS"] == "full":
        return base.double()
    return add_lora(Model(base, None, "", "", ""), 3, 6, seed=0).double()


def rows() -> list[Example]:
    """Rows of different lengths that begin alike."""
    return [Example((1, 2, 3 + i % 3), tuple((i * j) % 40 for j in range(1 + i % 6))) for i in range(13)]


def main(folder: Path, stop_after: int) -> None:
    """Learn in parts, or in one process whole; save the weights that learned."""
    own, model, seen = team(cpu=True), network(), 0
    before: dict[str, Tensor] = {name: p.detach().clone() for name, p in trainable(model).items()}
    if own.size > 1:
        shard(model, own)
        held = Held(model, own)
        mine = sum(p.numel() for name, p in held.tensors.items() if name in held.parts)
        assert sharded(model) and 0 < mine < 0.6 * sum(p.numel() for p in held.parts.values())

    def advance(_: int) -> None:
        nonlocal seen
        seen += 1
        if stop_after and seen >= stop_after:
            os._exit(9)  # nothing is cleaned up

    config = LoopConfig(1e-2, batch_size=6, epochs=3, token_budget=16, max_grad_norm=0.5, save_every_seconds=0,
                        average=0.5 if os.environ.get("AVERAGE") else 0)  # fmt: skip
    log = Run(model, rows(), sft.likelihood, sft.answer_tokens, config, folder, team=own, advance=advance).train()
    weights = gathered(model, own)
    if own.leads:
        assert any(not torch.equal(before[name], weights[name]) for name in before)
        torch.save(weights, folder / "weights.pt")
        torch.save([row["grad_norm"] for row in log], folder / "norms.pt")
    own.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
