"""`primum judge-serve`: a judge as a moderation endpoint in OpenAI's format."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import Field

from primum.core.catalogue import member
from primum.core.errors import Exit, StepFailedError, UsageError
from primum.core.hosts import LOOPBACK
from primum.judging.options import JudgeOptions, settings_of
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
    member("judges", config.judge)
    if config.host not in LOOPBACK and not config.open_to_network:
        raise UsageError(f"'{config.host}' is open to other machines", cure="add --open-to-network, or use 127.0.0.1")
    try:
        server = ModerationServer((config.host, config.port), config.judge, settings_of(config))
    except OSError as error:
        cure = "give another --port (0 takes a free one)"
        raise StepFailedError(f"cannot listen on port {config.port}: {error.strerror}", cure=cure) from error
    url = f"http://{config.host}:{server.server_address[1]}/v1"
    print(f"judge {config.judge} at {url}/moderations (Ctrl-C ends)", file=sys.stderr, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return Exit.PASSED, {"url": url, "judge": config.judge}
