"""What an audit reads: every packing gives the same documents, and what is broken is named and passed over."""

import bz2
import gzip
import json
import lzma
import resource
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from primum.audit.reading.document import Document, Skipped
from primum.audit.reading.files import expand
from primum.audit.reading.records import Fields, documents, text_of
from primum.audit.reading.sources import Limits, parts
from primum.core.errors import BadInputError

ROWS = [{"id": f"r{i}", "text": f"Text number {i}, café.", "source": "web"} for i in range(5)]
LINES = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS)


def read(path, **limits):
    """Return the documents and what was passed over, of a file or folder."""
    chosen = Limits(**limits)
    found = [
        one
        for source in expand([str(path)])
        for part in parts(source, chosen)
        for one in documents(part, source.name, chosen.longest, Fields(), chosen.text_unit)
    ]
    return [one for one in found if isinstance(one, Document)], [one for one in found if isinstance(one, Skipped)]


def put(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def zstd(data):
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.jsonl", bytes),
        ("a.ndjson", bytes),
        ("a.jsonl.gz", gzip.compress),
        ("a.jsonl.bz2", bz2.compress),
        ("a.jsonl.xz", lzma.compress),
        ("a.jsonl.zst", zstd),
        ("no-ending", bytes),
        ("lying.jsonl", gzip.compress),
        ("two-members.jsonl.gz", lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:])),
        ("two-frames.jsonl.zst", lambda data: zstd(data[:100]) + zstd(data[100:])),
        ("windows.jsonl", lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")),
        ("no-last-newline.jsonl", lambda data: data.rstrip(b"\n")),
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_every_packing_gives_the_same_documents(tmp_path, name, pack, block):
    found, skipped = read(put(tmp_path, name, pack(LINES)), block=block)
    assert [(one.id, one.text, one.source) for one in found] == [(r["id"], r["text"], "web") for r in ROWS]
    assert skipped == []


def test_blocks_have_the_size_that_was_asked_for(tmp_path):
    path = put(tmp_path, "a.jsonl", LINES * 40)
    found = [part.block for part in parts(expand([str(path)])[0], Limits(block=1000))]
    assert b"".join(one.data for one in found) == LINES * 40
    assert all(800 < len(one.data) <= 1000 for one in found[:-1])
    assert [one.first_line for one in found[:2]] == [1, 1 + found[0].data.count(b"\n")]


def test_parquet_gives_its_rows_and_a_broken_one_is_named(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "good.parquet")
    put(tmp_path, "bad.parquet", (tmp_path / "good.parquet").read_bytes()[:-20])
    found, skipped = read(tmp_path)
    assert [one.id for one in found] == ["r0", "r1", "r2", "r3", "r4"]
    assert [one.reason for one in skipped] == ["damaged_file"]
    assert "bad.parquet" in skipped[0].where


def record(kind, body, uri="https://news.example.org/a/b"):
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {uri}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body + b"\r\n\r\n"


def test_warc_gives_its_text_records_by_host(tmp_path):
    data = record("warcinfo", b"software: x") + record("conversion", "Grüße.".encode()) + record("conversion", b"Two.")
    found, skipped = read(put(tmp_path, "a.warc.wet.gz", gzip.compress(data)))
    assert [(one.text, one.source) for one in found] == [("Grüße.", "news.example.org"), ("Two.", "news.example.org")]
    assert skipped == []


def test_a_warc_that_is_cut_off_keeps_its_whole_records(tmp_path):
    data = record("conversion", b"One.") + record("conversion", b"Two two two.")[:-8]
    found, skipped = read(put(tmp_path, "a.warc", data))
    assert [one.text for one in found] == ["One."]
    assert [one.reason for one in skipped] == ["damaged_file"]


@pytest.mark.parametrize(
    ("unit", "texts"),
    [("file", ["a\nb\n\nc\n"]), ("line", ["a", "b", "c"]), ("paragraph", ["a\nb", "c"])],
)
def test_a_text_file_is_one_document_or_its_lines_or_its_paragraphs(tmp_path, unit, texts):
    found, _ = read(put(tmp_path, "a.txt", b"a\nb\n\nc\n"), text_unit=unit)
    assert [one.text for one in found] == texts


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"content": "x"}, "x"),
        ({"messages": [{"role": "user", "content": "ask"}, {"role": "assistant", "content": "say"}]}, "ask\nsay"),
        ({"conversations": [{"from": "human", "value": "ask"}, {"from": "gpt", "value": "say"}]}, "ask\nsay"),
        ({"instruction": "do", "input": "this", "output": "done"}, "do\nthis\ndone"),
        ({"question": "q", "answer": "a"}, "q\na"),
        ({"url": "https://x"}, None),
    ],
)
def test_the_text_of_a_row_is_found_by_the_usual_names(row, text):
    assert text_of(row) == text


