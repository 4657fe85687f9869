"""Rejection sampling: K replies to a prompt; the best by the gated reward is learned, beside the best of all rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from primum.core.errors import StepFailedError
from primum.core.progress import Advance
from primum.core.records import JsonDict, digest, to_json
from primum.core.store import Stage
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.demos import SHELF, Teaching, learn, seen
from primum.pipeline.desk import Policy
from primum.pipeline.drawing import ByEngine
from primum.pipeline.gate import Pool, drawing, gate_facts, pool
from primum.pipeline.lesson import answers, benign, harmful, lesson, pick
from primum.pipeline.recipe import StageSpec
from primum.pipeline.second import Found, Second, rewards_of, second
from primum.training.settings import Rule

if TYPE_CHECKING:
    from primum.training.methods.rejection import Sample

about = "best of K by the gated reward, learned from the start policy with the best of earlier rounds"
ROUNDS = "rounds"


class Settings(Teaching, ByEngine):
    """Drawing, choosing, learning."""

    source: str = Field(description="the policy that is drawn from, by stage name")
    prompts: int | None = Field(None, ge=1, description="harmful prompts, as many benign ones beside")
    samples: int = Field(8, ge=1, description="K, replies to each prompt")
    tokens: int = Field(48, ge=1, description="longest reply")
    temperatures: tuple[float, ...] = Field((1.0,), description="tried on dev prompts; the best is taken")
    tune_prompts: int = Field(16, ge=1, description="dev prompts on which temperatures are tried")
    replay: int = Field(1, ge=1, description="best replies of a prompt that are learned, over all rounds")
    threshold: float | None = Field(None, ge=0, le=1, description="of the gate; none takes the tuned one")
    tagging: bool = Field(True, description="whether a harmful prompt always takes the safety reward")
    rule: Rule = Field("piecewise", description="how the two rewards become one")
    second: str | None = Field(None, description="a second reward model that chooses nothing: a stage, or a folder")
    over_optimised: Found = Field("warn", description="where the best of K gains and the second model's falls")
    weight: float = Field(0.5, ge=0, le=1, description="of safety where the rule is weighted")
    with_demonstrations: bool = Field(True, description="whether the demonstrations are learned again beside")
    learned_tokens: int = Field(48, ge=1, description="tokens learned of a kept reply")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    count = 2 * min(settings.prompts or sizes.harmful, sizes.harmful)
    drawn = count * settings.samples * settings.tokens
    tuned = len(settings.temperatures) > 1
    drawn += 2 * settings.tune_prompts * settings.samples * settings.tokens * len(settings.temperatures) * tuned
    rows = count * (PROMPT + settings.tokens)
    if settings.with_demonstrations:
        general = sizes.general // settings.general_every
        rows += (2 * sizes.harmful + general) * (PROMPT // 2 + 16)
    read = drawn * (2 if settings.second else 1)
    return measured(sizes).plus(Cost(drawn, read, round(rows * settings.epochs)))


def run(context: Context, spec: StageSpec) -> None:
    """Draw, choose, train from the start policy, measure."""
    settings: Settings = spec.settings
    context.needs(spec, "reward", "reward")
    source = context.policy(spec, settings.source)
    heat, tried = _temperature(context, spec, source)
    prompts = [*pick(harmful(context.sets.train), settings.prompts), *pick(_plain(context), settings.prompts)]
    found = pool(context, spec.name, source, prompts, _draw(settings, heat, context.seed + 31), settings)
    samples, curve = _chosen(context, spec, found)
    watching, alarms = _watched(context, spec, found, curve)
    context.shelf.setdefault(ROUNDS, []).append(samples)
    facts = {
        "temperature": heat, "tried": tried, "curve": curve, "kept": len(samples),
        "gate": gate_facts(found, _threshold(context, settings)),
    }  # fmt: skip
    _learn(context, spec, facts, alarms, [watching.key] if watching else [])


def _plain(context: Context) -> list[Any]:
    """Return benign prompts, twins of the harmful ones first: they are where the gate may cost most."""
    prompts = benign(context.sets.train)
    return [*(p for p in prompts if p.twin), *(p for p in prompts if not p.twin)]


def _draw(settings: Settings, heat: float, seed: int) -> Any:
    return drawing(heat, settings.tokens, settings.samples, seed)


def _threshold(context: Context, settings: Settings) -> float:
    return context.shelf["threshold"] if settings.threshold is None else settings.threshold


def _combine(context: Context, settings: Settings) -> Any:
    return _rule(settings, _threshold(context, settings))


def _rule(settings: Settings, threshold: float) -> Any:
    from primum.training.rewards import Combine

    return Combine(settings.rule, threshold, settings.tagging, settings.weight)


def _watched(
    context: Context, spec: StageSpec, found: Pool, curve: list[JsonDict]
) -> tuple[Second | None, list[JsonDict]]:
    """Let the second reward model, where one is named, look at what the first chooses; return it and its alarms.

    Its rewards of the best of k by the first are put into the curve.

    Raises:
        StepFailedError: from one reply to the best of K the first one's reward rises and the second one's falls, and
            the stage is to stop there; nothing was learned.
    """
    from primum.training import hacking
    from primum.training.methods.rejection import followed

    settings: Settings = spec.settings
    watching = second(context, spec, lambda threshold: _rule(settings, threshold))
    if watching is None or not curve:
        return watching, []
    flat = iter(rewards_of(context, f"score-{spec.name}-second", watching, [r for row in found.replies for r in row]))
    theirs = [[next(flat) for _ in row] for row in found.replies]
    means = followed(found.combined(_combine(context, settings)), theirs)
    for row, mean in zip(curve, means, strict=True):
        row["second"] = mean
    ends = ((curve[0]["best"], curve[-1]["best"]), (means[0], means[-1]))
    alarms = hacking.apart(*ends, hacking.GUARDS["second"])
    for name, text in alarms:
        most = max(range(len(means)), key=lambda k: means[k]) + 1
        problem = f"from one reply to the best of {len(means)} {text}; {watching.name} gives most at the best of {most}"
        if name == hacking.FELL and settings.over_optimised == "stop":
            cure = f"--set stages.{spec.name}.samples={most}, or over_optimised=warn to go on"
            raise StepFailedError(problem, where=spec.where, cure=cure)
        context.journey.tell(spec.name, problem)
    return watching, [{"step": len(means), "name": name, "text": f"best of K: {text}"} for name, text in alarms]


def _temperature(context: Context, spec: StageSpec, source: Policy) -> tuple[float, JsonDict]:
    """Try temperatures on dev prompts: the best one moves as a policy is tuned (arXiv:2307.09288, figure 8)."""
    from primum.training.methods.rejection import curve, temperature

    settings: Settings = spec.settings
    if len(settings.temperatures) == 1:
        return settings.temperatures[0], {}
    count = settings.tune_prompts
    prompts = [*pick(harmful(context.sets.dev), count), *pick(benign(context.sets.dev), count)]
    curves = {}
    for number, heat in enumerate(settings.temperatures):
        name = f"{spec.name}-heat-{number}"
        found = pool(context, name, source, prompts, _draw(settings, heat, context.seed + 71), settings)
        curves[heat] = curve(found.combined(_combine(context, settings)))
    return temperature(curves), {str(heat): rows[-1]["best"] for heat, rows in curves.items() if rows}


def _chosen(context: Context, spec: StageSpec, found: Pool) -> tuple[list[Sample], list[JsonDict]]:
    from primum.training.methods.rejection import Sample, best, curve

    scores = found.combined(_combine(context, spec.settings))
    kept = best(scores, found.texts)
    chosen = [(found.replies[k.prompt][k.index], k.score) for k in kept]
    samples = [Sample(r.prompt_id, r.text, score, spec.name, r.finish == "stop") for r, score in chosen]
    return samples, curve(scores)


def _learn(
    context: Context, spec: StageSpec, facts: JsonDict, found: Sequence[JsonDict], watched: Sequence[str]
) -> None:
    from primum.training.methods.rejection import replayed

    settings: Settings = spec.settings
    samples = replayed(context.shelf[ROUNDS], settings.replay)
    demos = context.shelf.get(SHELF, []) if settings.with_demonstrations else []
    by_id = context.sets.by_id

    def teach(network: Any, stage: Stage, advance: Advance) -> JsonDict:
        best = answers(
            context, [(by_id[s.prompt_id].messages, s.text, s.ends) for s in samples], settings.learned_tokens
        )
        done = learn(context, network, demos, settings, stage, advance, best)
        by_round = {name: sum(s.round == name for s in samples) for name in sorted({s.round for s in samples})}
        own = {"log": done.log, "alarms": [*done.alarms, *found], "replayed": by_round, "demonstrations": len(demos)}
        return {**own, **facts}

    data = digest([[s.prompt_id, s.text, s.ends] for s in samples] + [to_json(d) for d in demos] + [*watched])
    policy = lesson(context, spec, seen(demos, settings, len(samples)), "rows", teach, data=data)
    ends = facts["curve"]
    gain = "; the best of {step} earns {best:.2f}, the median {median:.2f}".format_map(ends[-1]) if ends else ""
    context.journey.tell(spec.name, f"{len(samples)} replies kept at temperature {facts['temperature']:g}{gain}")
    context.measure(policy)
