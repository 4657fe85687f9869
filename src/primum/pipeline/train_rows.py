"""What a method of `primum train` learns: the rows of a file as token examples, lazily, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from primum.core.errors import BadInputError, UsageError
from primum.core.records import Messages
from primum.evaluation.domain import DomainRow, read_domain
from primum.pipeline import train_reward
from primum.prompts.files import Row

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.pipeline.train_config import TrainConfig
    from primum.training.dataset import Answer, Choice, Count
    from primum.training.examples import Example, Limits


class Given(NamedTuple):
    """What a row to be learned was made of: its place in the user's data, what is asked, and what is answered."""

    row: Row
    prompt: Messages
    answer: str


@dataclass
class Job:
    """What a method makes of the rows: token examples, their digest, and what training needs beside them.

    rows: what is learned, one an optimizer step counts. examples: all rows of tokens. references: those that the
    reference scores. flags: what rows say of their answers beside the texts. held: rows to measure on, not learned.
    kept: rows of the domain on which the model stays as it is.
    """

    rows: Sequence[Any]
    examples: Sequence[Example]
    references: Sequence[Example]
    flags: Sequence[Any]
    count: Count
    held: Sequence[Any] = ()
    kept: Sequence[Example] = ()

    @property
    def key(self) -> str:
        """The hash of what is learned, and in which order; labels and safety flags count too."""
        from primum.training.reference import row_key

        whole = hashlib.sha256()
        for example in chain(self.examples, self.kept):
            whole.update(row_key(example))
        whole.update(json.dumps(self.flags).encode())
        return whole.hexdigest()[:16]


def job(config: TrainConfig, model: Model) -> Job:
    """Read and tokenise the rows of a method.

    Raises:
        BadInputError: a row that cannot be read, or none that can be learned; names file and line.
        UsageError: fewer passes than make one row, or a vision-language model that is to be held in parts.
    """
    from primum.training import dataset
    from primum.training.examples import Limits
    from primum.training.methods import kto
    from primum.training.rows import sides

    if config.shard and model.sees:  # a row with pictures takes a pass of its own: the others would wait for ever
        cure = "leave --shard out: each process then holds the whole model"
        raise UsageError("a vision-language model is not trained in parts", where="--shard", cure=cure)
    count, limits, tokenizer = dataset.Count(), Limits(config.prompt_tokens, config.answer_tokens), model.tokenizer
    rows = dataset.rows_of(config.file or "", config.limit)
    if config.method == "dpo":
        found = dataset.choices(rows, count)
        pairs = dataset.pair_examples(safe(found, count) if config.loss == "safe" else found, tokenizer, limits, count)
        both = sides(pairs, "chosen", "rejected")
        most = read_domain(Path(config.keep_domain))[: len(pairs)] if config.keep_domain else []
        kept = domain(most, model, limits)
        made = Job(pairs, both, both, [pair.unsafe for pair in pairs], count, kept=kept)
    elif config.method == "reward":
        ranked = dataset.ranked_examples(dataset.ranked(rows, count, config.head), tokenizer, limits, count)
        made = train_reward.job(config, ranked, count)
    elif config.method == "sft":
        said = dataset.answers(rows, count, config.template)
        examples = dataset.answer_examples(said, tokenizer, limits, count)
        made = Job(examples, examples, [], [], count)
    else:
        labels: list[bool] = []
        noted = _noting(dataset.labelled(rows, count), labels)
        examples = dataset.answer_examples(noted, tokenizer, limits, count)
        known = kto.mismatched(examples, labels)
        made = Job(known, examples, sides(known, "example", "other"), labels, count)
    if not made.rows:
        reasons = Counter(row["reason"] for row in count.dropped)
        problem = "holds nothing to learn" + "".join(f"; {n} rows left out: {why}" for why, n in reasons.items())
        raise BadInputError(problem, where=config.file, cure="see primum train --help for the columns")
    _enough(config, made)
    return made


def given(config: TrainConfig) -> list[Given]:
    """Return what each row of a fine-tuning is made of, in the order of its examples; read once more."""
    from primum.training import dataset

    return [
        Given(Row(row.where, {}), one.prompt, one.text)
        for row in dataset.rows_of(config.file or "", config.limit)
        for one in dataset.answers([row], dataset.Count(), config.template)
    ]


def domain(rows: Sequence[DomainRow], model: Model, limits: Limits) -> list[Example]:
    """Return rows of the user's domain as token examples."""
    from primum.core.records import user
    from primum.training.examples import Answered, answered

    return answered([Answered((user(row.prompt),), row.answer, limits) for row in rows], model.tokenizer)


def _noting(found: Iterable[Answer], labels: list[bool]) -> Iterator[Answer]:
    """Pass answers on, and note whether each is good."""
    for one in found:
        labels.append(one.label)
        yield one


def _enough(config: TrainConfig, job: Job) -> None:
    from primum.training.batches import planned

    if planned(len(job.rows), config.epochs) < 1:
        few = f"{config.epochs:g} passes over {len(job.rows)} rows are not one row"
        raise UsageError(few, where="--epochs", cure="train for more passes")


def safe(found: Iterable[Choice], count: Count) -> Iterator[Choice]:
    """Order pairs as SafeDPO asks: a safe answer is never rejected for an unsafe one; two unsafe ones teach nothing."""
    from primum.training.losses import safe_order

    for pair in found:
        if pair.unsafe is None:
            cure = "add safety_bin (chosen_safe, both_safe, both_unsafe), or chosen_safe and rejected_safe"
            raise BadInputError(
                "does not say which answers are safe, as --loss safe needs", where=pair.where, cure=cure
            )
        order = safe_order(*pair.unsafe)
        if order == "drop":
            count.drop(Row(pair.where, {}), "both answers are unsafe")
        elif order == "swap":
            turned = {"unsafe": pair.unsafe[::-1], "ends": pair.ends[::-1]}
            yield pair._replace(chosen=pair.rejected, rejected=pair.chosen, **turned)
        else:
            yield pair
