"""What `primum repair` can be told: one declaration, from which flags, help, YAML keys and the manifest follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from primum.core.config import Config
from primum.evaluation.gate import GateConfig
from primum.training.settings import Teaching


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of everything a budget buys; None takes all there is.

    harmful, general: prompts to learn from (a harmful one brings its benign twin); asked: how many of the harmful ones
    the model is asked, so that its own replies make pairs; samples: replies drawn to each of these, the worst of which
    is rejected (benign prompts get one); test_harmful, test_general: prompts to measure on; train_tokens, test_tokens:
    longest reply; passes: over the demonstrations of the warm start; dev: harmful prompts of development, with their
    twins, that the line is drawn on; share: of the prompts to learn from and to measure on, from the first; declined:
    of the benign twins of development, how many answers may open with declining.
    """

    harmful: int | None
    general: int | None
    asked: int | None
    test_harmful: int | None
    test_general: int | None
    samples: int
    train_tokens: int
    test_tokens: int
    passes: float
    dev: int | None = None
    share: float = 1.0
    declined: float = 0.18


BUDGETS = {
    "quick": Budget(700, None, 80, None, None, 1, 32, 64, 2.0, 138, declined=0.16),
    "standard": Budget(1300, None, 320, None, None, 1, 32, 64, 3.0),
    "full": Budget(None, None, None, None, None, 4, 128, 256, 3.0),
}


class SftConfig(Config):
    """The supervised warm start."""

    linear_start: bool = Field(
        default=True,
        description="begin from a linear reading of the model's own hidden units, written into the adapter",
    )
    linear_share: float = Field(
        default=1.0, gt=0, le=1, description="of all prompts to learn from, how many the linear start reads"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate of the supervised warm start")
    epochs: float | None = Field(
        default=None,
        ge=0,
        description="passes over the demonstrations; 0 leaves the warm start out (default: the budget's)",
    )
    batch_size: int = Field(default=4, gt=0, description="demonstrations per optimizer step")
    keep_weight: float = Field(default=4.0, ge=0, description="weight of benign answers, kept as they are")
    opening: int = Field(
        default=4, ge=1, description="tokens that open an answer: they decide what it is and weigh as much as a row"
    )
    general_every: int = Field(
        default=2, ge=1, description="answers that have no twin, the general ones, come along in one of so many passes"
    )
    short_tokens: int = Field(default=16, ge=1, description="tokens learned of most safe completions")
    kept_tokens: int = Field(default=12, ge=1, description="tokens kept of a benign answer")
    kept_whole: int = Field(default=4, ge=1, description="of so many benign answers, one is kept as far as it goes")
    whole: int = Field(default=2, ge=1, description="of so many safe completions, one is learned whole")
    whole_tokens: int = Field(default=48, ge=8, description="longest safe completion that is learned whole")


class DpoConfig(Config):
    """Direct preference optimisation, anchored to what the warm start learned and kept."""

    beta: float = Field(default=0.1, gt=0, description="DPO: pull to the reference; larger stays closer")
    nll_weight: float = Field(default=0.0, ge=0, description="DPO: weight of a plain NLL anchor on chosen answers")
    replay_weight: float = Field(
        default=1.0,
        ge=0,
        description="DPO: weight of its anchor, the warm start's loss on the pairs' prompts and twins",
    )
    replay_general: float = Field(
        default=2.0, ge=0, description="DPO: general answers for each pair in that anchor, at most"
    )
    keep_weight: float = Field(default=12.0, ge=0, description="DPO: weight of kept answers within that anchor")
    lead: float = Field(
        default=0.0,
        description="DPO: nats by which declining must lead; a higher value declines less, twins and harmful",
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="DPO: peak learning rate")
    epochs: float = Field(default=1.0, gt=0, description="DPO: passes over the pairs")
    batch_size: int = Field(default=4, gt=0, description="DPO: pairs and replayed rows per optimizer step")
    tokens: int = Field(default=40, ge=8, description="DPO: tokens learned of each answer; a cut answer gets no end")
    benign_share: float = Field(default=1.5, gt=0, description="DPO: benign pairs for each harmful one, at most")


class LineConfig(Config):
    """Where the line between answering and declining is drawn once training has ended."""

    draw: bool = Field(default=True, description="draw the line on prompts of development, none of them trained on")
    share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="of their benign twins, how many answers may open with a learned refusal or with the model's own "
        "apology: more is safer (default: the budget's)",
    )


class WeightConfig(Config):
    """How weight methods are applied: what all strengths of a sweep share."""

    energy: float = Field(
        default=0.9, gt=0, le=1, description="share of the alignment's squared norm that a subspace keeps"
    )
    rank: int | None = Field(default=None, ge=1, description="size of the subspace instead")
    threshold: float = Field(default=0.35, description="safemerge: layers with a cosine below are merged")
    drop: float = Field(default=0.0, ge=0, lt=1, description="resta: DARE's chance to drop a weight")
    ibm: bool = Field(default=False, description="the matrix of IBM's SafeLoRA code in place of the exact projector")


