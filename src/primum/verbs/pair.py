"""`primum pair`: preference pairs from a file of replies, and the lint of the set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import Field

from primum.core.catalogue import member
from primum.core.errors import BadInputError, Exit, UsageError
from primum.core.records import BEHAVIOURS, JsonDict, Preference, Verdict, from_json, to_json
from primum.core.store import write_json, write_jsonl
from primum.core.taxonomy import stamp
from primum.evaluation.labelling import agreement, compared, orders
from primum.judging import Exchange
from primum.judging.duel import PRINCIPLES, by_asking
from primum.judging.metering import Meter, Price
from primum.judging.options import JudgeOptions, chosen_judges, read_words, settings_of
from primum.pairing.columns import write_pairs
from primum.pairing.demonstration import Built
from primum.pairing.given import Given, read_given, with_intents
from primum.pairing.lint import Lint, lint
from primum.pairing.principles import read_principles
from primum.pairing.revising import Critique
from primum.prompts.files import jsonl_rows
from primum.report.labelled import labels_text


class PairConfig(JudgeOptions):
    """What `primum pair` makes pairs of, how, and where they go."""

    file: str = Field(
        description="replies (prompt, reply; K rows a prompt), or a set with the columns of PKU-SafeRLHF, BeaverTails "
        "or HH; JSONL, CSV or Parquet",
        json_schema_extra={"positional": True},
    )
    strategy: str = Field("safe_completion", description="how pairs are made (primum list strategies)")
    out: str = Field("pairs", description="folder that gets pairs.jsonl, dropped.jsonl and lint.json")
    verdicts: str | None = Field(None, description="verdicts.jsonl that primum judge wrote of this file")
    judge: str = Field("embedded", description="judge of the replies of which neither file says anything")
    preferences: str | None = Field(
        None, description="people's votes on the replies, as the studio exports them: 'llama2' makes pairs of them, "
        "'ai_feedback' is laid beside them"
    )  # fmt: skip
    principles: str | None = Field(
        None, description="for 'ai_feedback' what makes a reply the better one, a text file; for 'critique' principles "
        "with their requests: YAML, or a text with one a line"
    )  # fmt: skip
    price: float | None = Field(None, ge=0, description="of a million tokens that the model asked reads: cost a label")
    price_answer: float | None = Field(None, ge=0, description="of a million tokens that it writes (none: as --price)")
    critique: Critique = Field(default_factory=Critique, description="critique: who revises, and how often")
    ches: str | None = Field(
        None, description="model to be trained: how alike the sides of each pair look to it (CHES), into ches.jsonl"
    )
    ches_drop: float = Field(0.0, ge=0, lt=1, description="share of pairs to leave out, those with the highest CHES")
    seed: int = Field(0, description="of what is drawn")
    force: bool = Field(False, description="exit with 0 even where the lint finds a severe fault")


def run_verb(config: PairConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Make the pairs and lint them; the pairs are written even where the lint finds them bad (exit code 1).

    Raises:
        UsageError: no such file, strategy or judge, a broken row, no pair at all.
    """
    strategy, out = member("strategies", config.strategy), Path(config.out)
    member("judges", config.judge)
    if out.exists() and not out.is_dir():
        raise UsageError("is a file, not a folder", where=str(out), cure="give another --out")
    given = read_given(Path(config.file))
    needed = _needed(strategy, config, given, json_output)  # what is missing is told before anything is judged
    verdicts = verdicts_of(given, config, json_output)
    prompts, intents = with_intents(given, verdicts)
    built: Built = strategy.pairs(prompts, given.replies, verdicts, seed=config.seed, **needed.given)
    likeness = _ches(out, config, built, json_output) if config.ches else None
    found = lint(built.pairs)
    document = _write(out, config, given, built, found)
    document["intents"] = dict(intents)
    if likeness:
        document["ches"] = likeness
    if built.labels:
        document["labels"] = _labels(out, config, built, needed)
    document["unscored"] = sum(verdict.behaviour is None for verdict in verdicts.values())
    write_json(out / "lint.json", {**document, "findings": [to_json(one) for one in found.findings]})
    if not json_output:
        print(page(document, found))
    severe = any(one.severe for one in found.findings)
    return (Exit.GATE_FAILED if severe and not config.force else Exit.PASSED), document


