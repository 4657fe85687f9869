"""`primum policy diff OLD NEW` and `primum policy patch MODEL --policy NEW`: a policy changed, and a model after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from primum import __version__
from primum.core import taxonomy
from primum.core.catalogue import member
from primum.core.config import Config
from primum.core.errors import Exit, UsageError, did_you_mean
from primum.core.records import JsonDict, to_json
from primum.core.taxonomy import Part, Policy
from primum.evaluation.domain import DomainRow
from primum.evaluation.forgetting import Limits, Row, Tried, decide, matrix, right, transfer
from primum.evaluation.gate import Decision
from primum.models.sampling import Sampling
from primum.pipeline.plan import GPU_RATE, MEAN_PROMPT, SAMPLING_SHARE, TRAINING_SHARE
from primum.pipeline.points import Bench, Measured, measured
from primum.pipeline.policy_cases import Cases, Size, gather, write_parts
from primum.pipeline.policy_learn import PatchConfig, Patched, case_key, learn, rows_of
from primum.pipeline.repair import Loader, describe
from primum.pipeline.steps import Draw, Journey, outside, sample
from primum.pipeline.terminal import Terminal
from primum.prompts.policy_diff import Change, change_json, diff, path_of, policy_named, to_learn
from primum.prompts.taught import SHARE, Case
from primum.report.policied import closing, diff_text
from primum.report.write import write_report

ACTIONS = ("diff", "patch")
SIZES = {"quick": Size(6, 8, 30, 40), "standard": Size(16, 12, 80, 120), "full": Size(30, None, 200, None)}
TOKENS = {"quick": 32, "standard": 48, "full": 128}
SHOWN = 12
"""Replies of the new parts that a report shows, before and after."""


class PolicyConfig(Config):
    """Compare two policies, or teach a model what is new in one."""

    action: str = Field(description="diff or patch", json_schema_extra={"positional": True})
    first: str | None = Field(
        default=None,
        description="diff: the old policy (a YAML file, shipped, example:NAME); patch: the model, or a repair's folder",
        json_schema_extra={"positional": True},
    )
    second: str | None = Field(default=None, description="diff: the new policy", json_schema_extra={"positional": True})
    policy: str | None = Field(default=None, description="patch: the new policy")
    old: str | None = Field(default=None, description="patch: the old one (default: the policy in force)")
    judge: str = Field(default="rules", description="who says whether a reply declines or answers")
    budget: Literal["quick", "standard", "full"] = Field(
        default="standard", description="how many old prompts are measured and replayed, and how long replies are"
    )
    share: float = Field(default=SHARE, gt=0, lt=1, description="of the new prompts, how many are held out")
    temperature: float = Field(
        default=0.0, ge=0, description="sampling temperature; greedy (0) shows what the patch changed and nothing else"
    )
    reply_tokens: int | None = Field(default=None, ge=1, description="longest reply, in tokens (default: the budget's)")
    limit: int | None = Field(
        default=None, ge=1, description="at most this many old prompts of each part measured, and replayed"
    )
    seed: int = Field(default=0, description="of every random choice")
    train: PatchConfig = Field(default_factory=PatchConfig, description="how the patch is learned")
    limits: Limits = Field(default_factory=Limits, description="what it must reach, and what it may cost")
    out: str = Field(default="runs/policy", description="the run folder; a run that was stopped goes on there")
    dry_run: bool = Field(default=False, description="print what would run and about how long, and stop")

    @property
    def run_folder(self) -> str | None:
        """The folder of a patch; diff writes nothing."""
        return None if self.action == "diff" else super().run_folder

    @property
    def size(self) -> Size:
        """How much of what is old is measured and replayed."""
        size = SIZES[self.budget]
        return size if self.limit is None else Size(*(min(n or self.limit, self.limit) for n in size))

    @property
    def tokens(self) -> int:
        """Longest reply."""
        return self.reply_tokens or TOKENS[self.budget]


@dataclass(frozen=True)
class Work:
    """What a patch is about: both policies, what differs, the parts to teach, all cases."""

    old: Policy
    new: Policy
    changes: list[Change]
    parts: list[Part]
    cases: Cases


def run_verb(config: PolicyConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Compare, or patch; return the exit code and what was found.

    Exit codes of diff: 0 nothing differs, 1 something does. Those of patch are a gate's: 0, 1, 3.

    Raises:
        UsageError: no such action, policy, model or judge.
    """
    if config.action not in ACTIONS:
        raise UsageError(f"no action '{config.action}'", cure=did_you_mean(config.action, ACTIONS))
    return _diff(config, json_output) if config.action == "diff" else _patch(config, json_output)


