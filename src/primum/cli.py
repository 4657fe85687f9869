"""argv to one verb. Imports nothing heavy before it knows the verb: `primum --help` loads the standard library only.

Standard output carries the result (with --json: one document), standard error the progress and the prose.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from primum import __version__
from primum.core.errors import Exit, PrimumError, UsageError, did_you_mean
from primum.core.lock import alone

if TYPE_CHECKING:
    from primum.core.config import Config

INTERRUPTED = 130
"""What shells report for a command stopped by Ctrl-C (128 + SIGINT)."""
BROKEN_PIPE = 141
"""What shells report where the reader of our output went away (128 + SIGPIPE)."""


class Verb(NamedTuple):
    """One verb: a line of help, where its code and its configuration are ("module:name"), and how it is used.

    The code is `run(config, json_output) -> (exit code, document)`.
    """

    about: str
    run: str
    config: str
    examples: tuple[str, ...]


VERBS = {
    "repair": Verb(
        "measure a model, make it safe, measure it again, and report (the embedded model where none is named)",
        "primum.pipeline.repair:run_verb",
        "primum.pipeline.repair:RepairConfig",
        (
            "primum repair",
            "primum repair Qwen/Qwen2.5-0.5B-Instruct --budget full",
            "primum repair ./my-model --prompts asked.jsonl --out runs/mine",
            "primum repair ./tuned --parent ./aligned --domain medical.jsonl",
            "primum repair ./multilingual --languages plan",
            "primum repair --config repair.yaml --seed 1 --json > result.json",
        ),
    ),
    "train": Verb(
        "train a model: on rows in TRL's columns (dpo, a reward model, sft, kto), from two teachers, or for depth",
        "primum.pipeline.train:run_verb",
        "primum.pipeline.train:TrainConfig",
        (
            "primum train dpo pairs.jsonl --dry-run",
            "primum train dpo pairs.jsonl --model ./my-model --out runs/mine",
            "primum train sft conversations.jsonl --epochs 3 --learning-rate 1e-4",
            "primum train kto flagged.csv --undesirable-weight 2 --json > result.json",
            "primum train dpo pairs.jsonl --loss safe --delta 5",
            "primum train reward pairs.jsonl --out runs/reward",
            "primum train reward ai.jsonl --against people.jsonl --held-out 0.2 --out runs/reward",
            "primum train two_teacher medical.jsonl --model ./tuned --parent ./aligned",
            "primum train depth --model ./my-model --out runs/depth",
        ),
    ),
    "run": Verb(
        "run a whole journey, its stages in order: meditron, safe-to-serve, llama2, or a file of yours",
        "primum.pipeline.run:run_verb",
        "primum.pipeline.run:RunConfig",
        (
            "primum run llama2 --budget quick --out runs/llama2",
            "primum run meditron --dry-run",
            "primum run safe-to-serve --set sampling.tokens=64 --skip raft",
            "primum run ./journey.yaml --model ./my-model --json > result.json",
            "primum run",
        ),
    ),
    "run broken": Verb(
        "break a safe model by fine-tuning in four ways, and keep the broken models for every repair to mend",
        "primum.pipeline.broken:run_verb",
        "primum.pipeline.broken:BrokenConfig",
        (
            "primum run broken --dry-run",
            "primum run broken --parent runs/repair/checkpoint --out runs/broken",
            "primum run broken --ways medical --ways harmful_100 --seeds 0 --json > broken.json",
        ),
    ),
    "run vectors": Verb(
        "harden a model once without each vector of attacks, and attack it with all: the gap on what it never saw",
        "primum.pipeline.vectors:run_verb",
        "primum.pipeline.vectors:VectorsConfig",
        (
            "primum run vectors --dry-run",
            "primum run vectors ./my-model --out runs/vectors",
            "primum run vectors ./my-model --vectors logic --vectors semantic --json > vectors.json",
        ),
    ),
    "judge": Verb(
        "say of each reply in a file what it does: refuse, go along, deflect, babble",
        "primum.verbs.judge:run_verb",
        "primum.verbs.judge:JudgeConfig",
        (
            "primum judge replies.jsonl --judge embedded --out verdicts",
            "primum judge replies.jsonl --judge embedded --judge rules --json",
            "primum judge replies.jsonl --judge rubric --rubric mine.yaml --endpoint http://localhost:8000/v1",
        ),
    ),
    "calibrate": Verb(
        "measure a judge's error against labels, and correct a run's rate for it",
        "primum.verbs.calibrate:run_verb",
        "primum.verbs.calibrate:CalibrateConfig",
        (
            "primum calibrate replies.jsonl --out calibration",
            "primum calibrate replies.jsonl --labels calibration/sheet.csv",
            "primum calibrate labelled.jsonl --judge rules --event declined --json",
        ),
    ),
    "judge-serve": Verb(
        "serve a judge as a moderation endpoint in OpenAI's format",
        "primum.verbs.judge_serve:run_verb",
        "primum.verbs.judge_serve:ServeConfig",
        ("primum judge-serve --judge embedded --port 8765",),
    ),
    "reward": Verb(
        "tune the threshold of a finished reward model again, or serve its rewards to larger trainers",
        "primum.verbs.reward:run_verb",
        "primum.verbs.reward:RewardConfig",
        (
            "primum reward tune runs/llama2 --precision 0.8",
            "primum reward serve runs/llama2 --port 8500",
            "primum reward serve runs/reward --threshold 0.2",
        ),
    ),
    "sample": Verb(
        "draw replies: any models and settings, any number of prompts, by the fastest engine here",
        "primum.pipeline.sample:run_verb",
        "primum.pipeline.sample:SampleConfig",
        (
            "primum sample --limit 20",
            "primum sample ./my-model --also embedded --prompts asked.jsonl --temperature 0.4 --samples 4",
            "primum sample Qwen/Qwen3-8B --url http://localhost:8000/v1 --prompts asked.jsonl --batch-size 256",
            "primum sample Qwen/Qwen3-8B --engine vllm --prompts asked.jsonl --temperature 0.4 --temperature 1",
            "primum sample --prompts asked.jsonl --out runs/big --part 0/4   # and 1/4 ... 3/4 elsewhere",
            "primum sample --prompts asked.jsonl --on ray --worker-cpus 2",
        ),
    ),
    "pair": Verb(
        "make preference pairs of replies, and lint the set before anything is trained on it",
        "primum.verbs.pair:run_verb",
        "primum.verbs.pair:PairConfig",
        (
            "primum pair replies.jsonl --strategy safe_completion --out pairs",
            "primum pair replies.jsonl --strategy on_policy --verdicts verdicts/verdicts.jsonl",
            "primum pair pku_saferlhf.jsonl --strategy safe_to_serve --json",
            "primum pair replies.jsonl --strategy critique --critique.model ./my-model",
            "primum pair replies.jsonl --strategy ai_feedback --preferences votes.jsonl --endpoint http://localhost:8000/v1",
        ),
    ),
    "redteam": Verb(
        "attack a model with every attack of the catalogue, and report which ones get through",
        "primum.pipeline.redteam:run_verb",
        "primum.pipeline.redteam:RedteamConfig",
        (
            "primum redteam",
            "primum redteam ./my-model --goals asked.jsonl --vectors psychological --vectors logic",
            "primum redteam runs/repair/checkpoint --against runs/redteam --out runs/redteam-after",
            "primum redteam --attacks crescendo --attacks prefill --limit 20 --json > result.json",
            "primum redteam ./my-model --engine openvino --judge rubric --endpoint http://localhost:8000/v1",
            "primum redteam --no-machine --campaign sessions.csv",
        ),
    ),
    "restore": Verb(
        "give a fine-tuned model its parent's safety back by changing weights, or undo that",
        "primum.pipeline.restore:run_verb",
        "primum.pipeline.restore:RestoreConfig",
        (
            "primum restore interpolate ./tuned --parent ./aligned",
            "primum restore auto ./tuned --parent ./aligned --base ./pretrained --domain medical.jsonl",
            "primum restore safe_lora ./tuned --parent ./aligned --base ./pretrained --strength 0.5 --no-measure",
            "primum restore undo runs/restore --out ./tuned-again",
        ),
    ),
    "stress": Verb(
        "try to undo a model's safety in every way of the catalogue, and report how easily it goes",
        "primum.pipeline.stress:run_verb",
        "primum.pipeline.stress:StressConfig",
        (
            "primum stress",
            "primum stress ./my-model --out runs/stress",
            "primum stress ./my-model --dry-run",
            "primum stress ./my-model --tampers quantize --tampers prefill --limit 40",
            "primum stress ./my-model --cells quantize-int4 --cells 'prefill-*'",
        ),
    ),
    "audit": Verb(
        "look at a corpus before a model learns it: personal information, sources, pronouns, identity terms, language",
        "primum.pipeline.audit:run_verb",
        "primum.pipeline.audit:AuditConfig",
        (
            "primum audit corpus.jsonl --out runs/audit",
            "primum audit data/ --ledger sources.yaml --json > audit.json",
            "primum audit train.jsonl --steps risk --drop",
            "primum audit crawl.warc.gz --steps duplicates --steps toxicity --mask",
            "primum audit crawl.warc.gz --steps pii --only --mask",
        ),
    ),
    "evaluate": Verb(
        "measure a model on benchmarks, with intervals (the embedded model where none is named)",
        "primum.pipeline.evaluate:run_verb",
        "primum.pipeline.evaluate:EvaluateConfig",
        (
            "primum evaluate --benchmark truthfulqa --limit 100",
            "primum evaluate ./my-model --benchmark xstest --benchmark bold --out runs/mine",
            "primum evaluate --benchmark questions.yaml --json > results.json",
            "primum evaluate ./my-model --benchmark xstest --judge rubric --endpoint http://localhost:8000/v1",
            "primum evaluate ./new --benchmark xstest --against runs/old --margin 0.03",
            "primum evaluate ./my-model --benchmark medqa --data medqa.jsonl --dtype bfloat16",
        ),
    ),
    "compare": Verb(
        "compare two runs on the same items: what got better, what got worse, how sure that is",
        "primum.verbs.compare:run_verb",
        "primum.verbs.compare:CompareConfig",
        (
            "primum compare runs/before runs/after",
            "primum compare runs/before runs/after --anytime --page compared.html",
            "primum compare old.eval new.eval --json",
            "primum compare runs/before runs/after --pairwise embedded",
        ),
    ),
    "gate": Verb(
        "may this run replace the baseline? exit code 0 yes, 1 no, 3 too few items to tell",
        "primum.verbs.gate:run_verb",
        "primum.verbs.gate:GateRunConfig",
        (
            "primum gate runs/new --baseline runs/old",
            "primum gate runs/new --baseline runs/old --limits limits.yaml --junit gate.xml --markdown gate.md",
            "primum gate --workflow .github/workflows/safety.yml",
        ),
    ),
    "leaderboard": Verb(
        "lay many runs side by side: by each metric, the places that the data leave them",
        "primum.verbs.leaderboard:run_verb",
        "primum.verbs.leaderboard:LeaderboardConfig",
        (
            "primum leaderboard runs/a runs/b runs/c --page board.html",
            "primum leaderboard base=runs/1 repaired=runs/2 logs/other.eval --benchmark xstest --json",
        ),
    ),
    "watch": Verb(
        "judge a growing log of replies, and alarm as soon as too many are bad; looking often costs nothing",
        "primum.verbs.watch:run_verb",
        "primum.verbs.watch:WatchConfig",
        (
            "primum watch replies.jsonl --limit 0.02 --event incoherent",
            "primum watch replies.jsonl --limit 0.05 --intent harmful --follow --out runs/watch",
            "primum watch scores.jsonl --limit 0.1 --score p_harmful --json",
        ),
    ),
    "report": Verb(
        "write a run's page again from its report.json; one scorecard of several runs; logs for Inspect AI",
        "primum.verbs.report:run_verb",
        "primum.verbs.report:ReportConfig",
        (
            "primum report runs/repair",
            "primum report runs/evaluate runs/redteam runs/audit --scorecard",
            "primum report runs/evaluate --inspect logs",
        ),
    ),
    "studio": Verb(
        "serve the pages on which people vote, rate, attack, review prompts and read runs",
        "primum.studio.verb:run_verb",
        "primum.studio.verb:StudioConfig",
        (
            "primum studio",
            "primum studio --port 8400 --data studio --model embedded",
            "primum studio import --data studio --task mine --file items.jsonl",
            "primum studio round --data studio --task mine --model ./new --model ./old --file prompts.jsonl",
            "primum studio export --data studio --task mine --format trl --file pairs.jsonl",
            "primum studio invite --data studio --role admin",
            "primum studio verify --data studio",
        ),
    ),
    "prompts": Verb(
        "the library of prompt templates: versions, review, comments, labels, rollback, scores",
        "primum.studio.prompts_verb:run_verb",
        "primum.studio.prompts_verb:PromptsConfig",
        (
            "primum prompts list",
            "primum prompts add careful --file careful.txt",
            "primum prompts check --file careful.txt",
            "primum prompts evaluate careful",
            "primum prompts compare careful --number 2 --against 1",
            "primum prompts leaderboard careful",
            'primum prompts comment careful --number 2 --message "the third sentence repeats the first"',
            "primum prompts comments careful --json",
            "primum prompts status",
            "primum prompts audit careful --number 2 --verdict wrong --user ben",
            "primum prompts labels careful",
            "primum prompts rights careful --editors anna,ben --reviewers cleo --user root",
            "primum prompts label careful --label production --number 2 --user anna",
        ),
    ),
    "policy": Verb(
        "say what changed between two policies, and teach a model what is new without losing the old",
        "primum.pipeline.policy:run_verb",
        "primum.pipeline.policy:PolicyConfig",
        (
            "primum policy diff shipped ./policy.yaml",
            "primum policy patch ./my-model --policy ./policy.yaml --out runs/policy",
            "primum policy patch runs/repair --policy example:coursework --dry-run",
            "primum policy patch --policy example:public_texts --json > result.json",
        ),
    ),
    "list": Verb(
        "show what there is: judges, benchmarks, pairing strategies, training methods, engines, journeys",
        "primum.verbs.list:run_verb",
        "primum.verbs.list:ListConfig",
        ("primum list", "primum list judges", "primum list --json"),
    ),
    "languages": Verb(
        "which languages there are prompts in, whether their back-translations hold, and which to train on",
        "primum.verbs.languages:run_verb",
        "primum.verbs.languages:LanguagesConfig",
        (
            "primum languages",
            "primum languages mine.jsonl --model ./translator --out mine-back.jsonl",
            "primum languages --train de --train tr --json",
        ),
    ),
    "doctor": Verb(
        "show what this machine can do, what is missing, and the command that adds it",
        "primum.verbs.doctor:run_verb",
        "primum.verbs.doctor:DoctorConfig",
        ("primum doctor", "primum doctor --json"),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code (core.errors.Exit; 130 where it was interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except PrimumError as error:
        return _explain(error, as_json="--json" in arguments)
    except SystemExit as stop:  # argparse leaves this way after printing a verb's help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        command = shlex.join(["primum", *arguments])
        print(f"\nstopped. Finished work is kept; to go on from there, run it again:\n  {command}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains while it exits
        return BROKEN_PIPE
    except Exception:  # a bug of ours: with Python's own exit code 1 it would read as "the gate failed"
        traceback.print_exc()
        print("primum: this is a bug in primum. Finished work is kept; running again goes on there.", file=sys.stderr)
        return Exit.STEP_FAILED


def _dispatch(arguments: list[str]) -> int:
    verb_at = _verb_position(arguments)
    before = arguments[:verb_at]
    if "--version" in before:
        print(f"primum {__version__}")
        return Exit.PASSED
    if "--help" in before or "-h" in before:
        print(_overview())
        return Exit.PASSED
    if verb_at >= len(arguments):
        print(_overview(), file=sys.stderr)
        return Exit.USAGE
    name, behind = verb_of(arguments[verb_at:])
    if name not in VERBS:
        raise UsageError(f"unknown verb '{name}'", cure=f"{did_you_mean(name, VERBS)} (primum --help shows them all)")
    return _run(name, before + behind)


def verb_of(words: list[str]) -> tuple[str, list[str]]:
    """Part a verb from what stands behind it; a verb may be two words (run broken, run vectors)."""
    two = " ".join(words[:2])
    return (two, words[2:]) if two in VERBS else (words[0], words[1:])


def _verb_position(arguments: list[str]) -> int:
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 2 if arguments[at] == "--config" else 1
    return at


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [
        "usage: primum VERB [...]",
        "",
        "First, do no harm: make a language model safe, and prove it.",
        "",
        "verbs:",
    ]
    lines += [f"  {name:<{width}}  {verb.about}" for name, verb in VERBS.items()]
    lines += ["", "examples:"] + [f"  {verb.examples[0]}" for verb in VERBS.values()]
    lines += [
        "",
        "  primum VERB --help   the flags of a verb        --json     one JSON document on standard output",
        "  primum --version     the version                --config   a YAML file with the verb's settings",
        "",
        "exit codes: 0 passed, 1 the gate failed, 2 usage error, 3 undecided, 4 a step failed",
    ]
    return "\n".join(lines)


def _run(name: str, arguments: list[str]) -> int:
    verb = VERBS[name]
    cls = _load(verb.config)
    flags = _parse(name, verb, cls, arguments)
    config = _configure(cls, flags)
    run = _load(verb.run)
    printed = contextlib.redirect_stdout(sys.stderr) if flags.json else contextlib.nullcontext()  # stdout: one document
    with alone(config.run_folder, f"primum {name}"), printed:
        code, document = run(config, flags.json)
    if flags.json:
        print(_load("primum.core.store:printable")(document))
    return int(code)


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] == "primum":
            raise
        raise PrimumError(f"the Python package '{missing}' is not installed", cure="make install") from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, cure=f"{self.prog} --help")


def _parse(name: str, verb: Verb, cls: type[Config], arguments: list[str]) -> argparse.Namespace:
    from primum.core.config import add_flags

    parser = _Parser(
        prog=f"primum {name}",
        description=verb.about,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in verb.examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_flags(parser, cls)
    parser.add_argument("--config", metavar="FILE", help="a YAML file whose keys are these settings; flags override it")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output, nothing else")
    flags, unknown = parser.parse_known_args(arguments)
    if unknown:
        word = unknown[0].partition("=")[0]
        known = {option for action in parser._actions for option in action.option_strings}
        cure = did_you_mean(word, known) if word.startswith("-") else f"primum {name} --help"
        raise UsageError(f"unknown argument '{word}'", cure=cure)
    return flags


def _configure(cls: type[Config], flags: argparse.Namespace) -> Config:
    from primum.core.config import build, flag_values, from_flags, merged, read_settings

    if flags.config is None:
        return from_flags(cls, flags)
    settings = read_settings(flags.config)
    build(cls, settings, where=flags.config)  # a mistake in the file is told with the file's name
    return build(cls, merged(settings, flag_values(cls, flags)), where=f"{flags.config} and the command line")


def _explain(error: PrimumError, *, as_json: bool) -> int:
    print(f"primum: {error}", file=sys.stderr)
    if as_json:
        facts = {"error": error.problem, "where": error.where, "cure": error.cure, "exit_code": int(error.exit_code)}
        print(json.dumps(facts, ensure_ascii=False))
    return int(error.exit_code)