def _ches(out: Path, config: PairConfig, built: Built, quiet: bool) -> JsonDict | None:
    """Score every pair, write the scores, highest first, and take the worst share out of the set."""
    from primum.models.load import load
    from primum.pipeline.terminal import Terminal
    from primum.training.ches import ches
    from primum.training.examples import Limits, paired

    if not built.pairs:
        return None
    model = load(str(config.ches))
    examples = paired(built.pairs, model.tokenizer, Limits(512, 512))
    with Terminal(quiet=quiet).step("CHES", 2 * len(examples), "answers") as advance:
        scores = ches(model.network, examples, advance=advance)
    worst = sorted(range(len(scores)), key=lambda i: -scores[i].normalised)
    rows = [{"prompt_id": built.pairs[i].prompt_id, **scores[i]._asdict()} for i in worst]
    write_jsonl(out / "ches.jsonl", rows)
    taken = set(worst[: left_out_of(len(worst), config.ches_drop)])
    for i in sorted(taken, reverse=True):
        pair = built.pairs.pop(i)
        built.dropped.append(
            {
                "prompt_id": pair.prompt_id,
                "reason": "CHES: sides too alike",
                "kind": pair.kind,
                "category": pair.category,
            }
        )
    kept = [one["normalised"] for i, one in zip(worst, rows, strict=True) if i not in taken]
    return {"model": config.ches, "highest": rows[0]["normalised"], "highest_kept": max(kept), "left_out": len(taken)}


def left_out_of(pairs: int, share: float) -> int:
    """Return how many of so many pairs a share below 1 leaves out: never all of them."""
    return min(round(share * pairs), pairs - 1)


class Needed(NamedTuple):
    """What a strategy asks for beside replies and verdicts; the votes among it, and what asking a model has cost."""

    given: dict[str, Any]
    votes: list[Preference]
    meter: Meter | None


def _needed(strategy: Any, config: PairConfig, given: Given, quiet: bool) -> Needed:
    """Return votes, a model that prefers, or one that has conversations with a judge of what comes of them."""
    needs = getattr(strategy, "needs", ())
    found, meter = dict[str, Any](), None
    if "preferences" in needs and config.preferences:
        found["preferences"] = read_preferences(Path(config.preferences), given)
    if "ask" in needs and (ask := settings_of(config).ask):
        meter = Meter(ask)
        principles = read_words(config.principles, "principles") if config.principles else PRINCIPLES
        found["prefer"] = by_asking(meter, principles)
    if "converse" in needs:
        found |= _conversing(config, quiet)
    return Needed(found, found.get("preferences", []), meter)


def _conversing(config: PairConfig, quiet: bool) -> dict[str, Any]:
    """Return what `critique` needs: who converses, by which principles, and the judge of what comes of it."""
    from primum.pipeline.revise import Conversations
    from primum.pipeline.terminal import Terminal

    def judge(exchanges: Sequence[Exchange]) -> list[Verdict]:
        with Terminal(quiet=quiet).step(f"judge revisions: {config.judge}", len(exchanges), "replies") as advance:
            return chosen(exchanges, advance, batch=256)

    (chosen,) = chosen_judges((config.judge,), config, alone=False)
    talks = Conversations(config.critique, config, config.seed, Path(config.out) / "critique", Terminal(quiet=quiet))
    talks.opening()  # that nobody is named is told now
    principles = read_principles(Path(config.principles)) if config.principles else None
    return {"converse": talks, "judge": judge, "principles": principles, "rounds": config.critique.rounds}


def _labels(out: Path, config: PairConfig, built: Built, needed: Needed) -> JsonDict:
    """Write what the model said of every two replies; return how good and how dear these labels are."""
    name = config.endpoint_model if config.endpoint else str(config.judge_model)
    write_jsonl(out / "labels.jsonl", ({**row, "judged_by": f"judge:{name}"} for row in built.labels))
    price = None
    if config.price is not None or config.price_answer is not None:
        read = config.price or 0.0
        price = Price(read, read if config.price_answer is None else config.price_answer)
    return {
        "model": name, "file": str(out / "labels.jsonl"), "orders": orders(built.labels),
        "cost": needed.meter.cost(len(built.labels), price) if needed.meter else None,
        "agreement": agreement(compared(built.labels, needed.votes), needed.votes) if needed.votes else None,
    }  # fmt: skip


def read_preferences(path: Path, given: Given) -> list[Preference]:
    """Return the votes of a file; replies are named by the ids of the replies' file, or by their hashes.

    Raises:
        BadInputError: no such file, a row that is no vote, or that names a reply which the file does not hold.
    """
    if not path.is_file():
        raise BadInputError("no such file", where=str(path), cure="give the votes that the studio exports")
    found: list[Preference] = []
    for row in jsonl_rows(path):
        try:
            vote = from_json(Preference, row.values)
        except (KeyError, TypeError, ValueError) as error:
            cure = "a row is a Preference: prompt_id, reply_ids, winner, outcome, strength, judged_by, safety"
            raise BadInputError(f"no vote ({error})", where=row.where, cure=cure) from error
        found.append(_known(vote, row.where, given))
    return found


def _known(vote: Preference, where: str, given: Given) -> Preference:
    """Return the vote with the hashes of the replies and of their prompt."""
    keys = [given.ids.get(name, name) for name in vote.reply_ids]
    unknown = next((name for name, key in zip(vote.reply_ids, keys, strict=True) if key not in given.said), None)
    if unknown is not None:
        problem = f"the file has no reply '{unknown[:40]}'"
        raise BadInputError(problem, where=where, cure="give the votes on this very file")
    if vote.winner is not None and not 0 <= vote.winner < len(keys):
        raise BadInputError(f"winner is {vote.winner}", where=where, cure="the place of one of reply_ids, from 0")
    if vote.safety and len(vote.safety) != len(keys):
        raise BadInputError("safety has not one tick for each reply", where=where, cure="one true or false a reply")
    return replace(vote, prompt_id=given.said[keys[0]].prompt.id, reply_ids=tuple(keys))


