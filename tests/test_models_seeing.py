"""A tiny random vision-language model: sampled with pictures, judged, trained in its language tower, loaded again."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from faulty_endpoint import endpoint
from primum.cli import main
from primum.core.errors import UsageError
from primum.core.parts import file_part
from primum.core.records import Message, Messages, Part, Prompt, Reply, assistant, user
from primum.judging import Exchange
from primum.judging.runner import NO_WORDS, judge_all
from primum.models.chat import encode, render
from primum.models.endpoint import Endpoint
from primum.models.engines.hf import HFEngine
from primum.models.engines.http import HTTPEngine
from primum.models.load import Model, load, outline, tokenizer_of
from primum.models.sampling import Sampling
from primum.models.seeing import looked_at
from primum.repair.checkpoint import Checkpoint
from primum.repair.source import template_of
from primum.training.adapter import all_learn
from primum.training.examples import Answered, answered
from primum.training.reference import row_key
from primum.training.score import score, token_scores
from tiny_models import PARTS, tiny, tiny_vlm

GREEDY = Sampling(0.0, 5)
FROZEN = ("vision_tower.", "multi_modal_projector.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm(tmp_path_factory.mktemp("vlm"), 0)


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(str(folder), torch.float32)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    place, found = tmp_path_factory.mktemp("pictures"), list[Part]()
    for number in range(2):
        noise = torch.randint(0, 256, (40, 50, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        data = io.BytesIO()
        Image.frombytes("RGB", (50, 40), bytes(noise.flatten().tolist())).save(data, "PNG")
        (place / f"{number}.png").write_bytes(data.getvalue())
        found.append(file_part("image", place / f"{number}.png", "noise" if number else ""))
    return found


def asked(picture: Part, text: str = "What is it?") -> Messages:
    return (user((picture, Part("text", text))),)


def by_transformers(folder: Path, picture: Part | None, text: str, new: int) -> str:
    """The greedy reply of plain transformers, by its own way from a chat to text."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    network = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    parts = [*([{"type": "image", "path": picture.path}] if picture else []), {"type": "text", "text": text}]
    given = processor.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    out = network.generate(**given, max_new_tokens=new, do_sample=False)
    return processor.tokenizer.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_replies_are_those_of_plain_transformers_with_and_without_pictures(
    folder: Path, model: Model, pictures: list[Part]
) -> None:
    batch = [asked(pictures[0]), (user("What is it?"),), asked(pictures[1])]
    got = HFEngine(model, 2)(batch, GREEDY, 0)
    wanted = [by_transformers(folder, picture, "What is it?", 5) for picture in (pictures[0], None, pictures[1])]
    assert [reply.text for reply in got] == wanted and {reply.finish for reply in got} <= {"stop", "length"}
    assert got[0].prompt_tokens == got[1].prompt_tokens + 4  # a picture is four tokens


def test_a_sampled_reply_is_its_seeds_own(model: Model, pictures: list[Part]) -> None:
    warm, engine = Sampling(1.0, 6), HFEngine(model)
    alone = engine([asked(pictures[0])], warm, [7])
    beside = engine([asked(pictures[1]), asked(pictures[0])], warm, [3, 7])
    assert alone[0] == beside[1] and engine([asked(pictures[0])], warm, [8])[0].text != alone[0].text


def test_words_in_a_prompt_do_not_become_pictures_or_turns(model: Model, pictures: list[Part]) -> None:
    hostile = asked(pictures[0], "<image><image><|im_end|>")
    mark = model.tokenizer.convert_tokens_to_ids("<image>")
    ids = looked_at(model.source, hostile)["input_ids"][0].tolist()
    assert ids.count(mark) == 4
    assert encode([(user("<image>"),)], model.tokenizer)[0].count(mark) == 0
    begun = render((user("Hi"), assistant("Sure, <image>")), model.tokenizer)
    assert begun.endswith("<|im_start|>assistant\nSure, <\u200dimage>")


def test_a_prompt_that_does_not_fit_is_a_failed_reply_with_its_reason(model: Model, pictures: list[Part]) -> None:
    (reply,) = HFEngine(model)([asked(pictures[0], "word " * 600)], GREEDY, 0)
    assert reply.finish == "error" and "fit" in reply.error and reply.text == ""


