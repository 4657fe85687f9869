"""`primum languages`: which languages there are prompts in, whether the translations hold, and a plan of training."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import Exit, UsageError
from primum.core.languages import language
from primum.core.records import JsonDict, digest, user
from primum.core.store import Stage, write_jsonl
from primum.prompts.files import Row, read_rows
from primum.prompts.plan import PLAN, language_plan
from primum.prompts.translations import THRESHOLD, Checked, Translation, check, shipped, translations_of

SHIPPED = "shipped"
ASK = "Translate into English. Write the translation and nothing else.\n\n{text}"


class LanguagesConfig(Config):
    """Which prompts are checked, from which threshold on, and what translates back where nobody has."""

    file: str = Field(
        default=SHIPPED,
        description="rows of prompt, language, original (in English) and back_translation; or primum's own set",
        json_schema_extra={"positional": True},
    )
    threshold: float = Field(
        default=THRESHOLD, ge=0, le=100, description="chrF with the original below which a back-translation is listed"
    )
    model: str = Field(default="", description="a model that translates back what has no back_translation yet")
    out: str = Field(default="", description="with --model: the file that gets the rows with their back_translation; "
        "what there is lies in OUT.parts until all is done, and a run that was stopped goes on there")  # fmt: skip
    tokens: int = Field(default=128, ge=1, description="with --model: longest back-translation, in tokens")
    train: tuple[str, ...] = Field(
        default=(PLAN,), description="languages to train on (codes), or `plan`: one of each family"
    )

    @property
    def run_folder(self) -> str | None:
        """None: --out is a file, and what is being drawn for it is locked on its own."""
        return None


def run_verb(config: LanguagesConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Check the translations and return the document; exit code 1 where a back-translation is listed.

    Raises:
        UsageError: --model without --out or the other way round, or with the shipped set.
    """
    if bool(config.model) != bool(config.out) or (config.model and config.file == SHIPPED):
        raise UsageError("a model translates back a file of yours into another", cure="give FILE, --model and --out")
    found = list(shipped()) if config.file == SHIPPED else _of_file(config)
    checked = check(found)
    listed = [one for one in checked if not one.ok(config.threshold)]
    plan = language_plan([one.prompt for one in found], config.train)
    document: JsonDict = {
        "file": config.file, "threshold": config.threshold, "families": plan.to_json(),
        "languages": _by_language(found, checked, config.threshold), "listed": [_listed(one) for one in listed],
    }  # fmt: skip
    if not json_output:
        print(_page(document))
    return (Exit.GATE_FAILED if listed else Exit.PASSED), document


def _of_file(config: LanguagesConfig) -> list[Translation]:
    rows = list(read_rows(Path(config.file)))
    if config.model:
        parts = Path(f"{config.out}.parts")
        rows = _translated_back(rows, config, parts)
        write_jsonl(Path(config.out), [row.values for row in rows])
        shutil.rmtree(parts, ignore_errors=True)
    return translations_of(rows, Path(config.file).name)


def _translated_back(rows: Sequence[Row], config: LanguagesConfig, parts: Path) -> list[Row]:
    """Return the rows, those without a back-translation with one by the model, greedily, and its name.

    Each is written to `parts` as soon as it is there: the same command goes on where it was killed.
    """
    from primum.models.engines.hf import HFEngine
    from primum.models.load import load
    from primum.models.runner import Asked, Plan, draw_all, replies
    from primum.models.sampling import Sampling
    from primum.pipeline.terminal import Terminal

    prompts = [one.prompt for one in translations_of(rows, config.file)]
    due = [i for i, row in enumerate(rows) if not row.values.get("back_translation")]
    if not due:
        return list(rows)
    asked = [Asked(str(i), (user(ASK.replace("{text}", prompts[i].text)),)) for i in due]
    model, plan = load(config.model), Plan(Sampling(0.0, config.tokens))
    stage = Stage(parts, {"version": 1, "model": model.key, "tokens": config.tokens,
                          "asked": digest([[one.id, one.messages[0].text] for one in asked])})  # fmt: skip
    with Terminal().step("translate back", len(due), "prompts") as advance:
        draw_all(parts, stage.key_facts, asked, plan, lambda: HFEngine(model), lambda more, _: advance(more))
    made = {int(row["prompt_id"]): row["text"] for row in replies(parts)}
    back = {i: {"back_translation": text, "back_by": model.name} for i, text in made.items()}
    return [Row(row.where, {**row.values, **back.get(i, {})}) for i, row in enumerate(rows)]


def _by_language(found: Sequence[Translation], checked: Sequence[Checked], threshold: float) -> list[JsonDict]:
    scores: defaultdict[str, list[Checked]] = defaultdict(list)
    for one in checked:
        scores[one.translation.prompt.language].append(one)
    rows: list[JsonDict] = []
    for code in sorted({one.prompt.language for one in found}):
        prompts = [one.prompt for one in found if one.prompt.language == code]
        chrfs = [one.chrf for one in scores[code]]
        known = language(code)
        rows.append({
            "language": code, "name": known.name, "family": known.family, "branch": known.branch,
            "harmful": sum(p.intent == "harmful" for p in prompts),
            "twins": sum(p.intent == "benign" and p.twin is not None for p in prompts),
            "general": sum(p.intent == "benign" and p.twin is None for p in prompts),
            "put_back": len(chrfs), "chrf_mean": sum(chrfs) / len(chrfs) if chrfs else None,
            "chrf_least": min(chrfs, default=None), "listed": sum(not one.ok(threshold) for one in scores[code]),
        })  # fmt: skip
    return rows


def _listed(one: Checked) -> JsonDict:
    where, chrf = one.translation.where, round(one.chrf, 1)
    return {"where": where, "language": one.translation.prompt.language, "chrf": chrf, "original":
            one.translation.original, "back": one.translation.back, "twin_is_nearer": one.twin_is_nearer}  # fmt: skip


def _page(document: JsonDict) -> str:
    head = f"{'language':<14}{'family':<18}{'harmful':>8}{'twins':>7}{'general':>9}"
    head += f"{'put back':>10}{'chrF':>7}{'least':>7}"
    lines = [head, "-" * len(head)]
    for row in document["languages"]:
        told = [_number(row[name]) for name in ("chrf_mean", "chrf_least")]
        lines.append(f"{row['name']:<14}{row['family']:<18}{row['harmful']:>8}{row['twins']:>7}{row['general']:>9}"
                     f"{row['put_back']:>10}{told[0]:>7}{told[1]:>7}")  # fmt: skip
    lines += ["", "plan of training, a family a line (--train):"]
    for family in document["families"]:
        held = f"; only measured: {', '.join(family['held_out'])}" if family["held_out"] else ""
        lines.append(f"  {family['name']}: {', '.join(family['trained']) or 'none'}{held}")
    under = f"under chrF {document['threshold']:g}, or nearer to their twin"
    lines += ["", f"{len(document['listed'])} back-translations {under}"]
    lines += [f"  {row['where']}: chrF {row['chrf']}: {row['original']!r} came back as {row['back']!r}"
              for row in document["listed"]]  # fmt: skip
    return "\n".join(lines)


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.1f}"
