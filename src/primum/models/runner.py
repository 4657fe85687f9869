r"""Draw replies for any number of prompts without losing or repeating one: continuous feeding, bounded memory, resume.

    OUT/VARIANT/
        key.json            what the replies depend on
        open-00003.jsonl    replies of a shard that is not full yet, each written as soon as it has ended
        shard-00002.jsonl   a full shard, in the order of the prompts; written whole, then renamed
        manifest.json       written last: all replies are there

A line of an open file is flushed before the next reply is taken, so a killed process loses what was being decoded and
nothing else. A shard is the unit that is given to another process or machine; an open file is locked by who writes it.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from primum.core.errors import UsageError
from primum.core.lock import hold
from primum.core.records import JsonDict, Messages, Reply, digest, with_system
from primum.core.store import disk_error, read_json, read_jsonl, write_json, write_text
from primum.models.sampling import Generated, Request, Sampling, Streaming, reply_seed


class Asked(NamedTuple):
    """A prompt as the runner needs it."""

    id: str
    messages: Messages


@dataclass(frozen=True, slots=True)
class Plan:
    """How replies are drawn and laid into shards.

    Args:
        sampling: temperature, top-p, top-k, length.
        samples: replies a prompt.
        seed: of all of them; each reply's own follows from it, the prompt and the sample's number.
        system: put before every conversation that has no system turn; "" leaves the template's own.
        shard: replies a shard.
        offset: with `modulo`, this process draws the shards whose number leaves this remainder.
        modulo: processes that share the work.
    """

    sampling: Sampling
    samples: int = 1
    seed: int = 0
    system: str = ""
    shard: int = 1000
    offset: int = 0
    modulo: int = 1

    def mine(self, shard: int) -> bool:
        """Return whether this process draws a shard."""
        return shard % self.modulo == self.offset


@dataclass
class Tally:
    """What there is so far: replies, their tokens, how many are to a prompt that was cut, what failed and why."""

    replies: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    prompts_cut: int = 0
    failed: Counter[str] = field(default_factory=Counter[str])

    def add(self, row: JsonDict) -> None:
        """Count one reply."""
        self.replies += 1
        self.tokens += row["reply_tokens"]
        self.prompt_tokens += row["prompt_tokens"]
        self.prompts_cut += bool(row.get("prompt_cut"))  # what an older version drew does not say it
        if row["finish"] == "error":
            self.failed[row.get("error") or "unknown"] += 1


Seen = Callable[[int, int], None]
"""Called with (replies, new tokens) that were just finished, or found finished."""


def draw_all(
    folder: Path, key: JsonDict, prompts: Iterable[Asked], plan: Plan, engine: Callable[[], Streaming], seen: Seen
) -> Tally:
    """Draw every reply that is not on disk yet.

    Args:
        folder: of this variant.
        key: what the replies depend on; a folder that holds others is refused.
        prompts: in an order that is always the same; drawn as the engine has room.
        plan: sampling, samples, seed, shards.
        engine: opened when the first reply is needed.
        seen: told of replies.

    Returns:
        The count of this part's replies, those of earlier starts included.

    Raises:
        UsageError: the folder holds replies of other settings, or another process draws the same shards.
        StepFailedError: the disk is full.
    """
    claim(folder, key)
    with contextlib.closing(Ledger(folder, plan, seen)) as ledger:
        wanted = _Wanted(prompts, plan, ledger)
        first = next(wanted, None)
        if first is not None:
            opened = engine()
            with contextlib.closing(opened.stream(_chain(first, wanted), plan.sampling)) as stream:
                for index, got in stream:
                    ledger.write(index, _row(wanted.take(index), got, plan, opened.model_name))
        ledger.end(wanted.total)
    _finish(folder, wanted, plan, ledger.tally)
    return ledger.tally


def claim(folder: Path, key: JsonDict) -> None:
    """Say in the folder what its replies depend on.

    Raises:
        UsageError: it holds replies of other settings; nothing in it is touched.
    """
    held = folder / "key.json"
    if not held.exists():
        write_json(held, {"key": digest(key), "facts": key})
        return
    before = read_json(held)["facts"]
    other = sorted(k for k in {*before, *key} if before.get(k) != key.get(k))
    if other:
        problem = f"this folder holds replies of another {', '.join(other)}"
        raise UsageError(problem, where=str(folder), cure="give --out another folder, or delete this one")


def _finish(folder: Path, wanted: _Wanted, plan: Plan, tally: Tally) -> None:
    """Write the manifest if every shard is there, whoever drew it; `tally` is of this part."""
    if all(shard_path(folder, number).exists() for number in range(-(-wanted.total // plan.shard))):
        if plan.modulo > 1:
            tally = Tally()
            for row in replies(folder):
                tally.add(row)
        facts = {"replies": tally.replies, "tokens": tally.tokens, "prompts_cut": tally.prompts_cut,
                 "failed": dict(tally.failed)}  # fmt: skip
        write_json(folder / "manifest.json", {**facts, "prompts": wanted.prompts, "samples": plan.samples})


def shard_path(folder: Path, number: int) -> Path:
    """Return the file of a full shard."""
    return folder / f"shard-{number:05d}.jsonl"


def _chain(first: Request, rest: Iterable[Request]) -> Iterator[Request]:
    yield first
    yield from rest


class _Wanted:
    """The requests that are not answered on disk, in order; remembers only those under way."""

    def __init__(self, prompts: Iterable[Asked], plan: Plan, ledger: Ledger) -> None:
        self._prompts, self._plan, self._ledger = prompts, plan, ledger
        self._under_way: dict[int, tuple[str, int]] = {}
        self.total = self.prompts = 0
        self._requests = self._all()

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        return next(self._requests)

    def take(self, index: int) -> tuple[str, int]:
        """Return (prompt id, sample number) of an answered request, and forget it."""
        return self._under_way.pop(index)

    def _all(self) -> Iterator[Request]:
        plan = self._plan
        for prompt in self._prompts:
            self.prompts += 1
            messages = with_system(prompt.messages, plan.system)
            for sample in range(plan.samples):
                index, self.total = self.total, self.total + 1
                if plan.mine(index // plan.shard) and not self._ledger.has(index):
                    self._under_way[index] = prompt.id, sample
                    yield Request(index, messages, reply_seed(plan.seed, messages, sample))


def _row(asked: tuple[str, int], got: Generated, plan: Plan, model: str) -> JsonDict:
    """Return the reply's JSON object: `to_json(Reply(...))`, which walks any record, takes thrice as long."""
    prompt_id, sample = asked
    variant = f"{plan.sampling.name}-{sample}"
    reply = Reply(
        prompt_id, model, variant, got.text, got.finish, got.prompt_tokens, got.reply_tokens, plan.seed, got.prompt_cut
    )
    row = {
        "id": reply.id, "prompt_id": prompt_id, "model": model, "variant": variant, "text": got.text,
        "finish": got.finish, "prompt_tokens": got.prompt_tokens, "reply_tokens": got.reply_tokens, "seed": plan.seed,
        "prompt_cut": got.prompt_cut,
    }  # fmt: skip
    return {**row, "error": got.error} if got.error else row


