"""The life of one version of a template, as a pure state machine: what may happen next, and who may do it.

    draft --propose--> proposed --approve by others, checks green, merge--> merged
                          |--reject--> rejected        draft, proposed --withdraw--> withdrawn

Rejected, withdrawn and merged versions stay as they are: a change is a new version, which begins again as a draft.
Only a merged version may be production. Nobody approves, rejects or merges what they wrote, nor on a template that is
kept to other reviewers. A check that fails later
takes the green away. A score is kept beside all this and changes nothing: a merged version is measured on new models,
and what measures too little for a check is still to be seen. Knows nothing of the database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

Status = Literal["draft", "proposed", "merged", "rejected", "withdrawn"]
STEPS = ("propose", "approve", "reject", "withdraw", "check", "score", "merge", "comment")
LABELS = ("production", "staging")
NEEDED_APPROVALS = 1
CHECKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"preprompt": ("validation", "evaluation"), "answer": ("validation",), "rubric": ("validation",)}
)
"""Kind of template -> checks that must be green before it is merged."""


class ReviewError(ValueError):
    """A step that may not be taken; the text says why."""


class Step(NamedTuple):
    """Something that somebody did to a version; a check says its name and whether it passed."""

    kind: str
    by: str
    check: str = ""
    passed: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """Where a version is."""

    author: str
    kind: str
    status: Status = "draft"
    approvals: frozenset[str] = frozenset()
    checks: Mapping[str, bool] = field(default_factory=dict[str, bool])

    @property
    def missing(self) -> list[str]:
        """What still stands between this version and its merge, in words."""
        found = [] if self.status == "proposed" else [f"it is {self.status}, not proposed"]
        lacking = NEEDED_APPROVALS - len(self.approvals)
        found += [f"{lacking} approval{'s' * (lacking > 1)} by somebody who did not write it"] if lacking > 0 else []
        for name in dict.fromkeys([*CHECKS[self.kind], *self.checks]):  # one that need not run must not have failed
            if not self.checks.get(name):
                found.append(f"{name} {'failed' if name in self.checks else 'has not run'}")
        return found


def replay(author: str, kind: str, steps: Iterable[Step]) -> State:
    """Return where a version is after its steps."""
    state = State(author, kind)
    for step in steps:
        state = take(state, step)
    return state


def take(state: State, step: Step, deciders: Collection[str] | None = None) -> State:
    """Return the state after a step.

    Args:
        state: where the version is.
        step: what somebody does.
        deciders: who may approve, reject and merge now; None: every reviewer. Steps that were taken earlier are
            replayed without it: what somebody decided while they had the right stays decided.

    Raises:
        ReviewError: the step may not be taken now, or not by this person.
    """
    if step.kind == "comment":
        return state
    if step.kind == "score":
        _need(state.status in ("draft", "proposed", "merged"), f"a {state.status} version is measured no more")
        return state
    if step.kind == "check":
        _need(state.status in ("draft", "proposed"), f"a {state.status} version is checked no more")
        return replace(state, checks={**state.checks, step.check: step.passed})
    if step.kind == "propose":
        _need(state.status == "draft", f"it is {state.status} already")
        return replace(state, status="proposed")
    if step.kind == "withdraw":
        _need(step.by == state.author, "only its author withdraws a version")
        _need(state.status in ("draft", "proposed"), f"it is {state.status}")
        return replace(state, status="withdrawn")
    _need(step.kind in STEPS, f"no step '{step.kind}'")
    check_decider(step.by, step.kind, deciders)
    return _decide(state, step)


def check_decider(by: str, what: str, deciders: Collection[str] | None) -> None:
    """Refuse who may not decide on this template.

    Raises:
        ReviewError: it is kept to others.
    """
    _need(deciders is None or by in deciders, f"{by} may not {what} here: the template is kept to other reviewers")


def _decide(state: State, step: Step) -> State:
    _need(state.status == "proposed", f"it is {state.status}, not proposed")
    _need(step.by != state.author, f"nobody may {step.kind} what they wrote")
    if step.kind == "reject":
        return replace(state, status="rejected")
    if step.kind == "approve":
        return replace(state, approvals=state.approvals | {step.by})
    _need(not state.missing, "; ".join(state.missing))
    return replace(state, status="merged")


def check_label(state: State, label: str) -> None:
    """Refuse a label that a version may not carry.

    Raises:
        ReviewError: production on a version that is not merged; staging on one that is neither merged nor proposed.
    """
    _need(label in LABELS, f"no label '{label}': " + ", ".join(LABELS))
    allowed: dict[str, tuple[Any, ...]] = {"production": ("merged",), "staging": ("merged", "proposed")}
    _need(state.status in allowed[label], f"a {state.status} version cannot be {label}")


def _need(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ReviewError(otherwise)
