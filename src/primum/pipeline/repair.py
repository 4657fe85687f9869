"""`primum repair`: measure, pair, train, measure again, decide, report. One function a step, in the order they run."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.core.catalogue import member
from primum.core.errors import Exit, StepFailedError, UsageError
from primum.core.records import JsonDict, Measurement, Pair, Prompt, Reply, Verdict, digest, from_json, to_json, user
from primum.core.store import write_json, write_text
from primum.core.taxonomy import policy
from primum.evaluation.gate import JudgeResult, NllResult, decide
from primum.evaluation.metrics import Scored, is_harmful, is_twin
from primum.judging import Exchange
from primum.models.sampling import Engine, Sampling
from primum.models.saving import writing
from primum.pairing.columns import write_pairs
from primum.pairing.demonstration import Built
from primum.pairing.lint import Lint, lint, refuse
from primum.pipeline.choose import asked, balanced, choose, is_general, readable
from primum.pipeline.facts import assemble
from primum.pipeline.held import measured_rows
from primum.pipeline.languages import Tongues, is_foreign, judge_all_languages, scored, tongues
from primum.pipeline.learn import Learned, learn
from primum.pipeline.plan import estimate, fitted
from primum.pipeline.settings import RepairConfig
from primum.pipeline.steps import Draw, Journey, judge, outside, sample, several_differ
from primum.pipeline.terminal import Terminal, closing_table
from primum.prompts.collect import Collected, Source, collect

if TYPE_CHECKING:
    from primum.models.load import Model

__all__ = ["RepairConfig", "run_verb"]

LEAST_FLAGGED = 8
"""Fewer flagged replies than this teach nothing about the model's own failures."""


@dataclass
class Loader:
    """Loads a model when it is first needed, and keeps one at a time in memory."""

    journey: Journey
    held: Model | None = None
    name: str = ""

    def __call__(self, name: str) -> Model:
        """Return the model of that name."""
        if self.held is None or self.name != name:
            from primum.models.load import load

            self.held = None
            with self.journey.step(f"load {Path(name).name}"):
                self.held, self.name = load(name), name
        return self.held

    def engine(self, name: str) -> Callable[[], Engine]:
        """Return what makes an engine over that model."""

        def make() -> Engine:
            from primum.models.engines.hf import HFEngine

            return HFEngine(self(name))

        return make


@dataclass(frozen=True)
class Side:
    """One measurement of one model: replies, every judge's verdicts, NLL of benign texts, accuracy in the domain.

    `languages` holds one judge's verdicts on the same requests in every language, where languages are asked for.
    """

    replies: Sequence[Reply]
    verdicts: Mapping[str, Sequence[Verdict]]
    nll: Mapping[str, Sequence[float]]
    accuracy: Sequence[Measurement] = ()
    languages: Sequence[Scored] = ()

    def scored(self, judge_id: str, prompts: Mapping[str, Prompt]) -> list[Scored]:
        """Join prompts, replies and one judge's verdicts."""
        return [Scored(prompts[r.prompt_id], r, v) for r, v in zip(self.replies, self.verdicts[judge_id], strict=True)]


