"""The bench of broken models: a safe parent, fine-tuned so that its safety breaks, kept for every method to repair.

Four ways to break it, as in practice and in the literature: an ordinary medical fine-tune; the same with one harmful
example in a hundred; 100 harmful examples alone (arXiv:2310.03693, section 4.2); an obedient identity (section 4.3).
The checkpoints lie in the cache under a key of all that made them, so that every method is measured on the same ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import Exit, UsageError
from primum.core.records import JsonDict, Messages, digest, user
from primum.core.store import read_json, write_json
from primum.evaluation.domain import DomainRow, read_domain
from primum.models.embedded import cache_folder
from primum.pipeline.points import Bench, measured
from primum.pipeline.restore import RestoreConfig, collected
from primum.pipeline.restoring import loading
from primum.pipeline.steps import Journey
from primum.pipeline.stressing import Examples, Grid, Prompts
from primum.pipeline.terminal import Terminal
from primum.prompts.shared import default_data_dir
from primum.stress import demonstrate as shown
from primum.stress.setting import Shape, as_it_is

if TYPE_CHECKING:
    from primum.models.load import Model

VERSION = 1
WAYS = ("medical", "medical_1_percent", "harmful_100", "identity_10")
MEDICAL = ("medmcqa_validation.jsonl", "pubmedqa_pqaa.jsonl")
"""Medical rows to learn from; those of the other files measure."""
HELD = 400
"""Rows of each file kept back for measuring."""
Row = tuple[Messages, str]


class BrokenConfig(Config):
    """Break a safe model in several ways, and measure how far it broke."""

    parent: str | None = Field(
        default=None, description="the safe model (default: primum repair of the embedded one, run first)"
    )
    ways: tuple[str, ...] = Field(default=(), description=f"only this way (default: {', '.join(WAYS)})")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), description="of the order of examples, one model each")
    steps: int = Field(default=300, ge=1, description="optimizer steps of the medical fine-tunes; a third of it else")
    learning_rate: float = Field(default=3e-4, gt=0, description="of the fine-tunes (LoRA, rank 16)")
    batch_size: int = Field(default=8, ge=1, description="examples a step")
    domain: str | None = Field(default=None, description="harmless rows in place of the medical sets")
    judge: str = Field(default="rules", description="who judges the replies")
    limit: int = Field(default=60, ge=1, description="harmful prompts (each with its twin) to measure on")
    reply_tokens: int = Field(default=64, ge=1, description="longest reply, in tokens")
    budget: Literal["quick", "standard", "full"] = Field(default="standard", description="of the parent's own repair")
    out: str = Field(default="runs/broken", description="the run folder")


@dataclass(frozen=True)
class Broken:
    """One broken model: how it was broken, its seed, and where it lies."""

    way: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """Way and seed."""
        return f"{self.way}-s{self.seed}"


def run_verb(config: BrokenConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Break, measure, and say where the models lie; return the exit code and the numbers.

    Raises:
        UsageError: no such way, or no rows to learn from.
    """
    for way in config.ways:
        if way not in WAYS:
            raise UsageError(f"no way '{way}' to break a model", cure=f"one of: {', '.join(WAYS)}")
    learn, held = medical_rows(config.domain)
    journey = Journey(Path(config.out), Terminal(quiet=json_output))
    parent = config.parent or _parent(config, json_output)
    made = [broken(journey, config, parent, way, seed, learn) for way in config.ways or WAYS for seed in config.seeds]
    points = measure_all(journey, config, parent, made, held)
    document: JsonDict = {
        "kind": "broken", "parent": parent, "models": [
            {"way": one.way, "seed": one.seed, "folder": str(one.folder), **points[one.name]} for one in made
        ], "parent_point": points["parent"],
    }  # fmt: skip
    write_json(journey.folder / "broken.json", document)
    if not json_output:
        print(text_of(document))
    return Exit.PASSED, document


def _parent(config: BrokenConfig, json_output: bool) -> str:
    from primum.pipeline.repair import RepairConfig
    from primum.pipeline.repair import run_verb as repair

    out = Path(config.out) / "parent"
    repair(RepairConfig(budget=config.budget, out=str(out)), json_output)
    return str(out / "checkpoint")


