"""`primum prompts evaluate`, `compare` and `suggest`: what a preprompt does to a model, kept with the version.

Who asks, and whether what comes out could be kept, is settled before a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from primum.core.errors import Exit, UsageError, did_you_mean
from primum.studio import prompts_who as who
from primum.studio.slots import render, slots

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from primum.core.records import JsonDict
    from primum.studio.database import Database
    from primum.studio.prompts_verb import PromptsConfig
    from primum.studio.suggesting import Suggestion
    from primum.studio.tables import Account, Version

MOST_DRAFTS = 3
"""Suggestions that become drafts: a person reads each."""
Result = tuple[int, dict[str, Any], str]


def evaluate(config: PromptsConfig, database: Database) -> Result:
    """Measure a version, a preprompt with and without it and others under attack, and keep the scores."""
    from primum.pipeline.terminal import Terminal
    from primum.studio import library
    from primum.studio.evaluate import Settings

    with database.writing() as db:
        account = who.person(config, db)
        who.allowed(account, "edit")
        template, version = who.found(config, db)
        library.check_measurable(db, template, version)
    attacked = template.kind != "preprompt"
    values = _values(config, version, trusted_only=attacked)
    work, total = _work(template.kind, version, values, config.size)
    engine, model = _engine(config)
    settings = Settings(config.size, config.judge, config.seed, values)
    with Terminal().step("evaluate", total, "replies") as advance:
        scores = work(engine, settings, advance)
    with database.writing() as db:
        library.add_score(db, template, version, model, settings.plain(), scores, account.name)
    weak = library.weak(model, scores)
    told = _told(scores) + (f"; no check of a review: {weak}" if weak else "")
    document = {**scores, "model": model, "settings": settings.plain(), "weak": weak}
    return Exit.PASSED if scores["passed"] else Exit.GATE_FAILED, document, told


def _work(
    kind: str, version: Version, values: tuple[tuple[str, str], ...], size: int
) -> tuple[Callable[..., JsonDict], int]:
    """Return what measures a version of this kind, and how many replies it takes."""
    from primum.studio import evaluate, under_attack

    if kind == "preprompt":
        text = render(version.text, dict(values))
        return lambda engine, settings, advance: evaluate.evaluate(engine, text, settings, advance), 10 * size
    one = under_attack.Hostile(version.text, version.variables, dict(values))
    under_attack.check(kind, one)
    work = under_attack.evaluate_answer if kind == "answer" else under_attack.evaluate_rubric
    total = 3 * size if kind == "answer" else 2 * len(under_attack.replies(size))
    return lambda engine, settings, advance: work(engine, one, settings, advance), total


def _values(config: PromptsConfig, *versions: Version, trusted_only: bool = False) -> tuple[tuple[str, str], ...]:
    """Return what stands in each slot, by name; `trusted_only`: the others are filled with what attacks.

    Raises:
        UsageError: a slot has no value, a value no slot, or what was given is no name=value.
    """
    named = {name for one in versions for name in (*one.variables, *slots(one.text))}
    known = sorted(n for n in named if not trusted_only or any(one.variables.get(n) for one in versions))
    found: dict[str, str] = {}
    for given in config.set:
        name, sign, value = given.partition("=")
        if not sign or name not in known:
            cure = did_you_mean(name, known) if sign and known else "like --set name=value, for a declared variable"
            raise UsageError(f"'{given}' is no value of a variable", where="--set", cure=cure)
        found[name] = value
    lacking = [name for name in known if name not in found]
    if lacking:
        cure = " ".join(f"--set {name}=..." for name in lacking)
        raise UsageError(f"the variable '{lacking[0]}' has no value", where="--set", cure=cure)
    return tuple(sorted(found.items()))


def _engine(config: PromptsConfig) -> tuple[Any, str]:
    """Return the engine, and the name under which its scores are kept: one that only plays a model says so."""
    from primum.core.catalogue import member
    from primum.studio.talk import DEMO, Demo, load_engine

    member("judges", config.judge)
    engine = load_engine(config.model)
    plays = isinstance(engine, Demo) and engine.model_name != DEMO
    return engine, f"{DEMO}:{engine.model_name}" if plays else engine.model_name


def compare(config: PromptsConfig, database: Database) -> Result:
    """Put two versions before the same prompts: an A/B test with paired statistics."""
    from primum.pipeline.terminal import Terminal
    from primum.report.words import percent
    from primum.studio import library
    from primum.studio.evaluate import Settings, ab_test, chosen
    from primum.studio.tables import Version

    with database.reading() as db:
        template, second = who.found(config, db)
        parent = db.get(Version, second.parent_id) if second.parent_id else None
        first = library.version(db, template, config.against) if config.against else parent
    if template.kind != "preprompt":
        raise UsageError("only preprompts are compared", where=template.name, cure="name a preprompt")
    values = _values(config, second, *([first] if first else []))
    texts = [render(one.text, dict(values)) if one else "" for one in (first, second)]
    engine, model = _engine(config)
    settings = Settings(config.size, config.judge, config.seed, values)
    total = 2 * sum(map(len, chosen(config.size).values()))
    with Terminal().step("compare", total, "replies") as advance:
        found = ab_test(engine, texts[0], texts[1], settings, advance)
    names = (f"version {first.number}" if first else "no preprompt", f"version {second.number}")
    lines = [
        f"{one.event:<24} {names[0]} {percent(one.first)}, {names[1]} {percent(one.second)}: difference "
        f"{percent(one.difference.value)} [{percent(one.difference.low)}, {percent(one.difference.high)}], "
        f"p {one.p:.3g} (McNemar, Holm), n {one.n}, left out {one.left_out}"
        for one in found
    ]
    rows = [{**one._asdict(), "difference": one.difference._asdict()} for one in found]
    document = {"first": first.number if first else 0, "second": second.number, "model": model,
                "settings": settings.plain(), "contrasts": rows}  # fmt: skip
    return Exit.PASSED, document, "\n".join(lines)


def _told(scores: dict[str, Any]) -> str:
    from primum.report.words import percent

    lines: list[str] = []
    for name, row in scores["sets"].items():
        if "flips" in row:
            lines.append(f"{name}: {row['flips']} of {row['scored_harmful'][0]} verdicts were turned")
            continue
        compliance, refusal = ([percent(share) for share in row[what]] for what in ("compliance", "refusal"))
        twins = f", benign refused {refusal[0]} -> {refusal[1]} (n {row['n_benign']})" if row["n_benign"] else ""
        said = f"harmful compliance {compliance[0]} -> {compliance[1]} (n {row['n_harmful']})"
        lines.append(f"{name:<9} {said}{twins}")
    return "\n".join([*lines, "passed" if scores["passed"] else "failed"])


def suggest(config: PromptsConfig, database: Database) -> Result:
    """Try preprompts made of templates and adjectives, and the version mended by what it let through.

    The best become drafts, each marked by whether it is shown to beat the version; nothing more happens to them.
    """
    from primum.pipeline.terminal import Terminal
    from primum.studio import evaluate as measuring
    from primum.studio import suggesting

    name = who.named(config)
    with database.writing() as db:
        account = who.person(config, db)
        base = _baseline(config, db, account)
    values = _values(config, *([base] if base else []))
    engine, model = _engine(config)
    settings = measuring.Settings(config.size, config.judge, config.seed, values)
    total = 5 * config.size * (suggesting.MOST + 1 + bool(base))
    with Terminal().step("measure suggestions", total, "replies") as advance:
        found = suggesting.suggest(
            lambda text: measuring.measure(engine, text, settings, advance), base.text if base else "", dict(values)
        )
    number = base.number if base else 0
    with database.writing() as db:
        drafts = [_draft(db, account, name, base, one, model, settings.plain()) for one in found[:MOST_DRAFTS]]
    kept = [(draft, one) for draft, one in zip(drafts, found, strict=False) if draft]
    told = [f"version {draft}: {one.text}\n{_told(one.scores)}\n{_beats(one.told(number))}" for draft, one in kept]
    document = {
        "baseline": number, "drafts": [draft for draft, _ in kept],
        "ranked": [{"text": one.text, "against": one.told(number), **one.scores} for one in found],
    }  # fmt: skip
    return Exit.PASSED, document, "\n\n".join(told) or "none kept the floor: nothing is suggested"


def _baseline(config: PromptsConfig, db: Session, account: Account) -> Version | None:
    """Return the version to beat: the one that is named, else production, else the newest; None for a new template."""
    from sqlalchemy import select

    from primum.studio import library
    from primum.studio.tables import Template, Version

    template = db.scalar(select(Template).where(Template.name == config.name))
    if template is None:
        who.allowed(account, "edit")
        return None
    who.allowed_on(db, account, template, "edit")
    at = library.labels(db, template).get("production")
    base = db.get(Version, at) if at and not config.number else library.version(db, template, config.number)
    if base:
        library.check_preprompt(template)
    return base


def _draft(
    db: Session, account: Account, name: str, base: Version | None, one: Suggestion, model: str, settings: JsonDict
) -> int | None:
    """Keep a suggestion as a draft with its scores; None where it is a version that was given up."""
    from primum.studio import library
    from primum.studio.validate import template_hash

    variables = base.variables if base and slots(one.text) else {}
    against = one.told(base.number if base else 0)
    held = library.versions(db, library.template(db, name)) if base else []
    same = next((v for v in held if v.hash == template_hash("preprompt", one.text, variables)), None)
    if same is None:
        message = "suggested by primum; not reviewed"
        template, version = who.put(db, account, name, "preprompt", one.text, variables, message, base)
    else:
        template, version = library.template(db, name), same
        if library.state(db, template, version).status in ("rejected", "withdrawn"):
            return None
    if not slots(one.text):
        settings = {key: value for key, value in settings.items() if key != "values"}
    library.add_score(db, template, version, model, settings, one.scores, account.name, against=against)
    return version.number


def _beats(against: JsonDict) -> str:
    from primum.report.words import change, percent

    than = f"version {against['version']}" if against["version"] else "no preprompt"
    lines = [f"better than {than}" if against["better"] else f"not shown to be better than {than}"]
    for name, row in against["sets"].items():
        for what, one in (("harmful compliance", row["harmful"]), ("refusal of benign twins", row["twins"])):
            lines.append(
                f"  {name:<9} {what} {percent(one['before'])} -> {percent(one['after'])}: {change(one['difference'])} "
                f"points [{change(one['low'])}, {change(one['high'])}], n {one['n']}"
            )
    return "\n".join(lines)
