"""Prints how well each judge agrees with the labelled replies (judging/gold), on both halves.

    python benchmarks/judges.py [--texts FILE] [--write] [--pyrit FOLDER] [JUDGE ...]

--texts joins withheld texts (JSONL of {"text"}); without it, rows of harmful compliance are left out and the numbers
are about the rest. Without names: the judges that need nothing. --write stores them for the report. --pyrit also scores
PyRIT's human refusal labels (CSV), where an answer about something else counts as a refusal: so refused or deflected is
compared there.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from primum.core.catalogue import member, names
from primum.core.stats import cohen_kappa, wilson
from primum.core.store import read_json, write_json
from primum.judging import exchange
from primum.judging.agreement import PUBLISHED, compare, outcome
from primum.judging.gold import load_gold, load_texts
from primum.judging.runner import judge_all


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("judges", nargs="*")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--pyrit", type=Path)
    args = parser.parse_args()
    chosen = args.judges or [name for name in names("judges") if not getattr(member("judges", name), "needs", ())]
    gold = load_gold(load_texts(args.texts) if args.texts else None)
    print(f"gold: {len(gold.rows)} replies, left out: {gold.left_out or 'none'}")
    verdicts = {name: judge_all(name, [row.exchange for row in gold.rows]) for name in chosen}
    found = read_json(PUBLISHED) if PUBLISHED.is_file() else {}
    for name in chosen:
        found[name] = {"revision": member("judges", name).revision, "left_out": gold.left_out}
        for half in ("dev", "test"):
            picked = [i for i, row in enumerate(gold.rows) if row.half == half]
            found[name][half] = compare([gold.rows[i] for i in picked], [verdicts[name][i] for i in picked])
            show(f"{name} {half}", found[name][half])
        for model in sorted({row.model for row in gold.rows}):
            picked = [i for i, row in enumerate(gold.rows) if row.half == "test" and row.model == model]
            show(f"{name} test, {model}", compare([gold.rows[i] for i in picked], [verdicts[name][i] for i in picked]))
    between(gold.rows, verdicts)
    if args.pyrit:
        for name in chosen:
            pyrit(name, args.pyrit)
    if args.write:
        write_json(PUBLISHED, found)


def show(title, facts):
    print(f"\n{title}: n {facts['n']}, accuracy {facts['accuracy']:.3f} [{facts['low']:.3f}, {facts['high']:.3f}], "
          f"kappa {facts['kappa']:.3f}, six behaviours {facts['six']:.3f}, unscored {facts['unscored']}")  # fmt: skip
    for what in ("refused", "went_along", "incoherent"):
        (tp, p), (tn, n) = facts[what]["sensitivity"], facts[what]["specificity"]
        print(f"  {what}: sensitivity {tp}/{p}, specificity {tn}/{n}")


def between(rows, verdicts):
    if len(verdicts) < 2:
        return
    first, second = list(verdicts)[:2]
    test = [i for i, row in enumerate(rows) if row.half == "test"]
    a, b = ([outcome(verdicts[name][i].behaviour) for i in test] for name in (first, second))
    share = wilson(sum(x == y for x, y in zip(a, b, strict=True)), len(a))
    print(f"\n{first} and {second} on the test half: n {len(a)}, agree {share.value:.3f} "
          f"[{share.low:.3f}, {share.high:.3f}], kappa {cohen_kappa(a, b):.3f}")  # fmt: skip


def pyrit(name, folder):
    asked, labels = [], []
    for path in sorted(folder.glob("pyrit_refusal_scorer_refusal*.csv")):
        lines = [line for line in path.open(encoding="utf-8", newline="") if not line.startswith("#")]
        for row in csv.DictReader(lines):
            asked.append(exchange("harmful", row["objective"], row["assistant_response"]))
            labels.append(row["human_score"].strip().lower() in ("1", "1.0", "true"))
    said = [outcome(v.behaviour) for v in judge_all(name, asked)]
    for title, wanted in (("refused", ("refused",)), ("refused or deflected", ("refused", "deflection", "incoherent"))):
        right = sum((s in wanted) == label for s, label in zip(said, labels, strict=True))
        yes = sum(s in wanted and label for s, label in zip(said, labels, strict=True))
        no = sum(s not in wanted and not label for s, label in zip(said, labels, strict=True))
        low, high = wilson(right, len(labels))[1:]
        print(f"{name}, PyRIT, {title}: n {len(labels)}, accuracy {right / len(labels):.3f} [{low:.3f}, {high:.3f}], "
              f"sensitivity {yes}/{sum(labels)}, specificity {no}/{len(labels) - sum(labels)}")  # fmt: skip


if __name__ == "__main__":
    main()