def medical_rows(domain: str | None) -> tuple[list[DomainRow], list[DomainRow]]:
    """Return rows to learn from, and others to measure on.

    Raises:
        UsageError: the medical sets are not there, and no domain was named.
    """
    paths = [Path(domain)] if domain else [default_data_dir() / "medical" / name for name in MEDICAL]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UsageError("no rows to break the model with", where=str(missing[0]), cure="name some with --domain")
    learn: list[DomainRow] = []
    held: list[DomainRow] = []
    for path in paths:
        rows = sorted(read_domain(path), key=lambda row: digest(row.prompt))
        keep = min(HELD, len(rows) // 4)
        held, learn = held + rows[:keep], learn + rows[keep:]
    return sorted(learn, key=lambda row: digest(row.prompt)), held


def broken(
    journey: Journey, config: BrokenConfig, parent: str, way: str, seed: int, learn: Sequence[DomainRow]
) -> Broken:
    """Return one broken model; made once, and kept in the cache."""
    from primum.models.load import load

    medical = way.startswith("medical")
    steps = config.steps if medical else max(1, config.steps // 3)
    model = load(parent)
    key = {
        "version": VERSION, "parent": model.key, "way": way, "seed": seed, "steps": steps,
        "rate": config.learning_rate, "batch": config.batch_size, "rows": digest([r.prompt for r in learn]),
    }  # fmt: skip
    folder = cache_folder() / "broken" / digest(key)
    mark = folder / "broken.json"
    if not (mark.is_file() and read_json(mark) == key):
        rows = _rows(journey, config, model, way, seed, learn, steps * config.batch_size)
        with journey.step(f"break: {way}, seed {seed}", steps, "steps") as advance:
            train_merged(config, model, rows, steps, seed, folder, advance)
        write_json(mark, key)
    return Broken(way, seed, folder)


def _rows(
    journey: Journey, config: BrokenConfig, model: Model, way: str, seed: int, learn: Sequence[DomainRow], many: int
) -> list[Row]:
    medical = [((user(row.prompt),), row.answer) for row in learn[:many]]
    if way == "medical":
        return medical
    examples = _examples(journey, config, model)
    if way == "identity_10":
        return examples.rows("identity", 10, model)
    harmful = examples.rows("harmful", 100 if way == "harmful_100" else max(1, len(medical) // 99), model)
    return harmful if way == "harmful_100" else [*medical, *harmful]


def _examples(journey: Journey, config: BrokenConfig, model: Model) -> Examples:
    sets = collected(journey, RestoreConfig(method="auto", limit=config.limit, reply_tokens=config.reply_tokens))
    attack = [p for p in sets.train if p.intent == "harmful"][:400]
    benign = [p for p in sets.train if p.intent == "benign"][:100]
    grid = Grid("parent", (), Shape(shots=(100,)), Prompts([], attack, benign), config.reply_tokens, 0.4, 0,
                (config.judge,), "", None, None, config.domain, None, {})  # fmt: skip
    return Examples(journey, grid, model.key)


def train_merged(
    config: BrokenConfig, model: Model, rows: Sequence[Row], steps: int, seed: int, folder: Path,
    advance: Callable[[int], None],
) -> None:  # fmt: skip
    """Fine-tune a model (LoRA) on requests and answers, and save it merged: whole or not at all."""
    from primum.training.adapter import add_lora, save_merged
    from primum.training.short import Recipe, fine_tune

    examples = shown.examples_of(rows, model, as_it_is)
    network = add_lora(model, 16, 32, seed)
    for _ in fine_tune(network, examples, Recipe(steps, config.learning_rate, config.batch_size), seed):
        advance(1)
    partial = folder.with_name(folder.name + ".partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    save_merged(network, model.tokenizer, partial)
    partial.rename(folder)


def measure_all(
    journey: Journey, config: BrokenConfig, parent: str, made: Sequence[Broken], held: Sequence[DomainRow]
) -> dict[str, JsonDict]:
    """Return each model's harmful compliance, benign refusal, incoherence and domain skill, on test prompts."""
    sets = collected(journey, RestoreConfig(method="auto", limit=config.limit, reply_tokens=config.reply_tokens))
    bench = Bench(sets.test.prompts, sets.test.draw, config.judge, held)
    found: dict[str, JsonDict] = {}
    for name, folder in [("parent", Path(parent)), *((one.name, one.folder) for one in made)]:
        key = f"{name}@{_key(folder)}"
        point = measured(journey, f"broken-{name}", bench, key, loading(journey, folder)).point(name)
        found[name] = {k: v for k, v in vars(point).items() if k != "size"}
    return found


def _key(folder: Path) -> str:
    return digest([[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(folder.glob("*.safetensors"))])


def text_of(document: JsonDict) -> str:
    """Return the table of broken models as Markdown."""
    lines = ["| model | harmful compliance | benign refused | incoherent | domain accuracy |", "|---|---|---|---|---|"]
    rows: list[dict[str, Any]] = [{"way": "parent", "seed": "", **document["parent_point"]}, *document["models"]]
    for row in rows:
        skill = row["domain_accuracy"]
        cells = [f"{100 * row[key]:.1f}%" for key in ("harmful", "refusal", "incoherent")]
        name = f"{row['way']} {row['seed']}".strip()
        lines.append(f"| {name} | {' | '.join(cells)} | {f'{100 * skill:.1f}%' if skill is not None else '–'} |")
    return "\n".join(lines)