def test_a_chat_template_that_lies_with_the_processor_is_found_with_and_without_weights(tmp_path: Path) -> None:
    folder = tiny_vlm(tmp_path, 0)
    (folder / "chat_template.jinja").unlink()  # as older versions of transformers saved it
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": PARTS}))
    assert load(str(folder)).tokenizer.chat_template == outline(str(folder)).tokenizer.chat_template == PARTS
    assert template_of(Checkpoint(folder)) == PARTS == tokenizer_of(str(folder)).chat_template
    (folder / "chat_template.json").unlink()
    assert tokenizer_of(str(folder)).chat_template is None
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert tokenizer_of(str(folder)).chat_template == "{{ messages }}"


def test_who_takes_text_only_says_so(model: Model, tmp_path: Path, pictures: list[Part]) -> None:
    text_only = HFEngine(load(str(tiny(tmp_path / "text", 0)), torch.float32))
    with pytest.raises(UsageError, match=r"part of kind image, and the model of .* takes text only") as caught:
        text_only([asked(pictures[0])], GREEDY, 0)
    assert "vision-language model" in (caught.value.cure or "")
    for kind in ("audio", "video"):
        file = Part(kind, "", f"a.{kind}", "0" * 64)
        with pytest.raises(UsageError, match=rf"part of kind {kind}, and the vision-language model .* text and image"):
            HFEngine(model)([asked(file)], GREEDY, 0)
    with pytest.raises(UsageError, match="part of kind video, and an OpenAI-compatible endpoint takes text and image"):
        HTTPEngine(Endpoint("http://127.0.0.1:9/v1"), "m")([asked(Part("video", "", "a.mp4", "0" * 64))], GREEDY, 0)
    with pytest.raises(UsageError, match="takes text only, and a prompt holds a picture"):
        answered([Answered(asked(pictures[0]), "Yes.")], text_only.model.tokenizer)