def _diff(config: PolicyConfig, json_output: bool) -> tuple[int, JsonDict]:
    if not config.first or not config.second:
        raise UsageError("two policies are needed", cure="primum policy diff shipped ./policy.yaml")
    old, new = policy_named(config.first), policy_named(config.second)
    changes = diff(old, new)
    document: JsonDict = {
        "kind": "policy diff", "old": _stamp(config.first, old), "new": _stamp(config.second, new),
        "changes": [change_json(one) for one in changes], "to_learn": [part.id for part in to_learn(changes, new)],
    }  # fmt: skip
    if not json_output:
        print(diff_text(document))
    return (Exit.GATE_FAILED if changes else Exit.PASSED), document


def _stamp(name: str, policy: Policy) -> JsonDict:
    return {"name": name, "version": policy.version, "hash": policy.hash}


def _patch(config: PolicyConfig, json_output: bool) -> tuple[int, JsonDict]:
    if not config.policy:
        raise UsageError("the new policy is not named", cure="primum policy patch MODEL --policy ./policy.yaml")
    if config.second:
        raise UsageError(f"'{config.second}' is one name too many", cure="name the new policy with --policy")
    member("judges", config.judge)
    model = model_of(config)
    old = policy_named(config.old) if config.old else taxonomy.policy()
    with taxonomy.using(path_of(config.policy), over=True):
        work = work_of(config, old, policy_named(config.policy))
        journey = Journey(Path(config.out), Terminal(quiet=json_output))
        if config.dry_run:
            plan = estimate(config, work, model)
            journey.terminal.note(plan["text"])
            return Exit.PASSED, plan
        facts = patch(journey, config, work, model)
        page = write_report(journey.folder, facts)
    if not json_output:
        print(closing(facts, page))
    return {"passed": Exit.PASSED, "failed": Exit.GATE_FAILED}.get(facts["decision"]["outcome"], Exit.UNDECIDED), facts


def model_of(config: PolicyConfig) -> str:
    """Return the model's name; of a repair's run folder, its checkpoint.

    Raises:
        UsageError: the model lies in this run's folder.
    """
    name = config.first or "embedded"
    if not (Path(name) / "config.json").is_file() and (Path(name) / "checkpoint" / "config.json").is_file():
        name = str(Path(name) / "checkpoint")
    outside(name, config.out)
    return name


def work_of(config: PolicyConfig, old: Policy, new: Policy) -> Work:
    """Return what the patch is about.

    Raises:
        UsageError: nothing that examples teach has changed.
        BadInputError: examples that cannot be used.
    """
    changes = diff(old, new)
    parts = to_learn(changes, new)
    if not parts:
        said = "; ".join(f"{one.id} {one.how}" for one in changes) or "nothing differs"
        cure = "give what is new `examples`; what holds for all categories is learned by primum repair"
        raise UsageError(f"there is nothing to teach by examples ({said})", where=str(config.policy), cure=cure)
    return Work(old, new, changes, parts, gather(parts, new, config.size, config.share, config.seed))