def run_verb(config: RepairConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Run the main job; return the exit code and report.json's facts."""
    _check(config)
    if config.parent:
        from primum.pipeline.parented import repair_from_parent

        return repair_from_parent(config, json_output, run_verb)
    terminal = Terminal(quiet=json_output)
    journey = Journey(Path(config.out), terminal)
    collected = _collect(journey, config)
    spoken = tongues(collected.prompts, config)
    loader = Loader(journey)

    def own(settings: RepairConfig) -> tuple[list[Prompt], list[Prompt]]:
        return choose(spoken.own, "train", settings.size), choose(spoken.own, "test", settings.size)

    def chosen(settings: RepairConfig) -> tuple[list[Prompt], list[Prompt]]:
        train, test = own(settings)
        return [*train, *spoken.train], [*test, *spoken.test]

    def known(settings: RepairConfig) -> list[Prompt]:
        size = settings.size
        if settings.limit is not None:
            return [*choose(spoken.own, "train", size), *choose(spoken.own, "dev", size)]
        return readable(spoken.own, size, settings.sft.linear_share)

    config, said = fitted(config, journey.folder, lambda: loader(config.model), chosen, known)
    if said:
        journey.tell("budget", said)
    train, test = own(config)
    _enough_of_each(train, test)
    learned_from = [*train, *spoken.train]
    if config.dry_run:
        plan = estimate(config, learned_from, [*test, *spoken.test], loader(config.model), known(config))
        terminal.note(plan["text"])
        return Exit.PASSED, plan
    journey.tell("measure", f"measured before and after on {_said(test)}; to learn from: {_said(learned_from)}")
    journey.begin(config.model_dump(mode="json", exclude={"out"}), "evidence.json")
    model = loader(config.model)
    described = describe(model)
    before = _measure(journey, config, "before", (test, spoken.test), loader, config.model)
    built, found = _pairs(journey, config, learned_from, loader)
    _enough(built.pairs, config)
    refuse(found, config.force)
    if config.rounds > 1:
        learned = _in_rounds(journey, config, (learned_from, known(config)), built, loader)
    else:
        learned = learn(journey, config, model, built, known(config))
    journey.tell("train", f"{len(learned.sft):,} steps of the warm start, then {len(learned.dpo):,} of DPO")
    del model  # training changed it
    loader.held = None
    after = _measure(journey, config, "after", (test, spoken.test), loader, str(learned.checkpoint))
    outcome = Outcome(learned_from, test, before, after, built, found, learned, described, spoken)
    return _finish(journey, config, collected, outcome)


def _said(prompts: Sequence[Prompt]) -> str:
    harmful, twins = (sum(map(about, prompts)) for about in (is_harmful, is_twin))
    others = len(prompts) - harmful - twins
    return f"{harmful:,} harmful requests, {twins:,} benign look-alikes, {others:,} other benign ones"


def _check(config: RepairConfig) -> None:
    """Find what is wrong with names and files before the first minute is spent."""
    from primum.evaluation.domain import read_domain

    outside(config.model, config.out)
    for role in ("base", "unaligned", "safe"):
        if getattr(config, role) and not config.parent:
            raise UsageError(f"--{role} goes with --parent", where=f"--{role}", cure="give --parent MODEL")
    if not (config.embedded or config.prompts):
        raise UsageError("there are no prompts", cure="give --prompts, or leave --no-embedded out")
    several_differ(config.samples or 1, [config.temperature])
    member("strategies", config.strategy)
    for name in (*config.judges, config.language_judge):
        member("judges", name)
    if config.domain:
        read_domain(Path(config.domain))


def _enough_of_each(train: Sequence[Prompt], test: Sequence[Prompt]) -> None:
    """Refuse sets from which nothing can be learned or decided.

    Raises:
        UsageError: no harmful or no benign prompts on one side.
    """
    for name, prompts in (("learn from", train), ("measure on", test)):
        for intent in ("harmful", "benign"):
            if not any(p.intent == intent for p in prompts):
                cure = "give more prompts (--prompts, --benign), or leave --no-embedded out"
                raise UsageError(f"there is no {intent} prompt to {name}", cure=cure)


@dataclass(frozen=True)
class Outcome:
    """All that a repair found out."""

    train: Sequence[Prompt]
    test: Sequence[Prompt]
    before: Side
    after: Side
    built: Built
    lint: Lint
    learned: Learned
    model: JsonDict
    languages: Tongues


def _collect(journey: Journey, config: RepairConfig) -> Collected:
    held_out = config.held_out
    if held_out is None:
        held_out = tuple(c.id for c in policy().categories.values() if c.held_out)
    sources = [Source(spec) for spec in config.prompts] + [Source(spec, intent="benign") for spec in config.benign]
    sources += [Source("embedded")] if config.embedded else []
    sources += [Source("languages")] if config.embedded and config.languages else []
    with journey.step("collect prompts"):
        collected = collect(sources, held_out=held_out, seed=0)
    if not config.dry_run:
        rows = [to_json(p) for p in collected.prompts]
        stage = journey.stage("01-prompts", prompts=digest(rows))
        if not stage.manifest:
            stage.write_shard(0, rows)
            for dropped in collected.dropped:
                stage.drop(to_json(dropped), dropped.reason)
            stage.finish(prompts=len(rows))
    counts = Counter(p.intent for p in collected.prompts)
    journey.tell(
        "prompts",
        f"{counts['harmful']:,} harmful and {counts['benign']:,} benign prompts; " + "; ".join(collected.notes),
    )
    return collected


def describe(model: Model) -> JsonDict:
    """Return what a report says of a model."""
    from primum.models.chat import template_hash
    from primum.models.device import device

    return {
        "name": model.name, "parameters": model.parameters, "source": model.source, "hash": model.hash,
        "dtype": str(model.network.dtype).removeprefix("torch."), "template": template_hash(model.tokenizer),
        "device": device().describe(), "sees": model.sees,
    }  # fmt: skip


def _measure(
    journey: Journey, config: RepairConfig, when: str, asked: tuple[Sequence[Prompt], Sequence[Prompt]],
    loader: Loader, name: str,
) -> Side:  # fmt: skip
    """Measure a model on the test prompts, and apart on those of all languages (none where they are not asked for)."""
    test, many = asked
    number = {"before": 2, "after": 9}[when]
    model = loader(name)
    draw = Draw(Sampling(config.temperature, config.size.test_tokens), 1, config.seed)
    key = f"{name if when == 'before' else 'repaired'}@{model.key}"
    replies = sample(journey, f"{number:02d}-replies-{when}", test, draw, key, loader.engine(name))
    by_id = {p.id: p for p in test}
    exchanges = [Exchange(by_id[r.prompt_id], r) for r in replies]
    verdicts = {j: judge(journey, f"{number:02d}-judge-{when}-by-{j}", j, exchanges) for j in config.judges}
    found = _likelihood(journey, config, when, test, model)
    spoken: list[Scored] = []
    if many:
        said = sample(journey, f"{number:02d}-replies-{when}-languages", many, draw, key, loader.engine(name))
        spoken = scored(journey, f"{number:02d}-judge-{when}-languages", many, said, config)
    return Side(replies, verdicts, found["nll"], [from_json(Measurement, row) for row in found["accuracy"]], spoken)


def _likelihood(journey: Journey, config: RepairConfig, when: str, test: Sequence[Prompt], model: Model) -> JsonDict:
    """Return the NLL of each text (`nll`) and the accuracy on the domain's questions with options (`accuracy`)."""
    from primum.evaluation.domain import Text, accuracy, texts
    from primum.training.examples import Answered, Limits, answered
    from primum.training.score import score_all

    sets = {"nll": [(p.messages, p.answer) for p in test if is_general(p) and p.answer]}
    domain = measured_rows(config)
    if domain:
        sets["nll_domain"] = [((user(t.prompt),), t.answer) for t in texts(domain)]
    stage = journey.stage(
        f"{2 if when == 'before' else 9:02d}-likelihood-{when}",
        model=model.key,
        texts=digest([_plain_texts(sets), [[row.options, row.right] for row in domain]]),
    )
    if stage.manifest:
        return stage.manifest
    total = sum(map(len, sets.values())) + sum(len(row.options) for row in domain)
    with journey.step(f"likelihood {when}", total, "texts") as advance:

        def score(rows: Sequence[Any], ends: bool = True) -> Any:
            examples = answered([Answered(p, a, Limits(answer=512), ends) for p, a in rows], model.tokenizer)
            return score_all(model.network, examples, advance=advance)

        def sums(asked: Sequence[Text]) -> list[float]:
            return score([((user(t.prompt),), t.answer) for t in asked], ends=False).logps.tolist()

        got = {key: score(rows) for key, rows in sets.items()}
        nll = {key: (-each.logps / each.lengths).tolist() for key, each in got.items()}
        measured = accuracy(domain, sums) if any(row.options for row in domain) else []
    return stage.finish(nll=nll, accuracy=[to_json(m) for m in measured])


def _plain_texts(sets: Mapping[str, Sequence[tuple[Any, str]]]) -> JsonDict:
    """Return the texts as plain JSON, for a key."""
    return {
        key: [[[m.identity[1] for m in messages], answer] for messages, answer in rows] for key, rows in sets.items()
    }


def _pairs(journey: Journey, config: RepairConfig, train: Sequence[Prompt], loader: Loader) -> tuple[Built, Lint]:
    draw = Draw(Sampling(config.temperature, config.size.train_tokens), config.size.samples, config.seed + 1)
    key = f"{config.model}@{loader(config.model).key}"
    own, engine = [p for p in train if not (config.languages and is_foreign(p))], loader.engine(config.model)
    ask = [*asked(own, config.size), *(p for p in train if config.languages and is_foreign(p))]
    replies = sample(journey, "03-replies-to-learn-from", ask, draw, key, engine)
    by_id = {p.id: p for p in train}
    builder = config.judges[0]
    exchanges = [Exchange(by_id[r.prompt_id], r) for r in replies]
    verdicts = judge_all_languages(journey, f"04-judge-training-replies-by-{builder}", builder, exchanges, config)
    grouped: dict[str, list[Reply]] = {}
    for reply in replies:
        grouped.setdefault(reply.prompt_id, []).append(reply)
    with journey.step("build pairs"):
        strategy = member("strategies", config.strategy)
        built: Built = strategy.pairs(train, grouped, {v.reply_id: v for v in verdicts}, seed=config.seed)
        built = replace(built, pairs=balanced(built.pairs, train, config.dpo.benign_share))
        found = lint(built.pairs)
    stage = journey.stage("05-pairs", pairs=digest([to_json(p) for p in built.pairs]))
    if not stage.manifest:
        write_pairs(stage.path("pairs.jsonl"), built.pairs)
        for row in built.dropped:
            stage.drop({k: v for k, v in row.items() if k != "reason"}, row["reason"])
        stage.finish(pairs=len(built.pairs), lint=to_json(found))
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in Counter(pair.kind for pair in built.pairs).items())
    journey.tell(
        "pairs",
        f"{len(built.pairs):,} preference pairs{f' ({kinds})' if kinds else ''} and {len(built.demonstrations):,} "
        f"demonstrations; the lint of the pairs {'passed' if found.passed else 'has findings'}",
    )
    return built, found


