"""What an audit reads: every packing gives the same documents, and what is broken is named and passed over."""

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import sys
import threading
import tracemalloc
import types
import zlib
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from primum.audit.reading.blocks import DamagedError
from primum.audit.reading.document import Document, Skipped
from primum.audit.reading.files import expand, stream_of
from primum.audit.reading.records import Fields, documents, text_of
from primum.audit.reading.sources import Limits, batch_rows, parts
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


class Batch:
    """Stands for pyarrow's: text is decoded only where rows are asked for, and one bad row spoils the whole call."""

    def __init__(self, rows):
        self.rows, self.num_rows = rows, len(rows)

    def to_pylist(self):
        return [{"text": row.decode() if isinstance(row, bytes) else row()} for row in self.rows]

    def slice(self, start, length=None):
        return Batch(self.rows[start:][:length])


def test_a_row_of_a_batch_that_cannot_be_told_is_lost_alone():
    def overflow():
        raise OverflowError("year 292277")

    found = list(batch_rows(Batch([b"a", b"\xff", b"b", b"c", overflow, b"d", b"\xfe"])))
    assert [one["text"] if isinstance(one, dict) else one.reason for one in found] == [
        "a", "invalid_utf8", "b", "c", "failed_step", "d", "invalid_utf8"
    ]  # fmt: skip


