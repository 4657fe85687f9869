"""Parts of a page that different benchmarks write: each replaces its own and leaves the others."""

from __future__ import annotations

from pathlib import Path

from primum.core.store import write_text


def write_section(path: Path, name: str, text: str) -> None:
    """Write a part of a Markdown page between its two marks; a part that is not there yet is added at the end."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    held = path.read_text(encoding="utf-8") if path.exists() else ""
    part = f"{begin}\n{text.strip()}\n{end}"
    if begin in held and end in held:
        before, _, rest = held.partition(begin)
        written = before + part + rest.partition(end)[2]
    else:
        written = f"{held.rstrip()}\n\n{part}\n".lstrip()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, written)
