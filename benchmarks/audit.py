"""The audit's speed, memory and accuracy, and the page about them.

    python benchmarks/audit.py accuracy [--documents N]     planted items and look-alikes, beside Presidio's patterns
    python benchmarks/audit.py speed [--repeats N]          one core, 1 kB documents: each step, the three, duplicates
    python benchmarks/audit.py scale [--megabytes N ...]    whole runs: seconds and the largest memory, by size
    python benchmarks/audit.py language [--documents N]     our reading of fastText's model against its own
    python benchmarks/audit.py misses [--documents N]       what was missed and wrongly found
    python benchmarks/audit.py risk [--seeds 0 1 2]         planted rows in a medical set: how many in the top 5%
    python benchmarks/audit.py safety [--seeds 0 1 2]       fine-tuned on the clean, dirty and cleaned set
    python benchmarks/audit.py page --write docs/benchmarks/audit.md

Each measurement is printed and kept in --into FILE (docs/benchmarks/audit.json), from which `page` writes. Presidio
takes part in `accuracy` and `speed` where presidio-analyzer is installed (pattern recognizers alone; no language model
is loaded). Speed and scale need a quiet machine: rates by CPU time bear other work better than rates by the clock, and
both are given.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from audit_page import ANSWERS, write
from planted import FILLER, TYPES, Planted, planted

from primum.core.stats import wilson
from primum.core.store import read_json, write_json

PRESIDIO = {
    "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "IP_ADDRESS": "ip", "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban", "US_SSN": "us_ssn", "ES_NIF": "es_dni", "MAC_ADDRESS": "mac", "CRYPTO": "crypto",
}  # fmt: skip
LEAST_SCORE = 0.3
"""From this score on Presidio's finding counts."""
Find = Callable[[str], Iterable[tuple[str, int, int]]]
Facts = dict[str, Any]


def ours(text: str) -> Iterable[tuple[str, int, int]]:
    from primum.audit.pii.scan import scan

    return [(span.type, span.start, span.end) for span in scan(text)]


def presidio() -> Find | None:
    """Return Presidio's pattern recognizers for the planted types, or None where it is not installed."""
    try:
        from presidio_analyzer import predefined_recognizers as known
    except ImportError:
        return None
    logging.getLogger("tldextract").setLevel(logging.CRITICAL)  # it would load a newer list of domains than it has
    names = ("EmailRecognizer", "PhoneRecognizer", "IpRecognizer", "CreditCardRecognizer", "IbanRecognizer",
             "UsSsnRecognizer", "EsNifRecognizer", "MacAddressRecognizer", "CryptoRecognizer")  # fmt: skip
    recognizers = [getattr(known, name)() for name in names]

    def find(text: str) -> Iterable[tuple[str, int, int]]:
        hits = [hit for one in recognizers for hit in one.analyze(text, one.supported_entities, None) or []]
        return [(PRESIDIO[hit.entity_type], hit.start, hit.end) for hit in hits if hit.score >= LEAST_SCORE]

    return find


# ---------------------------------------------------------------- accuracy


def accuracy(documents: int, seed: int, show: bool = False) -> Facts:
    """Return recall and precision by type, ours and Presidio's, on the same texts."""
    texts = planted(documents, seed)
    facts: Facts = {"texts": documents, "seed": seed, "look_alikes": 3 * documents, "finders": {}}
    facts["finders"]["primum"] = _judged(texts, ours, list(TYPES), show)
    other = presidio()
    if other:
        facts["presidio"] = version("presidio-analyzer")
        facts["finders"]["presidio"] = _judged(texts, other, list(PRESIDIO.values()), False)
    for name, kinds in facts["finders"].items():
        print(f"\n{name:<14}{'planted':>8}{'recall':>9}   95% interval   {'wrong':>6}{'precision':>11}   95% interval")
        for kind, row in kinds.items():
            _line(kind, row)
    return facts


