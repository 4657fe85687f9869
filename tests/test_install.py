"""The installer's decisions: which build of torch, and when there is nothing to do."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def install(root):
    spec = importlib.util.spec_from_file_location("install", root / "tools" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("metadata", "cuda"),
    [
        ({"version": "2.13.0+cpu", "requires_dist": ["sympy"]}, False),
        ({"version": "2.13.0+cu126"}, True),
        (
            {"version": "2.13.0", "requires_dist": ["sympy", 'nvidia-cudnn-cu13==9.13; platform_system == "Linux"']},
            True,
        ),
        ({"version": "2.13.0", "requires_dist": ["filelock", "cuda-bindings<14"]}, True),
        ({"version": "2.13.0", "requires_dist": ["filelock", "networkx"]}, False),
        ({"version": "2.13.0"}, False),
    ],
)
def test_a_cuda_build_is_told_by_its_version_or_its_requirements(install, metadata, cuda):
    assert install.is_cuda_build(metadata) is cuda


def test_torch_is_pinned_once_and_without_a_build(install, root):
    pin = install.torch_pin((root / "requirements.txt").read_text())
    assert pin.startswith("torch==2.")
    assert "+" not in pin


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-nodeps.txt"])
def test_every_requirement_is_pinned_exactly_and_names_no_place(root, name):
    lines = [line for line in (root / name).read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    assert all(line.partition(";")[0].count("==") == 1 and "/" not in line for line in lines)


def test_the_stamp_follows_the_requirement_files(install, monkeypatch, tmp_path):
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text("a==1\n")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "install.py").write_text("")
    monkeypatch.setattr(install, "ROOT", tmp_path)
    first = install.stamp_key(("requirements.txt",))
    assert install.stamp_key(("requirements.txt",)) == first
    (tmp_path / "requirements.txt").write_text("a==2\n")
    assert install.stamp_key(("requirements.txt",)) != first


def test_what_a_repair_imports_is_kept_compiled_where_python_may_not_write_it(install, monkeypatch, tmp_path):
    (tmp_path / "used.py").write_text("x = 1\n")
    monkeypatch.setattr(install, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(install, "USED", ("used",))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    install.compile_what_is_used()
    assert [path.suffix for path in (tmp_path / "__pycache__").iterdir()] == [".pyc"]


def test_what_is_compiled_exists(install):
    assert all(importlib.util.find_spec(name) for name in install.USED)