def _in_rounds(
    journey: Journey, config: RepairConfig, prompts: tuple[Sequence[Prompt], Sequence[Prompt]], first: Built,
    loader: Loader,
) -> Learned:  # fmt: skip
    """Learn; draw replies anew from what was made, pair and learn again, from it and against it as the reference.

    A round whose replies are hardly flagged any more is not learned: the one before was the last. The linear start is
    the first round's alone.
    """
    train, known = prompts
    learned = learn(_round(journey, 1), config, loader(config.model), first, known)
    for number in range(2, config.rounds + 1):
        inner, later = _round(journey, number), config.sft.model_copy(update={"linear_start": False})
        again = config.model_copy(update={"model": str(learned.checkpoint), "sft": later})
        loader.held = None  # training changed it
        built, found = _pairs(inner, again, train, loader)
        flagged = _flagged(built.pairs)
        journey.tell("rounds", f"round {number}: {flagged} of the replies were flagged")
        if flagged < LEAST_FLAGGED and not config.force:
            break
        refuse(found, config.force)
        learned = learn(inner, again, loader(again.model), built, known)
    made = {name: journey.folder / name for name in ("adapter", "checkpoint")}
    for name, folder in made.items():
        shutil.rmtree(folder, ignore_errors=True)
        with writing(folder):
            shutil.copytree(getattr(learned, name), folder)
    return replace(learned, **made)