def _judged(texts: list[Planted], find: Find, kinds: list[str], show: bool) -> Facts:
    """Count what was found: what overlaps a planted item of its type; wrong is what overlaps none."""
    hits, total, wrong = Counter[str](), Counter[str](), Counter[str]()
    for one in texts:
        found = list(find(one.text))
        for kind, start, end in one.items:
            total[kind] += 1
            held = any(k == kind and s < end and e > start for k, s, e in found)
            hits[kind] += held
            _show(show and not held, "missed", kind, one.text, start, end)
        for kind, start, end in found:
            held = any(k == kind and s < end and e > start for k, s, e in one.items)
            wrong[kind] += not held
            _show(show and not held, "wrong", kind, one.text, start, end)
    named = [*kinds, *sorted(set(wrong) - set(kinds) - {kind for kind in wrong if not wrong[kind]})]
    rows = {kind: {"planted": total[kind], "found": hits[kind], "wrong": wrong[kind]} for kind in named}
    rows["all"] = {key: sum(row[key] for row in rows.values()) for key in ("planted", "found", "wrong")}
    return rows


def _show(wanted: bool, what: str, kind: str, text: str, start: int, end: int) -> None:
    if wanted:
        print(what, kind, text[max(start - 25, 0) : end + 12])


def _line(kind: str, row: Facts) -> None:
    parts = [(row["found"], row["planted"]), (row["found"], row["found"] + row["wrong"])]
    recall, precision = (
        "" if not n else f"{(w := wilson(k, n)).value:.3f} [{w.low:.3f}, {w.high:.3f}]" for k, n in parts
    )
    print(f"{kind:<18}{row['planted']:>6}  {recall:<22}{row['wrong']:>6}  {precision}")


# ---------------------------------------------------------------- speed


def rows(texts: Iterable[str]) -> bytes:
    lines = [json.dumps({"id": f"d{i}", "text": text, "source": f"s{i % 20}"}) for i, text in enumerate(texts)]
    return ("\n".join(lines) + "\n").encode()


