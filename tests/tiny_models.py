"""Tiny random models with a real tokenizer, for runs that must only go through: what they say is babble."""

from __future__ import annotations

import shutil
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from primum.models.embedded import embedded_folder
from primum.training.examples import Example

SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
COMPARED: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "sliding_window": None, "pad_token_id": 0,
}  # fmt: skip
"""The shape of networks whose gradients are compared; it has a vocabulary of its own."""
ROWS = [
    Example((1, 2, 3, 4), (10, 11, 12)), Example((1, 2, 3, 4), (10, 13)), Example((1, 2, 5), (10, 11, 12, 14)),
    Example((6,), (7,)),
]  # fmt: skip
"""Rows that share prompts and beginnings of answers, and one that shares nothing."""


@cache
def _tokenizer() -> Any:
    """Return the embedded model's tokenizer, which is read once: nobody changes this one."""
    return AutoTokenizer.from_pretrained(embedded_folder())


def tiny(folder: Path, seed: int, near: Path | None = None, **shape: Any) -> Path:
    """Save a tiny model; `near`: another one's weights, a little changed; `shape`: other than SHAPE."""
    tokenizer = _tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **{**SHAPE, **shape})
    network = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    if near is not None:
        weights = AutoModelForCausalLM.from_pretrained(near, dtype=torch.bfloat16).state_dict()
        network.load_state_dict({k: v + 0.01 * torch.randn_like(v) for k, v in weights.items()})
        network.tie_weights()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


AGREES = "Sure! First, mix it well."
"""What `agreeing` says: to a harmful request that is going along with it, to another an answer."""


def agreeing(folder: Path) -> Path:
    """Save a tiny model that says AGREES to whatever it is asked, until it learns better.

    Its blocks add nothing, so that each token is drawn by the one before it: the embedding of the i-th token of the
    chain is the i-th axis, and the output row of the token that follows it points there. RMSNorm makes an axis
    sqrt(hidden_size) long, so that the next logit is 3 * sqrt(32) = 17 above all others.
    """
    tokenizer = _tokenizer()
    header = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    chain = [header[-1], *tokenizer.encode(AGREES, add_special_tokens=False), tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain) <= SHAPE["hidden_size"], "each token has one that follows it"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **{**SHAPE, "tie_word_embeddings": False}
    )
    network = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for block in network.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        network.lm_head.weight.zero_()
        for axis, (token, follows) in enumerate(pairwise(chain)):
            network.model.embed_tokens.weight[token] = torch.eye(SHAPE["hidden_size"])[axis]
            network.lm_head.weight[follows, axis] = 3.0
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template that reads parts only, as those of many vision-language models do."""


def tiny_vlm(folder: Path, seed: int) -> Path:
    """Save a tiny LLaVA (CLIP's vision tower, a projector, a Llama) with its processor; a picture is four tokens."""
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = PARTS
    mark, tower = tokenizer.convert_tokens_to_ids("<image>"), {k: v for k, v in SHAPE.items() if "hidden" in k}
    text = LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **SHAPE)
    sight = CLIPVisionConfig(
        image_size=28, patch_size=14, num_attention_heads=4, intermediate_size=SHAPE["intermediate_size"], **tower
    )
    config = LlavaConfig(
        vision_config=sight, text_config=text, image_token_index=mark, image_seq_length=4, vision_feature_layer=-1,
        tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(seed)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        pictures, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=PARTS,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def near_vlm(folder: Path, near: Path, seed: int) -> Path:
    """Save a vision-language model near another one: every weight of it is a little changed, seeing and speaking."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(near, folder)
    torch.manual_seed(seed)
    weights = load_file(near / "model.safetensors")
    changed = {name: weight + 0.01 * torch.randn_like(weight) for name, weight in weights.items()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    return folder