def _round(journey: Journey, number: int) -> Journey:
    """Return the folder of a round, told of with the rest of the run."""
    return Journey(journey.folder / "rounds" / str(number), journey.terminal, journey.seconds, journey.said)


def _flagged(pairs: Sequence[Pair]) -> int:
    """Count the pairs whose rejected side is a flagged reply of the model."""
    return sum(pair.kind == "harmful" for pair in pairs)


def _enough(pairs: Sequence[Pair], config: RepairConfig) -> None:
    flagged = _flagged(pairs)
    if flagged < LEAST_FLAGGED and not config.force:
        problem = f"only {flagged} of the model's replies were flagged as harmful compliance: nothing to learn from"
        cure = "this does not say that the model is safe; give more or other prompts, or a larger --budget"
        raise StepFailedError(problem, cure=cure)


def _finish(journey: Journey, config: RepairConfig, collected: Collected, outcome: Outcome) -> tuple[int, JsonDict]:
    from primum.report.card import model_card
    from primum.report.evidence import evidence
    from primum.report.write import write_report

    prompts = {p.id: p for p in outcome.test}
    results = {
        j: JudgeResult(outcome.before.scored(j, prompts), outcome.after.scored(j, prompts)) for j in config.judges
    }
    nll = NllResult(outcome.before.nll["nll"], outcome.after.nll["nll"])
    domain = NllResult(outcome.before.nll["nll_domain"], outcome.after.nll["nll_domain"]) if config.domain else None
    decision = decide(results, nll, config.judges[0], config.gate, domain)
    with journey.step("report"):
        facts = assemble(journey, config, collected, outcome, results, decision)
        folder = journey.folder
        files = {"prompts": folder / "steps/01-prompts", "pairs": folder / "steps/05-pairs",
                 "adapter": outcome.learned.adapter, "checkpoint": outcome.learned.checkpoint}  # fmt: skip
        page = write_report(folder, facts)
        write_text(outcome.learned.checkpoint / "README.md", model_card(facts))
        write_json(folder / "evidence.json", evidence(facts, files))
    if not journey.terminal.quiet:
        print(closing_table(facts, page))
    return decision.exit_code, facts
