"""What every command that judges lets its user say: the model, service, classifier, rubric or labels behind a judge.

`chosen_judges` turns names and options into judges that are ready; every command that judges goes through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, cast

from pydantic import Field

from primum.core.catalogue import member
from primum.core.config import Config
from primum.core.errors import BadInputError, UsageError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict, Verdict, digest
from primum.core.store import file_sha256, fingerprint
from primum.judging import Exchange
from primum.judging.ask import Endpoint, chat, completions
from primum.judging.runner import NOTHING, Settings, judge_by, with_settings

SERVICE = ("endpoint", "endpoint_model", "max_tokens")
READ = {
    "ask": ("judge_model", *SERVICE), "complete": SERVICE, "endpoint": SERVICE[:2], "members": ("member",),
    "classifier": ("classifier", "classifier_label", "classifier_means"), "reward": ("reward", "reward_threshold"),
    "votes": ("votes",),
}  # fmt: skip
"""What a judge needs -> the options that it reads; a judge's `options` name those that it reads beside them."""
WITHOUT_EFFECT = ("timeout", "retries", "key_env")
"""Options on which no verdict depends."""


class Options(Config):
    """All that judges may need beside the replies but the model in memory; each takes what is its own."""

    flag_group: ClassVar[str] = "what judges may need"

    rubric: str = Field(default="meditron", description="rubric of the judge 'rubric': a shipped one, or a YAML file")
    member: tuple[str, ...] = Field(
        default=(), description="member of the judge 'panel', cheapest first; NAME=2 counts twice"
    )
    endpoint: str | None = Field(
        default=None, description="OpenAI-compatible address that a judge asks, like http://host/v1"
    )
    endpoint_model: str = Field(default="default", description="the model's name at the endpoint")
    key_env: str = Field(default="OPENAI_API_KEY", description="environment variable that holds the endpoint's key")
    max_tokens: int = Field(
        default=64, ge=1, description="longest answer of the model that is asked; more where it thinks first"
    )
    policy: str | None = Field(
        default=None, description="policy in words for the judge 'gpt_oss_safeguard': a text file"
    )
    classifier: str | None = Field(
        default=None, description="text classifier for the judge 'classifier': a hub id or a folder"
    )
    classifier_label: str | None = Field(
        default=None, description="its label that counts; found by its name where not given"
    )
    classifier_means: str = Field(default="harm", description="what that label means: harm or refusal")
    reward: str | None = Field(
        default=None, description="safety reward model for the judge 'reward': a hub id or a folder"
    )
    reward_threshold: float = Field(
        default=0.15, ge=0, le=1, description="probability of being safe under which it says harm"
    )
    votes: str | None = Field(
        default=None, description="labels of people for the judge 'human': rows of reply_id, behaviour"
    )
    timeout: float = Field(default=60.0, gt=0, description="seconds to wait for one answer of the endpoint")
    retries: int = Field(default=3, ge=0, le=20, description="further attempts where the endpoint fails")


class JudgeOptions(Options):
    """What judges may need beside the replies; each takes what is its own."""

    judge_model: str | None = Field(
        default=None, description="model that a judge runs here: 'embedded', a hub id or a path"
    )


@dataclass(frozen=True)
class ChosenJudge:
    """A judge as a user chose it, ready to judge.

    Args:
        id: the judge.
        settings: what it is given.
        options: what the user gave of the options that it reads.
        files: hashes of what these name on disk.
    """

    id: str
    settings: Settings = NOTHING
    options: JsonDict = field(default_factory=dict[str, Any])
    files: JsonDict = field(default_factory=dict[str, Any])

    @property
    def module(self) -> ModuleType:
        """Its member of the catalogue."""
        return member("judges", self.id)

    @property
    def revision(self) -> str:
        """The judge's own revision; with a hash of its options and their files behind it where any are given."""
        own = str(self.module.revision)
        return f"{own}+{digest([self.options, self.files], 10)}" if self.options else own

    @property
    def facts(self) -> JsonDict:
        """What results say of it: its revision, and its options where any are given."""
        return {"judge_revision": self.revision, **({"judge_options": self.options} if self.options else {})}

    @cached_property
    def _judge(self) -> Callable[[Sequence[Exchange]], list[Verdict]]:
        """Its function: what it has read, a model's weights say, serves every call."""
        return with_settings(self.module, self.id, self.settings)

    def __call__(self, exchanges: Sequence[Exchange], advance: Advance = silent, batch: int = 0) -> list[Verdict]:
        """Return one verdict per exchange, as `judge_all` does."""
        return judge_by(self.id, self._judge, exchanges, advance, batch)

    def check(self) -> None:
        """Find what is wrong before anything is drawn or judged.

        Raises:
            UsageError: it needs a model, service, classifier or file that is not given or not there.
            BadInputError: a file that it needs is broken.
        """
        needed = _needs(self.module, self.settings)
        given = {"ask": self.settings.ask, "complete": self.settings.complete}
        for need in given:
            if need in needed and given[need] is None:
                cure = "give --endpoint http://localhost:8000/v1 --endpoint-model NAME"
                cure += ", or --judge-model NAME" if need == "ask" else ""
                raise UsageError(f"the judge '{self.id}' asks a chat model, and none is given", cure=cure)
        if "ask" in needed and self.options.get("judge_model"):
            from primum.models.load import outline

            outline(self.options["judge_model"])
        _ = self._judge  # checks its settings


