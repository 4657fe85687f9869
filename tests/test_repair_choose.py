"""Which candidate is taken: the safest within what it may cost; worked out by hand, and in general."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from primum.core.records import Prompt, Reply, Verdict, user
from primum.evaluation.metrics import Scored
from primum.pipeline.points import Measured
from primum.repair.choose import Limits, Point, choose

TUNED = Point("tuned", 0.60, 0.02, 0.00, domain_accuracy=0.50)
LIMITS = Limits()


def test_a_candidate_that_nobody_could_read_is_not_taken_for_a_safe_one():
    mute = Point("mute", 0.0, 0.0, 0.0, domain_accuracy=0.50, unread=0.9)
    plain = Point("plain", 0.30, 0.02, 0.0, domain_accuracy=0.50, unread=0.04)
    chosen = choose(TUNED, [mute, plain], LIMITS)
    assert chosen.point.name == "plain" and "could not be read" in chosen.refused["mute"]


def test_the_share_of_unread_replies_is_of_all_replies():
    prompts = [Prompt((user(f"p{i}"),), "harmful", "fraud") for i in range(4)]
    replies = [Reply(p.id, "m", "", "x", "stop", 1, 1, 0) for p in prompts]
    verdicts = [Verdict(r.id, "j", "refusal" if i == 0 else None, unscored=None if i == 0 else "not in English")
                for i, r in enumerate(replies)]  # fmt: skip
    point = Measured([Scored(*one) for one in zip(prompts, replies, verdicts, strict=True)]).point("m")
    assert (point.harmful, point.unread) == (0.0, 0.75)


def test_the_safest_that_costs_little_is_taken() -> None:
    mild = Point("mild", 0.30, 0.03, 0.0, domain_accuracy=0.50)
    strong = Point("strong", 0.10, 0.04, 0.01, domain_accuracy=0.49)
    dear = Point("dear", 0.00, 0.03, 0.0, domain_accuracy=0.40)
    found = choose(TUNED, [mild, strong, dear], LIMITS)
    assert found.point is strong and list(found.refused) == ["dear"] and "accuracy 40.0%" in found.refused["dear"]
    assert set(found.front) == {"tuned", "mild", "strong", "dear"}


def test_accuracy_is_lost_where_the_questions_can_tell() -> None:
    """Bonett and Price at 80%, by hand: (c - b) / (n + 2) + 1.2816 sqrt((p1 + p2 - d^2) / (n + 2)).

    120 questions, 12 lost and 6 gained: p1 = 13/122, p2 = 7/122, d = -.0492; high = -.0492 + .0466 = -.0026: less than
    the one point allowed is certain. 24 lost and 6 gained: d = -18/122 = -.1475, high = -.1475 + .0569 = -.0906: more.
    """

    def point(name: str, harmful: float, lost: int, gained: int) -> Point:
        right = (False,) * lost + (True,) * (60 - lost) + (True,) * gained + (False,) * (60 - gained)
        return Point(name, harmful, 0.02, 0.0, domain_accuracy=sum(right) / 120, right=right)

    tuned = point("tuned", 0.60, 0, 0)
    chance, real = point("chance", 0.10, 12, 6), point("real", 0.05, 24, 6)
    found = choose(tuned, [chance, real], LIMITS)
    assert found.point is chance and list(found.refused) == ["real"]
    few = Point("few", 0.01, 0.02, 0.0, domain_accuracy=0.45)  # nobody knows which were right
    assert choose(tuned, [few, chance], LIMITS).point is chance


def test_what_refuses_everything_or_babbles_is_never_taken() -> None:
    silent = Point("refuses", 0.0, 1.0, 0.0, domain_accuracy=0.50)
    babble = Point("babbles", 0.0, 0.0, 0.9, domain_accuracy=0.50)
    found = choose(TUNED, [silent, babble], LIMITS)
    assert found.point is TUNED and set(found.refused) == {"refuses", "babbles"}


def test_a_parent_that_refuses_more_widens_what_is_allowed() -> None:
    careful = Point("careful", 0.10, 0.09, 0.0, domain_accuracy=0.50)
    assert choose(TUNED, [careful], LIMITS).point is TUNED
    parent = Point("parent", 0.05, 0.08, 0.0, domain_accuracy=0.30)
    assert choose(TUNED, [careful], LIMITS, parent).point is careful


def test_without_options_likelihood_decides() -> None:
    tuned = Point("tuned", 0.6, 0.0, 0.0, domain_nll=2.0)
    near, far = Point("near", 0.3, 0.0, 0.0, domain_nll=2.04), Point("far", 0.1, 0.0, 0.0, domain_nll=2.05)
    found = choose(tuned, [near, far], LIMITS)
    assert found.point is near and "NLL 2.050, before 2.000" in found.refused["far"]


def test_a_tie_goes_to_fewer_refusals_then_to_the_smaller_change() -> None:
    rows = [
        Point("a", 0.1, 0.02, 0.0, size=0.1),
        Point("b", 0.1, 0.01, 0.0, size=0.3),
        Point("c", 0.1, 0.01, 0.0, size=0.2),
    ]
    assert choose(Point("tuned", 0.6, 0.02, 0.0), rows, LIMITS).point.name == "c"


shares = st.floats(0, 1).map(lambda x: round(x, 2))
points = st.builds(Point, st.just("x"), shares, shares, shares, st.none(), shares)


@given(points, st.lists(points, max_size=8))
def test_what_is_taken_is_never_less_safe_and_always_allowed(tuned: Point, many: list[Point]) -> None:
    named = [Point(f"c{i}", *list(vars(one).values())[1:]) for i, one in enumerate(many)]
    found = choose(tuned, named, LIMITS)
    assert found.point.harmful <= tuned.harmful and found.point.name not in found.refused
    assert found.point.refusal <= tuned.refusal + LIMITS.refusal + 1e-6
    safer = [one for one in named if one.harmful < found.point.harmful]
    assert all(one.name in found.refused for one in safer) and found.front
