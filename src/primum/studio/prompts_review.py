"""`primum prompts`, what people do to each other's versions: review, comments, labels, audits, and the numbers.

The rules are the library's; the same functions stand behind the pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from primum.core.errors import Exit, UsageError, did_you_mean
from primum.studio import prompts_who as who
from primum.studio.shown import visible

if TYPE_CHECKING:
    from primum.studio.agree import Share
    from primum.studio.database import Database
    from primum.studio.prompts_verb import PromptsConfig

STEPS = ("propose", "approve", "reject", "merge", "withdraw")
VERDICTS = ("right", "wrong")
Result = tuple[int, dict[str, Any], str]


def step(config: PromptsConfig, database: Database) -> Result:
    """Take a step of a version's review."""
    from primum.studio import library

    with database.writing() as db:
        account = who.person(config, db)
        template, version = who.found(config, db)
        right = "edit" if config.action in ("propose", "withdraw") else "review"
        who.allowed_on(db, account, template, right)
        data = {"text": config.message} if config.message else {}
        rating = {"rating": config.rating} if config.rating else {}
        state = library.do(db, template, version, config.action, account.name, **data, **rating)
    document = {"state": state.status, "missing": state.missing}
    return Exit.PASSED, document, f"{template.name} {version.number}: {state.status}"


def comment(config: PromptsConfig, database: Database) -> Result:
    """Say something of a version."""
    from primum.studio import library

    if not config.message.strip():
        cure = f'primum prompts comment {who.named(config)} --message "..."'
        raise UsageError("the comment is empty", where="--message", cure=cure)
    with database.writing() as db:
        account = who.person(config, db)
        who.allowed(account, "work")
        template, version = who.found(config, db)
        library.do(db, template, version, "comment", account.name, text=config.message)
    document = {"name": template.name, "number": version.number, "by": account.name, "text": config.message}
    return Exit.PASSED, document, f"{template.name} {version.number}: noted"


def comments(config: PromptsConfig, database: Database) -> Result:
    """Read what people said of a version, or of all versions where none is named."""
    from primum.studio import library

    rows: list[dict[str, Any]] = []
    with database.reading() as db:
        template = library.template(db, who.named(config))
        held = [library.version(db, template, config.number)] if config.number else library.versions(db, template)
        for version in reversed(held):
            rows += [
                {"number": version.number, "by": event.by, "at": event.at, "step": event.kind,
                 "rating": event.data.get("rating"), "text": event.data["text"]}
                for event in library.comments(db, version)
            ]  # fmt: skip
    lines = [
        f"version {row['number']}, {row['by']}, {row['at']}, {row['step']}"
        + (f", rating {row['rating']}" if row["rating"] else "")
        + "".join(f"\n  {line}" for line in visible(row["text"]).splitlines())
        for row in rows
    ]
    return Exit.PASSED, {"name": template.name, "comments": rows}, "\n".join(lines) or "nobody has said anything yet"


def audit(config: PromptsConfig, database: Database) -> Result:
    """Say whether validation was right to stop a version."""
    from primum.studio import library

    if config.verdict not in VERDICTS:
        cure = did_you_mean(config.verdict, VERDICTS) if config.verdict else "--verdict right, or --verdict wrong"
        raise UsageError("was validation right to stop it?", where="--verdict", cure=cure)
    with database.writing() as db:
        account = who.person(config, db)
        template, version = who.found(config, db)
        who.allowed_on(db, account, template, "review")
        library.audit_validation(db, template, version, account.name, config.verdict)
    document = {"name": template.name, "number": version.number, "validation": config.verdict}
    return Exit.PASSED, document, f"{template.name} {version.number}: validation was {config.verdict}"


# ---------------------------------------------------------------- labels


def label(config: PromptsConfig, database: Database) -> Result:
    """Put a label on a version, or back to an older one."""
    from primum.studio import library

    with database.writing() as db:
        account = who.person(config, db)
        template = library.template(db, who.named(config))
        who.allowed_on(db, account, template, "review")
        if config.action == "rollback":
            version = library.roll_back(db, template, config.label, account.name, config.number)
        else:
            version = library.version(db, template, config.number)
            library.set_label(db, template, version, config.label, account.name)
    return Exit.PASSED, {"label": config.label, "number": version.number}, f"{config.label}: version {version.number}"


def labels(config: PromptsConfig, database: Database) -> Result:
    """Show which version has which label, and every move of a label, newest first."""
    from primum.studio import library

    with database.reading() as db:
        template = library.template(db, who.named(config))
        numbers = {version.id: version.number for version in library.versions(db, template)}
        now = {name: numbers[at] for name, at in library.labels(db, template).items()}
        moves = [
            {"label": move.label, "number": numbers[move.version_id], "by": move.by, "at": move.at}
            for move in library.moves(db, template)
        ]
    lines = [f"{name}: version {number}" for name, number in now.items()]
    lines += [f"  {one['at']}  {one['label']} on version {one['number']} by {one['by']}" for one in moves]
    document = {"name": template.name, "labels": now, "moves": moves}
    return Exit.PASSED, document, "\n".join(lines) or "no version has had a label"


# ---------------------------------------------------------------- rights


