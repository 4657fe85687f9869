"""Checkpoints written a tensor at a time: the numbers, the layout, the way back, and what cannot be paired."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from primum.core.errors import StepFailedError, UsageError
from primum.core.store import file_sha256, read_json
from primum.repair.checkpoint import Checkpoint
from primum.repair.given import Setting
from primum.repair.undo import undo
from primum.repair.write import write

SHAPE: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


def model(folder: Path, seed: int, config: Any, near: Path | None = None, size: str = "5GB") -> Path:
    """Save a tiny random model; `near` another one's weights, a little changed."""
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    if near is not None:
        weights = AutoModelForCausalLM.from_pretrained(near, dtype=torch.bfloat16).state_dict()
        network.load_state_dict({k: v + 0.1 * torch.randn_like(v) for k, v in weights.items()})
        network.tie_weights()
    network.save_pretrained(folder, max_shard_size=size)
    (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    return folder


@pytest.fixture(scope="module", params=["gqa, biases, tied", "gqa, untied", "sharded"])
def three(request: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    tied = request.param == "gqa, biases, tied"
    config = Qwen2Config(**SHAPE, tie_word_embeddings=True) if tied else LlamaConfig(**SHAPE, tie_word_embeddings=False)
    size = "4KB" if request.param == "sharded" else "5GB"
    folder = tmp_path_factory.mktemp("models")
    base = model(folder / "base", 0, config, size=size)
    parent = model(folder / "parent", 1, config, near=base, size="5GB")  # in other shards than the rest
    tuned = model(folder / "tuned", 2, config, near=parent, size=size)
    return {"base": Checkpoint(base), "parent": Checkpoint(parent), "tuned": Checkpoint(tuned)}


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for path in folder.glob("*.safetensors") for name, t in load_file(path).items()}


def test_reading_equals_safetensors_own(three: dict[str, Checkpoint]) -> None:
    tuned = three["tuned"]
    expected = loaded(tuned.folder)
    assert set(expected) == set(tuned.entries)
    assert all(torch.equal(tuned.tensor(name), tensor) for name, tensor in expected.items())


def test_interpolation_of_a_whole_model(three: dict[str, Checkpoint], tmp_path: Path) -> None:
    report = write("interpolate", Setting(0.5), three, tmp_path / "out")
    tuned, parent, got = (loaded(f) for f in (three["tuned"].folder, three["parent"].folder, tmp_path / "out"))
    for name, tensor in tuned.items():
        assert torch.equal(got[name], (0.5 * tensor.float() + 0.5 * parent[name].float()).to(torch.bfloat16)), name
    assert report["changed"] + sum(report["kept"].values()) == report["tensors"] == len(tuned)
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert network.config.tie_word_embeddings == three["tuned"].ties
    assert (tmp_path / "out" / "tokenizer_config.json").is_file()
    assert sorted(p.name for p in (tmp_path / "out").glob("*.safetensors")) == list(three["tuned"].files)


def test_the_ends_are_the_two_models_byte_for_byte(three: dict[str, Checkpoint], tmp_path: Path) -> None:
    write("interpolate", Setting(0.0), three, tmp_path / "zero")
    tuned = three["tuned"]
    assert all((tuned.folder / f).read_bytes() == (tmp_path / "zero" / f).read_bytes() for f in tuned.files)
    write("interpolate", Setting(1.0), three, tmp_path / "one")
    got, parent = loaded(tmp_path / "one"), loaded(three["parent"].folder)
    assert all(torch.equal(tensor, parent[name]) for name, tensor in got.items())


@pytest.mark.parametrize("method", ["interpolate", "safe_lora", "safemerge", "lox"])
def test_undo_gives_the_same_bytes(three: dict[str, Checkpoint], tmp_path: Path, method: str) -> None:
    report = write(method, Setting(1.0, threshold=2.0), three, tmp_path / "out", undo=tmp_path)
    tuned = three["tuned"]
    assert report["changed"] > 0
    assert any((tuned.folder / f).read_bytes() != (tmp_path / "out" / f).read_bytes() for f in tuned.files)
    undo(tmp_path, tmp_path / "out", tmp_path / "back")
    assert all((tuned.folder / f).read_bytes() == (tmp_path / "back" / f).read_bytes() for f in tuned.files)
    AutoModelForCausalLM.from_pretrained(tmp_path / "back")


def test_grouped_keys_change_and_biases_stay(three: dict[str, Checkpoint], tmp_path: Path) -> None:
    write("lox", Setting(1.0), three, tmp_path / "out")
    tuned, got = loaded(three["tuned"].folder), loaded(tmp_path / "out")
    moved = {name for name in tuned if not torch.equal(tuned[name], got[name])}
    assert "model.layers.0.self_attn.k_proj.weight" in moved  # 8 rows where q has 16
    assert not any(name.endswith((".bias", "norm.weight", "embed_tokens.weight", "lm_head.weight")) for name in moved)


def test_a_larger_vocabulary_keeps_its_new_rows(tmp_path: Path) -> None:
    parent = model(tmp_path / "parent", 0, LlamaConfig(**SHAPE, tie_word_embeddings=True))
    tuned = model(tmp_path / "tuned", 1, LlamaConfig(**{**SHAPE, "vocab_size": 35}, tie_word_embeddings=True))
    write("interpolate", Setting(1.0), {"tuned": Checkpoint(tuned), "parent": Checkpoint(parent)}, tmp_path / "out")
    name = "model.embed_tokens.weight"
    got, old, new = (loaded(f)[name] for f in (tmp_path / "out", parent, tuned))
    assert torch.equal(got[:32], old) and torch.equal(got[32:], new[32:])


def test_an_untied_head_is_paired_with_a_tied_parents_embedding(tmp_path: Path) -> None:
    tied = model(tmp_path / "tied", 0, LlamaConfig(**SHAPE, tie_word_embeddings=True))
    untied = model(tmp_path / "untied", 1, LlamaConfig(**SHAPE, tie_word_embeddings=False))
    write("interpolate", Setting(1.0), {"tuned": Checkpoint(untied), "parent": Checkpoint(tied)}, tmp_path / "out")
    assert torch.equal(loaded(tmp_path / "out")["lm_head.weight"], loaded(tied)["model.embed_tokens.weight"])


def test_numbers_that_are_no_weights_are_copied(tmp_path: Path) -> None:
    for name, shift in (("tuned", 0), ("parent", 1)):
        (tmp_path / name).mkdir()
        steps = torch.tensor([5 + shift])
        save_file({"w": torch.ones(2, 2) * shift, "steps": steps}, tmp_path / name / "model.safetensors")
    models = {name: Checkpoint(tmp_path / name) for name in ("tuned", "parent")}
    report = write("interpolate", Setting(1.0), models, tmp_path / "out")
    got = loaded(tmp_path / "out")
    assert got["steps"].tolist() == [5] and got["w"].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert report["kept"] == {"of format I64": 1}


def test_models_that_do_not_belong_together_are_refused(three: dict[str, Checkpoint], tmp_path: Path) -> None:
    other = model(tmp_path / "other", 0, LlamaConfig(**{**SHAPE, "hidden_size": 32}))
    with pytest.raises(UsageError, match="have the same name and shape in the parent model"):
        write("interpolate", Setting(0.5), {**three, "parent": Checkpoint(other)}, tmp_path / "out")
    with pytest.raises(UsageError, match="needs the pretrained model"):
        write("lox", Setting(0.5), {k: v for k, v in three.items() if k != "base"}, tmp_path / "out")
    with pytest.raises(UsageError, match="lies in the folder to be written"):
        write("interpolate", Setting(0.5), three, three["tuned"].folder)
    assert not (tmp_path / "out").exists()


def test_damaged_files_are_told_by_name(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", 0, LlamaConfig(**SHAPE))
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for damage, said in ((whole[:-10], "cut short"), (b"\x80\x02pickle", "no safetensors file"), (b"", "no safet")):
        path.write_bytes(damage)
        with pytest.raises(UsageError, match=said):
            _ = Checkpoint(folder).entries
    path.unlink()
    with pytest.raises(UsageError, match="no safetensors weights"):
        _ = Checkpoint(folder).files
    index = {"weight_map": {"w": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="outside its folder"):
        _ = Checkpoint(folder).files


def test_undo_refuses_a_checkpoint_that_was_changed(three: dict[str, Checkpoint], tmp_path: Path) -> None:
    write("interpolate", Setting(0.5), three, tmp_path / "out", undo=tmp_path)
    changed = tmp_path / "out" / three["tuned"].files[0]
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(bytes(data))
    with pytest.raises(UsageError, match="was changed since"):
        undo(tmp_path, tmp_path / "out", tmp_path / "back")
    with pytest.raises(UsageError, match="nothing to undo with"):
        undo(tmp_path / "out", tmp_path / "out", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def _cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])


def _overwrite(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        first = opened.infolist()[0]
    data = bytearray(archive.read_bytes())
    start = first.header_offset + 30 + len(first.filename)
    data[start : start + 8] = b"\xff" * 8  # no deflate stream begins so
    archive.write_bytes(data)


@pytest.mark.parametrize("damage", [_cut, _overwrite])
def test_undo_finds_out_that_its_archive_is_damaged(
    three: dict[str, Checkpoint], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    write("interpolate", Setting(0.5), three, tmp_path / "out", undo=tmp_path)
    damage(tmp_path / "undo.zip")
    with pytest.raises(StepFailedError, match="damaged"):
        undo(tmp_path, tmp_path / "out", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_killed_write_leaves_the_old_checkpoint(three: dict[str, Checkpoint], tmp_path: Path) -> None:
    write("interpolate", Setting(0.5), three, tmp_path / "out")
    before = {p.name: file_sha256(p) for p in (tmp_path / "out").iterdir()}
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom primum.repair.checkpoint import Checkpoint\n"
        "from primum.repair.given import Setting\nfrom primum.repair.write import write\n"
        "tuned, parent, out = map(Path, sys.argv[1:])\n"
        "models = {'tuned': Checkpoint(tuned), 'parent': Checkpoint(parent)}\n"
        "seen = []\ndef die(n):\n    seen.append(n)\n    if len(seen) == 5: os.kill(os.getpid(), 9)\n"
        "write('interpolate', Setting(0.9), models, out, advance=die)\n"
    )
    places = [str(three[k].folder) for k in ("tuned", "parent")]
    killed = subprocess.run([sys.executable, "-c", code, *places, str(tmp_path / "out")], check=False)
    assert killed.returncode == -9
    assert {p.name: file_sha256(p) for p in (tmp_path / "out").iterdir()} == before
    write("interpolate", Setting(0.9), three, tmp_path / "out", undo=tmp_path)
    assert read_json(tmp_path / "undo.json")["format"] == 1 and not list(tmp_path.glob("*.partial"))
    shutil.rmtree(tmp_path / "out")


MEASURE = """
import json, resource, sys
from pathlib import Path
from primum.repair.checkpoint import Checkpoint
from primum.repair.given import Setting
from primum.repair.write import write

def models(folder):
    return {role: Checkpoint(Path(folder) / role) for role in ("tuned", "parent")}

small, large, out = sys.argv[1:]
write("interpolate", Setting(0.5), models(small), Path(out) / "small", undo=Path(out) / "a")  # libraries are loaded now
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write("interpolate", Setting(0.5), models(large), Path(out) / "large", undo=Path(out) / "b")
print(json.dumps({"rise": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)}))
"""


def sharded(folder: Path, shards: int, rows: int, value: float) -> Path:
    """Write a checkpoint of shards with eight matrices each."""
    folder.mkdir(parents=True)
    index: dict[str, str] = {}
    for s in range(shards):
        file = f"model-{s:05d}.safetensors"
        names = [f"layers.{s}.{i}.weight" for i in range(8)]
        save_file({name: torch.full((rows, 1024), value, dtype=torch.bfloat16) for name in names}, folder / file)
        index |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def test_memory_holds_less_than_a_shard_of_each_model(tmp_path: Path) -> None:
    for size, shards, rows in (("small", 1, 8), ("large", 6, 1536)):
        for role, value in (("tuned", 1.0), ("parent", 2.0)):
            sharded(tmp_path / size / role, shards, rows, value)
    shard = (tmp_path / "large" / "tuned" / "model-00000.safetensors").stat().st_size
    places = [str(tmp_path / name) for name in ("small", "large", "out")]
    found = subprocess.run([sys.executable, "-c", MEASURE, *places], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["rise"] < 1.2 * 2 * shard  # two models, six shards of 25 MB each
    got = load_file(tmp_path / "out" / "large" / "model-00005.safetensors")["layers.5.7.weight"]
    assert got.shape == (1536, 1024) and bool((got == 1.5).all())
