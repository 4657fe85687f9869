"""Some documents of a corpus at a glance."""

import json

import pytest

from primum.audit.reading.files import expand
from primum.audit.reading.records import Fields
from primum.audit.reading.sources import Limits
from primum.audit.sample import BLOCKS, glance


def write(path, names):
    path.write_text("".join(json.dumps({"id": name, "text": f"text of {name}"}) + "\n" for name in names))
    return str(path)


def seen(paths, many, block=1 << 20):
    return [one.id for one in glance(expand(paths), Limits(block=block), Fields(), many)]


def test_a_glance_takes_some_documents_of_all_over_the_file_and_the_same_each_time(tmp_path):
    names = [f"d{i}" for i in range(1000)]
    path = write(tmp_path / "a.jsonl", names)
    found = seen([path], 100)
    assert found == seen([path], 100)
    assert len(set(found)) == 100
    assert 300 < sum(int(name[1:]) for name in found) / 100 < 700  # not those at the beginning
    assert seen([path], 10) == found[:10]
    assert sorted(seen([path], 5000)) == sorted(names)  # no more than there are


def test_a_glance_reads_no_more_than_the_first_blocks(tmp_path):
    path = write(tmp_path / "a.jsonl", [f"d{i:03}" for i in range(1000)])
    size = len((tmp_path / "a.jsonl").read_bytes()) // 1000
    found = seen([path], 1000, block=10 * size)
    assert max(found) < f"d{12 * BLOCKS:03}"
    assert len(found) == pytest.approx(10 * BLOCKS, abs=BLOCKS)


def test_of_many_files_a_glance_reads_some_evenly_spread(tmp_path):
    paths = [write(tmp_path / f"{i:03}.jsonl", [f"{i}"]) for i in range(100)]
    found = sorted(int(name) for name in seen(paths, 1000))
    assert found == list(range(0, 100, 7))  # 100 / 16, rounded up


def test_what_cannot_be_read_is_left_to_the_pass(tmp_path):
    good = write(tmp_path / "a.jsonl", ["x", "y"])
    (tmp_path / "b.jsonl").write_bytes(b'\xff\xfe{not json\n{"id": "z", "text": "t"}\n')
    (tmp_path / "c.jsonl.gz").write_bytes(b"no gzip at all")
    paths = [good, str(tmp_path / "b.jsonl"), str(tmp_path / "c.jsonl.gz")]
    assert sorted(seen(paths, 10)) == ["x", "y", "z"]
