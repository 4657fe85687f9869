"""Which engine draws a stage's replies: transformers with the adapter in memory, or another over the adapter's folder.

Another engine reads the policy from the run folder: the base where nothing was learned, else the base with its adapter.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, field_validator, model_validator

from primum.core.catalogue import names
from primum.core.config import Config
from primum.core.errors import StepFailedError, did_you_mean
from primum.core.records import Prompt, Reply
from primum.models.opening import ALIASES, AUTO, choose, open_engine
from primum.models.sampling import Engine, Opening
from primum.pipeline.context import Context
from primum.pipeline.desk import Policy
from primum.pipeline.steps import Draw, sample

OWN = "hf"
"""The engine that draws from the weights in memory."""


def known_engine(engine: str) -> str:
    """Return the name of an engine, as it was given.

    Raises:
        ValueError: there is no such engine.
    """
    known = [AUTO, *ALIASES, *names("engines")]
    if engine not in known:
        raise ValueError(f"no engine '{engine}': {did_you_mean(engine, known)}")
    return engine


class ByEngine(Config):
    """Who draws; what stages that draw many replies from a policy at rest have in common."""

    engine: str = Field(
        default="transformers", description="who draws: auto, transformers, openvino, vllm, http or canned"
    )
    url: str = Field(
        default="", description="an OpenAI-compatible endpoint; vllm is given the policy there, http is not"
    )
    served: str = Field(default="", description="http: the endpoint's name for the model that it serves")
    key_name: str = Field(
        default="OPENAI_API_KEY", description="the environment variable that holds the endpoint's key"
    )

    @field_validator("engine")
    @classmethod
    def _known(cls, engine: str) -> str:
        return known_engine(engine)

    @model_validator(mode="after")
    def _placed(self) -> ByEngine:
        if self.engine == "http" and not (self.url and self.served):
            raise ValueError("http needs url, and in served the endpoint's name for the model")
        return self


class Drawer(NamedTuple):
    """The engine that was chosen and why, what its replies depend on beside the policy, and how it is opened."""

    engine: str
    why: str
    key: str
    opening: Callable[[str], Opening]


def drawer(context: Context, by: ByEngine) -> Drawer:
    """Choose the engine, by the journey's model: all its policies are of one architecture.

    Raises:
        UsageError: none can run the model here.
    """

    def opening(model: str) -> Opening:
        return Opening(model, url=by.url, key_name=by.key_name)

    chosen = choose(by.engine, opening(context.desk.name))
    place = f" at {by.url} {by.served}".rstrip() if by.url else ""
    return Drawer(chosen.engine, chosen.why, "" if chosen.engine == OWN else f" by {chosen.engine}{place}", opening)


def drawn(
    context: Context, name: str, policy: Policy, prompts: Sequence[Prompt], draw: Draw, by: ByEngine | None = None
) -> list[Reply]:
    """Draw replies of a policy by an engine; resumes at the shard where it was stopped.

    A reply that the engine could not give has finish "error"; these are counted.

    Raises:
        StepFailedError: it could give none.
    """
    if by is None:
        return context.draw(name, policy, prompts, draw)
    found = drawer(context, by)
    if found.engine == OWN:
        return context.draw(name, policy, prompts, draw)
    made: list[Any] = []

    def engine() -> Engine:
        model = by.served if found.engine == "http" else folder_of(context, policy)
        context.journey.terminal.note(f"  engine {found.engine}: {found.why}")
        made.append(open_engine(found.engine, found.opening(model)))
        return made[0]

    try:
        replies = sample(context.journey, name, prompts, draw, f"{policy.name}@{policy.key}{found.key}", engine)
    finally:
        for one in made:
            if hasattr(one, "close"):
                one.close()
    failed = sum(reply.finish == "error" for reply in replies)
    if failed:
        again = context.journey.folder / "steps" / name
        note = f"{failed} of {len(replies)} replies could not be drawn by {found.engine} (remove {again} to try again)"
        if failed == len(replies):
            cure = f"see that the engine answers, remove {again}, and run again; or engine: transformers"
            raise StepFailedError(f"no reply could be drawn by {found.engine}", where=name, cure=cure)
        context.left_out += [note] if note not in context.left_out else []
    return replies


def folder_of(context: Context, policy: Policy) -> str:
    """Return what an engine opens to answer as a policy: the model's name, or a folder with the policy's adapter."""
    if policy.model is not None:
        return policy.model
    if policy.weights is None:
        return context.desk.name
    stage = context.journey.stage(f"adapter-{policy.name}", policy=policy.key)
    folder: Path = stage.path("adapter")
    if not stage.manifest:
        partial = folder.with_name("adapter.partial")
        shutil.rmtree(partial, ignore_errors=True)
        context.desk.write_adapter(policy, partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        stage.finish(policy=policy.name)
    return str(folder)
