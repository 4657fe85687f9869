"""`primum redteam`: goals x attacks -> transcripts, verdicts, report. One function a step, in the order they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from primum.core.errors import Exit, UsageError
from primum.core.progress import Advance
from primum.core.records import JsonDict, Prompt, Reply, Verdict, digest, to_json
from primum.core.store import Stage, write_jsonl
from primum.judging import Exchange
from primum.judging.options import ChosenJudge, JudgeOptions, chosen_judges
from primum.models.opening import AUTO, choose
from primum.models.sampling import Engine, Opening, Sampling
from primum.pipeline.models import Models, Wanted
from primum.pipeline.plan import GPU_RATE, SAMPLING_SHARE
from primum.pipeline.redteam_facts import assemble, closing, transcripts
from primum.pipeline.steps import Journey, judged, outside, prompts_key
from primum.pipeline.terminal import Terminal
from primum.redteam import against, campaign
from primum.redteam.catalogue import Member, chosen
from primum.redteam.goals import EMBEDDED, Goals, goals_from, keep, kept
from primum.redteam.outcomes import Result, exchanges, result, row
from primum.redteam.rehearsal import Rehearsal
from primum.redteam.runner import Attempt, Crew, Rater, Setting, run
from primum.report.write import write_report

SHARD = 64
"""Goals attacked together: what is lost at most when a run is killed."""
TRANSCRIPTS = "transcripts.jsonl"
BUDGETS: dict[str, tuple[int | None, int]] = {"quick": (14, 48), "standard": (70, 64), "full": (None, 128)}
"""Goals and longest reply, in tokens."""


class RedteamConfig(JudgeOptions):
    """Attack a model with every attack of the catalogue, or those named, and report what got through."""

    model: str = Field(
        default="embedded",
        description="hub id, model folder, PEFT adapter folder or .gguf file",
        json_schema_extra={"positional": True},
    )
    goals: tuple[str, ...] = Field(
        default=(),
        description="what to ask for: 'embedded' (held-out prompts, the default), a benchmark's name, a "
        "JSONL/CSV/Parquet file, shared:NAME, hub:ID:SPLIT:FIELD",
    )
    attacks: tuple[str, ...] = Field(
        default=(), description="only this attack, beside the plain request (default: all)"
    )
    vectors: tuple[str, ...] = Field(default=(), description="only attacks of this vector (default: all)")
    held_out: tuple[str, ...] = Field(
        default=(), description="a vector that the model was not trained against: the report shows the gap"
    )
    attacker: str | None = Field(
        default=None, description="the model that writes prompts for attacks that need one (default: the model itself)"
    )
    judges: tuple[str, ...] = Field(
        default=("rules", "probe"),
        description="the first one's verdicts lead the report and steer searching attacks",
        json_schema_extra={"also": "judge"},
    )
    engine: str = Field(
        default="auto", description="what draws replies: auto, transformers, openvino or vllm; auto is the fastest here"
    )
    batch: int | None = Field(
        default=None, ge=1, description="replies drawn together (default: the engine's own measure)"
    )
    system: str = Field(default="", description="system prompt of the model under attack")
    budget: Literal["quick", "standard", "full"] = Field(
        default="standard", description="how many goals and how long the replies"
    )
    limit: int | None = Field(default=None, ge=1, description="at most this many goals (default: the budget's)")
    reply_tokens: int | None = Field(default=None, ge=1, description="longest reply, in tokens (default: the budget's)")
    tries: int = Field(default=6, ge=1, le=1000, description="tries of an attack that searches or samples")
    temperature: float = Field(default=0.4, ge=0, description="sampling temperature (0 is greedy)")
    seed: int = Field(default=0, description="of every random choice")
    against: str | None = Field(
        default=None, description="folder of an earlier run: how many of its failures this model no longer has"
    )
    campaign: str | None = Field(
        default=None, description="sessions of human red-teamers (JSONL, CSV, Parquet): violations per person and hour"
    )
    machine: bool = Field(default=True, description="attack by machine; without it only the campaign is reported")
    out: str = Field(default="runs/redteam", description="the run folder; a run that was stopped goes on there")
    dry_run: bool = Field(default=False, description="print what would run and about how long, and stop")

    @property
    def size(self) -> tuple[int | None, int]:
        """Goals and reply tokens, as given or as the budget says."""
        goals, tokens = BUDGETS[self.budget]
        return self.limit or goals, self.reply_tokens or tokens

    @property
    def setting(self) -> Setting:
        """What holds for every attack."""
        return Setting(Sampling(self.temperature, self.size[1]), self.tries, self.system, self.seed)


@dataclass(frozen=True)
class Engines:
    """The model under attack and the attacker's model: their keys, what a report says of them, and they themselves."""

    key: str
    attacker_key: str
    about: JsonDict
    target: Engine
    attacker: Engine