BROKEN = {
    b"\xff\xfe not text": "invalid_utf8",
    b'{"id": "x", "text": "bad \xff byte"}': "invalid_utf8",
    b'{"id": "x", "text": ': "broken_json",
    b"[" * 100_000: "broken_json",
    b"[1, 2]": "no_object",
    b'{"id": "x"}': "no_text",
    b'{"id": "x", "text": 7}': "no_text",
    b'{"id": "x", "text": "  "}': "empty_text",
    b'{"id": "x", "text": "' + b"a" * 200_000 + b'"}': "line_too_long",
}


@pytest.mark.parametrize("block", [64, 4096, 1 << 20])
def test_each_broken_line_is_named_with_its_number_and_its_neighbours_are_read(tmp_path, block):
    good = LINES.splitlines(keepends=True)
    lines = [line for bad in BROKEN for line in (good[0], bad + b"\n")]
    found, skipped = read(put(tmp_path, "a.jsonl", b"".join(lines)), block=block, longest=150_000)
    assert len(found) == len(BROKEN)
    assert [(one.where, one.reason) for one in skipped] == [
        (f"a.jsonl:{2 * i + 2}", reason) for i, reason in enumerate(BROKEN.values())
    ]


def test_a_shard_that_breaks_off_keeps_every_line_before(tmp_path):
    many = b"".join(json.dumps({"id": str(i), "text": f"{i} " * 20}).encode() + b"\n" for i in range(20_000))
    packed = gzip.compress(many)
    found, skipped = read(put(tmp_path, "a.jsonl.gz", packed[: len(packed) * 3 // 4]), block=1 << 16)
    assert [one.id for one in found] == [str(i) for i in range(len(found))]
    assert 10_000 < len(found) < 20_000
    reasons = {one.reason for one in skipped}
    assert "damaged_file" in reasons
    assert reasons <= {"damaged_file", "broken_json"}  # the break, and the line that it cut


def test_a_compression_bomb_is_stopped_in_little_memory(tmp_path):
    bomb = gzip.compress(b"a" * (1 << 20) * 80, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, skipped = read(put(tmp_path, "bomb.jsonl.gz", bomb), longest=1 << 20)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert found == []
    assert [one.reason for one in skipped] == ["line_too_long", "damaged_file"]
    assert "bomb" in skipped[-1].detail
    assert grown < 40_000  # kB; it unpacks to 80 MB


def test_what_a_folder_holds_beside_the_corpus_is_named(tmp_path):
    put(tmp_path, "in/a.jsonl", LINES)
    put(tmp_path, "in/picture.png", b"\x89PNG")
    put(tmp_path, "in/.git/config", b"x")
    put(tmp_path, "in/deep/b.txt", b"A text.")
    found, skipped = read(tmp_path / "in")
    assert len(found) == 6
    assert [(one.where, one.reason) for one in skipped] == [("picture.png", "unknown_kind")]


def test_a_zip_archive_is_named_as_one(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.jsonl", LINES)
    found, skipped = read(tmp_path / "a.zip")
    assert found == []
    assert [one.reason for one in skipped] == ["archive"]


@pytest.mark.parametrize("folder", ["nothing", "empty"])
def test_nothing_to_read_is_an_error_with_the_path(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"no such file or folder|no file to audit") as error:
        expand([str(tmp_path / folder)])
    assert folder in str(error.value)


def test_two_files_of_one_name_keep_their_own_outputs(tmp_path):
    paths = [put(tmp_path, f"{name}/a.jsonl", LINES) for name in ("x", "y")]
    assert [one.name for one in expand([str(path) for path in paths])] == ["a.jsonl", "2-a.jsonl"]


@pytest.fixture
def served():
    """A local web server that gives LINES."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(LINES)))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(LINES)

        def log_message(self, *arguments):
            del arguments

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/corpus.jsonl"
    server.shutdown()
    server.server_close()


def test_a_web_address_is_read(served):
    found, skipped = read(served)
    assert [one.id for one in found] == ["r0", "r1", "r2", "r3", "r4"]
    assert skipped == []


def test_a_web_server_that_is_gone_is_named(served):
    found, skipped = read(served.replace("127.0.0.1", "nowhere.invalid"))
    assert found == []
    assert [one.reason for one in skipped] == ["unreadable_file"]
