"""Settings of methods that verbs show as flags; nothing here loads torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from primum.core.config import Config

Rule = Literal["piecewise", "weighted", "minimum", "lagrangian"]
"""How two rewards become one (`rewards.Combine`)."""


class Teaching(Config):
    """Two-teacher on-policy distillation: who teaches when, and what of the replies is learned."""

    steps: int = Field(default=120, ge=1, description="optimizer steps")
    domain_every: int = Field(default=4, ge=2, description="of so many steps the fine-tuned model teaches one")
    tokens: int = Field(default=64, ge=1, description="longest reply that is drawn, in tokens")
    temperature: float = Field(default=1.0, gt=0, description="at which replies are drawn; 1 is the student itself")
    divergence: float = Field(
        default=0.0, ge=0, le=1, description="0: KL(teacher || student), 1: KL(student || teacher), between: JSD"
    )
    top: int | None = Field(
        default=None, ge=1, description="likeliest tokens of the teacher that are told apart (default: all)"
    )
    keep: float = Field(default=1.0, gt=0, le=1, description="share of a step's replies learned: those furthest apart")
    opening: int = Field(default=4, ge=1, description="tokens that open a reply and weigh as much as all that follows")
