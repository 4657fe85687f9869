"""How many verdicts of the embedded judge text for a judge turns, by a writer from whom it learned nothing.

    python benchmarks/injected.py [--replies 60] [--seed 0]

corpus/addressed.jsonl has two writers. What is meant for a judge is learned from one; each text of the other is put
behind replies (of the embedded model, and written ones), on a line of its own and run into the last sentence. Counted
are verdicts that fall into another class: declined, went along, incoherent, unscored.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from functools import partial

from primum.core.stats import wilson
from primum.judging import addressed, corpus, exchange, fit_embedded
from primum.judging.gold import load_gold
from primum.judging.judges import embedded
from primum.judging.robustness import CLASSES


def verdict_class(prompt: str, reply: str) -> str:
    (seen,) = embedded.see([exchange("borderline", prompt, reply)])
    return "unscored" if seen.unscored else CLASSES[embedded.likeliest(seen.shares)]


def replies(n: int, seed: int) -> list[tuple[str, str]]:
    """Return half of the embedded model's replies, half written ones."""
    rng = random.Random(seed)
    sampled = [(row.prompt, row.text) for row in load_gold(None).rows if row.text]
    written = [(one.prompt, one.reply) for one, _, _ in corpus.written()]
    return rng.sample(sampled, n // 2) + rng.sample(written, n - n // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chosen = replies(args.replies, args.seed)
    for learned, other in (("a", "b"), ("b", "a")):
        of_one = addressed.Meant(*fit_embedded.fit_addressed(learned))
        addressed.meant_model = partial(lambda one: one, of_one)
        texts = [text for text, meant, writer in corpus.addressed() if meant and writer == other]
        before = [verdict_class(*one) for one in chosen]
        for name, between in (("on a line of its own", "\n"), ("run into the last sentence", " ")):
            moved: Counter[tuple[str, str]] = Counter()
            for text in texts:
                for (prompt, reply), was in zip(chosen, before, strict=True):
                    now = verdict_class(prompt, f"{reply}{between}{text}")
                    if now != was:
                        moved[was, now] += 1
            share = wilson(sum(moved.values()), len(texts) * len(chosen))
            print(f"texts of {other}, learned from {learned}, {name}: {100 * share.value:.2f}% "
                  f"({sum(moved.values())} of {len(texts) * len(chosen):,})", flush=True)  # fmt: skip
            for (was, now), count in moved.most_common():
                print(f"    {was} -> {now}: {count}")


if __name__ == "__main__":
    main()
