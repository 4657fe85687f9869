"""Which weights a model has is known exactly, whatever machine asks."""

from __future__ import annotations

import torch

from primum.models.load import weights_hash


def test_the_hash_of_weights_knows_their_bits_and_not_the_number_of_threads() -> None:
    layer = torch.nn.Linear(300, 700, bias=False).to(torch.bfloat16)
    threads = torch.get_num_threads()
    found = set()
    for n in (1, 2):
        torch.set_num_threads(n)
        found.add(weights_hash(layer))
    torch.set_num_threads(threads)
    assert len(found) == 1
    with torch.no_grad():
        layer.weight[0, :2] = layer.weight[0, :2].flip(0).clone()  # two numbers trade places
    assert weights_hash(layer) not in found
