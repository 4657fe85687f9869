"""One word for where prompts come from, and the guard that keeps evaluation sets out of training.

    embedded                 the set written for primum, and the examples of the policy in force
    languages                some of that set in other languages, twins and general requests
    PATH                     a JSONL, CSV or Parquet file, or a folder of them
    hub:ID:SPLIT:FIELD       a Hugging Face dataset (SPLIT "train" and FIELD found where left out); ID@CONFIG where it
                             has several configurations
    shared:NAME              a public set in ../shared/data, as it was published
    vlguard:FOLDER           VLGuard's training part, instructions about pictures

Nothing is fetched unless a `hub:` source asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from primum.core.errors import BadInputError, MissingExtraError, UsageError
from primum.core.hub import hub_name
from primum.core.records import Intent, Prompt
from primum.core.taxonomy import policy
from primum.prompts.embedded import embedded
from primum.prompts.files import SUFFIXES, Row, read_rows
from primum.prompts.rows import Defaults, known_category, to_prompts
from primum.prompts.shared import default_data_dir, load_shared
from primum.prompts.taught import pairs_of
from primum.prompts.translations import shipped
from primum.prompts.vlguard import vlguard

ACCEPTANCE_SETS = ("xstest", "harmbench", "strongreject", "jailbreakbench", "maliciousinstruct", "jbbbehaviors")
VLGUARD = "vlguard:"
EVALUATION_TAGS = ("acceptance", "benchmark")


def load(
    spec: str,
    *,
    intent: Intent = "harmful",
    category: str | None = None,
    field: str | None = None,
    data_dir: Path | None = None,
) -> list[Prompt]:
    """Return the prompts of a source, in its order, duplicates included.

    Args:
        spec: `embedded`, `languages`, a path, `hub:ID:SPLIT:FIELD`, `shared:NAME` or `vlguard:FOLDER`.
        intent: of rows that do not say their own.
        category: of all prompts; by default a row's own, else `other` (benign: `general`).
        field: the field that holds the prompt; by default the first of `rows.FIELDS` that is there.
        data_dir: where `shared:` looks; by default ../shared/data.

    Raises:
        BadInputError: missing file, broken line, missing field, text that is not UTF-8, empty set; names the line.
        MissingExtraError: a `hub:` source without datasets, Parquet without pyarrow.
        UsageError: a category or shared set that does not exist.
    """
    if category is not None:
        known_category(category)
    if spec == "embedded":
        prompts = [*embedded(), *pairs_of(policy())]
    elif spec == "languages":
        prompts = [one.prompt for one in shipped()]
    elif spec.startswith("shared:"):
        prompts = load_shared(spec.removeprefix("shared:"), intent, data_dir or default_data_dir())
    elif spec.startswith(VLGUARD):
        prompts = list(vlguard(Path(spec.removeprefix(VLGUARD)), "train"))
    elif spec.startswith("hub:"):
        prompts = _from_hub(spec, Defaults(intent, spec, category, field))
    else:
        prompts = to_prompts(read_rows(Path(spec)), Defaults(intent, Path(spec).name or spec, category, field))
    if not any(prompt.text.strip() for prompt in prompts):
        raise BadInputError("holds no prompts", where=spec, cure=_empty_cure(spec))
    if category is not None:
        prompts = [replace(prompt, category=category) for prompt in prompts]
    return _marked(prompts, spec)


def _empty_cure(spec: str) -> str:
    if Path(spec).is_dir():
        return f"put files there that end in {', '.join(SUFFIXES)}"
    return "give a source with at least one prompt that is not blank"


def _from_hub(spec: str, defaults: Defaults) -> list[Prompt]:
    parts = spec.split(":")
    if not 2 <= len(parts) <= 4 or not parts[1]:
        raise UsageError(
            f"cannot read the source '{spec}'", cure="write hub:ID:SPLIT:FIELD, or hub:ID@CONFIG:SPLIT:FIELD"
        )
    split, field = [*parts[2:], "", ""][:2]
    defaults = replace(defaults, source=f"hub:{parts[1]}", field=field or defaults.field)
    return to_prompts(hub_rows(parts[1], split or "train"), defaults)


def hub_rows(name: str, split: str) -> Iterator[Row]:
    """Yield the rows of a Hugging Face data set: this fetches it. `name` is ID or ID@CONFIG.

    Raises:
        UsageError: a name that is neither.
        MissingExtraError: the datasets library is not installed.
        BadInputError: no such data set or split, or no network.
    """
    wanted = hub_name(name)
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("the datasets library", "hub") from error
    try:
        rows = datasets.load_dataset(*wanted.told, split=split)
    except (OSError, ValueError) as error:
        cure = "check the id, its configuration (hub:ID@CONFIG:SPLIT), the split and the network, or give a local file"
        raise BadInputError(f"cannot load the dataset ({error})", where=f"hub:{name}:{split}", cure=cure) from error
    for number, values in enumerate(rows, 1):
        yield Row(f"hub:{name}:{split}:row {number}", dict(values))


def _marked(prompts: list[Prompt], spec: str) -> list[Prompt]:
    """Tag what is an acceptance set by its name, however it came here, and fix its split to test."""
    # A path's folders above the file's own say nothing of the set.
    name = spec if spec.startswith(("hub:", "shared:")) else "/".join(Path(spec).parts[-2:])
    plain = re.sub(r"[^a-z/]", "", name.lower().replace("i-maliciousinstructions", ""))
    if not any(known in plain for known in ACCEPTANCE_SETS):
        return prompts
    return [
        replace(p, split="test", tags=p.tags if "acceptance" in p.tags else ("acceptance", *p.tags)) for p in prompts
    ]


def for_evaluation(prompt: Prompt) -> bool:
    """Say whether the prompt belongs to a public evaluation set."""
    return any(tag in EVALUATION_TAGS for tag in prompt.tags)


def forbid_acceptance(prompts: Iterable[Prompt]) -> None:
    """Refuse evaluation sets among what is about to be trained or tuned on.

    Raises:
        UsageError: some belong to an acceptance set or a benchmark; names the sets and how many.
    """
    caught = [p for p in prompts if for_evaluation(p)]
    if caught:
        sets = ", ".join(sorted({p.source for p in caught}))
        problem = f"{len(caught)} prompts of evaluation sets would be trained on ({sets})"
        raise UsageError(problem, cure="leave these sources out: they are only measured with")
