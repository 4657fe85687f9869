"""PPO on a model with random weights: tokens a second, share of time by phase, and peak memory against plain SFT.

    python benchmarks/ppo.py                                    # the embedded model's shape, 64 samples x 64 tokens
    python benchmarks/ppo.py --size 1b --samples 512 --tokens 256   # where there is a GPU
    python benchmarks/ppo.py --size tiny --samples 8 --tokens 8     # does the script work?

Each of the two trainings runs in a process of its own, so that one's peak is not the other's. Replies never end early,
so that numbers can be compared. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIZES = {  # hidden, feed-forward, layers, heads, key heads
    "tiny": (32, 64, 2, 2, 1),
    "135m": (576, 1536, 30, 9, 3),
    "1b": (2048, 5632, 22, 32, 4),
}
WORDS, PROMPT = 32_000, 64


def network(size: str) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from primum.models.device import device
    from primum.models.load import Model
    from primum.training.adapter import add_lora

    hidden, inner, layers, heads, keys = SIZES[size]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=keys, max_position_embeddings=2048, tie_word_embeddings=True,
        dtype=device().dtype,
    )  # fmt: skip
    base: Any = LlamaForCausalLM(config)
    base.to(device().name, device().dtype).eval()
    return add_lora(Model(base, None, size, size, "0"), 16, 32, 0)


def prompts(count: int) -> list[tuple[int, ...]]:
    import random

    rng = random.Random(0)
    return [tuple(rng.randrange(1, WORDS) for _ in range(PROMPT)) for _ in range(count)]


def drawer(policy: Any, tokens: int) -> Any:
    """Draw with the engine's own slots, without a token that ends a reply."""
    import torch

    from primum.models.draw import draw
    from primum.models.sampling import Sampling
    from primum.models.slots import Slots

    base = policy.get_base_model()

    @torch.inference_mode()
    def drawn(rows: Sequence[tuple[int, ...]], seed: int) -> list[tuple[int, ...]]:
        random = torch.Generator().manual_seed(seed)
        slots = Slots(base, len(rows))
        slots.add([row[:-1] for row in rows])
        last, found = [row[-1] for row in rows], [list[int]() for _ in rows]
        for _ in range(tokens):
            points = torch.rand(len(rows), generator=random)
            logits = slots.step(last)
            last = draw(logits, Sampling(1.0, tokens), points.to(logits.device)).tolist()
            for row, token in zip(found, last, strict=True):
                row.append(token)
        return [tuple(row) for row in found]

    return drawn


def ppo(size: str, samples: int, tokens: int, folder: Path) -> dict[str, Any]:
    from primum.training.heads import Heads, adapter_on, add_adapter, add_reward, copy_adapter
    from primum.training.methods import ppo as method
    from primum.training.rewards import Combine, final
    from primum.training.score import token_scores

    policy = network(size)
    model = add_reward(policy, ("safety", "helpfulness"), seed=0)
    add_adapter(policy, "start", 16, 0)
    copy_adapter(policy, "default", "start")
    place = next(policy.parameters()).device
    asked = prompts(samples // 2)

    def reward(index: Sequence[int], answers: Sequence[tuple[int, ...]]) -> Any:
        import torch

        from primum.training.examples import Example

        model.take(None)
        scores = torch.tensor(model.score_examples([Example(asked[i], a) for i, a in zip(index, answers, strict=True)]))
        model.give_back()
        combined = Combine()(scores[:, 0], scores[:, 1], torch.zeros(len(scores), dtype=torch.bool))
        return method.Rewarded(final(combined).tolist(), {"reward": float(combined.mean())})

    def reference(rows: Any) -> Any:
        with adapter_on(policy, "start"):
            return token_scores(policy, rows).logps

    critic = Heads(SIZES[size][0], ("value",)).to(place)
    team = method.Players(policy, drawer(policy, tokens), reward, reference, critic)
    config = method.Config(iterations=2, batch=samples // 2, samples=2, mini_batch=max(4, samples // 8))
    log, _ = method.train(config, team, asked, folder)
    last = log[-1]["seconds"]  # the first iteration also finds out how rows are scored
    total = sum(last.values())
    return {
        "tokens_per_second": round(samples * tokens / total, 1), "seconds": round(total, 2),
        "share": {name: round(value / total, 3) for name, value in last.items()},
    }  # fmt: skip


def sft(size: str, samples: int, tokens: int, folder: Path) -> dict[str, Any]:
    import random

    from primum.training.examples import Example
    from primum.training.methods import rejection

    policy, rng = network(size), random.Random(1)
    rows = [Example(p, tuple(rng.randrange(1, WORDS) for _ in range(tokens))) for p in prompts(samples)]
    start = time.monotonic()
    rejection.train(rejection.Config(batch_size=max(4, samples // 8)), policy, rows, folder)
    return {"seconds": round(time.monotonic() - start, 2)}


def peak() -> int:
    """Return the peak of this process in bytes: of the GPU where there is one, else of the memory."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="135m")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--one", choices=("ppo", "sft"), help="run this one here and print its part")
    given = parser.parse_args()
    if given.one:
        with tempfile.TemporaryDirectory() as folder:
            found = {"ppo": ppo, "sft": sft}[given.one](given.size, given.samples, given.tokens, Path(folder))
        print(json.dumps({**found, "peak_bytes": peak()}))
        return
    arguments = [sys.executable, __file__, *sys.argv[1:]]
    parts = {
        one: json.loads(subprocess.run([*arguments, "--one", one], check=True, capture_output=True, text=True).stdout)
        for one in ("sft", "ppo")
    }
    from primum.models.device import device

    ratio = parts["ppo"]["peak_bytes"] / parts["sft"]["peak_bytes"]
    shape = {"size": given.size, "samples": given.samples, "tokens": given.tokens, "device": device().describe()}
    print(json.dumps({**shape, **parts, "memory_ratio": round(ratio, 3)}, indent=2))


if __name__ == "__main__":
    main()