@dataclass
class _Open:
    """A shard that is not full: its lines by their place, and its file."""

    file: IO[bytes]
    lines: dict[int, bytes]


class Ledger:
    """The replies on disk: open files that grow a line at a time, and full shards."""

    def __init__(self, folder: Path, plan: Plan, seen: Seen) -> None:
        self._folder, self._plan, self._seen = folder, plan, seen
        self.tally = Tally()
        self._full: set[int] = set()
        self._open: dict[int, _Open] = {}
        for number, path in self._mine("shard"):
            self._full.add(number)
            self._count(row for _, row in read_jsonl(path))
        for number, path in self._mine("open"):
            self._reopen(number, path)

    def has(self, index: int) -> bool:
        """Return whether a reply is on disk."""
        shard, place = divmod(index, self._plan.shard)
        return shard in self._full or (shard in self._open and place in self._open[shard].lines)

    def write(self, index: int, row: JsonDict) -> None:
        """Put one reply on disk; a shard that is full now is closed."""
        number, place = divmod(index, self._plan.shard)
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        shard = self._open.get(number) or self._begin(number)
        try:
            shard.file.write(b"%d\t%b" % (place, line))
        except OSError as error:
            raise disk_error(error, self._path("open", number)) from error
        shard.lines[place] = line
        self._count([row])
        if len(shard.lines) == self._plan.shard:
            self._close(number)

    def end(self, total: int) -> None:
        """Close the last shard, which may be shorter; `total` is the number of all requests."""
        for number in sorted(self._open):
            due = min(self._plan.shard, total - number * self._plan.shard)
            if len(self._open[number].lines) == due:
                self._close(number)

    def close(self) -> None:
        """Close the files of shards that are not full; what is in them stays."""
        for shard in self._open.values():
            shard.file.close()

    def _count(self, rows: Iterable[JsonDict]) -> None:
        before = self.tally.replies, self.tally.tokens
        for row in rows:
            self.tally.add(row)
        self._seen(self.tally.replies - before[0], self.tally.tokens - before[1])

    def _mine(self, kind: str) -> Iterator[tuple[int, Path]]:
        """Yield (number, file) of this part's shards of a kind."""
        for path in sorted(self._folder.glob(f"{kind}-*.jsonl")):
            number = int(path.stem.removeprefix(f"{kind}-"))
            if self._plan.mine(number):
                yield number, path

    def _path(self, kind: str, number: int) -> Path:
        return self._folder / f"{kind}-{number:05d}.jsonl"

    def _begin(self, number: int) -> _Open:
        path = self._path("open", number)
        try:
            file = path.open("ab", buffering=0)
        except OSError as error:
            raise disk_error(error, path) from error
        _lock(file, path)
        self._open[number] = _Open(file, {})
        return self._open[number]

    def _reopen(self, number: int, path: Path) -> None:
        """Take up an open file; a last line that was cut by a crash is taken away."""
        shard = self._begin(number)
        if number in self._full:  # killed between the rename of the shard and this
            self._open.pop(number).file.close()
            path.unlink()
            return
        lines: dict[int, bytes] = {}
        good = 0
        for place, text, length in _whole(path):
            lines[place], good = text, good + length
        shard.file.truncate(good)
        shard.lines.update(lines)
        self._count(json.loads(text) for text in lines.values())

    def _close(self, number: int) -> None:
        shard = self._open.pop(number)
        lines = (shard.lines[place] for place in sorted(shard.lines))
        write_text(self._path("shard", number), b"".join(lines).decode("utf-8", "surrogatepass"))
        shard.file.close()
        self._path("open", number).unlink()
        self._full.add(number)


