"""Whether the domain is still known: accuracy of multiple choice, of every policy measured so far."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import BadInputError
from primum.core.records import JsonDict, digest, to_json, user
from primum.evaluation.domain import DomainRow, Text, accuracy, read_domain
from primum.pipeline.context import Context
from primum.pipeline.cost import Cost, Sizes
from primum.pipeline.desk import Policy
from primum.pipeline.recipe import StageSpec

about = "accuracy on the domain's multiple-choice questions, of every policy so far"
FILE = "medical/pubmedqa_pqal.jsonl"


class Settings(Config):
    """Which questions."""

    file: str = Field(FILE, description="a file of questions with options, or one in the folder of public data")
    rows: int | None = Field(None, ge=1, description="how many questions")
    prompt_tokens: int = Field(192, ge=16, description="tokens read of a question; its end is kept")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes, for four policies."""
    del sizes
    return Cost(scored=4 * (settings.rows or 500) * settings.prompt_tokens)


def run(context: Context, spec: StageSpec) -> None:
    """Measure every policy that was measured before.

    Raises:
        BadInputError: a file other than the default one does not exist, or has no question with options.
    """
    settings: Settings = spec.settings
    path = context.public_file(settings.file, FILE)
    if path is None:
        context.left_out.append(f"no {settings.file}: the domain's accuracy was not measured")
        return
    rows = [row for row in read_domain(path) if row.options][: settings.rows]
    if not rows:
        cure = "give rows with 'options' and the right one (docs/evals.md)"
        raise BadInputError("no multiple-choice question", where=str(path), cure=cure)
    found = {name: _of(context, spec, m.policy, rows) for name, m in context.measured.items()}
    context.facts[spec.name] = {"kind": "domain_accuracy", "file": settings.file, "policies": found}


def _of(context: Context, spec: StageSpec, policy: Policy, rows: Sequence[DomainRow]) -> JsonDict:
    from primum.training.examples import Answered, Limits, answered
    from primum.training.score import score_all

    asked = digest([[row.prompt, *row.options] for row in rows])
    name = f"measure-{policy.name}-domain"
    stage = context.journey.stage(name, policy=policy.key, rows=asked, prompt=spec.settings.prompt_tokens)
    total = sum(len(row.options) for row in rows)
    with context.journey.step(f"{policy.name} domain", total, "options") as advance:
        if stage.manifest:
            advance(total)
            return stage.manifest["measured"]

        def likelihood(texts: Sequence[Text]) -> list[float]:
            model = context.desk.take(policy)
            limits = Limits(prompt=spec.settings.prompt_tokens, answer=64)
            examples = answered([Answered((user(t.prompt),), t.answer, limits) for t in texts], model.tokenizer)
            return score_all(model.network, examples, advance=advance).logps.tolist()

        measured = {m.metric: to_json(m) for m in accuracy(rows, likelihood)}
        stage.finish(measured=measured)
    return measured
