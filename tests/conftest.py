"""What every test may rely on: no network, quiet tokenizers, and the public data where it is present."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs a hub is a wrong test; fail at once, not after retries
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: a second thread only waits, and badly on a busy machine
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # no warning where a test starts a subprocess

from primum.prompts.shared import default_data_dir

ROOT = Path(__file__).parents[1]
LONGEST = ("test_pipeline_repair.py", "test_pipeline_stress.py", "test_pipeline_train.py", "test_studio_journey.py")
"""Files whose tests take minutes: begun first, so that no process is left with one when the others have ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, in their own order."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def root() -> Path:
    """The source tree."""
    return ROOT


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder of public data sets; the test is skipped where it is missing."""
    folder = default_data_dir()
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}")
    return folder
