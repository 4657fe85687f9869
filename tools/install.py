"""Put primum and its pinned dependencies into .venv (standard library only; `make install` runs this).

Takes the CPU build of torch on a machine without an NVIDIA GPU, so that gigabytes of CUDA are never downloaded there.
A stamp keyed by the requirement files makes a second run instant.

    PRIMUM_TORCH_INDEX   another package index for torch alone (an older CUDA driver, ROCm); see README.md
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
WINDOWS = os.name == "nt"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
COMMAND = VENV / ("Scripts/primum.exe" if WINDOWS else "bin/primum")
OLDEST = (3, 11)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
RUNTIME = ("requirements.txt", "requirements-nodeps.txt")
DEV = ("requirements-dev.txt",)
USED = (
    "primum.cli", "primum.models.engines.hf", "primum.pipeline.repair", "primum.pipeline.learn", "primum.report.page",
    "primum.training.adapter", "primum.training.methods.dpo", "primum.training.methods.sft",
)  # fmt: skip
"""Modules that import nearly all that a repair needs."""


def main() -> int:
    """Install, or say that nothing needs installing; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dev", action="store_true", help="also install what the tests need")
    dev = parser.parse_args().dev
    check_python()
    VENV.mkdir(exist_ok=True)
    with only_one_at_a_time():
        files = RUNTIME + (DEV if dev else ())
        key = stamp_key(files)
        stamp = VENV / ("installed-dev.stamp" if dev else "installed.stamp")
        if COMMAND.exists() and stamp.exists() and stamp.read_text() == key:
            return 0
        start = time.monotonic()
        install(files)
        stamp.write_text(key)
        say(f"ready in {time.monotonic() - start:.0f} s: {COMMAND.relative_to(ROOT)}")
    return 0


def install(files: tuple[str, ...]) -> None:
    """Create the environment and install torch, the pinned packages and primum itself, in that order."""
    make_environment()
    install_torch()
    say("installing the pinned packages")
    wanted = [part for name in files for part in ("-r", str(ROOT / name))]
    # The files list every dependency, so nothing is left for pip to resolve.
    pip("install", "--no-deps", *wanted)
    pip("install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    compile_what_is_used()


def compile_what_is_used() -> None:
    """Import what a repair imports once, so that Python keeps it compiled.

    pip is told not to compile (all of torch and transformers would take minutes, of which little is ever imported), and
    containers often forbid Python to write what it compiles: every start would then compile two thousand files, 10 to
    20 seconds. Nothing depends on it, so what goes wrong here is left to the first start.
    """
    say("compiling what is imported")
    may_write = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    run([str(PYTHON), "-c", f"import {', '.join(USED)}"], env=may_write)


def check_python() -> None:
    """Stop with a cure where this Python is too old."""
    if sys.version_info < OLDEST:
        newer = [name for name in ("python3.14", "python3.13", "python3.12", "python3.11") if shutil.which(name)]
        cure = f"make install PYTHON={newer[0]}" if newer else "install Python 3.11 or newer"
        fail(f"Python {platform.python_version()} is too old, primum needs 3.11 or newer", cure)


def make_environment() -> None:
    """Create .venv where it is not there, with a pip that reads metadata without downloading wheels (>= 23.2)."""
    if not PYTHON.exists():
        say("creating .venv")
        made = run([sys.executable, "-m", "venv", str(VENV)])
        if made.returncode:
            fail(
                "cannot create .venv: " + tail(made),
                "install Python's venv module (on Debian and Ubuntu: apt install python3-venv)",
            )
    version = run([str(PYTHON), "-c", "import pip; print(pip.__version__)"]).stdout
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < (23, 2):
        pip("install", "--upgrade", "pip")


def install_torch() -> None:
    """Install the build of torch that fits this machine, unless the plain package is that build already."""
    pin = torch_pin((ROOT / "requirements.txt").read_text())
    gpu = has_nvidia_gpu()
    index = os.environ.get("PRIMUM_TORCH_INDEX")
    if gpu or index:
        remove_cpu_torch()
        say(f"installing {pin} for the GPU (several GB the first time)")
        extra = ("--extra-index-url", index) if index else ()
        pip("install", *extra, pin, "-c", str(ROOT / "requirements.txt"))
    elif platform.system() != "Darwin" and is_cuda_build(plain_torch(pin)):
        say(f"no NVIDIA GPU here: installing the CPU build of {pin}")
        pip("install", "--no-deps", "--index-url", CPU_INDEX, f"{pin}+cpu")
    else:
        say(f"no NVIDIA GPU here: the plain {pin} is a CPU build")


def torch_pin(requirements: str) -> str:
    """Return the line of requirements.txt that pins torch, like "torch==2.13.0"."""
    return next(line.strip() for line in requirements.splitlines() if line.startswith("torch=="))


def plain_torch(pin: str) -> dict:
    """Return the metadata of what pip would take for the pin on this machine; downloads no wheel."""
    dry = ("install", "--dry-run", "--no-deps", "--ignore-installed", "--report", "-", pin)
    return json.loads(pip(*dry))["install"][0]["metadata"]


def is_cuda_build(metadata: dict) -> bool:
    """Return whether this torch brings CUDA: its version says so, or it requires NVIDIA's packages."""
    local = metadata["version"].partition("+")[2]
    if local:
        return not local.startswith("cpu")
    return any(re.match(r"(nvidia|cuda|triton)", need) for need in metadata.get("requires_dist", ()))


def has_nvidia_gpu() -> bool:
    """Return whether nvidia-smi runs and lists a GPU."""
    if not shutil.which("nvidia-smi"):
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
        return listed.returncode == 0 and "GPU" in listed.stdout
    return False


def remove_cpu_torch() -> None:
    """Remove a CPU build left from before the GPU came: pip takes it for the pinned version."""
    if any(VENV.glob("lib/python*/site-packages/torch-*+cpu.dist-info")):
        pip("uninstall", "--yes", "torch")


def stamp_key(files: tuple[str, ...]) -> str:
    """Return the hash of everything that decides what is installed."""
    parts = [platform.python_version(), str(bool(shutil.which("nvidia-smi"))), os.environ.get("PRIMUM_TORCH_INDEX", "")]
    parts += [(ROOT / name).read_text() for name in (*files, "pyproject.toml", "tools/install.py")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@contextlib.contextmanager
def only_one_at_a_time():
    """Hold a lock, so that two `make` at once do not install into each other."""
    with (VENV / "install.lock").open("w") as lock:
        if not WINDOWS:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pip(*arguments: str) -> str:
    """Run pip in .venv and return its output; where it fails, show the end of what it said and stop."""
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    compile_later = ("--no-compile",) if arguments[0] == "install" else ()
    done = run([str(PYTHON), "-m", "pip", arguments[0], *quiet, *compile_later, *arguments[1:]])
    if done.returncode:
        fail(
            f"pip {' '.join(arguments[:4])} ... failed:\n{tail(done)}",
            "check the network and the free disk space, then run the same command again",
        )
    return done.stdout


def run(command: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command, in another environment where one is given, and keep what it says."""
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def tail(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last lines of what a command said."""
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"install: {text}", file=sys.stderr, flush=True)


def fail(problem: str, cure: str) -> None:
    """Print what is wrong and the cure, and stop."""
    sys.exit(f"install: {problem}\n  cure: {cure}")


if __name__ == "__main__":
    sys.exit(main())
