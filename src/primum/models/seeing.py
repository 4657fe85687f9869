"""Vision-language models: what a picture becomes for one, and its replies to prompts that hold pictures.

The checkpoint's own processor cuts pictures and marks their places in the prompt; transformers' `generate` runs the
network, because every family places pictures in its own way. Tokens are drawn as everywhere here, from the reply's own
numbers, so that a reply does not depend on what was drawn beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor, GenerationConfig, LogitsProcessor, LogitsProcessorList

from primum.core.errors import UsageError
from primum.core.parts import takes
from primum.core.records import Kind, Messages, files_of
from primum.models.chat import SEE, encode, render
from primum.models.draw import draw, uniforms
from primum.models.ends import ends_of
from primum.models.load import Model, adapter_base, quiet
from primum.models.pictures import open_picture, pillow
from primum.models.sampling import Generated, Request, Sampling

KINDS: tuple[Kind, ...] = ("image",)
"""What is taken beside text."""
CURE = "send the prompt to an endpoint that takes it (--url), or leave it out"


@lru_cache(maxsize=2)
def processor_of(source: str) -> Any:
    """Return the processor of a model, by hub id, folder or adapter folder (its base's).

    Raises:
        MissingExtraError: Pillow is not installed.
        UsageError: it has none that can be loaded here.
    """
    pillow()
    try:
        with quiet():
            found = AutoProcessor.from_pretrained(adapter_base(source), trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        first = str(error).strip().splitlines()[0]
        cure = "put its processor's files beside the weights; some processors need torchvision"
        raise UsageError(f"cannot load the processor of '{source}': {first}", cure=cure) from error
    if not hasattr(found, "image_processor"):  # a model of text has its tokenizer in this place
        raise UsageError(f"the model '{source}' takes text only, and a prompt holds a picture", cure=SEE)
    found.tokenizer.chat_template = found.tokenizer.chat_template or found.chat_template
    return found


def looked_at(source: str, messages: Messages) -> dict[str, Any]:
    """Return what the network is given of a conversation with pictures: token ids (1, T), their mask, the pictures.

    Args:
        source: the model, by hub id, folder or adapter folder.
        messages: the conversation.

    Raises:
        UsageError: it holds something else than text and pictures, or more pictures than the template has marks for.
        BadInputError: a picture that cannot be read.
    """
    takes(messages, f"the vision-language model '{source}'", KINDS, CURE)
    pictures = [open_picture(part) for part in files_of(messages)]
    processor = processor_of(source)
    text = render(messages, processor.tokenizer, KINDS)
    try:
        given = processor(text=[text], images=[pictures], return_tensors="pt", add_special_tokens=False)
    except ValueError as error:  # marks and pictures do not match
        first = str(error).strip().splitlines()[0]
        cure = "check that its chat template has a mark for every picture"
        raise UsageError(f"'{source}' cannot place the pictures: {first}", cure=cure) from error
    return dict(given)


def encode_all(batch: Sequence[Messages], tokenizer: Any) -> list[list[int]]:
    """Return the token ids of conversations, those with pictures as the model's processor marks them."""
    texts = iter(encode([messages for messages in batch if not files_of(messages)], tokenizer))
    return [
        looked_at(tokenizer.name_or_path, messages)["input_ids"][0].tolist() if files_of(messages) else next(texts)
        for messages in batch
    ]


def moved(given: dict[str, Any], place: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Move tensors to a device, pictures into a number format."""
    return {n: value.to(place, dtype if value.is_floating_point() else value.dtype) for n, value in given.items()}


@torch.inference_mode()
def replies(model: Model, requests: Iterable[Request], sampling: Sampling) -> Iterator[tuple[int, Generated]]:
    """Yield (request index, reply) for prompts that hold pictures, one after the other."""
    ends = ends_of(model.network, model.tokenizer)
    room = ends.room(sampling.max_new_tokens)
    for request in requests:
        given = moved(looked_at(model.source, request.messages), model.place, model.network.dtype)
        length = given["input_ids"].shape[1]
        if room is not None and length > room:
            why = f"the prompt with its pictures has {length} tokens, and {room} fit"
            yield request.index, Generated("", "error", length, 0, why)
            continue
        drawn = _Drawn(length, sampling, uniforms(request.seed, sampling.max_new_tokens))
        out = model.network.generate(
            **given, generation_config=_settings(model, ends.stops, sampling),
            logits_processor=LogitsProcessorList([drawn]),
        )  # fmt: skip
        new = out[0, length:].tolist()
        text = model.tokenizer.decode(new, skip_special_tokens=True).strip()
        ended = bool(new) and new[-1] in ends.stops
        yield request.index, Generated(text, "stop" if ended else "length", length, len(new))


def _settings(model: Model, stops: Iterable[int], sampling: Sampling) -> GenerationConfig:
    """Return settings under which `generate` takes what `_Drawn` drew and changes nothing."""
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0,
        no_repeat_ngram_size=0, eos_token_id=sorted(stops), pad_token_id=model.tokenizer.pad_token_id,
    )  # fmt: skip


class _Drawn(LogitsProcessor):
    """Draws the next token of one reply, and leaves `generate` no other."""

    def __init__(self, prompt: int, sampling: Sampling, points: np.ndarray) -> None:
        self.prompt, self.sampling, self.points = prompt, sampling, points

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return scores (1, V) whose largest is the token drawn."""
        at = input_ids.shape[1] - self.prompt
        point = torch.tensor([float(self.points[at])], device=scores.device)
        token = draw(scores, self.sampling, point)
        only = torch.full_like(scores, float("-inf"))
        return only.scatter_(1, token[:, None], 0.0)  # type: ignore[return-value]
