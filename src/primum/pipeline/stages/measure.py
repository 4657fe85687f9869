"""Draw a policy's replies to the test prompts and judge them."""

from __future__ import annotations

from primum.core.config import Config
from primum.pipeline.context import Context
from primum.pipeline.cost import Cost, Sizes
from primum.pipeline.cost import measured as measuring
from primum.pipeline.recipe import StageSpec

about = "measure a policy on the test prompts (the base where it names none)"


class Settings(Config):
    """Measuring has no settings of its own; `sampling` says how replies are drawn."""


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    del settings
    return measuring(sizes)


def run(context: Context, spec: StageSpec) -> None:
    """Measure the policy that the stage starts from."""
    policy = context.start(spec)
    context.measure(policy)
    context.facts[spec.name] = {"kind": "measure", "of": policy.name}
