"""Side by side with lm-evaluation-harness: the same rows, the same weights, each tool's own code; numbers and seconds.

    pip install lm_eval
    python benchmarks/evaluate_lm_eval.py [--limit N] [--model FOLDER] [--batch 16] [--out FOLDER]

Writes TruthfulQA's questions as lm-eval reads them, runs its `truthfulqa_mc1` and `truthfulqa_mc2` templates on them in
float32, then `primum evaluate --benchmark truthfulqa`, and prints both means, the largest difference of one question,
and the seconds that each took (loading included, apart). On two cores all 817 take lm-eval about an hour; a run that
was stopped goes on where it was (its seconds are then those of the rest).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {rows}
output_type: multiple_choice
validation_split: validation
num_fewshot: 0
doc_to_text: "{{{{context}}}}"
doc_to_target: 0
doc_to_choice: "{{{{{choices}}}}}"
{more}metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def write_tasks(folder, items):
    """Write the rows and two task files; MC2's formula is lm-eval's own function."""
    from lm_eval.tasks.truthfulqa import utils

    rows = folder / "rows.jsonl"
    with rows.open("w", encoding="utf-8") as file:
        for item in items:
            options = [option[1:] for option in item.options]
            true = item.target["true"]
            row = {
                "context": item.prompt.text,
                "mc1": [options[0], *options[true:]],
                "mc2": options,
                "mc2_targets": {"labels": [1] * true + [0] * (len(options) - true)},
            }
            file.write(json.dumps(row) + "\n")
    utils_copy = folder / "utils.py"
    utils_copy.write_text(f"from {utils.__name__} import process_results_mc2\n")
    (folder / "mc1.yaml").write_text(TASK.format(name="rows_mc1", rows=rows, choices="mc1", more=""))
    more = "process_results: !function utils.process_results_mc2\n"
    (folder / "mc2.yaml").write_text(TASK.format(name="rows_mc2", rows=rows, choices="mc2", more=more))


def theirs(folder, model, batch):
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    start = time.perf_counter()
    lm = HFLM(pretrained=str(model), dtype="float32", batch_size=batch, device="cpu")
    loaded = time.perf_counter() - start
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    start = time.perf_counter()
    found = simple_evaluate(
        lm, tasks=["rows_mc1", "rows_mc2"], task_manager=manager, bootstrap_iters=0, use_cache=str(folder / "theirs")
    )
    seconds = time.perf_counter() - start
    per_item = {}
    for name in ("mc1", "mc2"):
        samples = sorted(found["samples"][f"rows_{name}"], key=lambda one: one["doc_id"])
        per_item[name] = [float(one["acc"]) for one in samples]
    return per_item, loaded, seconds


def ours(out, model, limit):
    from primum.evaluation.tables import read_tables
    from primum.pipeline.evaluate import EvaluateConfig, run_verb

    config = EvaluateConfig(model=str(model), benchmark=("truthfulqa",), limit=limit, out=str(out / "primum"))
    _, document = run_verb(config, True)
    rows = read_tables(out / "primum")[0].rows
    per_item = {name: [row.scores[name] for row in rows] for name in ("mc1", "mc2")}
    return per_item, document["seconds"]


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/lm-eval"))
    args = parser.parse_args()
    from primum.evaluation.benchmarks import truthfulqa
    from primum.models.embedded import embedded_folder

    args.out.mkdir(parents=True, exist_ok=True)
    model = args.model or embedded_folder()
    items = list(truthfulqa.items())[: args.limit]
    mine, seconds = ours(args.out, model, args.limit)
    write_tasks(args.out.resolve(), items)
    other, loaded, taken = theirs(args.out.resolve(), model, args.batch)
    for name in ("mc1", "mc2"):
        pairs = list(zip(mine[name], other[name], strict=True))
        means = [sum(side) / len(items) for side in zip(*pairs, strict=True)]
        worst = max(abs(a - b) for a, b in pairs)
        print(f"{name}: primum {means[0]:.6f}, lm-eval {means[1]:.6f}, difference {abs(means[0] - means[1]):.2e}, "
              f"largest of one question {worst:.2e}, n {len(items)}")  # fmt: skip
    print(f"seconds: primum {seconds}, lm-eval loading {loaded:.1f}, both tasks {taken:.1f}")


if __name__ == "__main__":
    main()