def test_invalid_utf8_in_parquet_is_named_by_its_row(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    texts = [b"one", b"t\xffo", b"three"]
    ends = [0, 3, 6, 11]
    buffers = [None, pyarrow.py_buffer(struct.pack("<4i", *ends)), pyarrow.py_buffer(b"".join(texts))]
    table = pyarrow.table({"text": pyarrow.Array.from_buffers(pyarrow.string(), 3, buffers)})
    parquet.write_table(table, tmp_path / "a.parquet")
    for block in (1, 1 << 20):
        found, skipped = read(tmp_path / "a.parquet", block=block)
        assert [(one.text, one.where) for one in found] == [("one", "a.parquet:1"), ("three", "a.parquet:3")]
        assert [(one.where, one.reason) for one in skipped] == [("a.parquet:2", "invalid_utf8")]


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


ONE, TWO, THREE = (record("conversion", text) for text in (b"One.", b"Two two.", b"Three."))


@pytest.mark.parametrize(
    ("middle", "reasons"),
    [
        (TWO.replace(b"Length: 8", b"Length: 8\r\nContent-Length: 4"), ["broken_record"]),
        (TWO.replace(b"Length: 8", b"Length: 8\r\nContent-Length: 8"), []),
        (TWO.replace(b"Content-Length: 8", b"X: 8"), ["broken_record"]),
        (TWO.replace(b"Content-Length: 8", b"Content-Length: many"), ["broken_record"]),
        (TWO.replace(b"Length: 8", b"Length: 40"), ["broken_record"]),  # and into it
        (TWO.replace(b"Length: 8", b"Length: 5000"), ["broken_record"]),  # and behind the end of the file
        (TWO.replace(b"Length: 8", b"Length: 500000"), ["record_too_long"]),
        (TWO.replace(b"Length: 8", b"Length: 3"), ["broken_record"]),
        (TWO.replace(b"\r\n\r\n", b"\r\n"), ["broken_record"]),  # no blank line: what follows is its header
        (b"not a record at all\r\n\r\n" * 3, ["broken_record"]),
        (b"x" * 200_000 + b"\r\n", ["broken_record"]),
        (b"WARC/1.0\r\n\r\n" * 3, ["broken_record"] * 3),
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_a_bad_warc_header_loses_its_record_alone(tmp_path, block, middle, reasons):
    path = put(tmp_path, "a.warc", ONE + middle + THREE)
    found, skipped = read(path, block=block, longest=100_000)
    texts = ["One.", *([] if reasons else ["Two two."]), "Three."]
    assert [one.text for one in found] == texts
    assert [one.reason for one in skipped] == reasons
    assert found[-1].where == f"a.warc:record {max(len(reasons), 1) + 2}"
    assert [one.where for one in skipped] == [f"a.warc:record {i + 2}" for i in range(len(reasons))]


def test_a_warc_record_that_is_too_long_is_passed_over_in_little_memory(tmp_path):
    long = record("conversion", b"").replace(b"Length: 0", b"Length: %d" % (64 << 20))
    with (tmp_path / "a.warc").open("wb") as file:
        file.write(ONE + long[:-4])
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b"\r\n\r\n" + THREE)
    tracemalloc.start()
    found, skipped = read(tmp_path / "a.warc", longest=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [one.text for one in found] == ["One.", "Three."]
    assert [one.reason for one in skipped] == ["record_too_long"]
    assert peak < 10 << 20


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


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("gz", lambda data: gzip.compress(data, 1)), ("zst", zstd), ("bz2", bz2.compress), ("xz", lzma.compress)],
)
def test_a_compression_bomb_is_stopped_in_little_memory(tmp_path, ending, pack):
    member = pack(b"a" * (8 << 20))  # ten of them unpack to 80 MB
    path = put(tmp_path, f"bomb.jsonl.{ending}", member * 10)
    tracemalloc.start()
    found, skipped = read(path, longest=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == []
    assert [one.reason for one in skipped] == ["line_too_long", "damaged_file"]
    assert "bomb" in skipped[-1].detail
    assert peak < 20 << 20


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.jsonl.bz2", "a.jsonl.xz"])
@pytest.mark.parametrize("harm", ["cut", "changed", "lying"])
def test_a_damaged_packed_file_is_named(tmp_path, name, harm):
    pack = {"gz": gzip.compress, "zst": zstd, "bz2": bz2.compress, "xz": lzma.compress}[name.rpartition(".")[2]]
    packed = bytearray(pack(b"".join(LINES.replace(b"r0", b"%d" % i) for i in range(2000))))
    if harm == "cut":
        packed = packed[: len(packed) // 2]
    elif harm == "changed":
        packed[len(packed) // 2 : len(packed) // 2 + 20] = b"\0" * 20
    else:
        packed = packed[:12] + b"no more of it"
    _, skipped = read(put(tmp_path, name, bytes(packed)))
    assert "damaged_file" in {one.reason for one in skipped}


def test_a_zstd_frame_that_wants_a_large_window_is_not_given_the_memory(tmp_path):
    import zstandard

    settings = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    found, skipped = read(put(tmp_path, "a.jsonl.zst", packer.compress(LINES) + packer.flush()))
    assert (found, [one.reason for one in skipped]) == ([], ["damaged_file"])


def test_an_xz_file_that_wants_a_large_dictionary_is_not_given_the_memory(tmp_path):
    # the limit is on what the header asks for, which is all that xz can know before it unpacks
    for size, ids in ((1 << 26, 5), (1 << 29, 0)):
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 20}]
        packed = bytearray(lzma.compress(LINES, check=lzma.CHECK_NONE, filters=filters))
        at = packed.index(b"\x21\x01") + 2  # the filter's id and the length of its settings, then the size's code
        assert packed[at] == 16  # 1 MiB
        packed[at] = 16 + 2 * (size.bit_length() - 21)
        packed[20:24] = zlib.crc32(packed[12:20]).to_bytes(4, "little")  # of the block's header
        found, skipped = read(put(tmp_path, f"{size}.jsonl.xz", bytes(packed)))
        assert (len(found), [one.reason for one in skipped]) == (ids, [] if ids else ["damaged_file"])


def test_a_packed_stream_that_cannot_tell_its_place_is_read_beyond_where_bombs_are_looked_for(monkeypatch):
    class Answer(io.RawIOBase):
        """Like a web server's: bytes come, and there is no place in them."""

        def __init__(self, data):
            self.data = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.data.readinto(buffer)

    monkeypatch.setattr("primum.audit.reading.blocks.BOMB_FROM", 10_000)
    data = os.urandom(50_000).hex().encode()
    stream, _ = stream_of(Answer(gzip.compress(data)))
    assert stream.chunk() + stream.chunk() == data
    stream, _ = stream_of(Answer(gzip.compress(b"a" * (8 << 20))))
    with pytest.raises(DamagedError, match="bomb"):
        list(iter(stream.chunk, b""))


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


# ---------------------------------------------------------------- fsspec and the hub


@pytest.fixture
def memory():
    """A file system in memory, empty."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_a_folder_and_a_pattern_at_an_address_are_their_files_in_order(memory):
    memory.pipe({
        "/c/b.jsonl.gz": gzip.compress(LINES), "/c/deep/a.jsonl": LINES, "/c/.hidden/x.jsonl": LINES,
        "/c/picture.png": b"\x89PNG", "/c/z.txt": b"A text.",
    })  # fmt: skip
    named = [(one.name, one.kind) for one in expand(["memory://c"])]
    assert named == [("b.jsonl.gz", "jsonl"), ("deep/a.jsonl", "jsonl"), ("picture.png", "unknown"), ("z.txt", "text")]
    assert [one.name for one in expand(["memory://c/*.jsonl*"])] == ["b.jsonl.gz"]
    assert [one.name for one in expand(["memory://c/**/a.jsonl"])] == ["deep/a.jsonl"]
    assert [one.name for one in expand(["memory://c/z.txt", "memory://c/z.txt"])] == ["z.txt", "2-z.txt"]
    found, skipped = read("memory://c")
    assert [one.text for one in found] == [*(row["text"] for row in ROWS * 2), "A text."]
    assert [(one.where, one.reason) for one in skipped] == [("picture.png", "unknown_kind")]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://nothing/", "no file to audit"),
        ("memory://c/*.csv", "no file to audit"),
        ("nosuch://x/a.jsonl", "Protocol not known"),
    ],
)
def test_an_address_with_nothing_to_read_is_an_error(memory, address, said):
    memory.pipe("/nothing/a.png", b"x")
    with pytest.raises(BadInputError, match=said):
        expand([address])


def test_an_object_that_is_not_there_is_named(memory):
    del memory
    found, skipped = read("memory://c/none.jsonl")
    assert (found, [one.reason for one in skipped]) == ([], ["unreadable_file"])


def test_an_object_that_changed_is_another_input(memory):
    memory.pipe("/c/a.jsonl", LINES)
    first = expand(["memory://c/a.jsonl"])[0].identity()
    assert expand(["memory://c/a.jsonl"])[0].identity() == first
    memory.pipe("/c/a.jsonl", LINES.replace(b"Text", b"Word"))  # as long as before
    assert expand(["memory://c/a.jsonl"])[0].identity() != first


def test_a_web_file_s_tag_is_part_of_what_it_is(served):
    first = expand([served])[0].identity()
    assert f"Content-Length={len(LINES)}" in first
    assert expand([served.replace("127.0.0.1", "nowhere.invalid")])[0].identity()[2:] == []


@pytest.fixture
def hub(monkeypatch):
    """Stand-in for `datasets`, which need not be installed: splits that stream, one that breaks, one not there."""
    asked = []

    def load_dataset(name, config=None, *, split, streaming):
        asked.append((name, split, streaming) if config is None else (name, config, split, streaming))
        if name == "no/such":
            raise FileNotFoundError("")
        yield {"id": "h0", "text": "One.", "when": datetime(2024, 5, 1, tzinfo=UTC), "source": "hub"}
        yield {"id": "h1", "text": "Two.", "raw": b"\xff"}
        yield {"id": "h2", "text": "lone \ud800 half"}
        if split == "broken":
            raise ConnectionError("gone\nfor good")

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_hub_rows_are_streamed(hub):
    found, skipped = read("hub:org/name:test")
    assert hub == [("org/name", "test", True)]
    assert [(one.id, one.text, one.source, one.where) for one in found] == [
        ("h0", "One.", "hub", "org__name-test:1"), ("h1", "Two.", "org__name-test", "org__name-test:2")
    ]  # fmt: skip
    assert [(one.where, one.reason) for one in skipped] == [("org__name-test:3", "invalid_utf8")]
    read("hub:org/name")
    assert hub[-1] == ("org/name", "train", True)
    read("hub:org/name@20231101.en:test")
    assert hub[-1] == ("org/name", "20231101.en", "test", True)


@pytest.mark.parametrize(
    ("place", "ids", "said"), [("no/such", [], "FileNotFoundError"), ("a/b:broken", ["h0", "h1"], "gone")]
)
def test_a_hub_stream_that_breaks_keeps_what_was_read(hub, place, ids, said):
    found, skipped = read(f"hub:{place}")
    assert hub
    assert [one.id for one in found] == ids
    assert [one.detail for one in skipped if one.reason == "damaged_file"] == [f"cannot stream from the hub ({said})"]
