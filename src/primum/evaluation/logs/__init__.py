"""Results of whatever tool measured, as the same tables: what is read decides how, not what it is called.

A folder of `primum evaluate` or `primum redteam`; Inspect AI's .eval or .json; lm-evaluation-harness's samples_*.jsonl,
or its output folder; garak's report.jsonl; PyRIT's SQLite memory; promptfoo's results.json. None of these tools need be
installed. Logs are data: nothing in them is evaluated, fetched, or used as a path.
"""

from __future__ import annotations

from pathlib import Path

from primum.core.errors import UsageError
from primum.evaluation.logs import garak, inspect_log, lm_eval, promptfoo, pyrit, redteam
from primum.evaluation.tables import RESULTS, Table, read_tables

READERS = (redteam, inspect_log, garak, pyrit, lm_eval, promptfoo)
CURE = (
    "give a folder of primum evaluate or redteam, or a log of Inspect (.eval), lm-eval, garak, PyRIT or promptfoo; "
    "two models are asked and compared by primum evaluate NEW --against OLD"
)


def read_run(path: Path) -> list[Table]:
    """Read a run, whichever tool wrote it.

    Raises:
        UsageError: no such file or folder, or of a kind that nobody here reads.
        BadInputError: a broken log; names the file and the place.
    """
    if not path.exists():
        raise UsageError("no such file or folder", where=str(path), cure=CURE)
    if path.is_dir() and (path / RESULTS).is_file():
        return read_tables(path)
    reader = next((one for one in READERS if one.reads(path)), None)
    if reader is None:
        what = f"no {RESULTS} in this folder, and no log that is known" if path.is_dir() else "a log of an unknown kind"
        raise UsageError(what, where=str(path), cure=CURE)
    return reader.read(path)
