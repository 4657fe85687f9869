"""The training step of a policy patch: new answers are learned, everything else is kept as the model gives it today.

What is kept (twins of the new requests, and a replay of every old category's prompts and of general ones) is held by
the divergence from the model's own answers, right or wrong: a patch changes what the policy changed and repairs nothing
else (replay against forgetting, arXiv:1902.10486; the divergence is that of `training.keeping`). torch is imported
inside functions.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import StepFailedError
from primum.core.progress import Advance
from primum.core.records import JsonDict, Prompt, Reply, digest
from primum.pipeline.steps import Journey
from primum.prompts.taught import Case, told

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.training.keeping import Kept


class PatchConfig(Config):
    """How a patch is learned."""

    learning_rate: float = Field(default=5e-4, gt=0, description="peak learning rate of the adapter")
    batch_size: int = Field(default=8, gt=0, description="rows per optimizer step")
    rank: int = Field(default=16, ge=1, description="rank of the adapter")
    start: float = Field(
        default=0.4, ge=0, lt=1, description="share of the model's depth below which nothing is trained"
    )
    passes: int = Field(default=4, ge=1, description="times that each row of a rule or a use is seen")
    fact_passes: int = Field(default=10, ge=1, description="times that each row of a fact is seen")
    keep_weight: float = Field(default=4.0, ge=0, description="weight of kept answers against learned ones")
    answer_tokens: int = Field(default=64, ge=8, description="tokens learned of an answer")
    kept_tokens: int = Field(default=12, ge=1, description="tokens kept of an answer that must stay")
    temperature: float = Field(default=0.4, gt=0, description="answers are kept as they are drawn at this temperature")


@dataclass(frozen=True)
class Row:
    """One row to train on: a case, its answer, whether it is learned or kept, and what it is learned together with."""

    prompt: Prompt
    answer: str
    learned: bool
    ends: bool
    group: str


@dataclass(frozen=True)
class Patched:
    """What training left behind: the adapter's folder, its key, the log and alarms, what was learned and kept."""

    adapter: Path
    key: str
    log: list[JsonDict]
    alarms: list[JsonDict]
    rows: Mapping[str, int]
    same: bool


def rows_of(
    learn: Sequence[Case], replay: Sequence[Case], replies: Sequence[Reply], passes: Mapping[str, int]
) -> list[Row]:
    """Return the rows of one pass: new ones again and again, what is replayed once.

    Args:
        learn: cases of the new parts; those without an answer are kept.
        replay: cases of what was there before.
        replies: the model's own, to all prompts that are kept.
        passes: how often the rows of a part are seen, by part; each time with its group.
    """
    own = {reply.prompt_id: reply for reply in replies if reply.text.strip()}
    found: list[Row] = []
    for turn in range(max(passes.values())):
        due = [case for case in learn if turn < passes[case.part]] + (list(replay) if turn == 0 else [])
        found += [row for case in due if (row := _row(case, own, f"{case.group}:{turn}")) is not None]
    return found


def _row(case: Case, own: Mapping[str, Reply], group: str) -> Row | None:
    if case.answer is not None:
        return Row(case.prompt, case.answer, True, True, group)
    reply = own.get(case.prompt.id)
    return None if reply is None else Row(case.prompt, reply.text, False, reply.finish == "stop", group)


def learn(
    journey: Journey, config: PatchConfig, model: Model, rows: Sequence[Row], seed: int, facts: JsonDict
) -> Patched:
    """Train the adapter, save it, and see that the model without it is the model that was loaded, bit for bit.

    The network inside `model` is as it was in the end.

    Args:
        journey: the run folder.
        config: how it is learned.
        model: what is patched.
        rows: of `rows_of`.
        seed: of the adapter's first weights and of the order.
        facts: what else the result depends on.

    Raises:
        StepFailedError: the weights below the adapter changed.
    """
    from primum.models.load import weights_hash
    from primum.training.adapter import add_lora
    from primum.training.batches import planned

    adapter = journey.folder / "adapter"
    key = digest([[row.prompt.id, row.answer, row.learned, row.ends, row.group] for row in rows])
    settings = config.model_dump(mode="json")
    stage = journey.stage("05-patch", model=model.key, settings=settings, seed=seed, rows=key, **facts)
    counts = {"learned": sum(row.learned for row in rows), "kept": sum(not row.learned for row in rows)}
    if not (stage.manifest and adapter.is_dir()):
        network = add_lora(model, config.rank, 2 * config.rank, seed, config.start)
        kept = _examples(journey, config, model, network, rows)
        with journey.step("learn the patch", planned(len(rows), 1.0), "rows") as advance:
            log, alarms = _train(config, network, kept, [row.group for row in rows], stage.folder, seed, advance)
            _save(model, network, adapter)
        network.unload()
        same = weights_hash(model.network) == model.hash
        if not same:
            raise StepFailedError("the model below the adapter is not what it was", cure="report this: it is a bug")
        stage.finish(log=log, alarms=alarms, same=same, rows=counts)
    found = stage.manifest or {}
    return Patched(adapter, stage.key, found["log"], found["alarms"], found["rows"], found["same"])


def _train(
    config: PatchConfig,
    network: Any,
    kept: Sequence[Kept],
    groups: Sequence[str],
    folder: Path,
    seed: int,
    advance: Advance,
) -> tuple[list[JsonDict], list[JsonDict]]:
    from primum.training.methods import sft

    settings = sft.Config(
        learning_rate=config.learning_rate, epochs=1.0, batch_size=config.batch_size, keep_weight=config.keep_weight,
        temperature=config.temperature, rest_weight=1.0,
    )  # fmt: skip
    log, alarms = sft.train(settings, network, kept, folder, seed, advance, groups)
    return log, alarms.rows


def _examples(journey: Journey, config: PatchConfig, model: Model, network: Any, rows: Sequence[Row]) -> list[Kept]:
    """Return the rows as the method takes them; of what is kept, the model's states without the adapter are noted."""
    from primum.training.examples import Answered, Limits, answered
    from primum.training.keeping import Kept, keep

    limits = {True: Limits(answer=config.answer_tokens), False: Limits(answer=config.kept_tokens)}
    answers = [Answered(row.prompt.messages, row.answer, limits[row.learned], row.ends) for row in rows]
    examples = answered(answers, model.tokenizer)
    once = {(e.prompt, e.answer): e for e, row in zip(examples, rows, strict=True) if not row.learned}
    with network.disable_adapter(), journey.step("note own answers", len(once), "answers") as advance:
        noted = dict(zip(once, keep(network, list(once.values()), advance), strict=True))
    return [Kept(e) if row.learned else noted[e.prompt, e.answer] for e, row in zip(examples, rows, strict=True)]


def _save(model: Model, network: Any, adapter: Path) -> None:
    """Save the adapter whole or not at all, beside it the tokenizer that it was learned with."""
    from primum.models.saving import writing
    from primum.training.adapter import save_adapter

    partial = adapter.with_name(adapter.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with writing(adapter):
        save_adapter(network, partial, model.source)
        shutil.rmtree(adapter, ignore_errors=True)
        partial.rename(adapter)


def case_key(cases: Sequence[Case]) -> str:
    """Return a hash of all that cases hold."""
    return digest([dict(told(case)) for case in cases])
