"""Several processes that talk to each other, as torchrun would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path


def start(worker: Path, folder: Path, size: int, stop_after: int = 0, **more: str) -> list[int]:
    """Run a worker (folder, rows after which it ends at once) in `size` processes; return their exit codes."""
    folder.mkdir(exist_ok=True)
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1", **more}
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), str(folder), str(stop_after)],
            env=shared | {"RANK": str(i), "LOCAL_RANK": str(i), "WORLD_SIZE": str(size)},
            stderr=subprocess.DEVNULL if stop_after else None,
        )
        for i in range(size)
    ]
    try:
        if stop_after:
            code = processes[0].wait(240)  # the others wait for it for ever: a launcher ends them
            for other in processes[1:]:
                other.kill()
                other.wait()
            return [code]
        return [process.wait(240) for process in processes]
    finally:
        for process in processes:
            process.kill()


def launch(size: int) -> list[str]:
    """Return the arguments of Python that start a module in several processes on CPUs."""
    if size == 1:
        return []
    plain = ["--cpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    port = ["--main_process_port", free_port()]
    return ["-m", "accelerate.commands.launch", *plain, "--num_processes", str(size), *port]


def free_port() -> str:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])
