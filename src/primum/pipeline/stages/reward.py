"""Preferences where nobody voted, and one reward model with two heads: safety and helpfulness."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import StepFailedError
from primum.core.records import JsonDict, Prompt, Reply, Verdict, digest, to_json
from primum.models.sampling import Sampling
from primum.pairing.preferences import Head, Voted, helpful, is_safe, read_preferences, safer, words_of
from primum.pairing.replies import flagged, judged, tidy_answer
from primum.pipeline import second, threshold
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes
from primum.pipeline.demos import SHELF
from primum.pipeline.desk import Policy
from primum.pipeline.lesson import benign, harmful, pick
from primum.pipeline.recipe import StageSpec
from primum.pipeline.reward_lesson import SHELF as TAUGHT
from primum.pipeline.reward_lesson import Taught, fit, overfitted, rows_of
from primum.pipeline.scoring import HEADS, score_replies
from primum.pipeline.steps import Draw
from primum.pipeline.train_facts import reliability_lines

about = "reward model with a head for safety and one for helpfulness, from preferences of judge and rule"


class Settings(Config):
    """Preferences and reward modelling."""

    variants: tuple[str, ...] = Field(("base",), description="policies whose replies are compared, by stage name")
    prompts: int | None = Field(None, ge=1, description="harmful prompts, as many benign ones beside")
    temperature: float = Field(0.9, ge=0, description="of the replies that are compared")
    samples: int = Field(2, ge=1, description="replies of each variant to each harmful prompt")
    tokens: int = Field(48, ge=1, description="longest reply")
    judge: str = Field("probe", description="whose p(harmful) decides; training never sees the others")
    safety_files: tuple[str, ...] = Field((), description="people's preferences for safety, by path")
    helpful_files: tuple[str, ...] = Field((), description="people's preferences for helpfulness, by path")
    lent_to_safety: float = Field(0.1, ge=0, lt=1, description="share of helpfulness pairs in the safety mix")
    lent_to_helpful: float = Field(0.1, ge=0, lt=1, description="share of safety pairs in the other mix")
    lent_pairs: Literal["both safe", "any"] = Field(
        "both safe", description="safety pairs that the other mix borrows; as published: any, with lent_to_helpful 0.5"
    )
    loss: Literal["ranking", "cost"] = Field("ranking", description="ranking, or the cost model of Safe RLHF")
    margin: Literal["none", "small", "large"] = Field("small", description="scale of the margin by strength")
    safety_weight: float = Field(0.5, ge=0, description="weight of the safety labels' cross-entropy")
    centre_weight: float = Field(0.01, ge=0, description="weight of the squared sum of a pair's scores")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    epochs: float = Field(1.0, gt=0, description="passes; more than one overfits")
    batch_size: int = Field(8, gt=0, description="pairs per optimizer step")
    seed: int = Field(0, description="added to the run's: another one makes another model of the same kind")
    watches: bool = Field(
        False, description="a second model, which other stages name as theirs (second): nothing is trained on it"
    )
    precision: float = Field(
        threshold.PUBLISHED, gt=0, le=1, description="of calling a reply unsafe, to which the gate is tuned"
    )


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    count = min(settings.prompts or sizes.harmful, sizes.harmful)
    drawn = count * settings.samples * len(settings.variants) * settings.tokens
    rows = round(3.3 * count * settings.epochs) * (PROMPT + 2 * settings.tokens)
    return Cost(2 * drawn, 2 * drawn, rows)


def run(context: Context, spec: StageSpec) -> None:
    """Gather preferences, train, and say how good the model is on held-out prompts."""
    settings: Settings = spec.settings
    votes = {part: _votes(context, spec, part) for part in ("train", "dev")}
    for head in HEADS:
        if not any(v.head == head for v in votes["train"]):
            cure = "give more prompts, or a judge that gives p(harmful)"
            raise StepFailedError(f"there are no preferences for {head}", where=spec.where, cure=cure)
    later = {"precision", "watches"}  # the gate is tuned when all is learned
    learned = settings.model_dump(mode="json", exclude=later)
    stage = context.journey.stage(
        f"stage-{spec.name}", settings=learned, seed=_seed(context, settings),
        base=context.desk.base.key, data=digest([[to_json(v) for v in part] for part in votes.values()]),
    )  # fmt: skip
    weights, taught = stage.path("weights.safetensors"), Taught(votes, settings, _seed(context, settings))
    total = round(len(votes["train"]) * settings.epochs)
    with context.journey.step(spec.name, total, "pairs") as advance:
        if stage.manifest:
            advance(total)
        else:
            stage.finish(**_learn(context, taught, weights, advance))
    made = Policy(spec.name, stage.key, weights)
    context.facts[spec.name] = {"kind": "reward", **(stage.manifest or {})}
    context.facts[spec.name] |= {"watches": True} if settings.watches else {}
    tuned = _tune(context, spec, made)
    context.shelf.setdefault(second.SHELF, {})[spec.name] = second.Trained(made, tuned)
    if not settings.watches:
        context.shelf |= {"reward": made, "threshold": tuned, TAUGHT: taught}
    cross = context.facts[spec.name]["accuracy"]["cross"]
    said = ", ".join(f"{head} {100 * cross[head][head]['value']:.0f}%" for head in HEADS if head in cross[head])
    held_out = f"held-out pairs in order: {said}" if said else "no held-out pairs to look at"
    context.journey.tell(spec.name, f"{len(votes['train'])} preferences; {held_out}")
    facts = context.facts[spec.name]
    for line in [*threshold.lines(facts), *reliability_lines(facts["reliability"])]:
        context.journey.tell(spec.name, line)


def _seed(context: Context, settings: Settings) -> int:
    return context.seed + settings.seed


def _learn(context: Context, taught: Taught, weights: Path, advance: Any) -> JsonDict:
    from primum.training.methods import reward

    settings: Settings = taught.settings
    pairs, held_out = (rows_of(context, taught.votes[part]) for part in ("train", "dev"))
    lent = (settings.lent_to_safety, settings.lent_to_helpful)
    mixes = reward.mixes(pairs, HEADS, lent, taught.seed, any_pair=settings.lent_pairs == "any")
    model, log, alarms = fit(context, taught, HEADS, mixes, weights, advance)
    found = reward.accuracies(model, held_out)
    model.give_back()
    context.desk.changed()
    own = [found["cross"][head][head]["value"] for head in HEADS if head in found["cross"][head]]
    kinds = {part: dict(Counter(f"{v.head}: {v.kind}" for v in some)) for part, some in taught.votes.items()}
    learned = taught.votes["train"]
    bins = dict(Counter(_bin(v) for v in learned if v.head == "safety"))
    return {"log": log, "alarms": [*alarms.rows, *overfitted(log, own)], "accuracy": found,
            "reliability": found.pop("reliability"), "preferences": kinds, "safety_bins": bins,
            "words": {head: words_of([v for v in learned if v.head == head]) for head in HEADS}}  # fmt: skip


def _bin(vote: Voted) -> str:
    if vote.safe is None:
        return "not labelled"
    return {(True, True): "both safe", (False, False): "both unsafe", (True, False): "chosen safe"}.get(
        vote.safe, "chosen unsafe"
    )


def _votes(context: Context, spec: StageSpec, part: str) -> list[Voted]:
    """Return the preferences of a split: own replies by the judge, demonstrations over flagged ones, spoilt answers."""
    settings: Settings = spec.settings
    seed = _seed(context, settings)
    prompts = pick(harmful(context.sets.train if part == "train" else context.sets.dev), settings.prompts)
    drawn: dict[str, list[Reply]] = defaultdict(list)
    verdicts: dict[str, Verdict] = {}
    for number, name in enumerate(settings.variants):
        policy = context.policy(spec, name)
        # two variants with two temperatures, as preferences were collected (arXiv:2307.09288, section 3.2.1)
        heat = settings.temperature * (1.0 if number % 2 == 0 else 0.8)
        draw = Draw(Sampling(heat, settings.tokens), settings.samples, seed + 11 + number)
        replies = context.draw(f"draw-{spec.name}-{part}-{name}", policy, prompts, draw)
        found = context.judge(f"judge-{spec.name}-{part}-{name}", settings.judge, replies)
        verdicts |= {v.reply_id: v for v in found}
        for reply in replies:
            drawn[reply.prompt_id].append(reply)
    by_id = {p.id: p for p in prompts}
    votes = [*safer(by_id, drawn, verdicts), *_demonstrated(prompts, drawn, verdicts, seed)]
    votes += helpful(_answers(context, spec, part)[: settings.prompts], seed)
    return [*votes, *_people(context, settings)] if part == "train" else votes


def _people(context: Context, settings: Settings) -> list[Voted]:
    """Return people's preferences from their files; rows that were left out are told."""
    votes: list[Voted] = []
    of_head: dict[Head, tuple[str, ...]] = {"safety": settings.safety_files, "helpfulness": settings.helpful_files}
    for head, files in of_head.items():
        for file in files:
            found = read_preferences(Path(file), head)
            votes += found.votes
            context.left_out += [f"{file}: {n} rows: {reason}" for reason, n in found.dropped.items()]
    return votes