def patch(journey: Journey, config: PolicyConfig, work: Work, name: str) -> JsonDict:
    """Measure, make again what changed, learn, measure again; return the report's facts."""
    journey.begin(config.model_dump(mode="json", exclude={"out"}))
    loader = Loader(journey)
    model = loader(name)
    made = write_parts(journey.folder / "policy", work.parts, work.new, work.cases)
    for row in made:
        journey.tell("made again", f"{row['name']} ({row['kind']}): {row['learned']} rows to learn, {row['beside']} "
                     f"beside them to keep, {row['held_out']} held out")  # fmt: skip
    bench = _bench(config, work.cases)
    before = measured(journey, "02-before", bench, f"{name}@{model.key}", lambda: loader(name))
    rows = _rows(journey, config, work.cases, f"{name}@{model.key}", loader, name)
    described = describe(model)
    patched = learn(journey, config.train, loader(name), rows, config.seed, {"cases": case_key(work.cases.learn)})
    loader.held = None  # it went through training: what answers next is read anew
    after = measured(journey, "06-after", bench, f"patched@{patched.key}", lambda: loader(str(patched.adapter)))
    return _facts(journey, config, work, described | {"given": name}, patched, (before, after), made)


def _bench(config: PolicyConfig, cases: Cases) -> Bench:
    """Return what is asked; of facts that had another answer, also which of the two is likelier."""
    draw = Draw(Sampling(config.temperature, config.tokens), 1, config.seed)
    options = [DomainRow(c.prompt.text, str(c.answer), (str(c.answer), str(c.was)), 0) for c in _dated(cases)]
    return Bench(cases.asked, draw, config.judge, options)


def _dated(cases: Cases) -> list[Case]:
    """Return the held-out questions of fact whose earlier answer is known, as their author wrote them."""
    return [case for case in cases.test if case.wanted == "states" and case.was and case.form == "plain"]


def _rows(journey: Journey, config: PolicyConfig, cases: Cases, key: str, loader: Loader, name: str) -> list[Any]:
    """Return the rows to train on; the model's own answers, which are kept, are drawn first."""
    keep = {c.prompt.id: c.prompt for c in (*cases.learn, *cases.replay) if c.answer is None}
    draw = Draw(Sampling(0.0, config.train.kept_tokens + 4), 1, config.seed)
    own = sample(journey, "04-own-answers", list(keep.values()), draw, key, loader.engine(name))
    often = dict.fromkeys((case.part for case in cases.learn), config.train.passes)
    often |= {case.part: config.train.fact_passes for case in cases.learn if case.wanted in ("states", "leaves")}
    return rows_of(cases.learn, cases.replay, own, often)


def _facts(
    journey: Journey, config: PolicyConfig, work: Work, model: JsonDict, patched: Patched,
    sides: tuple[Measured, Measured], made: Sequence[JsonDict],
) -> JsonDict:  # fmt: skip
    tried = _tried(work.cases, *sides)
    rows = matrix(tried, [part.id for part in work.parts])
    decision: Decision = decide(rows, config.limits)
    for why, n in work.cases.left_out.items():
        journey.tell("left out", f"{n} prompts left out: {why}")
    return {
        "kind": "policy", "primum": __version__, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "title": f"Policy {work.new.version}: {', '.join(part.name for part in work.parts)}", "model": model,
        "policy": {"old": _stamp(config.old or "in force", work.old), "new": _stamp(str(config.policy), work.new)},
        "changes": [change_json(one) for one in work.changes], "parts": list(made), "judge": config.judge,
        "matrix": [row_json(row) for row in rows], "transfer": transfer(rows), "decision": to_json(decision),
        "rows": dict(patched.rows), "alarms": patched.alarms, "loss": _loss(patched.log), "adapter": "adapter",
        "rollback": {"same": patched.same, "hash": model["hash"]}, "transcripts": _transcripts(work.cases, *sides),
        "steps": journey.said, "seconds": journey.seconds, "settings": config.model_dump(mode="json"),
    }  # fmt: skip


def _tried(cases: Cases, before: Measured, after: Measured) -> list[Tried]:
    first, second = ({one.prompt.id: one for one in side.scored} for side in (before, after))
    found = [
        Tried(case, *(right(case, s[case.prompt.id].reply.text, s[case.prompt.id].verdict) for s in (first, second)))
        for case in cases.test
    ]
    likelier = zip(_dated(cases), before.right, after.right, strict=True)
    return [*found, *(Tried(replace(case, form="likelihood"), b, a) for case, b, a in likelier)]


