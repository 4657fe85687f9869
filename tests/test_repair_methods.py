"""Every weight-space method against numbers worked out by hand, on single matrices."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from primum.core.catalogue import member, names
from primum.repair.given import Given, Method, Part, Setting
from primum.repair.linear import cosine, ibm_projection, leading, low_rank, onto


def part(name: str = "model.layers.0.mlp.up_proj.weight", **models: Any) -> Part:
    tensors = {role: torch.tensor(value, dtype=torch.float32) for role, value in models.items()}
    readers = {role: (lambda t=t: t.clone()) for role, t in tensors.items()}
    return Part(name, tuple(tensors["tuned"].shape), readers)


def restored(method: str, one: Part, **setting: Any) -> Given | None:
    return cast(Method, member("repairs", method)).restored(one, Setting(**{"strength": 0.5, **setting}))


def numbers(found: Given | None) -> Any:
    assert found is not None
    return found.tensor.tolist()


@pytest.mark.parametrize("name", names("repairs"))
def test_every_method_says_what_it_is(name: str) -> None:
    method = cast(Method, member("repairs", name))
    assert method.about and method.source.startswith("https://arxiv.org/") and method.strength_is
    assert method.needs and method.sweep == tuple(sorted(method.sweep)) and min(method.sweep) > 0


def test_interpolation_goes_a_part_of_the_way() -> None:
    one = part(tuned=[[1.0, 2.0], [3.0, 4.0]], parent=[[5.0, 2.0], [1.0, 0.0]])
    assert numbers(restored("interpolate", one, strength=0.25)) == [[2.0, 2.0], [2.5, 3.0]]


def test_resta_adds_parent_minus_unaligned() -> None:
    one = part(tuned=[[1.0, 2.0]], parent=[[4.0, 4.0]], unaligned=[[2.0, 5.0]])
    assert numbers(restored("resta", one, strength=0.5)) == [[2.0, 1.5]]  # + 0.5 (2, -1)


def test_dare_drops_and_rescales_the_fine_tunes_change() -> None:
    many = 4000
    zeros = [0.0] * many
    one = part(tuned=[[1.0] * many], parent=[zeros], unaligned=[zeros])
    found = restored("resta", one, strength=1.0, drop=0.75)
    assert found is not None
    values = set(found.tensor.flatten().tolist())
    assert values == {0.0, 4.0}  # 1 / (1 - 0.75)
    kept = float((found.tensor > 0).float().mean())
    assert kept == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / many))
    again = restored("resta", one, strength=1.0, drop=0.75)
    assert again is not None and torch.equal(again.tensor, found.tensor)  # the seed decides


# the alignment moved only the first output: its span is e1, so of a change (rows: outputs) the first row stays
BASE = [[0.0, 0.0], [0.0, 0.0]]
PARENT = [[3.0, 4.0], [0.0, 0.0]]
TUNED = [[3.0, 7.0], [4.0, 0.0]]  # change: [[0, 3], [4, 0]], inside the span [[0, 3], [0, 0]], cosine 9 / (3 * 5) = 0.6


def test_safe_lora_projects_what_left_the_alignments_directions() -> None:
    one = part(tuned=TUNED, parent=PARENT, base=BASE)
    found = restored("safe_lora", one, strength=0.7)
    assert numbers(found) == [[3.0, pytest.approx(7.0)], [0.0, 0.0]]
    assert found is not None and found.facts["cosine"] == pytest.approx(0.6)


def test_safe_lora_leaves_what_stayed_near() -> None:
    one = part(tuned=TUNED, parent=PARENT, base=BASE)
    assert numbers(restored("safe_lora", one, strength=0.5)) == TUNED


def test_safe_lora_as_ibm_does_it() -> None:
    # V = [[3, 4], [0, 0]], V V^T = diag(25, 0), ||V|| = 5: C = diag(5, 0); C change = [[0, 15], [0, 0]]
    one = part(tuned=TUNED, parent=PARENT, base=BASE)
    assert numbers(restored("safe_lora", one, strength=0.7, ibm=True)) == [[3.0, 19.0], [0.0, 0.0]]


def reference_ibm(a: Tensor, b: Tensor, v: Tensor, threshold: float) -> Tensor:
    """IBM/SafeLoRA's arithmetic on one LoRA pair (B (out, r), A (r, in)), written out from its README and code."""
    c = torch.mm(v, v.t()) / torch.norm(v)
    w = torch.mm(c, b)
    near = torch.nn.functional.cosine_similarity(torch.mm(w, a).reshape(1, -1), torch.mm(b, a).reshape(1, -1))
    return torch.mm(w if round(near.item(), 5) <= threshold else b, a)