class RepairConfig(Config):
    """Measure a model, make it safe, measure it again, decide, report."""

    model: str = Field(
        default="embedded",
        description="hub id, model folder, PEFT adapter folder or .gguf file",
        json_schema_extra={"positional": True},
    )
    prompts: tuple[str, ...] = Field(
        default=(),
        description="your harmful prompts: a JSONL/CSV/Parquet file, hub:ID:SPLIT:FIELD, shared:NAME",
    )
    embedded: bool = Field(
        default=True, description="also take primum's own prompts: harmful ones, their benign twins, general ones"
    )
    benign: tuple[str, ...] = Field(
        default=(), description="more prompts that deserve an answer, from the same kinds of source"
    )
    domain: str | None = Field(
        default=None, description="JSONL or CSV of prompt and answer (or options): what must not get worse"
    )
    domain_weight: float = Field(
        default=1.0,
        ge=0,
        description="with --domain: every fourth row is not measured, and training stays near what the model says on "
        "it; weight of such a row against another answer that is kept (0: all rows are measured, none is held)",
    )
    parent: str | None = Field(
        default=None, description="the aligned model that MODEL was fine-tuned from: its weights are tried first, and "
        "training only where they do not bring enough back"
    )  # fmt: skip
    base: str | None = Field(
        default=None, description="with --parent: the pretrained model behind it, which more methods need"
    )
    unaligned: str | None = Field(default=None, description="with --parent: a twin of the parent made unsafe (resta)")
    safe: str | None = Field(
        default=None, description="with --parent: a fine-tune of the parent on safety data (safemerge)"
    )
    weights: WeightConfig = Field(default_factory=WeightConfig, description="with --parent: the weight methods")
    train: Literal["auto", "always", "never"] = Field(
        default="auto", description="with --parent: train after the weights; auto where under 80% of the gap came back"
    )
    held_out: tuple[str, ...] | None = Field(
        default=None, description="harm categories kept for testing (default: the policy's)"
    )
    strategy: str = Field(default="safe_completion", description="how pairs are built (primum list strategies)")
    judges: tuple[str, ...] = Field(
        default=("rules", "probe"), description="the first builds the pairs; all of them decide"
    )
    languages: tuple[str, ...] = Field(
        default=(),
        description="languages to learn from beside English (codes), or `plan`: one of each family; all that there are "
        "prompts in are measured, so `en` measures what English alone does to them",
    )
    language_judge: str = Field(default="languages", description="with --languages: reads replies in all of them")
    budget: Literal["quick", "standard", "full"] = Field(
        default="standard", description="how many prompts, samples and tokens"
    )
    minutes: float | None = Field(
        default=None,
        ge=0,
        description="where the budget would take longer on this machine, take fewer prompts (0: never; an estimate, "
        "made once a run folder)",
    )
    share: float = Field(default=1.0, gt=0, le=1, description="of the budget's prompts of every kind, take this share")
    rounds: int = Field(
        default=1, ge=1, description="rounds of learning; each draws replies anew from what the last one made"
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        description="replies drawn to each harmful prompt that is learned from; the worst is rejected (default: the "
        "budget's: 1, full 4)",
    )
    temperature: float = Field(default=0.4, ge=0, description="sampling temperature everywhere (0 is greedy)")
    seed: int = Field(default=0, description="of every random choice")
    out: str = Field(default="runs/repair", description="the run folder; a run that was stopped goes on there")
    dry_run: bool = Field(default=False, description="print what would run and about how long, and stop")
    force: bool = Field(default=False, description="train even on pairs that the lint refuses")
    lora_rank: int = Field(default=16, ge=1, description="rank of the LoRA adapter")
    lora_start: float = Field(
        default=0.4, ge=0, lt=1, description="share of the model's depth below which nothing is trained"
    )
    limit: int | None = Field(default=None, ge=1, description="at most this many prompts of each kind, for a trial")
    reply_tokens: int | None = Field(default=None, ge=1, description="longest reply, in tokens (default: the budget's)")
    sft: SftConfig = Field(default_factory=SftConfig, description="the supervised warm start")
    dpo: DpoConfig = Field(default_factory=DpoConfig, description="direct preference optimisation")
    teachers: Teaching = Field(
        default_factory=Teaching, description="with --parent and --domain: two-teacher distillation"
    )
    line: LineConfig = Field(default_factory=LineConfig, description="the line between answering and declining")
    gate: GateConfig = Field(default_factory=GateConfig, description="limits of the gate")

    @property
    def passes(self) -> float:
        """Passes of the warm start over its demonstrations."""
        return BUDGETS[self.budget].passes if self.sft.epochs is None else self.sft.epochs

    @property
    def declined(self) -> float:
        """Share of the benign twins of development whose answers may open with declining."""
        return BUDGETS[self.budget].declined if self.line.share is None else self.line.share

    @property
    def size(self) -> Budget:
        """What the budget buys, cut by `share`, `limit` and `reply_tokens`; with `samples` where they are given."""
        b, most = replace(BUDGETS[self.budget], share=self.share), self.limit
        if self.samples is not None:
            b = replace(b, samples=self.samples)
        if self.reply_tokens is not None:
            b = replace(b, train_tokens=self.reply_tokens, test_tokens=self.reply_tokens)
        if most is None:
            return b

        def cut(n: int | None) -> int:
            return most if n is None else min(most, n)

        return replace(
            b,
            harmful=cut(b.harmful),
            general=cut(b.general),
            asked=cut(b.asked),
            test_harmful=cut(b.test_harmful),
            test_general=cut(b.test_general),
        )
