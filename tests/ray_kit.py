"""A Ray cluster of three nodes on this machine, for the tests of `make check-ray`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch


@contextmanager
def three_nodes(ray: Any) -> Iterator[Any]:
    """A head without cores, and three nodes of one core, in `nodes`; they find the functions of these tests."""
    from ray.cluster_utils import Cluster

    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    with patch.dict(os.environ, {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}):
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        made.nodes = [_node(made) for _ in range(3)]
        os.environ["RAY_ADDRESS"] = made.address
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def _node(made: Any) -> Any:
    for _ in range(3):
        try:
            return made.add_node(num_cpus=1)
        except Exception as error:  # Ray raises nothing narrower where a busy machine takes over 30 s to start a node
            late = error
    raise late