@pytest.mark.parametrize("threshold", [0.0, 0.35, 1.0])
def test_on_a_lora_change_the_compatible_mode_gives_ibms_numbers(threshold: float) -> None:
    torch.manual_seed(3)
    base, parent = torch.randn(6, 5), torch.randn(6, 5)
    a, b = torch.randn(2, 5), torch.randn(6, 2)
    one = part(tuned=(parent + b @ a).tolist(), parent=parent.tolist(), base=base.tolist())
    found = restored("safe_lora", one, strength=threshold, ibm=True)
    assert found is not None
    assert torch.allclose(found.tensor, parent + reference_ibm(a, b, parent - base, threshold), atol=1e-4)


def test_safemerge_merges_only_layers_that_left() -> None:
    one = part(tuned=TUNED, parent=PARENT, base=BASE)
    assert numbers(restored("safemerge", one, strength=0.25, threshold=0.5)) == TUNED  # 0.6 is not below 0.5
    merged = numbers(restored("safemerge", one, strength=0.25, threshold=0.7))
    assert merged == [[3.0, 6.25], [3.0, 0.0]]  # 0.75 tuned + 0.25 parent
    safe = part(tuned=TUNED, parent=PARENT, base=BASE, safe=[[3.0, 3.0], [0.0, 4.0]])
    assert numbers(restored("safemerge", safe, strength=0.25, threshold=0.7)) == [[3.0, 6.0], [3.0, 1.0]]


def test_lox_adds_the_strongest_directions() -> None:
    # parent - base = diag(4, 1): of rank 1 it is diag(4, 0)
    one = part(tuned=[[1.0, 1.0], [1.0, 1.0]], parent=[[4.0, 0.0], [0.0, 1.0]], base=BASE)
    assert numbers(restored("lox", one, strength=0.5, rank=1)) == [[3.0, 1.0], [1.0, 1.0]]


def test_gradient_copies_back_what_lowers_the_loss_most() -> None:
    # d = (parent - tuned) g = (1 x -4, 2 x -1, 1 x 9, -3 x 1) = (-4, -2, 9, -3): of three, those at 0, 3 and 1
    one = part(tuned=[[0.0, 0.0], [0.0, 3.0]], parent=[[1.0, 2.0], [1.0, 0.0]], gradient=[[-4.0, -1.0], [9.0, 1.0]])
    assert numbers(restored("gradient", one, strength=0.5)) == [[1.0, 0.0], [0.0, 0.0]]
    assert numbers(restored("gradient", one, strength=1.0)) == [[1.0, 2.0], [0.0, 0.0]]  # 9 would raise the loss
    assert numbers(restored("gradient", one, strength=0.1)) == [[0.0, 0.0], [0.0, 3.0]]  # less than one weight


def test_one_shot_keeps_a_part_of_the_patch() -> None:
    one = part(tuned=[[1.0, 0.0]], patched=[[3.0, 4.0]])
    assert numbers(restored("one_shot", one, strength=0.25)) == [[1.5, 1.0]]


@pytest.mark.parametrize("method", ["safe_lora", "safemerge", "lox"])
@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_subspace_methods_leave_embeddings(method: str, name: str) -> None:
    assert restored(method, part(name, tuned=TUNED, parent=PARENT, base=BASE)) is None


@pytest.mark.parametrize("method", ["safe_lora", "safemerge", "lox"])
def test_subspace_methods_leave_biases(method: str) -> None:
    bias = part("model.layers.0.self_attn.q_proj.bias", tuned=[1.0, 2.0], parent=[0.0, 0.0], base=[0.0, 1.0])
    assert restored(method, bias) is None


shapes = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10_000))


@given(shapes)
@settings(deadline=None, max_examples=60)
def test_leading_vectors_are_those_of_numpys_svd(shape: tuple[int, int, int]) -> None:
    rows, columns, seed = shape
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    u, s = leading(matrix)
    _, expected, _ = torch.linalg.svd(matrix.double())
    assert torch.allclose(s.double(), expected[: len(s)], atol=1e-4)
    assert torch.allclose(u.T @ u, torch.eye(len(s)), atol=1e-4)
    assert torch.allclose(onto(u, matrix), matrix, atol=1e-3)  # all of it lies in its own span
    again = onto(u, onto(u, matrix))
    assert torch.allclose(again, onto(u, matrix), atol=1e-3)  # a projection, which IBM's is not


def test_energy_takes_the_fewest_vectors_that_hold_it() -> None:
    matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0]))  # squares 9, 4, 1 of 14: 64%, 93%, 100%
    assert [len(leading(matrix, energy=e).s) for e in (0.6, 0.65, 0.92, 0.93, 1.0)] == [1, 2, 2, 3, 3]
    assert len(leading(torch.zeros(3, 2)).s) == 0 and low_rank(torch.zeros(3, 2), 2).abs().sum() == 0


def test_ibms_matrix_is_no_projection() -> None:
    v, m = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.eye(2)
    once = ibm_projection(v, m)
    assert not torch.allclose(ibm_projection(v, once), once)
    assert ibm_projection(torch.zeros(2, 2), m).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert cosine(torch.zeros(2), torch.ones(2)) == 0.0