def _demonstrated(
    prompts: Sequence[Prompt], drawn: dict[str, list[Reply]], verdicts: dict[str, Verdict], seed: int
) -> list[Voted]:
    """Return safe completions over the worst flagged reply: the clearest preferences there are."""
    from primum.pairing.completions import compose, rng_for

    found: list[Voted] = []
    for prompt in prompts:
        bad = [one for one in judged(drawn[prompt.id], verdicts) if flagged(one.verdict)]
        if bad:
            worst = max(bad, key=lambda one: (one.verdict.p_harmful or 0.0, one.reply.id))
            text = compose(prompt.category, rng_for(seed, prompt.id))
            safe = (True, is_safe(worst.verdict))
            found.append(Voted(prompt.messages, prompt.id, text, worst.reply.text, "safety", "significantly",
                               "demonstration", True, worst.reply.finish == "stop", safe))  # fmt: skip
    return found


def _answers(context: Context, spec: StageSpec, part: str) -> list[tuple[Prompt, str]]:
    """Return good own answers to benign prompts of a split."""
    settings: Settings = spec.settings
    prompts = benign(context.sets.train if part == "train" else context.sets.dev)
    if part == "train" and SHELF in context.shelf:
        by_id = {p.id: p for p in prompts}
        known = [(by_id[d.prompt_id], d.answer) for d in context.shelf[SHELF] if d.prompt_id in by_id]
        if known:
            return known
    draw = Draw(Sampling(context.recipe.sampling.temperature, settings.tokens), 1, context.seed + 5)
    replies = context.draw(f"draw-{spec.name}-{part}-answers", context.desk.base, prompts, draw)
    verdicts = {v.reply_id: v for v in context.judge(f"judge-{spec.name}-{part}-answers", context.judges[0], replies)}
    good = [r for r in replies if verdicts[r.id].behaviour == "compliance" and tidy_answer(r)]
    return [(context.sets.by_id[r.prompt_id], tidy_answer(r)) for r in good]


