"""Weight-space repairs of a vision-language model: its language tower changes, what it sees with keeps its bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from primum import cli
from primum.core.catalogue import names
from primum.core.errors import UsageError
from primum.core.parts import file_part
from primum.core.records import Part, Prompt, user
from primum.core.store import read_json
from primum.models.engines.hf import HFEngine
from primum.models.language import language_names, skeleton
from primum.models.load import load
from primum.models.sampling import Sampling
from primum.pairing.completions import compose, rng_for
from primum.repair.checkpoint import Checkpoint
from primum.repair.given import Setting
from primum.repair.gradients import gradient
from primum.repair.one_shot import Patch, patched
from primum.repair.undo import undo
from primum.repair.write import write
from primum.training.adapter import add_lora, save_adapter
from primum.training.examples import Answered, answered
from tiny_models import near_vlm, tiny, tiny_vlm

TOWER, EYES = "language_model.", ("vision_tower.", "multi_modal_projector.")
GIVEN = ("parent", "base", "unaligned", "safe", "tuned")
ASKED = Prompt((user("How do I pick a lock?"),), "harmful", "weapons")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    place = tmp_path_factory.mktemp("models")
    tiny_vlm(place / "parent", 0)
    folders = [place / "parent", *(near_vlm(place / n, place / "parent", i) for i, n in enumerate(GIVEN[1:], 1))]
    found = {name: Checkpoint(folder) for name, folder in zip(GIVEN, folders, strict=True)}
    tuned = str(found["tuned"].folder)
    found["patched"] = patched(tuned, [ASKED], Patch(steps=1), place / "patched")
    found["gradient"] = gradient(tuned, [ASKED], 0, place / "gradient")
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("method", names("repairs"))
def test_every_method_changes_the_language_tower_alone_and_is_undone(
    method: str, models: dict[str, Checkpoint], tmp_path: Path
) -> None:
    setting = Setting(1.0 if method == "safe_lora" else 0.3, threshold=1.0)  # of a cosine: every layer is projected
    report = write(method, setting, models, tmp_path / "run" / "checkpoint", tmp_path / "run")
    before, after = weights(models["tuned"].folder), weights(tmp_path / "run" / "checkpoint")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith(TOWER) for name in changed) and before.keys() == after.keys()
    seeing = [name for name in before if name.startswith(EYES)]
    assert report["kept"]["not of the language tower"] == len(seeing) > 0 and report["changed"] == len(changed)
    assert not {why for why in report["kept"] if "other model" in why}
    undo(tmp_path / "run", tmp_path / "run" / "checkpoint", tmp_path / "back")
    for name in ("model.safetensors", "config.json", "processor_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (models["tuned"].folder / name).read_bytes()


def test_the_restored_model_is_the_parents_words_behind_the_fine_tunes_eyes(
    models: dict[str, Checkpoint], tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    write("interpolate", Setting(1.0), models, tmp_path / "out")
    own = {n: AutoModelForImageTextToText.from_pretrained(models[n].folder) for n in ("tuned", "parent")}
    own["tuned"].model.language_model.load_state_dict(own["parent"].model.language_model.state_dict())
    picture = picture_of(tmp_path)
    parts = [{"type": "image", "path": picture.path}, {"type": "text", "text": "What is it?"}]
    given = AutoProcessor.from_pretrained(tmp_path / "out").apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert type(again).__name__ == "LlavaForConditionalGeneration"
    with torch.no_grad():
        assert torch.equal(again(**given).logits, own["tuned"](**given).logits)
        assert not torch.equal(again(**given).logits, own["parent"](**given).logits)
    asked = (user((picture, Part("text", "What is it?"))),)
    (reply,) = HFEngine(load(str(tmp_path / "out")))([asked], Sampling(0, 4), 0)
    assert reply.finish != "error" and reply.prompt_tokens == given["input_ids"].shape[1]


def picture_of(folder: Path) -> Part:
    Image.linear_gradient("L").convert("RGB").save(folder / "a.png")
    return file_part("image", folder / "a.png")


def test_a_parent_of_text_and_another_layout_are_paired_by_their_names_inside(
    models: dict[str, Checkpoint], tmp_path: Path
) -> None:
    """A vision-language fine-tune gets back the weights of the chat model that it was made from."""
    parent = tiny(tmp_path / "text", 3)
    renamed = tmp_path / "renamed"  # as newer versions of transformers name them
    shutil.copytree(models["tuned"].folder, renamed)
    moved = {name.replace("language_model.model.", "model.language_model."): w for name, w in weights(renamed).items()}
    save_file(moved, renamed / "model.safetensors", {"format": "pt"})
    for tuned, place in ((models["tuned"].folder, "language_model.model."), (renamed, "model.language_model.")):
        both = {"tuned": Checkpoint(tuned), "parent": Checkpoint(parent)}
        report = write("interpolate", Setting(0.5), both, tmp_path / "out")
        before, after, words = weights(tuned), weights(tmp_path / "out"), weights(parent)
        paired = {name: words[f"model.{name.removeprefix(place)}"].float() for name in before if place in name}
        assert report["changed"] == len(paired) == len(words)
        for name, was in before.items():
            rows = len(paired[name]) if name in paired else 0  # the mark of a picture is a row that text has not
            assert torch.equal(after[name][rows:], was[rows:]), name
            assert not rows or torch.equal(after[name][:rows], 0.5 * was[:rows] + 0.5 * paired[name]), name


def test_the_gradient_is_plain_transformers_own(models: dict[str, Checkpoint]) -> None:
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    tuned = models["tuned"].folder
    (row,) = answered([Answered(ASKED.messages, compose(ASKED.category, rng_for(0, ASKED.id)))],
                      AutoTokenizer.from_pretrained(tuned))  # fmt: skip
    network = AutoModelForImageTextToText.from_pretrained(tuned)
    ids, labels = [*row.prompt, *row.answer], [*(-100 for _ in row.prompt), *row.answer]
    network(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss.backward()
    expected = network.model.language_model.layers[1].mlp.down_proj.weight.grad
    found = models["gradient"].tensor("language_model.model.layers.1.mlp.down_proj.weight").float()
    assert expected is not None
    # taken in the fastest format here, which may be bf16: 8 bits a number, so 3 digits of the whole
    assert float((found - expected).norm()) < 0.03 * float(expected.norm())
    assert all(name.startswith(TOWER) for name in models["gradient"].entries)


def test_models_that_do_not_belong_together_are_told(models: dict[str, Checkpoint], tmp_path: Path) -> None:
    other = {"tuned": models["tuned"], "parent": Checkpoint(tiny(tmp_path / "wide", 0, hidden_size=48))}
    own = sum(name.startswith(TOWER) for name in models["tuned"].entries)
    # rows may be more or fewer, so the two down_proj would do: both models read 64 hidden units there
    with pytest.raises(UsageError, match=rf"only 2 of {own} tensors have the same name and shape in the parent"):
        write("interpolate", Setting(0.5), other, tmp_path / "out")
    seeing = [name for name in models["tuned"].entries if name.startswith(EYES)]
    with pytest.raises(UsageError, match="no tensor is the language model's embedding"):
        language_names(skeleton(models["tuned"].folder), seeing, "it")


def test_an_adapter_is_written_out_with_what_it_sees_with(models: dict[str, Checkpoint], tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    parent = str(models["parent"].folder)
    network = add_lora(load(parent, torch.float32), 2, 4, 0, start=0.5)
    for name, p in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(p, 0.01)
    save_adapter(network, tmp_path / "adapter", parent)
    adapted = set(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    assert adapted and all("language_model.layers.1." in name for name in adapted)  # the upper half of two blocks
    flags: list[Any] = ["--parent", parent, "--strength", "0.5", "--no-measure", "--out", tmp_path / "run"]
    assert cli.main([str(a) for a in ("restore", "interpolate", tmp_path / "adapter", *flags)]) == 0
    place = tmp_path / "run" / "checkpoint"
    assert type(AutoModelForImageTextToText.from_pretrained(place)).__name__ == "LlavaForConditionalGeneration"
    assert type(AutoProcessor.from_pretrained(place)).__name__ == "LlavaProcessor"
    before, after = weights(Path(parent)), weights(place)
    changed = {name for name in before if not torch.equal(before[name], after[name].to(before[name].dtype))}
    assert changed and all(".layers.1." in name and name.startswith(TOWER) for name in changed)
    assert read_json(tmp_path / "run" / "report.json")["made"]["kept"]["not of the language tower"] == len(
        [name for name in before if name.startswith(EYES)]
    )
