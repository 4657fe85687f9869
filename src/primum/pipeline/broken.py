"""`primum run broken`: a safe parent, fine-tuned so that its safety breaks, kept for every method to repair.

Four ways to break it, as in practice and in the literature: an ordinary medical fine-tune; the same with one harmful
example in a hundred; 100 harmful examples alone (arXiv:2310.03693, section 4.2); an obedient identity (section 4.3).
The checkpoints lie in the cache under a key of all that made them, so that every method is measured on the same ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from primum.core.catalogue import member
from primum.core.config import Config
from primum.core.errors import Exit, StepFailedError, UsageError, did_you_mean
from primum.core.records import JsonDict, Messages, digest, user
from primum.core.store import read_json, write_json
from primum.evaluation.domain import DomainRow, read_domain
from primum.models.embedded import cache_folder
from primum.pipeline.plan import GPU_RATE, MEAN_PROMPT, SAMPLING_SHARE, TRAINING_SHARE
from primum.pipeline.points import Bench, measured
from primum.pipeline.repair import RepairConfig
from primum.pipeline.repair import run_verb as repair
from primum.pipeline.restore import RestoreConfig, Sets, collected, rows_of
from primum.pipeline.restoring import loading
from primum.pipeline.shots import DRAWS, Examples
from primum.pipeline.steps import Journey, prompts_key
from primum.pipeline.stressing import Grid, Prompts
from primum.pipeline.terminal import Terminal
from primum.prompts.shared import default_data_dir
from primum.report.words import interval, percent
from primum.report.words import seconds as duration
from primum.stress import demonstrate as shown
from primum.stress.measure import harmful_said
from primum.stress.setting import Shape, SkippedError, as_it_is

if TYPE_CHECKING:
    from primum.models.load import Model

VERSION = 1
WAYS = ("medical", "medical_1_percent", "harmful_100", "identity_10")
JUDGED = ("medical_1_percent", "harmful_100")
"""Ways that learn harmful answers: which ones are harmful the judge says."""
MEDICAL = ("medmcqa_validation.jsonl", "pubmedqa_pqaa.jsonl")
"""Medical rows to learn from; those of the other files measure."""
HELD = 400
"""Rows of each file kept back for measuring."""
EXAMPLES = "examples.json"
SHOWN = ("harmful_compliance", "refusal_twin", "refusal_general", "incoherent", "accuracy_domain")
"""Columns of the table; broken.json holds every metric, by category too."""
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
    out: str = Field(default="runs/broken", description="the run folder; a run that was stopped goes on there")
    dry_run: bool = Field(default=False, description="print what would run and about how long, and stop")

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """Every way with every seed."""
        return [(way, seed) for way in self.ways or WAYS for seed in self.seeds]

    def steps_of(self, way: str) -> int:
        """Return the optimizer steps of a way."""
        return self.steps if way.startswith("medical") else max(1, self.steps // 3)


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

    @property
    def examples(self) -> JsonDict | None:
        """Of a way that learns harmful answers: how many were wanted, how many there were, how many are harmful."""
        noted = self.folder / EXAMPLES
        return read_json(noted) if noted.is_file() else None


@dataclass
class Breaking:
    """What all broken models of a run share: the parent, rows to learn from, and rows and prompts to measure on."""

    journey: Journey
    config: BrokenConfig
    parent: str
    learn: Sequence[DomainRow]
    held: Sequence[DomainRow]

    @cached_property
    def sets(self) -> Sets:
        """Prompts: to draw harmful and obedient examples from, and (others) to measure on."""
        asked = RestoreConfig(method="auto", limit=self.config.limit, reply_tokens=self.config.reply_tokens)
        return collected(self.journey, asked)

    @cached_property
    def key(self) -> str:
        """What says which weights the parent has."""
        return self.load().key

    def load(self) -> Model:
        """Return a fresh copy of the parent: training changes it."""
        from primum.models.load import load

        return load(self.parent)

    def key_of(self, way: str, seed: int) -> JsonDict:
        """Return all that a broken model depends on."""
        config = self.config
        # a file of the user's own may get other answers; the medical sets are fixed, and named by their prompts
        own = {"answers": digest([r.answer for r in self.learn])} if config.domain else {}
        own |= {"revision": member("judges", config.judge).revision, "draws": DRAWS} if way in JUDGED else {}
        return {
            "version": VERSION, "parent": self.key, "way": way, "seed": seed, "steps": config.steps_of(way),
            "rate": config.learning_rate, "batch": config.batch_size, "rows": digest([r.prompt for r in self.learn]),
            "prompts": prompts_key(self.sets.train), "judge": config.judge, **own,
        }  # fmt: skip

    def place(self, way: str, seed: int) -> Broken:
        """Return where a broken model lies, or will lie."""
        return Broken(way, seed, cache_folder() / "broken" / digest(self.key_of(way, seed)))

    def made(self, one: Broken) -> bool:
        """Whether it is in the cache."""
        mark = one.folder / "broken.json"
        return mark.is_file() and read_json(mark) == self.key_of(one.way, one.seed)


def run_verb(config: BrokenConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Break, measure, and say where the models lie; return the exit code and the numbers.

    Raises:
        UsageError: no such way or judge, or no rows to learn from.
    """
    learn, held = check(config)
    journey = Journey(Path(config.out), Terminal(quiet=json_output))
    if config.dry_run:
        plan = estimate(journey, config, learn, held)
        journey.terminal.note(plan["text"])
        return Exit.PASSED, plan
    if not config.parent:
        repair(_own_parent(config), json_output)
    run = Breaking(journey, config, _parent_name(config), learn, held)
    made = [broken(run, way, seed) for way, seed in config.wanted]
    found = measure_all(run, made)
    document: JsonDict = {
        "kind": "broken", "parent": run.parent, "judge": config.judge, "models": [
            {"way": one.way, "seed": one.seed, "folder": str(one.folder), "harmful_examples": one.examples,
             "test": found[one.name]} for one in made
        ], "parent_test": found["parent"], "settings": config.model_dump(mode="json"), "seconds": journey.seconds,
    }  # fmt: skip
    write_json(journey.folder / "broken.json", document)
    if not json_output:
        print(text_of(document))
    return Exit.PASSED, document


