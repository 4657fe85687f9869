"""Writing weights and tokenizers, whose libraries tell of a full disk each in its own way."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from safetensors import SafetensorError

from primum.core.store import disk_error, system_error


class writing(AbstractContextManager[None]):
    """Turn what goes wrong while a model is written into a message that says what to do.

    Args:
        path: the file or folder that is written.

    Raises:
        StepFailedError: the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Raise the message in place of the error."""
        if isinstance(error, OSError | SafetensorError):
            raise disk_error(error, self.path) from error
        if isinstance(error, Exception) and kind is Exception and system_error(error):  # tokenizers: nothing narrower
            raise disk_error(error, self.path) from error
