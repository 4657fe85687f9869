"""`primum studio round`: the newest model and the previous one answer the same prompts, for people to compare.

Items are kept batch by batch: a round that was stopped goes on with the prompts that have no item yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.core.errors import Exit, UsageError

if TYPE_CHECKING:
    from primum.core.records import Prompt
    from primum.models.sampling import Engine
    from primum.pipeline.terminal import Terminal
    from primum.studio.annotate import Incoming
    from primum.studio.database import Database
    from primum.studio.rounds import Score
    from primum.studio.verb import StudioConfig

BATCH = 8
JUDGES = ("rules", "probe")


def round_(config: StudioConfig, folder: Path, database: Database, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Sample a round.

    Raises:
        UsageError: not two models, no task named, no such judge.
    """
    from primum.core.catalogue import member
    from primum.pipeline.terminal import Terminal

    if len(config.model) != 2:
        cure = "give --model NEWEST --model PREVIOUS"
        raise UsageError(f"a round takes two models, {len(config.model)} given", where="--model", cure=cure)
    if not config.task:
        raise UsageError("which task?", where="--task", cure="primum studio round --task NAME")
    for judge in config.judge or JUDGES:
        member("judges", judge)
    scorer = _scorer(config)  # before the models: a name that is wrong is told at once
    prompts = _prompts(config)
    terminal = Terminal(quiet=json_output)
    with terminal.step("load models", 2, "models") as advance:
        engines = _engines(config.model, advance)
    document = _fill(config, database, prompts, engines, terminal)
    document["scored"] = _score(database, document.pop("task_id"), scorer, terminal)
    if not json_output:
        print(f"task '{config.task}', round {document['round']}: {document['items']} items to compare, "
              f"{document['same']} prompts left out (the same words from both), "
              f"{document['done']} there already, {document['scored']} items scored")  # fmt: skip
    return Exit.PASSED, document


def prioritised(found: Sequence[Incoming], config: StudioConfig, quiet: bool) -> Sequence[Incoming]:
    """Return items with the priority that the named judges' disagreement gives them; as they are where none is named.

    Raises:
        UsageError: no such judge, or one that needs what cannot be given here.
    """
    from primum.pipeline.terminal import Terminal
    from primum.studio import rounds

    if not config.judge:
        return found
    with Terminal(quiet=quiet).step("judge: " + ", ".join(config.judge), len(found), "items") as advance:
        made = rounds.prioritise(found, config.judge)
        advance(len(found))
    return made


def score(config: StudioConfig, database: Database, task_id: int, quiet: bool) -> int:
    """Let the reward model that is named score what has no score in a task; return how many items it scored.

    Raises:
        UsageError: no such reward model.
    """
    from primum.pipeline.terminal import Terminal

    return _score(database, task_id, _scorer(config), Terminal(quiet=quiet))


def _scorer(config: StudioConfig) -> Score | None:
    if not config.reward:
        return None
    from primum.judging.judges.reward import scorer

    return scorer(config.reward, by_intent=True)


def _score(database: Database, task_id: int, scorer: Score | None, terminal: Terminal) -> int:
    from primum.studio import rounds

    if scorer is None:
        return 0
    with database.reading() as db:
        todo = rounds.unscored(db, task_id)
    with terminal.step("score", todo, "items") as advance:
        return rounds.score(database, task_id, scorer, "terminal", advance)


def _prompts(config: StudioConfig) -> list[Prompt]:
    from primum.core.parts import takes
    from primum.prompts.embedded import embedded
    from primum.prompts.files import read_rows
    from primum.prompts.rows import Defaults, to_prompts

    if config.file in (None, "embedded"):
        held = sorted(embedded(), key=lambda prompt: prompt.id)
        return held[: config.limit]
    path = Path(str(config.file))
    found = to_prompts(read_rows(path), Defaults("borderline", path.name))[: config.limit]
    for prompt in found:
        takes(prompt.messages, "the studio")
    return found


def _engines(names: Sequence[str], advance: Any) -> tuple[Engine, Engine]:
    from primum.studio.talk import load_engine

    made: list[Engine] = []
    for name in names:
        made.append(load_engine(name))
        advance(1)
    return made[0], made[1]


def _fill(
    config: StudioConfig, database: Database, prompts: Sequence[Prompt], engines: tuple[Engine, Engine], terminal: Any
) -> dict[str, Any]:
    from primum.studio import annotate, rounds

    newest, previous = (engine.model_name for engine in engines)
    if newest == previous:
        cure = "name two models, or write in the studio: one model answers there at two temperatures"
        raise UsageError(f"both models are '{newest}'", where="--model", cure=cure)
    with database.writing() as db:
        task = annotate.task_named(db, str(config.task), "terminal")
        if task.kind == "rate":
            raise UsageError("in this task replies are rated, not compared", where="--task", cure="name another task")
        made = rounds.join(db, task, newest, previous, "terminal")
        todo = rounds.left(db, task, made, prompts)
    items = same = 0
    with terminal.step(f"round {made.number}", len(todo), "prompts") as advance:
        for start in range(0, len(todo), BATCH):
            batch = todo[start : start + BATCH]
            found, equal = rounds.sample(batch, engines, config.seed, config.tokens, made.number)
            found = rounds.prioritise(found, config.judge or JUDGES)
            with database.writing() as db:
                items += annotate.add_items(db, task, found, "terminal").items
            same += equal
            advance(len(batch))
    return {"task": task.name, "task_id": task.id, "round": made.number, "newest": newest, "previous": previous,
            "items": items, "same": same, "done": len(prompts) - len(todo)}  # fmt: skip
