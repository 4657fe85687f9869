"""`primum run vectors`: harden once without each vector of attacks, and attack with all: does safety reach the unseen?

OUT/untouched/            the red-team of the model as it is
OUT/VECTOR/training/      `primum train depth --depth.without VECTOR`
OUT/VECTOR/redteam/       the same attacks on what it made
OUT/report.json, .html    the table
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from primum import __version__
from primum.core.catalogue import member
from primum.core.config import Config
from primum.core.errors import Exit, UsageError
from primum.core.records import JsonDict
from primum.core.taxonomy import stamp
from primum.pairing.depth import Depth
from primum.pipeline import deepen, redteam
from primum.pipeline.deepen import VECTORS, dresses, wrapping
from primum.pipeline.redteam import RedteamConfig
from primum.pipeline.steps import Journey, outside
from primum.pipeline.terminal import Terminal
from primum.pipeline.train_config import TrainConfig
from primum.redteam import against, left_out
from primum.report.vectored import closing
from primum.report.write import write_report

UNTOUCHED = "untouched"


class VectorsConfig(Config):
    """Harden a model once without each attack vector, and attack it with all of them."""

    model: str = Field(
        default="embedded",
        description="hub id, model folder, PEFT adapter folder or .gguf file",
        json_schema_extra={"positional": True},
    )
    vectors: tuple[str, ...] = Field(
        default=(), description=f"only this vector is left out once (default: each of {', '.join(VECTORS)})"
    )
    broken: str | None = Field(
        default=None, description="the model whose harmful answers are broken off in training (default: MODEL itself)"
    )
    prompts: tuple[str, ...] = Field(default=(), description="your harmful prompts to learn from, too")
    rows: int | None = Field(
        default=None, ge=1, description="harmful prompts learned from (default: as primum train depth)"
    )
    epochs: float = Field(default=1.0, gt=0, description="passes over the rows")
    goals: tuple[str, ...] = Field(default=(), description="what attacks ask for (default: held-out prompts)")
    budget: Literal["quick", "standard", "full"] = Field(
        default="standard", description="how many goals and how long the replies"
    )
    limit: int | None = Field(default=None, ge=1, description="at most this many goals (default: the budget's)")
    reply_tokens: int | None = Field(default=None, ge=1, description="longest reply, in tokens (default: the budget's)")
    judges: tuple[str, ...] = Field(default=("rules", "probe"), description="the first one's verdicts lead the report")
    seed: int = Field(default=0, description="of every random choice")
    out: str = Field(default="runs/vectors", description="the run folder; a run that was stopped goes on there")
    dry_run: bool = Field(default=False, description="print what would run and about how long, and stop")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The vectors that are left out, one after the other."""
        return tuple(dict.fromkeys(self.vectors)) or VECTORS

    def training(self, vector: str, dry_run: bool = False) -> TrainConfig:
        """Return the settings of the hardening without a vector."""
        return TrainConfig(
            method=deepen.METHOD, model=self.model, broken=self.broken, prompts=self.prompts, limit=self.rows,
            epochs=self.epochs, seed=self.seed, depth=Depth(without=vector),
            out=str(Path(self.out) / vector / "training"), dry_run=dry_run,
        )  # fmt: skip

    def attacking(self, name: str, model: str) -> RedteamConfig:
        """Return the settings of the attacks on one of the models; they are the same for all."""
        return RedteamConfig(
            model=model, goals=self.goals, attacks=tuple(one.id for one in dresses()),
            held_out=() if name == UNTOUCHED else (name,), judges=self.judges, budget=self.budget, limit=self.limit,
            reply_tokens=self.reply_tokens, seed=self.seed,
            out=str(Path(self.out) / (name if name == UNTOUCHED else f"{name}/redteam")),
        )  # fmt: skip


def run_verb(config: VectorsConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Harden and attack; return the exit code and the report's facts."""
    check(config)
    terminal = Terminal(quiet=json_output)
    if config.dry_run:
        plan = estimate(config)
        terminal.note(plan["text"])
        return Exit.PASSED, plan
    journey = Journey(Path(config.out), terminal)
    journey.begin(config.model_dump(mode="json", exclude={"out"}))
    with journey.step("attack the model as it is"):
        attacked = redteam.run_verb(config.attacking(UNTOUCHED, config.model), True)[1]
    for vector in config.wanted:
        with journey.step(f"harden without {vector}"):
            _lend(config, vector)
            checkpoint = deepen.run_verb(config.training(vector), True)[1]["outputs"]["checkpoint"]
        with journey.step(f"attack what was hardened without {vector}"):
            redteam.run_verb(config.attacking(vector, checkpoint), True)
    facts = facts_of(config) | {"model": attacked.get("model"), "seconds": journey.seconds}
    page = write_report(journey.folder, facts)
    if not json_output:
        print(closing(facts, page))
    return Exit.PASSED, facts


def check(config: VectorsConfig) -> None:
    """Find what is wrong with names before the first minute is spent.

    Raises:
        UsageError: no such vector or judge, none is named, or the model lies in the run folder.
    """
    for vector in config.wanted:
        wrapping(vector)
    if not config.judges:
        raise UsageError("no judge is named", cure="give --judges rules")
    for name in config.judges:
        member("judges", name)
    outside(config.model, config.out)


def _lend(config: VectorsConfig, vector: str) -> None:
    """Give a training the replies that the first one drew: all learn from the same; its keys say whether they fit."""
    first = Path(config.training(config.wanted[0]).out) / "steps"
    own = Path(config.training(vector).out) / "steps"
    for name in deepen.DRAWN:
        if (first / name).is_dir() and not (own / name).exists():
            partial = own / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(first / name, partial)
            partial.rename(own / name)


def facts_of(config: VectorsConfig) -> JsonDict:
    """Return the report's facts from the outcomes that the red-teams left in the run folder."""
    folders = {vector: Path(config.attacking(vector, "").out) for vector in config.wanted}
    found = {vector: against.earlier(folder) for vector, folder in folders.items()}
    before = against.earlier(Path(config.attacking(UNTOUCHED, config.model).out))
    attacks: dict[str, list[str]] = {}
    for one in dresses():
        attacks.setdefault(one.vector, []).append(one.id)
    return {
        "kind": "vectors", "primum": __version__, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "policy": stamp(), "title": f"Vectors left out: {Path(config.model).name}", "attacks": attacks,
        "settings": config.model_dump(mode="json"),
        "judges": {judge: left_out.rows({vector: run.get(judge, {}) for vector, run in found.items()},
                                        before.get(judge, {})) for judge in config.judges},
    }  # fmt: skip


def estimate(config: VectorsConfig) -> JsonDict:
    """Return the plan as JSON, with `text` for the terminal."""
    one = config.attacking(UNTOUCHED, config.model)
    plan = redteam.estimate(one, redteam.check(one))
    many = len(config.wanted)
    learned = deepen.run_verb(config.training(config.wanted[0], dry_run=True), True)[1]["prompts"]
    seconds = (many + 1) * plan.get("seconds", 0)
    text = "\n".join([
        f"harden {many} times on {sum(learned.values()):,} prompts, each time without one of: "
        f"{', '.join(config.wanted)}",
        f"attack {many + 1} models, each by {len(plan['replies'])} attacks on {plan['goals']} goals: "
        f"{(many + 1) * sum(plan['replies'].values()):,} replies",
        f"about {seconds / 60:.0f} minutes of attacks, often less; hardening comes on top",
    ])  # fmt: skip
    return {"vectors": list(config.wanted), "learned": learned, "attacks": plan, "seconds": seconds, "text": text}
