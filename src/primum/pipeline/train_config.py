"""What `primum train` can be told, and which settings go together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import UsageError, did_you_mean
from primum.pairing.depth import Depth
from primum.training.settings import Teaching

METHODS = ("dpo", "sft", "kto", "reward", "two_teacher", "depth")
RATES = {"dpo": 5e-5, "sft": 2e-4, "kto": 5e-5, "reward": 1e-3, "two_teacher": 2e-4, "depth": 5e-4}
"""Peak learning rates of an adapter; all weights take a twentieth."""
LOSSES = {"dpo": ("sigmoid", "hinge", "ipo", "safe"), "reward": ("sigmoid", "cost")}
"""Losses to choose from; "sigmoid" is the method's own."""


class TrainConfig(Config):
    """What is learned from which rows, how, and where it is written."""

    method: str | None = Field(
        default=None,
        description="dpo or reward (prompt, chosen, rejected), sft (messages), kto (prompt, completion, label), "
        "two_teacher (your domain's questions); depth makes its own",
        json_schema_extra={"positional": True},
    )
    file: str | None = Field(
        default=None,
        description="JSONL, CSV or Parquet in TRL's columns, a folder of them, hub:ID:SPLIT, or vlguard:FOLDER (sft)",
        json_schema_extra={"positional": True},
    )
    model: str = Field(default="embedded", description="hub id, model folder, PEFT adapter folder or .gguf file")
    out: str = Field(default="runs/train", description="the folder of results; a run that was stopped goes on there")
    dry_run: bool = Field(default=False, description="only say what is in the rows, and how long training will take")
    limit: int | None = Field(default=None, ge=1, description="at most so many rows, from the first")
    template: Literal["alpaca"] | None = Field(
        default=None, description="talk to the model in this form, and save it with the tokenizer (default: its own)"
    )
    loss: str = Field(
        default="sigmoid", description="dpo: sigmoid, hinge, ipo, or safe (rows with safety columns); reward: cost "
        "(Safe RLHF's, instead of ranking)"
    )  # fmt: skip
    beta: float = Field(default=0.1, gt=0, description="dpo, kto: pull to the reference; larger stays closer")
    nll_weight: float = Field(default=1.0, ge=0, description="dpo: anchor on chosen answers; 0 is plain DPO")
    keep_domain: str | None = Field(
        default=None, description="dpo: a domain file; on its answers the model stays near what it says now (KL)"
    )
    keep_weight: float = Field(default=0.3, gt=0, description="dpo --keep-domain: weight of that KL against a pair")
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="dpo: share of labels taken to be wrong")
    delta: float = Field(default=2.0, ge=0, description="dpo, loss safe: how far a safe answer must lead an unsafe one")
    ipo_mean: bool = Field(default=False, description="dpo, loss ipo: mean log-probabilities, as TRL has it")
    desirable_weight: float = Field(default=1.0, ge=0, description="kto: weight of good answers")
    undesirable_weight: float = Field(default=1.0, ge=0, description="kto: weight of bad answers")
    margin: Literal["none", "small", "large"] = Field(default="small", description="reward: margin by strength")
    safety_weight: float = Field(default=0.5, ge=0, description="reward: weight of the rows' safety labels")
    centre_weight: float = Field(default=0.01, ge=0, description="reward: weight of the squared sum of scores")
    head: Literal["safety", "helpfulness"] | None = Field(
        default=None, description="reward: what rows teach that do not say; none: harmful or unsafe ones safety"
    )
    lent: float = Field(default=0.1, ge=0, lt=1, description="reward: share that each of two heads borrows")
    held_out: float = Field(default=0.1, ge=0, lt=1, description="reward: share of the prompts to measure it on")
    against: str | None = Field(
        default=None, description="reward: the same prompts' pairs by other labels (people's): a model of each, both "
        "measured on its held-out pairs"
    )  # fmt: skip
    learning_rate: float | None = Field(default=None, gt=0, description="peak learning rate (default: the method's)")
    epochs: float = Field(default=1.0, gt=0, description="passes over the rows")
    batch_size: int = Field(default=16, ge=1, description="rows per optimizer step")
    warmup: float = Field(default=0.1, ge=0, le=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(default=0.0, ge=0, description="of AdamW")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are cut to this norm")
    keep_safe: bool = Field(
        default=False, description="sft: hold the first answer tokens near the model, replay its own safe answers, "
        "learn no row that does what it declines"
    )  # fmt: skip
    screen: bool = Field(
        default=True, description="sft --keep-safe: a row that does what the model declines today is learned with the "
        "model's own answer"
    )  # fmt: skip
    keep_beta: float = Field(default=0.1, gt=0, description="sft --keep-safe: how tightly first tokens are held")
    replay: float = Field(default=0.1, ge=0, le=1, description="sft --keep-safe: share of own answers replayed")
    average: float = Field(default=0.0, ge=0, lt=1, description="decay of an average of the weights, kept in the end")
    lora_rank: int = Field(default=16, ge=1, description="rank of the adapter; its scale is 2")
    lora_start: float = Field(default=0.0, ge=0, lt=1, description="share of the depth below which nothing is learned")
    full: bool = Field(default=False, description="learn all weights, in float32, instead of an adapter")
    load_4bit: bool = Field(
        default=False, description="hold the base in 4 bits under the adapter (QLoRA; NVIDIA GPU, primum[qlora])"
    )
    shard: bool = Field(
        default=False, description="each of several processes (accelerate launch) holds a part of every block (FSDP2)"
    )
    prompt_tokens: int = Field(default=1024, ge=1, description="longest prompt; a longer one loses its beginning")
    answer_tokens: int = Field(default=1024, ge=1, description="longest answer; a longer one loses its end")
    token_budget: int | None = Field(
        default=None, ge=1, description="tokens of a forward pass, halved when memory is short (default: what the "
        "memory measured at the start holds; on a CPU at most 1536)"
    )  # fmt: skip
    reference_cache: bool = Field(default=True, description="keep reference log-probabilities for the next run")
    merged: bool = Field(default=True, description="also write the whole model, adapter merged")
    save_every: float = Field(default=60.0, ge=0, description="seconds between two states to resume from")
    tracker: tuple[str, ...] = Field(
        default=(), description="also send the log to trackio, mlflow, wandb, tensorboard ... (installed by you)"
    )
    seed: int = Field(default=0, description="of the order of rows and of the adapter's first weights")
    parent: str | None = Field(
        default=None, description="two_teacher: the aligned model that MODEL was fine-tuned from (default: the base of "
        "MODEL, where that is a PEFT adapter)"
    )  # fmt: skip
    prompts: tuple[str, ...] = Field(
        default=(), description="two_teacher, depth: your harmful prompts, beside the embedded ones"
    )
    broken: str | None = Field(
        default=None, description="depth: the model whose harmful answers are broken off (default: MODEL itself)"
    )
    teachers: Teaching = Field(default_factory=Teaching, description="two_teacher: how the teachers take turns")
    depth: Depth = Field(default_factory=Depth, description="depth: what is learned in which way")


def check(config: TrainConfig) -> None:
    """Find settings that do not go together before anything is loaded.

    Raises:
        UsageError: no such method or loss, no rows, or flags that exclude each other.
    """
    if config.method not in METHODS:
        problem = f"no method '{config.method}'" if config.method else "no method named"
        cure = did_you_mean(config.method, METHODS) if config.method else f"one of: {', '.join(METHODS)}"
        raise UsageError(problem, where="primum train", cure=cure)
    if config.method == "depth":
        if config.file:
            cure = "leave the file out; --prompts FILE adds harmful prompts"
            raise UsageError("depth makes its rows itself", where=config.file, cure=cure)
    elif not config.file:
        raise UsageError("no rows named", where="primum train", cure=f"primum train {config.method} FILE")
    losses = LOSSES.get(config.method or "", ("sigmoid",))
    if config.loss not in losses:
        problem = f"no loss '{config.loss}' of {config.method}"
        raise UsageError(problem, where="--loss", cure=did_you_mean(config.loss, losses))
    if config.label_smoothing and config.loss != "sigmoid":
        raise UsageError("--label-smoothing goes with --loss sigmoid only", cure="leave one of the two out")
    if config.keep_safe and config.method != "sft":
        raise UsageError("--keep-safe goes with sft only", cure="dpo and kto have a reference of their own")
    if config.keep_domain and (config.method != "dpo" or config.full):
        cure = "leave --keep-domain out" if config.method != "dpo" else "leave --full out: what is kept is read off it"
        raise UsageError("--keep-domain goes with dpo on an adapter", cure=cure)
    if config.method == "kto" and config.batch_size < 2:
        raise UsageError("kto compares the answers of a step", where="--batch-size", cure="at least 2")
    from primum.training.trackers import check

    check(config.tracker)
    if config.method == "reward" and (config.full or not config.merged):
        raise UsageError("a reward model is one folder, an adapter merged", cure="leave --full and --no-merged out")
    if config.against and (config.method != "reward" or config.dry_run or not config.held_out):
        cure = "primum train reward FILE --against PEOPLE --held-out 0.2; dry-run each file by itself"
        raise UsageError("--against compares two reward models on held-out pairs", where="--against", cure=cure)
    if config.method in ("two_teacher", "depth") and (config.full or config.average):
        raise UsageError(f"{config.method} learns an adapter, its last weights", cure="leave --full and --average out")
    if config.method in ("two_teacher", "depth") and (config.load_4bit or config.shard):
        raise UsageError(f"{config.method} draws replies from a whole model", cure="leave --load-4bit and --shard out")
    if config.template and config.method in ("two_teacher", "depth"):
        raise UsageError(f"{config.method} talks to models in their own form", cure="leave --template out")
    if config.load_4bit and (config.full or config.shard):
        raise UsageError("weights in 4 bits do not learn and are not sharded", cure="leave --full and --shard out")
    if config.full and not config.merged:
        raise UsageError("--full --no-merged would write no weights", cure="leave --no-merged out")