def chosen_judges(names: Sequence[str], options: JudgeOptions, alone: bool = True) -> list[ChosenJudge]:
    """Return the judges of these names, each once, with their options; what is wrong is told before anything runs.

    Args:
        names: of judges.
        options: what the user gave.
        alone: nobody but these judges reads the options.

    Raises:
        UsageError: no such judge, rubric or member (names the nearest), a judge without what it needs, or an option
            that none of these judges reads.
        BadInputError: a file that a judge needs is broken.
    """
    settings, hashes = settings_of(options), contents(options)
    given = options.model_dump(mode="json", include=set(JudgeOptions.model_fields) - {*WITHOUT_EFFECT})
    given = {name: value for name, value in given.items() if value != _plain(JudgeOptions.model_fields[name].default)}
    found: list[ChosenJudge] = []
    for name in dict.fromkeys(names):
        reads = _reads(member("judges", name), settings)
        own = {key: value for key, value in given.items() if key in reads}
        found.append(ChosenJudge(name, settings, own, {key: one for key, one in hashes.items() if key in own}))
    for one in found:
        one.check()
    unread = [name for name in given if not any(name in one.options for one in found)]
    if unread and alone:
        flag, asked = unread[0].replace("_", "-"), " and ".join(f"'{name}'" for name in dict.fromkeys(names))
        cure = "name the judge that it is for (primum list judges), or leave it out"
        raise UsageError(f"--{flag} changes nothing: no judge here reads it ({asked or 'none is asked'})", cure=cure)
    return found


def _plain(value: Any) -> Any:
    return list(cast(tuple[Any, ...], value)) if isinstance(value, tuple) else value


def _asked(module: ModuleType, settings: Settings) -> list[ModuleType]:
    """Return the judges that a judge asks."""
    return [member("judges", name) for name in module.asked(settings)] if hasattr(module, "asked") else []


def _needs(module: ModuleType, settings: Settings) -> set[str]:
    """Return what a judge needs, and what the judges need that it asks."""
    needed = set(cast(Sequence[str], getattr(module, "needs", ())))
    for one in _asked(module, settings):
        needed |= _needs(one, settings)
    return needed


def _reads(module: ModuleType, settings: Settings) -> set[str]:
    """Return the options that a judge reads; all of them where it takes settings and does not say which."""
    needed = set(cast(Sequence[str], getattr(module, "needs", ())))
    own = set(cast(Sequence[str], getattr(module, "options", ())))
    if hasattr(module, "configure") and not needed and not own:
        return set(JudgeOptions.model_fields)
    for one in _asked(module, settings):
        own |= _reads(one, settings)
    return own.union(*(READ.get(need, ()) for need in needed))


def settings_of(options: JudgeOptions) -> Settings:
    """Return what the judges are given: the model to ask, in memory or at an endpoint, and the options by name."""
    place = None
    if options.endpoint:
        place = Endpoint(
            options.endpoint, options.endpoint_model, options.key_env, options.timeout, options.retries,
            max_tokens=options.max_tokens,
        )  # fmt: skip
    ask = chat(place) if place else None
    if ask is None and options.judge_model:
        from primum.judging.engine import in_memory

        ask = in_memory(options.judge_model, options.max_tokens)
    complete = completions(place) if place else None
    named = options.model_dump(
        include={"policy", "classifier", "classifier_label", "classifier_means", "reward", "reward_threshold", "votes"}
    )
    return Settings(ask, complete, place, options.rubric, tuple(options.member), named)


def contents(options: JudgeOptions) -> dict[str, str]:
    """Return the hashes of what the options name on disk, so that after an edit all is judged anew."""
    named = {"rubric": options.rubric, "policy": options.policy, "votes": options.votes}
    found = {key: file_sha256(Path(name)) for key, name in named.items() if name and Path(name).is_file()}
    weights = {"judge_model": options.judge_model, "classifier": options.classifier, "reward": options.reward}
    return found | {key: mark for key, name in weights.items() if name and (mark := fingerprint(name))}


def read_words(path: str, what: str) -> str:
    """Return the text of a file in which a user says something in words: a policy, principles.

    Raises:
        BadInputError: it cannot be read as text, or is empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"no {what} can be read: {error}", where=path, cure="give a text file") from error
    if not text.strip():
        raise BadInputError(f"the {what} is empty", where=path, cure="write it, or leave the file out")
    return text