def _lock(file: IO[bytes], path: Path) -> None:
    """Hold a file as long as it is open here (the system lets go of it when a process dies).

    Raises:
        UsageError: another process holds it.
    """
    if not hold(file):
        file.close()
        cure = "wait for it, or give each process a part of its own (--part 0/2, --part 1/2)"
        raise UsageError("another process draws these replies", where=str(path), cure=cure)


def _whole(path: Path) -> Iterator[tuple[int, bytes, int]]:
    """Yield (place, JSON, bytes of the line) of an open file, up to a line that was cut by a crash."""
    for line in path.read_bytes().splitlines(keepends=True):
        place, _, text = line.partition(b"\t")
        if not (line.endswith(b"\n") and place.isdigit() and _is_json(text)):
            return
        yield int(place), text, len(line)


def _is_json(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def reopen_failed(folder: Path) -> int:
    """Take failed replies out of full shards, so that the next run draws them again; return how many."""
    failed = 0
    for path in sorted(folder.glob("shard-*.jsonl")):
        rows: list[tuple[int, JsonDict]] = [(n - 1, row) for n, row in read_jsonl(path)]
        good = [(place, row) for place, row in rows if row["finish"] != "error"]
        if len(good) == len(rows):
            continue
        failed += len(rows) - len(good)
        text = "".join(f"{place}\t{json.dumps(row, ensure_ascii=False)}\n" for place, row in good)
        (folder / "manifest.json").unlink(missing_ok=True)
        path.unlink()
        write_text(path.with_name(path.name.replace("shard-", "open-")), text)
    return failed


def replies(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the replies of a variant's full shards, in the order of the prompts."""
    for path in sorted(folder.glob("shard-*.jsonl")):
        for _, row in read_jsonl(path):
            yield row


def drawn(folder: Path) -> Iterator[JsonDict]:
    """Yield every reply that a variant has on disk, those of shards that are not full too."""
    yield from replies(folder)
    for path in sorted(folder.glob("open-*.jsonl")):
        for _, text, _ in _whole(path):
            yield json.loads(text)


def lay_in(folder: Path, rows: Iterable[JsonDict], ids: Sequence[str], plan: Plan) -> int:
    """Lay replies that were drawn under the same settings where their prompts stand now; return how many fit.

    A reply's seed follows from its prompt, so it is the one that would be drawn here (up to the rounding of batches).
    What failed is left out.

    Args:
        folder: of the variant that begins with them.
        rows: replies, one to a prompt.
        ids: of the prompts, in their order.
        plan: of the variant; one sample a prompt.
    """
    places, laid = {prompt: at for at, prompt in enumerate(ids)}, 0
    with contextlib.closing(Ledger(folder, plan, lambda *_: None)) as ledger:
        for row in rows:
            if row["finish"] != "error" and row["prompt_id"] in places:
                ledger.write(places.pop(row["prompt_id"]), row)
                laid += 1
    return laid
