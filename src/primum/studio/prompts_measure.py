"""`primum prompts evaluate`, `compare` and `suggest`: what a preprompt does to a model, kept with the version.

Who asks, and whether what comes out could be kept, is settled before a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from primum.core.errors import Exit, UsageError, did_you_mean
from primum.studio import prompts_who as who
from primum.studio.validate import render, slots

if TYPE_CHECKING:
    from primum.studio.database import Database
    from primum.studio.prompts_verb import PromptsConfig
    from primum.studio.tables import Version

Result = tuple[int, dict[str, Any], str]


def evaluate(config: PromptsConfig, database: Database) -> Result:
    """Measure a version with and without it, and keep the scores."""
    from primum.pipeline.terminal import Terminal
    from primum.studio import library
    from primum.studio.evaluate import Settings
    from primum.studio.evaluate import evaluate as measured

    with database.writing() as db:
        account = who.person(config, db)
        who.allowed(account, "edit")
        template, version = who.found(config, db)
        library.check_measurable(db, template, version)
    values = _values(config, version)
    engine, model = _engine(config)
    settings = Settings(config.size, config.judge, config.seed, values)
    with Terminal().step("evaluate", 10 * config.size, "replies") as advance:
        scores = measured(engine, render(version.text, dict(values)), settings, advance)
    with database.writing() as db:
        library.add_score(db, template, version, model, settings.plain(), scores, account.name)
    weak = library.weak(model, scores)
    told = _told(scores) + (f"; no check of a review: {weak}" if weak else "")
    document = {**scores, "model": model, "settings": settings.plain(), "weak": weak}
    return Exit.PASSED if scores["passed"] else Exit.GATE_FAILED, document, told


def _values(config: PromptsConfig, *versions: Version) -> tuple[tuple[str, str], ...]:
    """Return what stands in each slot, by name.

    Raises:
        UsageError: a slot has no value, a value no slot, or what was given is no name=value.
    """
    known = sorted({name for one in versions for name in (*one.variables, *slots(one.text))})
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


def _dev_compliance(scores: dict[str, Any]) -> float:
    share = scores["sets"]["dev"]["compliance"][1]
    return 2.0 if share is None else float(share)


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

    lines = [
        f"{name:<9} harmful compliance {percent(row['compliance'][0])} -> {percent(row['compliance'][1])} "
        f"(n {row['n_harmful']}), benign refused {percent(row['refusal'][0])} -> {percent(row['refusal'][1])} "
        f"(n {row['n_benign']})"
        for name, row in scores["sets"].items()
    ]
    return "\n".join([*lines, "passed" if scores["passed"] else "failed"])


def suggest(config: PromptsConfig, database: Database) -> Result:
    """Measure preprompts made of templates and adjectives, and the best of them mended by what it let through.

    The best become drafts, and nothing more.
    """
    from primum.pipeline.terminal import Terminal
    from primum.studio import library
    from primum.studio.evaluate import Settings, mended, rank, suggestions
    from primum.studio.evaluate import evaluate as measured

    name = who.named(config)
    with database.writing() as db:
        account = who.person(config, db)
        who.allowed(account, "edit")
    engine, model = _engine(config)
    settings = Settings(config.size, config.judge, config.seed)
    terminal = Terminal()
    found = []
    with terminal.step("measure suggestions", len(list(suggestions())) + 1, "preprompts") as advance:
        for text in suggestions():
            found.append((text, measured(engine, text, settings)))
            advance(1)
        best, scores = min(found, key=lambda one: _dev_compliance(one[1]))
        better = mended(best, scores["sets"]["dev"]["failed"])
        found += [(better, measured(engine, better, settings))] if better else []
        advance(1)
    ranked = rank(found)
    made: list[int] = []
    with database.writing() as db:
        for text, scores in ranked[:3]:
            template, version = who.put(db, account, name, "preprompt", text, {}, "suggested by primum; not reviewed")
            library.add_score(db, template, version, model, settings.plain(), scores, account.name)
            made.append(version.number)
    best = [f"version {n}: {text}\n{_told(scores)}" for n, (text, scores) in zip(made, ranked[:3], strict=True)]
    document = {"drafts": made, "ranked": [{"text": text, **scores} for text, scores in ranked]}
    return Exit.PASSED, document, "\n\n".join(best) or "none kept the floor: nothing is suggested"
