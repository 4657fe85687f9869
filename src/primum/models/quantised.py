"""A frozen base in four bits under an adapter in full precision: QLoRA (arXiv:2305.14314), by bitsandbytes on a GPU."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from primum.core.errors import MissingExtraError, UsageError


def nf4(dtype: torch.dtype, gpu: bool | None = None, installed: bool | None = None) -> Any:
    """Return how transformers is to read weights: NormalFloat in 4 bits, its constants in 8 (section 3).

    Args:
        dtype: number format of the products.
        gpu: whether there is an NVIDIA GPU; None looks.
        installed: whether bitsandbytes is; None looks.

    Raises:
        UsageError: no NVIDIA GPU here.
        MissingExtraError: bitsandbytes is not installed.
    """
    from transformers import BitsAndBytesConfig

    if not (torch.cuda.is_available() if gpu is None else gpu):
        cure = "leave --load-4bit out (an adapter on the whole base), or run it where nvidia-smi lists a GPU"
        raise UsageError("weights in 4 bits need an NVIDIA GPU", where="--load-4bit", cure=cure)
    if not (importlib.util.find_spec("bitsandbytes") if installed is None else installed):
        raise MissingExtraError("bitsandbytes, which holds weights in 4 bits,", "qlora")
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