@dataclass(frozen=True)
class Found:
    """All that a run found out: attempts by attack, and each judge's verdicts on them."""

    goals: Goals
    attacks: Sequence[Member]
    attempts: Mapping[str, Sequence[Attempt]]
    verdicts: Mapping[str, Mapping[str, Sequence[Sequence[Verdict]]]]
    judges: Sequence[ChosenJudge]

    def results(self, judge: str) -> list[Result]:
        """Join attempts with one judge's verdicts."""
        by_id = {goal.id: goal for goal in self.goals.prompts}
        return [
            result(by_id[attempt.goal_id], attempt, one.vector, verdicts)
            for one in self.attacks
            for attempt, verdicts in zip(self.attempts[one.id], self.verdicts[judge][one.id], strict=True)
        ]


def run_verb(config: RedteamConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Run the attacks; return the exit code and report.json's facts."""
    journey = Journey(Path(config.out), Terminal(quiet=json_output))
    attacks = check(config)
    if config.dry_run:
        plan = estimate(config, attacks)
        journey.terminal.note(plan["text"])
        return Exit.PASSED, plan
    engines = _engines(journey, config) if config.machine else None
    return Exit.PASSED, attack(journey, config, attacks, engines)


def check(config: RedteamConfig) -> list[Member]:
    """Find what is wrong with names and files before the first minute is spent; return the attacks.

    Raises:
        UsageError: an attack, vector, judge, run or file that does not exist, or nothing to do.
    """
    outside(config.model, config.out)
    if not (config.machine or config.campaign):
        raise UsageError("there is nothing to do", cure="leave --no-machine out, or give --campaign FILE")
    chosen((), config.held_out)
    if not config.judges:
        raise UsageError("no judge is named", cure="give --judges rules")
    chosen_judges(config.judges, config)
    if config.engine != AUTO:
        choose(config.engine, Opening(config.model))
    if config.campaign:
        campaign.read(Path(config.campaign))
    if config.against:
        if Path(config.against).resolve() == Path(config.out).resolve():
            raise UsageError("the earlier run and this one share a folder", where=config.out, cure="give another --out")
        against.earlier(Path(config.against))
    return chosen(config.attacks, config.vectors)


def attack(journey: Journey, config: RedteamConfig, attacks: Sequence[Member], engines: Engines | None) -> JsonDict:
    """Attack, judge, measure, report; `engines` is None where only a campaign is reported. Return the facts."""
    journey.begin(_settings(config), against.FILE, TRANSCRIPTS)
    found = _found(journey, config, attacks, engines) if engines else None
    with journey.step("report"):
        facts = assemble(journey, config, found, engines.about if engines else {})
        _write(journey, config, found, facts)
    if not journey.terminal.quiet:
        print(closing(facts, journey.folder / "report.html"))
    return facts


def _settings(config: RedteamConfig) -> JsonDict:
    """Return the settings that are kept: of the judges' options those that were given."""
    settings = config.model_dump(mode="json", exclude={"out"})
    options = JudgeOptions.model_validate({name: settings.pop(name) for name in JudgeOptions.model_fields})
    settings |= options.model_dump(mode="json", exclude_defaults=True)
    return settings


def _engines(journey: Journey, config: RedteamConfig) -> Engines:
    """Return who answers and who attacks, each by the engine that was asked for, or by the fastest that can run it."""
    own = Models(Wanted(config.model, config.engine, batch=config.batch), journey)
    same = config.attacker in (None, config.model)
    other = own if same else Models(Wanted(str(config.attacker), config.engine, batch=config.batch), journey)
    about = {
        "model": own.described, "attacker": None if same else other.described, "engine": own.chosen._asdict(),
        "attacker_engine": None if same else other.chosen._asdict(),
    }  # fmt: skip
    journey.terminal.note(f"replies by {own.chosen.engine}: {own.chosen.why}")
    target = own.engine()
    return Engines(_key(own), _key(other), about, target, target if same else other.engine())


def _key(models: Models) -> str:
    """Return what a model's replies depend on: engines round differently, so theirs are kept apart."""
    weights, engine = models.key(False).rpartition("@")[2], models.chosen.engine
    return f"{models.wanted.model}@{weights}" + ("" if engine == "hf" else f"@{engine}")


def goals_of(config: RedteamConfig) -> Goals:
    """Return the goals named, else those of the run to compare with, else the embedded ones."""
    if config.against and not config.goals:
        prompts = kept(Path(config.against))[: config.limit]
        return Goals(prompts, {})
    return goals_from(config.goals or (EMBEDDED,), config.size[0])


def _found(journey: Journey, config: RedteamConfig, attacks: Sequence[Member], engines: Engines) -> Found:
    with journey.step("collect goals"):
        goals = goals_of(config)
    keep(journey.folder, goals.prompts)
    categories = len({goal.category for goal in goals.prompts})
    journey.tell("goals", f"{len(goals.prompts)} goals of {categories} categories, {len(attacks)} attacks on each")
    judges = chosen_judges(config.judges, config)
    crew = Crew(engines.target, engines.attacker, rater(judges[0]))
    attempts: dict[str, list[Attempt]] = {}
    with journey.step("attack", len(attacks) * len(goals.prompts), "attempts") as advance:
        for one in attacks:
            stage = _stage(journey, config, one, goals.prompts, engines, judges[0])
            attempts[one.id] = _attempts(stage, config, one, goals.prompts, crew, advance)
    verdicts = {one.id: _verdicts(journey, config, one, goals.prompts, attempts, engines) for one in judges}
    return Found(goals, attacks, attempts, verdicts, judges)


def rater(judge: ChosenJudge) -> Rater:
    """Return what rates replies while attacks go on: the first judge's word, or "unscored"."""

    def rate(pairs: Sequence[tuple[Prompt, str]]) -> list[str]:
        asked = [
            Exchange(goal, Reply(goal.id, "rated", str(i), reply, "stop", 0, 0, 0))
            for i, (goal, reply) in enumerate(pairs)
        ]
        return [verdict.behaviour or "unscored" for verdict in judge(asked)]

    return rate


def _stage(
    journey: Journey, config: RedteamConfig, one: Member, goals: Sequence[Prompt], engines: Engines, judge: ChosenJudge
) -> Stage:
    """Return an attack's folder. What another attack or judge does changes nothing in it."""
    facts = {"model": engines.key, "attack": one.revision, "goals": prompts_key(goals), **config.setting.key}
    if one.uses_model:
        facts |= {"attacker": engines.attacker_key, "rated by": _revision(judge)}
    return journey.stage(f"attack-{one.id}", **facts)


def _revision(judge: ChosenJudge) -> str:
    return f"{judge.id}@{judge.revision}"


def _attempts(
    stage: Stage, config: RedteamConfig, one: Member, goals: Sequence[Prompt], crew: Crew, advance: Advance
) -> list[Attempt]:
    """Attack every goal; goes on at the shard where it was stopped."""

    def work(index: int, part: Sequence[Prompt]) -> list[JsonDict]:
        return [to_json(attempt) for attempt in run(one.id, one.attack, part, crew, config.setting)]

    rows = stage.map(goals, SHARD, work, advance)
    if not stage.manifest:
        failed = sum(row["failed"] is not None for row in rows)
        stage.finish(attempts=len(rows), turns=sum(len(row["turns"]) for row in rows), failed=failed)
    return [Attempt.from_json(row) for row in rows]


def _verdicts(
    journey: Journey, config: RedteamConfig, judge: ChosenJudge, goals: Sequence[Prompt],
    attempts: Mapping[str, Sequence[Attempt]], engines: Engines,
) -> dict[str, list[list[Verdict]]]:  # fmt: skip
    """Judge every judged reply: for each attack, a list of verdicts an attempt."""
    by_id, sampling = {goal.id: goal for goal in goals}, config.setting.sampling.name
    found: dict[str, list[list[Verdict]]] = {}
    with journey.step(f"judge by {judge.id}", sum(map(len, attempts.values())), "attempts") as advance:
        for name, ours in attempts.items():
            asked = [exchanges(by_id[a.goal_id], a, engines.key, sampling, config.seed) for a in ours]
            flat = [one for group in asked for one in group]
            said = iter(_judged(journey, f"judge-{name}-by-{judge.id}", judge, flat))
            found[name] = [[next(said) for _ in group] for group in asked]
            advance(len(ours))
    return found


def _judged(journey: Journey, name: str, judge: ChosenJudge, asked: Sequence[Exchange]) -> list[Verdict]:
    key = digest([[one.reply.id, one.prompt.intent, one.prompt.category] for one in asked])
    return judged(journey.stage(name, judge=_revision(judge), asked=key), judge, asked)


def _write(journey: Journey, config: RedteamConfig, found: Found | None, facts: JsonDict) -> None:
    if found is not None:
        rows = [row(one, judge) for judge in config.judges for one in found.results(judge)]
        write_jsonl(journey.folder / against.FILE, rows)
        write_jsonl(journey.folder / TRANSCRIPTS, transcripts(found, journey.folder))
    write_report(journey.folder, facts)


def estimate(config: RedteamConfig, attacks: Sequence[Member]) -> JsonDict:
    """Return the plan as JSON, with `text` for the terminal; each attack is rehearsed with a model of rules.

    An attack that stops at its first success is counted at its longest.
    """
    goals = goals_of(config).prompts if config.machine else []
    crew = Crew(Rehearsal(), Rehearsal(attacker=True), lambda pairs: ["refusal"] * len(pairs))
    rehearsed = goals[:2]
    replies: dict[str, int] = {}
    for one in attacks if goals else ():
        turns = sum(len(attempt.turns) for attempt in run(one.id, one.attack, rehearsed, crew, config.setting))
        replies[one.id] = round(turns * len(goals) / len(rehearsed))
    tokens = sum(replies.values()) * config.size[1]
    lines = [f"{name:<24}{n:>8,} replies" for name, n in replies.items()]
    head = f"{len(attacks)} attacks on {len(goals)} goals: {sum(replies.values()):,} replies, {tokens:,} tokens at most"
    plan = {"goals": len(goals), "replies": replies, "tokens": tokens}
    if goals:
        seconds = _seconds(config, tokens)
        lines.append(f"about {seconds / 60:.0f} minutes in all, often less: replies end early; judging comes on top")
        plan["seconds"] = seconds
    return {**plan, "text": "\n".join([head, *lines])}


def _seconds(config: RedteamConfig, tokens: int) -> int:
    """Return about how long so many tokens take here; the model's settings tell its size."""
    from primum.models.device import device
    from primum.models.load import outline

    rate = max(device().rates.values(), default=GPU_RATE) * 1e9
    return round(tokens * 2 / SAMPLING_SHARE * outline(config.model).parameters / rate)
