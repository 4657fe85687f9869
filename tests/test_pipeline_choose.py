"""What the model is asked, and which pairs stay: counts worked out by hand."""

from __future__ import annotations

from primum.core.records import Pair, Prompt, user
from primum.pipeline.choose import asked, balanced, readable
from primum.pipeline.settings import Budget
from primum.prompts.rows import twins


def pair(prompt: Prompt, kind: str) -> Pair:
    return Pair(prompt.messages, "chosen", "rejected", prompt.id, kind, prompt.category, "a", "b", "why")


def prompts(n: int) -> list[tuple[Prompt, Prompt]]:
    return [
        twins(
            Prompt((user(f"harmful {i}"),), "harmful", "fraud", split="train"),
            Prompt((user(f"benign {i}"),), "benign", "fraud", split="train"),
        )
        for i in range(n)
    ]


def test_the_model_is_asked_every_benign_prompt_and_some_harmful_ones() -> None:
    both = prompts(5)
    train = [*(h for h, _ in both), *(b for _, b in both)]
    found = asked(train, Budget(None, None, 2, None, None, 1, 40, 64, 1.0))
    assert [p.text for p in found] == ["harmful 0", "harmful 1", *(f"benign {i}" for i in range(5))]
    assert asked(train, Budget(None, None, None, None, None, 1, 40, 64, 1.0)) == train


def test_a_reading_takes_its_share_of_what_is_to_be_learned_from_and_the_budgets_part_of_development() -> None:
    everything = [p for two in prompts(6) for p in two]
    for i in range(5):
        kinds = (("harmful", "fraud"), ("benign", "fraud"), ("benign", "general"))
        bad, good, other = (Prompt((user(f"dev {k} {c} {i}"),), k, c, split="dev") for k, c in kinds)
        everything += [*twins(bad, good), other]
    budget = Budget(1, 1, None, None, None, 1, 40, 64, 1.0, 2)

    def count(share: float) -> list[tuple[str, str, int]]:
        found = readable(everything, budget, share)
        pairs = {(p.id, p.twin) for p in found if p.twin}
        assert all((twin, id_) in pairs for id_, twin in pairs)  # no prompt without its twin
        kinds = [(p.split, p.intent) for p in found]
        return [(*kind, kinds.count(kind)) for kind in sorted(set(kinds))]

    # two harmful prompts of development with their twins, and all five others; of training what the share says
    dev = [("dev", "benign", 7), ("dev", "harmful", 2)]
    assert count(1.0) == [*dev, ("train", "benign", 6), ("train", "harmful", 6)]
    assert count(0.5) == [*dev, ("train", "benign", 3), ("train", "harmful", 3)]


def test_benign_pairs_are_held_to_their_share_twins_of_harmful_pairs_first() -> None:
    both = prompts(6)
    general = [Prompt((user(f"general {i}"),), "benign", "general", split="train") for i in range(4)]
    everything = [p for two in both for p in two] + general
    harmful = [pair(h, "harmful") for h, _ in both[:4]]
    benign = [pair(b, "twin") for _, b in reversed(both)]  # those of prompts 5 and 4 first: they have no harmful pair
    plain = [pair(g, "general") for g in general]
    found = balanced([*benign, *plain, *harmful], everything, 1.0)
    # room for 4 benign pairs: at most 2 general ones, then twins of the harmful pairs, 3 and 2 standing first
    kept = [p.prompt[0].content for p in found]
    assert kept == ["benign 3", "benign 2", "general 0", "general 1", *(f"harmful {i}" for i in range(4))]


def test_pairs_without_harmful_ones_all_stay() -> None:
    both = prompts(3)
    benign = [pair(b, "twin") for _, b in both]
    assert balanced(benign, [p for two in both for p in two], 0.5) == benign