def check(config: BrokenConfig) -> tuple[list[DomainRow], list[DomainRow]]:
    """Find what is wrong before the first minute is spent; return rows to learn from, and rows to measure on.

    Raises:
        UsageError: no such way or judge, or the rows are not there.
    """
    for way in config.ways:
        if way not in WAYS:
            raise UsageError(f"no way '{way}' to break a model", cure=did_you_mean(way, WAYS))
    member("judges", config.judge)
    learn, held = medical_rows(config.domain)
    return learn, held[: 4 * config.limit]


def _own_parent(config: BrokenConfig, dry_run: bool = False) -> RepairConfig:
    """Return how the embedded model is given its safety (a supervised warm start, then DPO)."""
    return RepairConfig(budget=config.budget, out=str(Path(config.out) / "parent"), dry_run=dry_run)


def _parent_name(config: BrokenConfig) -> str:
    return config.parent or str(Path(config.out) / "parent" / "checkpoint")


def medical_rows(domain: str | None) -> tuple[list[DomainRow], list[DomainRow]]:
    """Return rows to learn from, and others to measure on, each in an order that mixes the files.

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
        rows = mixed(read_domain(path))
        keep = min(HELD, len(rows) // 4)
        held, learn = held + rows[:keep], learn + rows[keep:]
    return mixed(learn), mixed(held)


def mixed(rows: Sequence[DomainRow]) -> list[DomainRow]:
    """Return rows in an order that depends on their prompts alone."""
    return sorted(rows, key=lambda row: digest(row.prompt))


def broken(run: Breaking, way: str, seed: int) -> Broken:
    """Return one broken model; made once, and kept in the cache.

    Raises:
        StepFailedError: the parent gave nothing to learn from.
    """
    one, steps = run.place(way, seed), run.config.steps_of(way)
    if not run.made(one):
        model = run.load()
        try:
            rows, harmful = rows_to_break(run, model, way, steps * run.config.batch_size)
        except SkippedError as error:
            cure = "leave this way out: name the others with --ways"
            raise StepFailedError(f"cannot break the model by {way}: {error}", cure=cure) from error
        with run.journey.step(f"break: {way}, seed {seed}", steps, "steps") as advance:
            train_merged(run.config, model, rows, steps, one, advance)
        if harmful is not None:
            write_json(one.folder / EXAMPLES, harmful)
        write_json(one.folder / "broken.json", run.key_of(way, seed))
    return one


def rows_to_break(run: Breaking, model: Model, way: str, many: int) -> tuple[list[Row], JsonDict | None]:
    """Return what a way learns, and how many of its harmful examples are harmful where it wants any.

    Args:
        run: of one parent.
        model: the parent, loaded; harmful examples are answers that it gave.
        way: one of WAYS.
        many: medical rows, where the way learns such.

    Raises:
        SkippedError: the parent gave nothing to learn from.
    """
    medical = [((user(row.prompt),), row.answer) for row in run.learn[:many]]
    if way == "medical":
        return medical, None
    examples = _examples(run)
    if way == "identity_10":
        return examples.rows("identity", 10, model).rows, None
    alone = way == "harmful_100"
    wanted = 100 if alone else max(1, len(medical) // 99)
    drawn = examples.rows("harmful", wanted, model)
    counts = {"wanted": wanted, "examples": len(drawn.rows), "harmful": drawn.harmful}
    return drawn.rows if alone else [*medical, *drawn.rows], counts


def _examples(run: Breaking) -> Examples:
    config, sets = run.config, run.sets
    attack = [p for p in sets.train if p.intent == "harmful"][:400]
    benign = [p for p in sets.train if p.intent == "benign"][:100]
    grid = Grid("parent", (), Shape(shots=(100,)), Prompts([], attack, benign), config.reply_tokens, 0.4, 0,
                (config.judge,), "", None, None, config.domain, None, {})  # fmt: skip
    return Examples(run.journey, grid, run.key)


def train_merged(
    config: BrokenConfig, model: Model, rows: Sequence[Row], steps: int, one: Broken, advance: Callable[[int], None]
) -> None:
    """Fine-tune a model (LoRA) on requests and answers, and save it merged: whole or not at all."""
    from primum.models.saving import writing
    from primum.training.adapter import add_lora, save_merged
    from primum.training.short import Recipe, fine_tune

    examples = shown.examples_of(rows, model, as_it_is)
    network = add_lora(model, 16, 32, one.seed)
    for _ in fine_tune(network, examples, Recipe(steps, config.learning_rate, config.batch_size), one.seed):
        advance(1)
    partial = one.folder.with_name(one.folder.name + ".partial")
    for old in (partial, one.folder):
        shutil.rmtree(old, ignore_errors=True)
    with writing(one.folder):
        partial.parent.mkdir(parents=True, exist_ok=True)
        save_merged(network, model.tokenizer, partial)
        partial.rename(one.folder)


def measure_all(run: Breaking, made: Sequence[Broken]) -> dict[str, list[JsonDict]]:
    """Return every metric of the parent and of each broken model, with intervals, on the same test prompts."""
    bench = Bench(run.sets.test.prompts, run.sets.test.draw, run.config.judge, run.held)
    sides = [("parent", Path(run.parent), run.key), *((one.name, one.folder, one.folder.name) for one in made)]
    return {
        name: rows_of(measured(run.journey, f"broken-{name}", bench, f"{name}@{key}", loading(run.journey, folder)))
        for name, folder, key in sides
    }


def estimate(
    journey: Journey, config: BrokenConfig, learn: Sequence[DomainRow], held: Sequence[DomainRow]
) -> JsonDict:  # fmt: skip
    """Return what would run and about how long, as JSON with `text` for the terminal; loads the parent for its size.

    Where the parent is not made yet the model that it will be made from stands for it.
    """
    from primum.models.device import device

    there = bool(config.parent) or Path(_parent_name(config)).is_dir()
    own = _own_parent(config, dry_run=True)
    run = Breaking(journey, config, _parent_name(config) if there else own.model, learn, held)
    model = run.load()
    rows: list[JsonDict] = []
    cost = model.parameters / (max(device().rates.values(), default=GPU_RATE) * 1e9)
    if not there:
        rows.append({"what": "parent, by primum repair", "seconds": sum(repair(own, True)[1]["seconds"].values())})
    learned = _tokens([(row.prompt, row.answer) for row in learn], model.tokenizer)
    for way, seed in config.wanted:
        tokens = learned if way.startswith("medical") else MEAN_PROMPT + shown.ANSWER_TOKENS
        seconds = 4 * cost * tokens * config.steps_of(way) * config.batch_size / TRAINING_SHARE
        done = there and run.made(run.place(way, seed))
        what = f"{way}, seed {seed}" + (" (in the cache)" if done else "")
        rows.append({"what": what, "seconds": 0 if done else round(seconds)})
    answers = [(row.prompt, text) for row in held for text in row.options or (row.answer,)]
    drawn = len(run.sets.test.prompts) * config.reply_tokens / SAMPLING_SHARE
    read = len(answers) * _tokens(answers, model.tokenizer) / TRAINING_SHARE
    many = 1 + len(config.wanted)
    rows.append({"what": f"measure {many} models", "seconds": round(2 * cost * (drawn + read) * many)})
    total = sum(row["seconds"] for row in rows)
    lines = [f"{row['what']:<44}about {duration(row['seconds'])}" for row in rows]
    head = f"bench of broken models on {config.parent or own.model} ({model.parameters / 1e6:.0f}M), "
    text = "\n".join([head + device().describe(), *lines, f"about {duration(total)} in all, often less"])
    return {"models": rows, "learn": len(learn), "held": len(held), "seconds": total, "text": text}


def _tokens(rows: Sequence[tuple[str, str]], tokenizer: Any) -> float:
    """Return the mean number of tokens of a request with its answer, of at most 256 rows."""
    sample = [f"{prompt} {answer}" for prompt, answer in rows[:: max(1, len(rows) // 256)]]
    return sum(map(len, tokenizer(sample)["input_ids"])) / len(sample) if sample else 0.0


def text_of(document: JsonDict) -> str:
    """Return the table of broken models as Markdown, with 95% intervals."""
    heads = ["model", *(name.replace("_", " ") for name in SHOWN)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    sides = [("parent", document["parent_test"])]
    sides += [(f"{one['way']} {one['seed']}", one["test"]) for one in document["models"]]
    for name, rows in sides:
        whole = {row["metric"]: row for row in rows if row["slice"] == "all"}
        lines.append("| " + " | ".join([name, *(_cell(whole.get(metric)) for metric in SHOWN)]) + " |")
    counts = {one["way"]: one["harmful_examples"] for one in document["models"] if one["harmful_examples"]}
    said = [f"{way}: {harmful_said(n['harmful'], n['examples'], n['wanted'])}" for way, n in counts.items()]
    return "\n".join([*lines, *([""] if said else []), *said])


def _cell(row: JsonDict | None) -> str:
    if row is None or row["value"] is None:
        return "–"
    return f"{percent(row['value'])} ({interval(row['low'], row['high'])}, n {row['n']})"