def _write(out: Path, config: PairConfig, given: Given, built: Built, found: Lint) -> JsonDict:
    dropped = [*given.dropped, *built.dropped]
    write_pairs(out / "pairs.jsonl", built.pairs)
    write_jsonl(out / "dropped.jsonl", dropped)
    return {
        "strategy": config.strategy, "policy": stamp(), "layout": given.layout, "prompts": len(given.prompts),
        "replies": len(given.said), "n": len(built.pairs), "kinds": dict(Counter(p.kind for p in built.pairs)),
        "safety_bins": dict(Counter(p.safety_bin for p in built.pairs)),
        "dropped": dict(Counter(row["reason"] for row in dropped)), "pairs": str(out / "pairs.jsonl"),
        "lint_passed": found.passed, "lint": {one.name: one.value for one in found.findings},
        "faults": [one.text for one in found.findings if not one.ok],
    }  # fmt: skip


def verdicts_of(given: Given, config: PairConfig, quiet: bool) -> dict[str, Verdict]:
    """Return a verdict of every reply: the file's own, those of --verdicts, and the judge's for the rest."""
    found = {
        key: Verdict(key, "file", one.behaviour, rating=one.rating)
        for key, one in given.said.items()
        if one.behaviour is not None
    }
    if config.verdicts:
        found |= read_verdicts(Path(config.verdicts), given)
    rest = [one for key, one in given.said.items() if key not in found]
    if rest:
        from primum.pipeline.terminal import Terminal

        with Terminal(quiet=quiet).step(f"judge: {config.judge}", len(rest), "replies") as advance:
            asked = [Exchange(one.prompt, one.reply) for one in rest]
            (judge,) = chosen_judges((config.judge,), config, alone=False)
            said = judge(asked, advance, batch=256)
        found |= {v.reply_id: _rated(v, given) for v in said}
    return found


def _rated(verdict: Verdict, given: Given) -> Verdict:
    rating = given.said[verdict.reply_id].rating
    return verdict if rating is None else replace(verdict, rating=rating)


def read_verdicts(path: Path, given: Given) -> dict[str, Verdict]:
    """Return the verdicts that `primum judge` wrote of the file, by the reply's own hash.

    Raises:
        BadInputError: no such file, a row without reply_id or behaviour, an id that the file does not hold.
    """
    if not path.is_file():
        raise BadInputError("no such file", where=str(path), cure="give the verdicts.jsonl of primum judge")
    found: dict[str, Verdict] = {}
    for row in jsonl_rows(path):
        own, behaviour = row.values.get("reply_id"), row.values.get("behaviour")
        if own is None or "behaviour" not in row.values or (behaviour is not None and behaviour not in BEHAVIOURS):
            cure = "give the verdicts.jsonl of primum judge"
            raise BadInputError("no verdict with reply_id and behaviour", where=row.where, cure=cure)
        key = given.ids.get(str(own))
        if key is None:
            problem = f"the file has no reply '{str(own)[:40]}'"
            raise BadInputError(problem, where=row.where, cure="give the verdicts of this very file")
        numbers: Any = {name: row.values.get(name) for name in ("p_harmful", "p_hateful", "rating")}
        why = None if behaviour else str(row.values.get("unscored") or "unscored")
        full = row.values.get("full") is not False
        found[key] = Verdict(key, str(row.values.get("judge") or "file"), behaviour, full, **numbers, unscored=why)
    return found


def page(document: JsonDict, found: Lint) -> str:
    """Return the result for the terminal."""
    lines = [
        f"{document['n']:,} pairs of {document['prompts']:,} prompts and {document['replies']:,} replies "
        f"({document['strategy']}, read as {document['layout']})",
        "intent of the prompts: " + _counts(document["intents"]),
    ]
    if document["unscored"]:
        lines.append(f"{document['unscored']:,} replies unscored: left out")
    if "ches" in document:
        lines.append(
            f"CHES: highest {document['ches']['highest']:.3g}, of those kept {document['ches']['highest_kept']:.3g}"
        )
    if document["dropped"]:
        lines.append("no pair: " + _counts(document["dropped"]))
    if "labels" in document:
        lines += ["", *labels_text(document["labels"])]
    lines += ["", *(_finding(one) for one in found.findings), "", f"pairs: {document['pairs']}"]
    return "\n".join(lines)


def _counts(counts: JsonDict) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in cast(dict[str, int], counts).items()) or "none"


def _finding(one: Any) -> str:
    return f"  {'ok    ' if one.ok else 'SEVERE' if one.severe else 'fault '} {one.text}"