def filler(n: int) -> list[str]:
    """Return n texts of about 1 kB, one in ten with personal information and look-alikes."""
    plain = planted(max(n // 10, 1), 1)
    texts = []
    for number in range(n):
        text = plain[number // 10].text if number % 10 == 0 else " ".join(FILLER[(number + i) % 6] for i in range(17))
        texts.append(text.replace("The patient", "She" if number % 3 else "The Korean patient, he said,"))
    return texts


def medical(n: int) -> list[str]:
    """Return at most n texts of 1,000 characters cut from the medical question sets, one after the other."""
    from primum.prompts.shared import default_data_dir

    lines = [line for path in sorted((default_data_dir() / "medical").glob("*.jsonl")) for line in path.open("rb")]
    joined = "\n".join(" ".join(map(str, json.loads(line).values())) for line in lines)
    return [joined[at : at + 1000] for at in range(0, len(joined) - 999, 1000)][:n]


def speed(n: int, repeats: int) -> Facts:
    """Return MB of text and documents a second of one process, for made-up and for medical text."""
    facts: Facts = {"repeats": repeats, "texts": {}, "load": os.getloadavg()[0]}
    for name, texts in (("filler", filler(n)), ("medical", medical(n))):
        size = sum(len(text.encode()) for text in texts)
        with tempfile.TemporaryDirectory() as folder:
            works = _works(Path(folder), texts)
            taken: dict[str, list[tuple[float, float]]] = {what: [] for what in works}
            for turn in range(repeats + 1):  # in turns, so that a moment's load falls on all of them
                for what, work in works.items():
                    _forget()
                    seconds = _timed(work)
                    if turn:  # the first loads what is needed
                        taken[what].append(seconds)
        facts["texts"][name] = {
            "documents": len(texts), "bytes": size,
            "steps": {what: _rates(times, size, len(texts)) for what, times in taken.items()},
        }  # fmt: skip
        print(f"\n{name}: {len(texts):,} documents, {size / 1e6:.1f} MB, median of {repeats}")
        for what, row in facts["texts"][name]["steps"].items():
            cpu = row["cpu"]
            print(f"{what:<26}{cpu['mb']:>7.2f} MB/s of CPU time [{cpu['low']:.2f}, {cpu['high']:.2f}]"
                  f"{cpu['documents']:>10,.0f} documents/s; by the clock {row['wall']['mb']:.2f} MB/s")  # fmt: skip
    return facts


def _works(folder: Path, texts: list[str]) -> dict[str, Callable[[], object]]:
    from primum.audit.duplicates import SUFFIX, THRESHOLD, duplicate_findings, signatures
    from primum.audit.engine import Plan, Task, Worker
    from primum.audit.pii.scan import scan_all
    from primum.audit.reading.blocks import Block
    from primum.audit.reading.records import Fields
    from primum.audit.reading.sources import Limits, Part
    from primum.audit.settings import Settings, make
    from primum.audit.terms.lexicon import builtin

    task = Task(0, 0, "x", Part("jsonl", Block(1, rows(texts))))

    def worker(*steps: str) -> Callable[[], object]:
        held = Worker(Plan(str(folder), Limits(), Fields(), make, Settings(steps, builtin())))
        return lambda: held(task)

    worker()()  # the ids that repeats are named by

    def duplicates() -> None:
        (folder / (task.stem + SUFFIX)).write_bytes(signatures(texts).tobytes())
        duplicate_findings(folder, [task.stem], THRESHOLD, folder / "duplicates.jsonl")

    works = {" + ".join(steps) or "reading": worker(*steps) for steps in
             ((), ("pii",), ("terms",), ("language",), ("language", "pii", "terms"))}  # fmt: skip
    works["near-duplicates"] = duplicates
    works["patterns alone"] = lambda: list(scan_all(texts))
    other = presidio()
    if other:
        works["presidio's patterns alone"] = lambda: [other(text) for text in texts]
    return works


def _forget() -> None:
    """Drop what is kept of phone numbers and words: every turn reads the same texts."""
    from primum.audit import language
    from primum.audit.pii import numbers

    language.model().forget()
    for kept in (numbers._with_code, numbers._valid, numbers._possible):
        kept.cache_clear()


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def _rates(times: list[tuple[float, float]], size: int, documents: int) -> Facts:
    rates: Facts = {}
    for name, seconds in zip(("cpu", "wall"), zip(*times, strict=True), strict=True):
        middle = median(seconds)
        rates[name] = {
            "mb": size / 1e6 / middle, "documents": documents / middle,
            "low": size / 1e6 / max(seconds), "high": size / 1e6 / min(seconds),
        }  # fmt: skip
    return rates


# ---------------------------------------------------------------- scale


def scale(sizes: Iterable[int], found: list[Facts]) -> Iterable[Facts]:
    """Yield the seconds and the largest memory of whole runs with one worker, each in a process of its own.

    Args:
        sizes: of the corpora, in MB.
        found: runs that were measured before.
    """
    block = rows(filler(1000))
    for megabytes in sizes:
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder) / "corpus.jsonl"
            with corpus.open("wb") as file:
                for _ in range(max(megabytes * 1_000_000 // len(block), 1)):
                    file.write(block)
            size = corpus.stat().st_size
            start = time.monotonic()
            command = [sys.executable, "-m", "primum", "audit", str(corpus), "--out", f"{folder}/out", "--workers", "1"]
            with open(os.devnull, "w") as nowhere:
                child = subprocess.Popen(command, stdout=nowhere, stderr=subprocess.STDOUT)
                _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                raise SystemExit(f"the audit of {megabytes} MB ended with exit code {child.returncode}")
            found = [run for run in found if run["bytes"] != size]
            found.append({
                "bytes": size, "wall": time.monotonic() - start, "cpu": used.ru_utime + used.ru_stime,
                "memory": used.ru_maxrss * 1024,
            })  # fmt: skip
        row = found[-1]
        print(f"{size / 1e6:>8.0f} MB{row['cpu']:>9.1f} s of CPU time{row['wall']:>9.1f} s by the clock"
              f"{row['memory'] / 1e6:>8.0f} MB of memory", flush=True)  # fmt: skip
        yield {"runs": sorted(found, key=lambda run: run["bytes"])}


# ---------------------------------------------------------------- language


def language(n: int) -> Facts:
    """Return how far the languages are from those of fastText's own code, which reads the same file."""
    import fasttext

    from primum.audit import language as lid

    theirs: Any = fasttext.load_model(str(lid.lid_file()))
    texts = [*filler(n), *medical(n)]
    apart, differ = 0.0, 0
    for text, found in zip(texts, lid.identify_all(texts), strict=True):
        labels, shares = theirs.predict(text.replace("\n", " "), k=1, threshold=0.0)
        code = labels[0].removeprefix("__label__") if shares[0] >= lid.THRESHOLD else lid.UNKNOWN
        differ += code != found.code
        apart = max(apart, abs(min(float(shares[0]), 1.0) - found.probability))
    print(f"{differ} of {len(texts):,} texts get another language than from fastText, largest difference {apart:.1e}")
    return {"texts": len(texts), "differ": differ, "apart": apart}


def machine() -> Facts:
    packages: Facts = {}
    for name in ("phonenumbers", "python-stdnum", "fasttext-predict", "numpy", "scipy", "presidio-analyzer"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "cores": os.cpu_count(),
            "packages": packages}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("accuracy", "speed", "scale", "language", "misses", "risk", "safety", "page")
    parser.add_argument("what", choices=names)
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[10, 50, 250, 1000, 5000])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=4000, help="risk, safety: medical rows of a set")
    parser.add_argument("--share", type=float, default=0.005, help="risk, safety: of each of four kinds, planted")
    parser.add_argument(
        "--answers",
        default="options",
        choices=("options", "sentences"),
        help="risk, safety: of the medical rows: the right option, or sentences of an abstract",
    )
    parser.add_argument("--draws", type=int, default=1, help="safety: replies of each harmful prompt")
    parser.add_argument("--model", default="embedded", help="risk, safety: what is broken, and fine-tuned")
    parser.add_argument("--risk-model", default="embedded", help="risk, safety: what rows are read with")
    parser.add_argument("--judge", default="rules")
    parser.add_argument("--tokens", type=int, default=64, help="risk, safety: of a harmful answer")
    parser.add_argument("--break-steps", type=int, default=300, help="risk, safety: a third of these break the model")
    parser.add_argument("--steps", type=int, default=300, help="safety: of each fine-tune")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="safety: of each fine-tune")
    parser.add_argument("--limit", type=int, default=133, help="safety: harmful prompts to measure on")
    parser.add_argument("--out", default="runs/audit-risk", help="risk, safety: the run folder; a run goes on there")
    parser.add_argument("--into", type=Path, default=Path("docs/benchmarks/audit.json"))
    parser.add_argument("--write", type=Path, default=Path("docs/benchmarks/audit.md"))
    given = parser.parse_args()
    held = read_json(given.into) if given.into.exists() else {}
    if given.what == "page":
        write(held, given.write)
        return
    if given.what == "misses":
        accuracy(given.documents, given.seed, show=True)
        return
    if given.what in ("risk", "safety"):
        import audit_risk

        measured = getattr(audit_risk, given.what)(given)
        print("\n".join(getattr(audit_risk, f"{given.what}_lines")(measured)))
        key = ANSWERS[given.answers][0] if given.what == "risk" else given.what
        write_json(given.into, held | {key: measured | {"machine": machine()}})
        return
    if given.what == "scale":  # each is kept when it is done: the large ones take long
        for measured in scale(given.megabytes, held.get("scale", {}).get("runs", [])):
            write_json(given.into, held | {"scale": measured | {"machine": machine()}})
        return
    measured = {
        "accuracy": lambda: accuracy(given.documents, given.seed), "language": lambda: language(given.documents),
        "speed": lambda: speed(given.documents, given.repeats),
    }[given.what]()  # fmt: skip
    write_json(given.into, held | {given.what: measured | {"machine": machine()}})


if __name__ == "__main__":
    main()
