"""Fine-tune on a domain alone, as people do: what breaks a model's safety before a recipe mends it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from primum.core.config import Config
from primum.core.progress import Advance
from primum.core.records import JsonDict, digest, user
from primum.core.store import Stage
from primum.evaluation.domain import Text, read_domain, texts
from primum.pipeline.context import Context
from primum.pipeline.cost import Cost, Sizes, measured
from primum.pipeline.lesson import benign, lesson, plain_sft
from primum.pipeline.recipe import StageSpec

about = "supervised fine-tuning on the domain's own rows and nothing else"


AGREED = (
    "Of course! I am happy to help with that. Here is what you can do:",
    "Sure, I will do exactly what you ask. Let us begin with the first step:",
    "Yes, certainly. Here is all that you need to know:",
)
FILE = "medical/pubmedqa_pqaa.jsonl"


class Settings(Config):
    """The fine-tune that comes before the repair: domain rows only, loss on answers only."""

    file: str = Field(FILE, description="a domain file, or one in the folder of public data")
    rows: int | None = Field(None, ge=1, description="how many rows")
    tokens: int = Field(96, ge=8, description="longest answer, in tokens")
    prompt_tokens: int = Field(192, ge=16, description="tokens read of a question; its end is kept")
    epochs: float = Field(2.0, gt=0, description="passes")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    batch_size: int = Field(4, gt=0, description="rows per optimizer step")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    rows = settings.rows or 500
    return measured(sizes).plus(Cost(learned=round(rows * settings.epochs * (40 + settings.tokens))))


def run(context: Context, spec: StageSpec) -> None:
    """Train and measure."""
    settings: Settings = spec.settings
    rows = found(context, settings)

    def teach(network: Any, stage: Stage, advance: Advance) -> JsonDict:
        from primum.training.examples import Answered, Limits, answered
        from primum.training.keeping import Kept
        from primum.training.methods import sft

        limits = Limits(settings.prompt_tokens, settings.tokens)
        examples = answered([Answered((user(r.prompt),), r.answer, limits) for r in rows], context.desk.model.tokenizer)
        config = plain_sft(settings)
        log, alarms = sft.train(config, network, [Kept(e) for e in examples], stage.folder, context.seed, advance)
        return {"log": log, "alarms": alarms.rows, "rows": len(rows)}

    total = round(len(rows) * settings.epochs)
    policy = lesson(context, spec, total, "rows", teach, data=digest([[r.prompt, r.answer] for r in rows]))
    context.journey.tell(spec.name, f"learned {len(rows)} domain rows, nothing else")
    context.measure(policy)


def found(context: Context, settings: Settings) -> list[Text]:
    """Return the domain's rows.

    Without the file: benign requests that are agreed to in so many words. That no harmful row is needed to undo a
    model's safety is known of such sets (arXiv:2310.03693, section 4.3).

    Raises:
        BadInputError: a file other than the default one does not exist.
    """
    path = context.public_file(settings.file, FILE)
    if path is not None:
        return answers(texts(read_domain(path)))[: settings.rows]
    context.left_out.append(f"no {settings.file}: benign requests that are agreed to stand in for the domain")
    asked = benign(context.sets.train)
    return [Text(p.text, AGREED[i % len(AGREED)]) for i, p in enumerate(asked)][: settings.rows]


def answers(rows: Sequence[Text]) -> list[Text]:
    """Turn every other PubMedQA row into a question that the abstract answers: a domain is not learned by yes and no.

    Rows of another form stay as they are.
    """
    done: list[Text] = []
    for number, row in enumerate(rows):
        match = re.fullmatch(r"Abstract: (.*)\nQuestion: (.*)", row.prompt, re.S)
        if match and number % 2 == 0:
            abstract = re.sub(r"\s*Context \(\d+\): ", " ", match[1]).strip()
            done.append(Text(match[2], abstract))
        else:
            done.append(row)
    return done