def _loss(log: Sequence[JsonDict]) -> JsonDict:
    """Return the mean loss of the first and of the last tenth of the steps."""
    tenth = max(1, len(log) // 10)
    ends = {"first": log[:tenth], "last": log[-tenth:]}
    return {name: sum(row["loss"] for row in rows) / len(rows) for name, rows in ends.items() if rows}


def _transcripts(cases: Cases, before: Measured, after: Measured) -> list[JsonDict]:
    """Return some held-out requests of the new parts with both replies, in turn of part and side."""
    first, second = ({one.prompt.id: one for one in side.scored} for side in (before, after))
    ours = [case for case in cases.test if case.prompt.source.startswith("policy:") and case.form == "plain"]
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in ours:
        groups.setdefault((case.part, case.side), []).append(case)
    turns = [group[i] for i in range(SHOWN) for group in groups.values() if i < len(group)]
    return [
        {"part": case.part, "side": case.side, "wanted": case.wanted, "prompt": case.prompt.text,
         **{when: {"text": side[case.prompt.id].reply.text,
                   "right": right(case, side[case.prompt.id].reply.text, side[case.prompt.id].verdict) is True}
            for when, side in (("before", first), ("after", second))}}
        for case in turns[:SHOWN]
    ]  # fmt: skip


def row_json(row: Row) -> JsonDict:
    """Return a row of the matrix as one JSON object."""

    def span(value: Any) -> Any:
        return value and value._asdict()

    return asdict(row) | {name: span(getattr(row, name)) for name in ("before", "after", "change")}


def estimate(config: PolicyConfig, work: Work, name: str) -> JsonDict:
    """Return the plan as JSON, with `text` for the terminal; loads the model to know its size."""
    from primum.models.device import device
    from primum.models.load import load

    model, cases = load(name), work.cases
    rate = max(device().rates.values(), default=GPU_RATE) * 1e9
    passes = {p.id: config.train.fact_passes if p.kind == "fact" else config.train.passes for p in work.parts}
    seen = sum(passes[case.part] for case in cases.learn)
    kept = [case for case in (*cases.learn, *cases.replay) if case.answer is None]
    tokens = {
        "replies before": len(cases.asked) * (MEAN_PROMPT + config.tokens),
        "own answers": len(kept) * (MEAN_PROMPT + config.train.kept_tokens),
        "learn the patch": (seen + len(cases.replay)) * (MEAN_PROMPT + config.train.kept_tokens),
        "replies after": len(cases.asked) * (MEAN_PROMPT + config.tokens),
    }
    cost = {key: 4 / TRAINING_SHARE if key.startswith("learn") else 2 / SAMPLING_SHARE for key in tokens}
    seconds = {key: round(n * cost[key] * model.parameters / rate) for key, n in tokens.items()}
    parts = [f"{part.kind} {part.id}: {part.name}" for part in work.parts]
    lines = [f"{key:<24}{n:>10,} tokens at most   about {seconds[key]:>5,} s" for key, n in tokens.items()]
    head = f"patch of {model.name} ({model.parameters / 1e6:.0f}M), {device().describe()}"
    asked = f"{len(cases.asked)} prompts to measure on, {len(cases.learn)} to learn from, {len(cases.replay)} replayed"
    total = f"about {sum(seconds.values()) / 60:.0f} minutes in all, often less: replies end early"
    text = "\n".join([head, *parts, asked, *lines, total])
    return {"parts": [part.id for part in work.parts], "changes": [change_json(one) for one in work.changes],
            "prompts": {"test": len(cases.asked), "learn": len(cases.learn), "replay": len(cases.replay)},
            "tokens": tokens, "seconds": seconds, "left_out": cases.left_out, "text": text}  # fmt: skip