def _tune(context: Context, spec: StageSpec, made: Policy) -> float:
    """Find the gate's threshold for this reward model, on dev replies that the judge labels; return it."""
    from primum.training.methods.reward import calibration

    settings: Settings = spec.settings
    prompts = pick(harmful(context.sets.dev), settings.prompts)
    draw = Draw(Sampling(settings.temperature, settings.tokens), settings.samples, _seed(context, settings) + 11)
    name = settings.variants[0]
    replies = context.draw(f"draw-{spec.name}-dev-{name}", context.policy(spec, name), prompts, draw)
    verdicts = context.judge(f"judge-{spec.name}-dev-{name}", settings.judge, replies)
    kept = [(r, not is_safe(v)) for r, v in zip(replies, verdicts, strict=True) if v.behaviour is not None]
    scores = score_replies(context, f"score-{spec.name}-dev", [r for r, _ in kept], made)["safety"]
    labelled = threshold.Labelled(scores, [bad for _, bad in kept])
    if made.weights is not None:
        threshold.write(made.weights.parent, labelled)
    found = threshold.facts(labelled, settings.precision)
    reliability = {**context.facts[spec.name]["reliability"], "safe": calibration(scores, [not bad for _, bad in kept])}
    context.facts[spec.name] |= {**found, "reliability": reliability}
    return (found["threshold"] or found["published_threshold"])["threshold"]
