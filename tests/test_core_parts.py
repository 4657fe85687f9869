"""Pictures and recordings beside words: what they are in records and on disk, and what of a hostile file is refused."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from primum.core.errors import BadInputError, UsageError
from primum.core.parts import LARGEST, bytes_of, file_part, kept, located, media_type, takes
from primum.core.records import Message, Part, Prompt, described, from_json, to_json, user
from primum.models.pictures import open_picture, rendered
from primum.pairing.columns import read_pairs, write_pairs
from primum.prompts.files import Row, read_rows
from primum.prompts.parts import content_of
from primum.prompts.rows import Defaults, to_prompts

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIMUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(size: tuple[int, int] = (4, 3), colour: str = "red") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def picture(tmp_path: Path) -> Part:
    (tmp_path / "a.png").write_bytes(png())
    return file_part("image", tmp_path / "a.png", "a red field")


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that says it is `side` pixels square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def test_an_id_is_of_words_and_bytes_and_text_keeps_the_id_it_had(picture: Part) -> None:
    # worked out before there were parts: sha256 of [["user", "Hi?"]] as JSON, 16 digits
    assert Prompt((user("Hi?"),), "benign", "general").id == hashlib.sha256(b'[["user", "Hi?"]]').hexdigest()[:16]
    seen = Prompt((user((picture, Part("text", "Hi?"))),), "benign", "general")
    moved = replace(picture, path="elsewhere/b.png", text="other words for it")
    other = replace(picture, sha256="0" * 64)
    ids = [Prompt((user((part, Part("text", "Hi?"))),), "benign", "general").id for part in (moved, other)]
    assert ids[0] == seen.id and ids[1] != seen.id and seen.id != Prompt((user("Hi?"),), "benign", "general").id
    assert seen.text == "Hi?" and from_json(Prompt, json.loads(json.dumps(to_json(seen)))) == seen


def test_a_part_is_words_or_a_file() -> None:
    for wrong in ({"type": "text", "path": "a", "sha256": "b"}, {"type": "image", "text": "x"}):
        with pytest.raises(ValueError, match="a text part has no file"):
            Part(**wrong)  # type: ignore[arg-type]


def test_readers_of_text_get_what_a_picture_says_or_nothing(picture: Part) -> None:
    asked = (user((picture, Part("text", "What is it?"))),)
    assert described(asked) == (user('[image: "a red field"]\nWhat is it?'),)
    assert described((user((replace(picture, text=""),)),)) is None
    assert described((user("Hi"),)) == (user("Hi"),)


def test_what_nobody_takes_is_told_with_part_reader_and_cure(picture: Part) -> None:
    film = Part("video", "", "b.mp4", "0" * 64)
    assert takes((user((picture,)),), "it", ("image",))
    with pytest.raises(UsageError, match=r"b\.mp4: a prompt holds a part of kind video, and it takes text and image"):
        takes((user((picture, film)),), "it", ("image",))


@pytest.mark.parametrize(
    ("data", "kind"),
    [(png(), "image/png"), (b"\xff\xd8\xff\xe0", "image/jpeg"), (b"RIFF1234WEBP", "image/webp"), (WAV, "audio/wav"),
     (b"ID3\x04", "audio/mpeg"), (b"fLaC", "audio/flac"), (b"\0\0\0\x18ftypmp42", "video/mp4"), (b"GIF89a", None),
     (b"<svg/>", None), (b"", None)],
)  # fmt: skip
def test_files_are_known_by_their_first_bytes(data: bytes, kind: str | None) -> None:
    assert media_type(data) == kind


def test_hostile_files_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_bytes(b"<html>")
    (tmp_path / "huge.png").write_bytes(png() + b"\0" * LARGEST)
    (tmp_path / "cut.png").write_bytes(png((64, 64))[:80])
    for name, says in (("page.png", "not a file of kind image"), ("huge.png", "has 20 MB"), ("no.png", "cannot read")):
        with pytest.raises(BadInputError, match=says):
            file_part("image", tmp_path / name)
    for side, says in ((7_000, "7000 x 7000 pixels"), (10_000, "far too many"), (30_000, "far too many pixels")):
        (tmp_path / "bomb.png").write_bytes(bomb(side))
        with pytest.raises(BadInputError, match=f"a picture of {says}"):
            open_picture(file_part("image", tmp_path / "bomb.png"))
    with pytest.raises(BadInputError, match="no whole picture"):
        open_picture(file_part("image", tmp_path / "cut.png"))


def test_a_file_that_changed_is_told(tmp_path: Path, picture: Part) -> None:
    assert bytes_of(picture) == png()
    (tmp_path / "a.png").write_bytes(png(colour="blue"))
    with pytest.raises(BadInputError, match="has changed since it was named"):
        bytes_of(picture)
    with pytest.raises(BadInputError, match="is not the file that was named"):
        file_part("image", tmp_path / "a.png", sha256=picture.sha256)


def row(content: Any, folder: Path | None) -> Row:
    return Row("asked.jsonl:1", {"messages": [{"role": "user", "content": content}]}, folder)


def test_openais_parts_and_ours_are_read_alike(tmp_path: Path, picture: Part) -> None:
    code = base64.b64encode(png()).decode()
    words = {"type": "text", "text": "What is it?"}
    forms = [
        {"type": "image", "path": "a.png"}, {"type": "image", "image": "a.png"},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{code}"}},
    ]  # fmt: skip
    prompts = to_prompts([row([form, words], tmp_path) for form in forms], Defaults("benign", "here"))
    assert {prompt.id for prompt in prompts} == {Prompt((user((picture, Part(**words))),), "benign", "general").id}
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(WAV).decode(), "format": "wav"}}
    content = content_of([sound], "content", row([], tmp_path))
    assert isinstance(content, tuple) and content[0].type == "audio" and bytes_of(content[0]) == WAV
    assert content_of([words, words], "content", row([], None)) == "What is it?\nWhat is it?"


@pytest.mark.parametrize(
    ("part", "says"),
    [({"type": "image", "path": "../secret.png"}, "lies outside the data's folder"),
     ({"type": "image", "path": "/etc/passwd"}, "lies outside the data's folder"),
     ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, "nothing is fetched"),
     ({"type": "image_url", "image_url": {"url": "data:image/png,abc"}}, "without base64"),
     ({"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}, "broken base64"),
     ({"type": "image_url", "image_url": {"url": "data:image/png;base64,PGh0bWw+"}}, "not a file of kind image"),
     ({"type": "image"}, "names no file"), ({"type": "hologram"}, "no kind that is known"), ("words", "no kind that"),
     ({"type": "text", "text": 3}, "a number, not text")],
)  # fmt: skip
def test_a_wrong_part_is_told_with_its_line(tmp_path: Path, part: Any, says: str) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(BadInputError, match=says) as caught:
        to_prompts([row([part], tmp_path / "data")], Defaults("benign", "here"))
    assert "asked.jsonl:1" in str(caught.value) and caught.value.cure


def test_a_link_out_of_the_folder_is_no_way_out(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (tmp_path / "data" / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(BadInputError, match="lies outside the data's folder"):
        to_prompts([row([{"type": "image", "path": "a.png"}], tmp_path / "data")], Defaults("benign", "here"))


def test_rows_that_lie_nowhere_name_no_files() -> None:
    with pytest.raises(BadInputError, match="these rows lie in no folder"):
        content_of([{"type": "image", "path": "a.png"}], "content", row([], None))


def test_a_run_folder_holds_its_files_and_can_be_moved(tmp_path: Path, picture: Part) -> None:
    asked = (user((picture, Part("text", "Hi?"))),)
    run = tmp_path / "run"
    there = kept(asked, run)
    name = there[0].files[0].path
    assert name == f"files/{picture.sha256}.png" and (run / name).read_bytes() == png()
    run.rename(tmp_path / "moved")
    assert bytes_of(located(there, tmp_path / "moved")[0].files[0]) == png()
    away = (user((replace(picture, path="../a.png"),)),)
    with pytest.raises(BadInputError, match="outside"):
        located(away, run)


def test_pairs_with_pictures_are_read_where_they_were_written(tmp_path: Path, picture: Part) -> None:
    given = {
        "prompt": [{"role": "user", "content": [{"type": "image", "path": "a.png"}, {"type": "text", "text": "Hi?"}]}],
        "chosen": "Hello.", "rejected": "No.",
    }  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text(json.dumps(given) + "\n")
    (pair,) = read_pairs(tmp_path / "pairs.jsonl")
    assert pair.prompt[0].files[0].sha256 == picture.sha256
    write_pairs(tmp_path / "out" / "pairs.jsonl", [pair])
    (again,) = read_pairs(tmp_path / "out" / "pairs.jsonl")
    assert again.prompt_id == pair.prompt_id and again.prompt[0].files[0].path.startswith(str(tmp_path / "out"))
    assert next(iter(read_rows(tmp_path / "out" / "pairs.jsonl"))).folder == tmp_path / "out"


def test_a_rendered_picture_depends_on_its_words_alone(cache: Path) -> None:
    first = rendered("Steps to bake bread.\n1.\n2.\n3.")
    data = bytes_of(first)
    Path(first.path).unlink()
    assert rendered("Steps to bake bread.\n1.\n2.\n3.") == first and bytes_of(first) == data
    assert rendered("Steps to bake a cake.\n1.\n2.\n3.").sha256 != first.sha256
    image = open_picture(first)
    assert image.size == (760, 760) and image.getpixel((759, 759)) == (255, 255, 255)
    ink = image.convert("L").point(lambda v: 255 * (v < 128)).getbbox()
    assert ink is not None and ink[0] >= 20 and ink[2] < 760 and ink[3] < 760
    long = open_picture(rendered("word " * 200)).convert("L").point(lambda v: 255 * (v < 128)).getbbox()
    assert long is not None and long[2] <= 760 and long[3] <= 760  # smaller letters, nothing cut off


def test_a_turn_says_its_words_and_names_its_files(picture: Part) -> None:
    turn = Message("user", (picture, Part("text", "a"), Part("text", "b")))
    assert turn.text == "a\nb" and turn.files == (picture,) and Message("user", "x").files == ()
