"""`--preset`: published settings of drawing replies by name, for the verbs that draw them; explicit flags override."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast, get_origin

from pydantic import Field, model_validator

from primum.core.config import Config
from primum.models.sampling import PRESETS, PresetName, Sampling

FLAGS = {"temperature": "temperature", "reply_tokens": "max_new_tokens", "top_p": "top_p", "top_k": "top_k"}
"""The flag that says it -> the field of `Sampling`."""


class Presets(Config):
    """A configuration whose `temperature`, `reply_tokens`, `top_p` and `top_k` a preset fills where none is given.

    Where one of these is a tuple (several variants are drawn), the preset gives one value.
    """

    preset: PresetName | None = Field(
        default=None, description="published settings of drawing replies; flags given beside it override"
    )

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = cast(Mapping[str, Any], values)
        name = given.get("preset")
        if not isinstance(name, str) or name not in PRESETS:  # none, or one that the field refuses
            return given
        found = {flag: getattr(PRESETS[name].sampling, field) for flag, field in FLAGS.items()}
        return {flag: (value,) if _many(cls, flag) else value for flag, value in found.items()} | dict(given)

    @property
    def preset_said(self) -> str:
        """One line on where the preset's settings come from and what of them is left out; "" without a preset."""
        if self.preset is None:
            return ""
        found = PRESETS[self.preset]
        missing = f"; left out, as primum's engines do not do it: {found.left_out}" if found.left_out else ""
        return f"preset {self.preset}: {found.sampling.name}, from {found.source}{missing}"


def changed(settings: Sampling, config: Config) -> Sampling:
    """Return settings with what the user gave, or a preset filled in; what is None stays as it was."""
    given = {field: getattr(config, flag) for flag, field in FLAGS.items()}
    return replace(settings, **{field: value for field, value in given.items() if value is not None})


def _many(cls: type[Config], flag: str) -> bool:
    return get_origin(cls.model_fields[flag].annotation) is tuple
