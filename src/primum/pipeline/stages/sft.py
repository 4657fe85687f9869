"""Safety supervised fine-tuning: demonstrations of safe answers, mixed with answers that the model keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from primum.core.progress import Advance
from primum.core.records import JsonDict, digest, to_json
from primum.core.store import Stage
from primum.pairing.demonstration import Demonstration
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.demos import SHELF, Teaching, demonstrate, learn, seen
from primum.pipeline.given import GIVEN, Check, given
from primum.pipeline.lesson import lesson
from primum.pipeline.recipe import StageSpec

if TYPE_CHECKING:
    from primum.training.keeping import Kept

about = "supervised safety fine-tuning on demonstrations, benign answers kept as they are (arXiv:2307.09288, 4.2.1)"


class Settings(Teaching):
    """Demonstrations and how they are learned."""

    demonstrations: int | None = Field(None, ge=1, description="harmful prompts that are demonstrated")
    fraction: float = Field(1.0, ge=0, le=1, description="of the safe completions that are used, benign rows unchanged")
    share: float | None = Field(None, ge=0, le=1, description="of safe completions in the mix (none: as they come)")
    tokens: int = Field(48, ge=1, description="longest own answer drawn for benign prompts")
    files: tuple[str, ...] = Field((), description="demonstrations of your own, by path, as train sft reads them")
    composed: bool = Field(True, description="whether primum composes safe completions beside yours")
    checklist: Check = Field("drop", description="what becomes of yours that fail it: left out, or learned and told")

    @field_validator("files")
    @classmethod
    def _here(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        if any(file.startswith("hub:") for file in files):
            raise ValueError("demonstrations are files: journeys fetch nothing for a stage; give the path of a copy")
        return files


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    count = min(settings.demonstrations or sizes.harmful, sizes.harmful)
    rows = count + sizes.harmful + sizes.general // settings.general_every
    drawn = (sizes.harmful + sizes.general) * settings.tokens
    return measured(sizes).plus(Cost(drawn, drawn, round(rows * settings.epochs * (PROMPT // 2 + 16))))


def run(context: Context, spec: StageSpec) -> None:
    """Build the demonstrations, train, measure."""
    settings: Settings = spec.settings
    own = given(context, spec.name, settings.files, settings.checklist).demonstrations if settings.files else []
    demos = demonstrate(context, settings.demonstrations, settings.share, settings.tokens, own, settings.composed)
    demos = part_of(demos, settings.fraction)
    context.shelf[SHELF] = demos
    kinds, yours = Counter(d.kind for d in demos), sum(d.answer_from == GIVEN for d in demos)

    def teach(network: Any, stage: Stage, advance: Advance) -> JsonDict:
        found = learn(context, network, demos, settings, stage, advance)
        mine = {"given": yours, "given_cut": cut_of(found.rows, demos, context.desk.model.tokenizer)} if yours else {}
        return {"log": found.log, "alarms": found.alarms, "demonstrations": dict(kinds), **mine}

    policy = lesson(context, spec, seen(demos, settings), "rows", teach, data=digest([to_json(d) for d in demos]))
    said = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    if yours:
        cut = context.facts[spec.name]["given_cut"]
        said += f"; {yours} of them yours"
        said += f", {cut} of which are cut after {settings.given_tokens} tokens" if cut else ""
    context.journey.tell(spec.name, f"demonstrations: {said}")
    context.measure(policy)


def cut_of(rows: Sequence[Kept], demonstrations: Sequence[Demonstration], tokenizer: Any) -> int:
    """Return how many of the user's answers are too long to be learned whole: such a row has no end-of-turn token."""
    from primum.models.chat import end_of_turn

    end, both = end_of_turn(tokenizer), zip(rows, demonstrations, strict=True)
    return sum(d.answer_from == GIVEN and row.example.answer[-1] != end for row, d in both)


def part_of(demos: Sequence[Demonstration], fraction: float) -> list[Demonstration]:
    """Return all benign rows and a fraction of the safe completions, by hash: a smaller part lies in a larger one."""
    safe = sorted((d for d in demos if d.kind == "harmful"), key=lambda d: digest(d.prompt_id))
    kept = {d.prompt_id for d in safe[: round(fraction * len(safe))]}
    return [d for d in demos if d.kind != "harmful" or d.prompt_id in kept]