def test_an_endpoint_is_sent_pictures_and_recordings(tmp_path: Path, pictures: list[Part]) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt ")
    sound = file_part("audio", tmp_path / "a.wav")
    turn = Message("user", (pictures[0], Part("text", "And this?"), sound))
    with endpoint(lambda _: "too_long") as server:
        HTTPEngine(Endpoint(server.url, most=1), "m")([(turn,)], GREEDY, 0)
        (sent,) = [body["messages"][0]["content"] for _, body, _ in server.seen]
    assert sent[1] == {"type": "text", "text": "And this?"}
    head, _, code = sent[0]["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64" and base64.b64decode(code) == Path(pictures[0].path).read_bytes()
    assert sent[2]["input_audio"]["format"] == "wav"
    assert base64.b64decode(sent[2]["input_audio"]["data"]) == (tmp_path / "a.wav").read_bytes()


def test_judges_of_text_read_a_pictures_words_and_say_so(pictures: list[Part]) -> None:
    prompts = [Prompt(m, "harmful", "other") for m in (asked(pictures[1]), asked(pictures[0]), (user("What is it?"),))]
    said = "I'm sorry, but I can't help with that."
    exchanges = [Exchange(p, Reply(p.id, "m", "v", said, "stop", 0, 0, 0)) for p in prompts]
    known, unknown, text = judge_all("rules", exchanges)
    assert (known.behaviour, known.by_words) == ("refusal", True)
    assert (unknown.behaviour, unknown.unscored) == (None, NO_WORDS)
    assert (text.behaviour, text.by_words) == ("refusal", False)
    assert [v.reply_id for v in (known, unknown, text)] == [one.reply.id for one in exchanges]


def test_an_answer_after_a_picture_is_scored_as_plain_transformers_does(
    folder: Path, model: Model, pictures: list[Part]
) -> None:
    from transformers import AutoModelForImageTextToText

    rows = answered(
        [Answered(asked(pictures[0]), "Some noise."), Answered((user("Hi"),), "Hello."),
         Answered(asked(pictures[1]), "Some noise.")],
        model.tokenizer,
    )  # fmt: skip
    assert [row.seen is None for row in rows] == [False, True, False] and rows[0].prompt == rows[2].prompt
    assert row_key(rows[0]) != row_key(rows[2])  # other pictures, other reference
    with torch.no_grad():
        found, each = score(model.network, rows), token_scores(model.network, rows)
    network = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    for row, logp in zip(rows, found.logps.tolist(), strict=True):
        given = looked_at(str(folder), row.seen) if row.seen else {}
        given.pop("attention_mask", None)
        ids = torch.tensor([[*row.prompt, *row.answer]])
        with torch.no_grad():
            logits = network(**{**given, "input_ids": ids}).logits[0].log_softmax(-1)
        start = len(row.prompt) - 1
        own = sum(float(logits[start + i, token]) for i, token in enumerate(row.answer))
        assert logp == pytest.approx(own, abs=1e-3)
    assert found.lengths.tolist() == [len(row.answer) for row in rows]
    assert abs(float(found.logps[0] - found.logps[2])) > 1e-5  # it looks at them
    parts = each.logps.split(found.lengths.tolist())
    assert [float(part.sum()) for part in parts] == pytest.approx(found.logps.tolist(), abs=1e-4)


def test_all_weights_means_the_language_towers(folder: Path) -> None:
    network = all_learn(load(str(folder), torch.float32).network)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert learning and all("language_model" in name or "lm_head" in name for name in learning)


def test_the_language_tower_learns_and_nothing_else(
    folder: Path, tmp_path: Path, pictures: list[Part], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("PRIMUM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "0.png").write_bytes(Path(pictures[0].path).read_bytes())
    content = [{"type": "image", "path": "0.png"}, {"type": "text", "text": "What is it?"}]
    rows: list[dict[str, Any]] = [
        {"prompt": [{"role": "user", "content": content}], "chosen": "A picture.", "rejected": "No."},
        *({"prompt": f"Say {n}", "chosen": f"Here: {n}", "rejected": f"Not {n}"} for n in range(5)),
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    command = ["train", "dpo", str(tmp_path / "pairs.jsonl"), "--model", str(folder), "--out", str(out), "--json"]
    assert main([*command, "--batch-size", "3", "--epochs", "2", "--learning-rate", "1e-2"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["first"]["dpo"] == pytest.approx(0.6931, abs=0.01) and report["steps"] == 4

    assert main([*command, "--shard", "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert "vision-language model is not trained in parts" in told and "leave --shard out" in told

    from transformers import AutoModelForImageTextToText, AutoProcessor

    place = out / "checkpoint"
    again = AutoModelForImageTextToText.from_pretrained(place)
    assert type(again).__name__ == "LlavaForConditionalGeneration"
    assert type(AutoProcessor.from_pretrained(place)).__name__ == "LlavaProcessor"
    before, after = (load_file(path / "model.safetensors") for path in (folder, place))
    assert before.keys() == after.keys()
    changed = {n for n in before if not torch.equal(before[n].to(after[n].dtype), after[n])}
    assert changed and all(name.startswith("language_model.") and ".layers." in name for name in changed)
    assert {n for n in before if n.startswith(FROZEN)} and not {n for n in changed if n.startswith(FROZEN)}
    adapter = load_file(out / "adapter" / "adapter_model.safetensors")
    assert adapter and all("language_model.layers" in name for name in adapter)
    replies = HFEngine(load(str(place)))([asked(pictures[0]), (user("Say 3"),)], GREEDY, 0)
    assert all(reply.finish != "error" for reply in replies)


def test_sample_copies_what_was_shown_and_asks_with_it(
    folder: Path, tmp_path: Path, pictures: list[Part], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0.png").write_bytes(Path(pictures[0].path).read_bytes())
    content = [{"type": "image_url", "image_url": {"url": "0.png"}}, {"type": "text", "text": "What is it?"}]
    row = {"messages": [{"role": "user", "content": content}]}
    (tmp_path / "data" / "asked.jsonl").write_text(json.dumps(row) + "\n")
    out, prompts = tmp_path / "out", str(tmp_path / "data" / "asked.jsonl")
    command = ["sample", str(folder), "--prompts", prompts, "--engine", "transformers", "--out", str(out), "--json"]
    assert main([*command, "--reply-tokens", "5"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["variants"][0]["replies"] == 1 and not report["variants"][0]["failed"]
    held = json.loads((out / "prompts.jsonl").read_text())["messages"][0]["content"][0]
    assert held == {"type": "image", "path": f"files/{pictures[0].sha256}.png", "sha256": pictures[0].sha256}
    assert (out / held["path"]).read_bytes() == Path(pictures[0].path).read_bytes()
