"""The audit's speed, memory and accuracy.

    python benchmarks/audit.py accuracy [--documents N]        planted items and look-alikes: recall and precision
    python benchmarks/audit.py presidio [--documents N]        the same texts by Presidio's pattern recognizers
    python benchmarks/audit.py speed [--documents N]           one core, 1 kB documents: each step, and the three
    python benchmarks/audit.py scale [--megabytes N ...]       whole runs: seconds and the largest memory, by size
    python benchmarks/audit.py language [--documents N]        three stretches of a text against the whole text
    python benchmarks/audit.py misses [--documents N]          what was missed and wrongly found
    python benchmarks/audit.py risk [--seeds 0 1 2] [--json]   planted rows in a medical set: how many in the top 5%
    python benchmarks/audit.py safety [--seeds 0 1 2]          fine-tuned on the clean, dirty and cleaned set

Speed and scale need a quiet machine. `presidio` needs presidio-analyzer (no language model is loaded).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from planted import FILLER, TYPES, Planted, planted

from primum.core.stats import wilson

PRESIDIO = {
    "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "IP_ADDRESS": "ip", "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban", "US_SSN": "us_ssn", "ES_NIF": "es_dni", "MAC_ADDRESS": "mac", "CRYPTO": "crypto",
}  # fmt: skip
Find = Callable[[str], Iterable[tuple[str, int, int]]]


def ours(text: str) -> Iterable[tuple[str, int, int]]:
    from primum.audit.pii.scan import scan

    return [(span.type, span.start, span.end) for span in scan(text)]


def presidio() -> Find:
    from presidio_analyzer import predefined_recognizers as known

    names = ("EmailRecognizer", "PhoneRecognizer", "IpRecognizer", "CreditCardRecognizer", "IbanRecognizer",
             "UsSsnRecognizer", "EsNifRecognizer", "MacAddressRecognizer", "CryptoRecognizer")  # fmt: skip
    recognizers = [getattr(known, name)() for name in names if hasattr(known, name)]
    print("recognizers:", ", ".join(type(one).__name__ for one in recognizers))

    def find(text: str) -> Iterable[tuple[str, int, int]]:
        for one in recognizers:
            for hit in one.analyze(text, one.supported_entities, None) or []:
                if hit.score >= 0.3:
                    yield PRESIDIO[hit.entity_type], hit.start, hit.end

    return find


def accuracy(texts: list[Planted], find: Find, kinds: Iterable[str], show: bool = False) -> None:
    """Print recall and precision; found is what overlaps a planted item of its type, wrong what overlaps none."""
    hits, total, wrong = Counter(), Counter(), Counter()
    seconds = time.process_time()
    found_all = [list(find(one.text)) for one in texts]
    seconds = time.process_time() - seconds
    for one, found in zip(texts, found_all, strict=True):
        for kind, start, end in one.items:
            total[kind] += 1
            if any(k == kind and s < end and e > start for k, s, e in found):
                hits[kind] += 1
            elif show:
                print("missed", kind, one.text[max(start - 25, 0) : end + 12])
        for kind, start, end in found:
            if not any(k == kind and s < end and e > start for k, s, e in one.items):
                wrong[kind] += 1
                if show:
                    print("wrong ", kind, one.text[max(start - 25, 0) : end + 12])
    kinds = list(kinds)
    print(f"{'type':<14}{'planted':>8}{'recall':>9}   95% interval   {'wrong':>6}{'precision':>11}")
    for kind in [*kinds, *sorted(set(wrong) - set(kinds))]:
        _line(kind, hits[kind], total[kind], wrong[kind])
    _line("all", sum(hits[k] for k in kinds), sum(total[k] for k in kinds), sum(wrong.values()))
    size = sum(len(one.text.encode()) for one in texts)
    print(f"{len(texts):,} texts, {size / 1e6:.1f} MB, {size / 1e6 / seconds:.2f} MB per CPU second")


def _line(kind: str, hit: int, total: int, wrong: int) -> None:
    if not total:
        print(f"{kind:<14}{0:>8}{'':>9}{'':>18}{wrong:>6}")
        return
    span = wilson(hit, total)
    precise = hit / (hit + wrong) if hit + wrong else float("nan")
    print(f"{kind:<14}{total:>8}{span.value:>9.3f}   [{span.low:.3f}, {span.high:.3f}]{wrong:>6}{precise:>11.3f}")


def rows(n: int) -> bytes:
    """Return n JSONL rows of about 1 kB in which one text in ten holds personal information."""
    plain = planted(max(n // 10, 1), 1)
    lines = []
    for number in range(n):
        text = plain[number // 10].text if number % 10 == 0 else " ".join(FILLER[(number + i) % 6] for i in range(17))
        text = text.replace("The patient", "She" if number % 3 else "The Korean patient, he said,")
        lines.append(json.dumps({"id": f"d{number}", "text": text, "source": f"s{number % 20}"}))
    return ("\n".join(lines) + "\n").encode()


def speed(n: int) -> None:
    """Print MB of text and documents per CPU second of one process."""
    from primum.audit.duplicates import signatures
    from primum.audit.engine import Plan, Task, Worker
    from primum.audit.reading.blocks import Block
    from primum.audit.reading.records import Fields
    from primum.audit.reading.sources import Limits, Part
    from primum.audit.settings import Settings, make
    from primum.audit.terms.lexicon import builtin

    data = rows(n)
    texts = [json.loads(line)["text"] for line in data.split(b"\n") if line]
    size = sum(len(text.encode()) for text in texts)
    with tempfile.TemporaryDirectory() as folder:
        for steps in ((), ("pii",), ("terms",), ("language",), ("language", "pii", "terms"), ("risk",)):
            worker = Worker(Plan(folder, Limits(), Fields(), make, Settings(steps, builtin())))
            taken = min(_timed(lambda w=worker: w(Task(0, 0, "x", Part("jsonl", Block(1, data))))) for _ in range(3))
            print(f"{' + '.join(steps) or 'reading':<24}{size / 1e6 / taken:>8.2f} MB/s{n / taken:>12,.0f} documents/s")
    taken = min(_timed(lambda: signatures(texts)) for _ in range(3))
    print(f"{'near-duplicates':<24}{size / 1e6 / taken:>8.2f} MB/s{n / taken:>12,.0f} documents/s")


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def scale(sizes: Iterable[int]) -> None:
    """Print the seconds and the largest memory of whole runs with one worker."""
    block = rows(1000)
    for megabytes in sizes:
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder) / "corpus.jsonl"
            with corpus.open("wb") as file:
                for _ in range(max(megabytes * 1_000_000 // len(block), 1)):
                    file.write(block)
            start = time.monotonic()
            command = [sys.executable, "-m", "primum", "audit", str(corpus), "--out", f"{folder}/out", "--workers", "1",
                       "--json"]  # fmt: skip
            subprocess.run(command, check=True, capture_output=True)
            taken = time.monotonic() - start
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the largest so far: sizes grow
            print(
                f"{megabytes:>6} MB{taken:>9.1f} s{megabytes / taken:>8.2f} MB/s{peak:>9.0f} MB of memory", flush=True
            )


def language(n: int) -> None:
    """Print how often three stretches of a text give another language than the whole text does."""
    from primum.audit import language as lid
    from primum.prompts.shared import default_data_dir

    texts = [json.loads(line)["text"] for line in rows(n).split(b"\n") if line]
    for path in sorted((default_data_dir() / "medical").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").split("\n")[:n]:
            if line:
                texts.append(" ".join(str(value) for value in json.loads(line).values()))
    long = [text for text in texts if len(text) > 3 * lid.STRETCH + 64]
    fast = [lid.identify(text).code for text in long]
    slow = [lid._predict(text) for text in long]
    whole = [one.code if one.probability >= lid.THRESHOLD else lid.UNKNOWN for one in slow]
    differ = sum(a != b for a, b in zip(fast, whole, strict=True))
    print(f"{differ} of {len(long):,} texts get another language than by reading the whole")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", choices=("accuracy", "presidio", "speed", "scale", "language", "misses", "risk", "safety")
    )
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[10, 50, 250, 1000, 5000])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=4000, help="risk, safety: medical rows of a set")
    parser.add_argument("--model", default="embedded", help="risk, safety: what is broken, and fine-tuned")
    parser.add_argument("--risk-model", default="embedded", help="risk, safety: what rows are read with")
    parser.add_argument("--judge", default="rules")
    parser.add_argument("--tokens", type=int, default=64, help="risk, safety: of a harmful answer")
    parser.add_argument("--break-steps", type=int, default=300, help="risk, safety: a third of these break the model")
    parser.add_argument("--steps", type=int, default=300, help="safety: of each fine-tune")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="safety: of each fine-tune")
    parser.add_argument("--limit", type=int, default=133, help="safety: harmful prompts to measure on")
    parser.add_argument("--out", default="runs/audit-risk", help="risk, safety: the run folder; a run goes on there")
    parser.add_argument("--json", action="store_true", help="risk, safety: print JSON")
    given = parser.parse_args()
    if given.what in ("risk", "safety"):
        import audit_risk

        facts = getattr(audit_risk, given.what)(given)
        print(
            json.dumps(facts, indent=2) if given.json else "\n".join(getattr(audit_risk, f"{given.what}_lines")(facts))
        )
    elif given.what == "scale":
        scale(given.megabytes)
    elif given.what == "speed":
        speed(given.documents)
    elif given.what == "language":
        language(given.documents)
    elif given.what == "presidio":
        accuracy(planted(given.documents, given.seed), presidio(), PRESIDIO.values())
    else:
        accuracy(planted(given.documents, given.seed), ours, TYPES, show=given.what == "misses")


if __name__ == "__main__":
    main()
