"""Who works in a folder: one process at a time, held by the operating system, which lets go when that process dies.

    RUN/running.json    who holds the folder; there only while somebody does (or where a run was killed)

The lock is on the open file, not in its text: a file that a killed run left behind holds nobody.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from primum.core.errors import UsageError

FILE = "running.json"
TURNS = 10
"""How often a folder is tried whose file is taken away in between."""


def hold(file: IO[bytes]) -> bool:
    """Hold an open file as long as it is open here; return False where somebody else does.

    A file system without locks holds nothing back: True.
    """
    if sys.platform == "win32":
        import msvcrt

        place = file.tell()
        file.seek(2**30)  # a byte that is never written: on Windows nobody else could read what is locked
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(place)
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


@contextlib.contextmanager
def alone(place: str | None, what: str) -> Generator[None]:
    """Hold a folder while the block runs; what was made for that is taken away at its end.

    A folder that cannot be made or written is not held: whoever wants to write there tells why not. Of a team of
    processes (torchrun, accelerate launch) the first one holds it for all.

    Args:
        place: the folder of the run; None holds nothing.
        what: what goes on in it, for whoever finds it held.

    Raises:
        UsageError: another process holds it; names that process.
    """
    folder = Path(place or ".")
    made, path = [one for one in (folder, *folder.parents) if not os.path.exists(one)], folder / FILE
    file = None if place is None or _follows() else _held(folder, path)
    if file is None:
        yield
        return
    with file:
        facts = {"process": os.getpid(), "host": socket.gethostname(), "what": what, "since": _now()}
        with contextlib.suppress(OSError):  # the disk is full: it is held all the same
            file.truncate(0)
            file.write(json.dumps(facts).encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # while it is held: nobody else's file is taken away
                path.unlink()
            with contextlib.suppress(OSError):  # something was left in it
                for one in made:
                    one.rmdir()


def _follows() -> bool:
    return int(os.environ.get("WORLD_SIZE") or 1) > 1 and os.environ.get("RANK", "0") != "0"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _held(folder: Path, path: Path) -> IO[bytes] | None:
    """Open the folder's file and hold it; None where it cannot be written.

    A file that whoever held it has just taken away holds nobody: the next one is opened.
    """
    for _ in range(TURNS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b", buffering=0)
        except FileNotFoundError:  # taken away with its folder, in between
            continue
        except OSError:
            return None
        if not hold(file):
            file.close()
            raise _refusal(folder, path)
        if _is_there(file, path):
            return file
        file.close()
    return None


def _is_there(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _refusal(folder: Path, path: Path) -> UsageError:
    try:
        facts = json.loads(path.read_bytes())
        who = f"process {facts['process']} on {facts['host']}, {facts['what']}, since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it is being written, or taken away
        who = "it has not said which"
    cure = "wait until it has ended, or stop it and run this again (it goes on there), or give another --out"
    return UsageError(f"another run is at work in this folder ({who})", where=str(folder), cure=cure)
