"""`primum judge-serve`: a judge as a moderation endpoint in OpenAI's format."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import Field

from primum.core.errors import Exit
from primum.core.serving import Address, serve
from primum.judging.options import JudgeOptions, chosen_judges
from primum.judging.serve import ModerationServer


class ServeConfig(JudgeOptions):
    """Which judge is served, and where."""

    judge: str = Field("embedded", description="judge to serve (primum list judges)")
    host: str = Field("127.0.0.1", description="address to listen on; there is no password, so only this machine")
    port: int = Field(8765, ge=0, le=65535, description="port; 0 takes a free one")
    open_to_network: bool = Field(False, description="allow an address that other machines reach")


def run_verb(config: ServeConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Serve until Ctrl-C.

    Raises:
        UsageError: no such judge, or an address that others reach without --open-to-network.
        StepFailedError: the port is taken.
    """
    address = Address(config.host, config.port, config.open_to_network)
    (judge,) = chosen_judges((config.judge,), config)
    url = serve(address, partial(ModerationServer, judge=judge), f"judge {config.judge}", "/v1")
    return Exit.PASSED, {"url": url, "judge": config.judge}