def rights(config: PromptsConfig, database: Database) -> Result:
    """Show who may edit and who may review a template; keep it to those who are named."""
    from primum.studio import library
    from primum.studio import rights as held

    asked = {"edit": config.editors, "review": config.reviewers}
    with database.writing() as db:
        template = library.template(db, who.named(config))
        if any(names is not None for names in asked.values()):
            account = who.person(config, db)
            who.allowed(account, "admin")
            for right, names in asked.items():
                if names is not None:
                    listed = [name.strip() for name in names.split(",") if name.strip()]
                    held.grant(db, template, right, listed, account.name)
        editors, reviewers = (held.granted(db, template, right) for right in asked)
    lines = [
        f"may edit: {', '.join(editors) or 'every editor'}",
        f"may review: {', '.join(reviewers) or 'every reviewer'}",
    ]
    return Exit.PASSED, {"name": template.name, "editors": editors, "reviewers": reviewers}, "\n".join(lines)


# ---------------------------------------------------------------- numbers


def leaderboard(config: PromptsConfig, database: Database) -> Result:
    """Rank the versions of a template by their newest scores, for each model and its settings apart."""
    from primum.studio import library

    boards: list[dict[str, Any]] = []
    lines: list[str] = []
    with database.reading() as db:
        template = library.template(db, who.named(config))
        for row in library.score_table(db, template):
            ranked = library.ranked(row)
            boards.append({
                "model": row.model, "settings": row.settings,
                "versions": [{"number": number, **_score(score)} for number, score in ranked],
            })  # fmt: skip
            lines += [f"{row.model}  {_settings(row.settings)}".rstrip(), *(_line(*one) for one in ranked)]
    cure = f"no version has been measured: primum prompts evaluate {template.name} --model MODEL"
    return Exit.PASSED, {"name": template.name, "boards": boards}, "\n".join(lines) or cure


def _score(score: dict[str, Any]) -> dict[str, Any]:
    return {"passed": score["scores"]["passed"], "weak": score.get("weak", ""), "key": score["key"],
            "sets": score["scores"]["sets"], "by": score["by"], "at": score["at"]}  # fmt: skip


def _settings(settings: dict[str, Any]) -> str:
    values = ", ".join(f"{name} = {value}" for name, value in (settings.get("values") or {}).items())
    known = [f"{name} {settings[name]}" for name in ("judge", "size", "seed") if name in settings]
    return ", ".join([*known, *([values] if values else [])])


def _line(number: int, score: dict[str, Any]) -> str:
    from primum.report.words import percent

    said = "passed" if score["scores"]["passed"] else "failed"
    said += f" (no check: {score['weak']})" if score.get("weak") else ""
    sets = score["scores"]["sets"]
    turned = [f"{row['flips']} of {row['n_harmful']} verdicts turned" for row in sets.values() if "flips" in row]
    shares = [
        f"{name} {percent(row['compliance'][0])} -> {percent(row['compliance'][1])} (n {row['n_harmful']})"
        for name, row in sets.items() if "flips" not in row
    ]  # fmt: skip
    return f"  version {number}: {said}; " + ", ".join(turned or ["harmful compliance " + ", ".join(shares)])


def status(config: PromptsConfig, database: Database) -> Result:
    """Show what waits for a review, how far reviewers agree, and what is settled without a person, with its error."""
    from sqlalchemy import select

    from primum.studio import library
    from primum.studio.tables import Template

    with database.reading() as db:
        waiting = {one.name: library.waiting(db, one) for one in db.scalars(select(Template).order_by(Template.name))}
        rated, agreement = library.reviewers_agree(db)
        settled = library.settled(db)
    waiting = {name: numbers for name, numbers in waiting.items() if numbers}
    document = {
        "waiting": waiting,
        "agreement": {"ac2": agreement, "versions": rated},
        "settled": {"settled": settled.settled, "versions": settled.versions, "wrong": _share(settled.wrong),
                    "unaudited": [{"name": name, "number": number} for name, number in settled.unaudited]},
    }  # fmt: skip
    return Exit.PASSED, document, "\n".join(_status_lines(document))


def _share(found: Share) -> dict[str, Any]:
    limits = found.interval._asdict() if found.interval else {"value": None, "low": None, "high": None}
    return {"k": found.k, "n": found.n, **limits}


def _status_lines(document: dict[str, Any]) -> list[str]:
    from primum.report.words import interval, percent

    waiting = "; ".join(f"{name} {', '.join(map(str, of))}" for name, of in document["waiting"].items())
    rated, settled = document["agreement"], document["settled"]
    wrong, many = settled["wrong"], f"{settled['settled']} of {settled['versions']} versions failed validation"
    agreed = (
        "no version has two ratings" if rated["ac2"] is None else f"{rated['ac2']:.2f} ({rated['versions']} versions)"
    )
    sample = "nobody has looked at one"
    if wrong["n"]:
        limits = interval(wrong["low"], wrong["high"])
        sample = f"wrongly {percent(wrong['value'])} {limits} ({wrong['k']} of {wrong['n']} that reviewers looked at)"
    open_ = ", ".join(f"{one['name']} {one['number']}" for one in settled["unaudited"])
    return [
        f"waits for review: {waiting or 'nothing'}",
        f"reviewers' agreement (AC2 of their ratings): {agreed}",
        f"settled without a person: {many}; {sample}",
        *([f"to audit: {open_}"] if open_ else []),
    ]
