"""`primum reward tune|serve RUN`: what a finished reward model can still be asked; nothing is learned."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import Exit, UsageError
from primum.core.serving import Address, serve
from primum.pipeline import threshold


class RewardConfig(Config):
    """Which reward model, and what is done with it."""

    action: Literal["tune", "serve"] | None = Field(
        None, description="tune: the gate's threshold for a wanted precision; serve: rewards to OpenRLHF, over HTTP",
        json_schema_extra={"positional": True},
    )  # fmt: skip
    run: str | None = Field(
        None, description="the run folder of a journey with a reward model, or of primum train reward",
        json_schema_extra={"positional": True},
    )  # fmt: skip
    precision: float = Field(
        threshold.PUBLISHED, gt=0, le=1, description="tune: wanted of calling a reply unsafe; then recall decides"
    )
    threshold: float | None = Field(
        None, ge=0, le=1, description="serve: of the gate (default: the one that was tuned when it was trained)"
    )
    host: str = Field("127.0.0.1", description="serve: address to listen on; there is no password")
    port: int = Field(8500, ge=0, le=65535, description="serve: port; 0 takes a free one")
    open_to_network: bool = Field(False, description="serve: allow an address that other machines reach")


def run_verb(config: RewardConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Tune or serve.

    Raises:
        UsageError: no action, no run, no reward model in it, or an address that others reach without --open-to-network.
        BadInputError: the labelled scores cannot be read.
        StepFailedError: the port is taken.
    """
    if config.action is None or config.run is None:
        cure = "primum reward tune RUN --precision 0.9, or primum reward serve RUN"
        raise UsageError("no action, or no run folder", where="primum reward", cure=cure)
    if config.action == "serve":
        return _serve(config)
    document = tuned(Path(config.run), config.precision)
    if not json_output:
        print("\n".join([*threshold.lines(document), *document["use"]]))
    return Exit.PASSED if document["threshold"] else Exit.UNDECIDED, document


def tuned(run: Path, precision: float) -> dict[str, Any]:
    """Return the threshold of a finished reward model for a wanted precision, with n and intervals, and how to use it.

    Raises:
        UsageError: no reward model, or none of its replies' labels.
    """
    place = threshold.place(run)
    folder = place.folder if place.stage else place.folder.parent
    if not (folder / threshold.LABELLED).is_file():
        journey = "go on with the journey once: primum run RECIPE --out RUN"
        cure = journey if place.stage else "train it again with this version: primum train reward FILE --out NEW"
        raise UsageError("no labelled scores beside this reward model", where=str(folder), cure=cure)
    labelled = threshold.read(folder)
    if not labelled.scores:
        cure = "train on rows with safety labels (safety_bin, or chosen_safe and rejected_safe), some of them held out"
        raise UsageError("no reply has a safety label", where=str(folder / threshold.LABELLED), cure=cure)
    document = threshold.facts(labelled, precision)
    use: list[str] = []
    if found := document["threshold"]:
        use.append(f"primum reward serve {run} --threshold {found['threshold']:g}")
        if place.stage:
            use.append(f"primum run RECIPE --out {run} --set stages.{place.stage}.precision={precision:g}")
    return {"run": str(run), **document, "use": use}


def _serve(config: RewardConfig) -> tuple[int, dict[str, Any]]:
    from primum.pipeline.reward_server import load_rewards, server

    address = Address(config.host, config.port, config.open_to_network)
    rewards = load_rewards(Path(str(config.run)), config.threshold)
    url = serve(address, partial(server, rewards), "rewards", "/get_reward")
    return Exit.PASSED, {"url": url, "run": config.run, "threshold": rewards.threshold}
