"""Where a reply ends, and how long a prompt may be: the same in every engine, read from the model's own settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from primum.core.errors import UsageError
from primum.models.chat import end_of_turn


class Ends(NamedTuple):
    """The tokens that end a reply, and the tokens that a model was made for (None where it does not say)."""

    stops: frozenset[int]
    context: int | None

    def room(self, new_tokens: int) -> int | None:
        """Return how many prompt tokens fit before `new_tokens` new ones; None where the model names no limit.

        Raises:
            UsageError: not even a short prompt fits.
        """
        if self.context is None:
            return None
        if self.context - new_tokens < 16:
            cure = f"ask for at most {max(1, self.context - 256)} tokens with --reply-tokens"
            raise UsageError(f"a reply of {new_tokens} tokens does not fit a context of {self.context}", cure=cure)
        return self.context - new_tokens


def ends_of(network: Any, tokenizer: Any) -> Ends:
    """Return where replies of a model in memory end."""
    return _ends(network.generation_config.eos_token_id, network.config, tokenizer)


def ends_of_files(name: str, tokenizer: Any) -> Ends:
    """Return the same of a folder, a hub id or a GGUF file, without reading weights.

    A name that has a tokenizer but no settings (it is enough for a server that runs already) stops by the tokenizer.
    """
    from transformers import AutoConfig, GenerationConfig

    from primum.models.load import quiet

    path, where = Path(name), dict[str, str]()
    if path.suffix == ".gguf":
        name, where = str(path.parent), {"gguf_file": path.name}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
    except (OSError, ValueError):
        return _ends(None, None, tokenizer)
    try:
        with quiet():
            settings: Any = config if where else GenerationConfig.from_pretrained(name)
    except (OSError, ValueError):  # it has none: transformers makes one of the configuration
        settings = config
    return _ends(getattr(settings, "eos_token_id", None), config, tokenizer)


def _ends(named: int | Iterable[int] | None, config: Any, tokenizer: Any) -> Ends:
    listed = () if named is None else (named,) if isinstance(named, int) else named
    stops = {i for i in (*listed, tokenizer.eos_token_id, end_of_turn(tokenizer)) if i is not None}
    context = None if config is None else getattr(config.get_text_config(), "max_position_embeddings", None)
    return Ends(frozenset(stops), context)
