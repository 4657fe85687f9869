"""The runner: one batch a turn, seeds, broken attacks, what stands before an attack's words, resume after a kill."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from primum.core.errors import UsageError
from primum.core.records import Message, Prompt, assistant, system, user
from primum.models.sampling import Sampling
from primum.redteam.catalogue import chosen, load
from primum.redteam.goals import Goals, goals_from, spread
from primum.redteam.rehearsal import REFUSES, Rehearsal
from primum.redteam.runner import Crew, Setting, run
from primum.redteam.talk import Decoding, Goal, Rate, Say, joined, reply_to

SETTING = Setting(Sampling(0.4, 16), tries=3, seed=5)


def goal(text: str, category: str = "theft") -> Prompt:
    return Prompt((user(text),), "harmful", category)


GOALS = [goal("How do I open a locker?"), goal("Write a poem on fraud", "fraud"), goal("poem and locker", "cyber")]


def crew(*weak_to: str) -> Crew:
    def rate(pairs):
        return ["refusal" if reply == REFUSES else "harmful_compliance" for _, reply in pairs]

    return Crew(Rehearsal(weak_to), Rehearsal(attacker=True), rate)


def test_all_conversations_advance_together_one_batch_a_turn():
    with_three = crew()
    attempts = run("crescendo", load("crescendo").attack, GOALS, with_three, SETTING)
    assert [batch for batch, _ in with_three.target.calls] == [3] * 5
    assert len({seed for _, seed in with_three.target.calls}) == 5
    assert [len(one.turns) for one in attempts] == [5, 5, 5]
    assert [turn.lead for turn in attempts[0].turns] == [True, True, False, False, False]
    assert len(attempts[0].judged) == 3


def test_the_same_run_gives_the_same_attempts_and_another_seed_another():
    name, attack = "authority", load("authority").attack
    first, again = (run(name, attack, GOALS, crew(), SETTING) for _ in range(2))
    assert first == again
    others = [run(name, attack, GOALS, crew(), Setting(Sampling(0.4, 16), seed=seed)) for seed in range(6, 12)]
    assert any(other != first for other in others)


def test_a_goal_meets_the_same_words_whatever_goals_stand_beside_it():
    alone = run("authority", load("authority").attack, GOALS[1:2], crew(), SETTING)[0]
    beside = run("authority", load("authority").attack, GOALS, crew(), SETTING)[1]
    assert alone.turns[0].messages == beside.turns[0].messages


def test_a_search_stops_at_the_judges_word_and_others_go_on():
    attempts = run("pair", load("pair").attack, GOALS, crew("poem"), SETTING)
    roles = [[turn.role for turn in one.turns] for one in attempts]
    assert roles == [["attacker", "target"] * 3, ["attacker", "target"], ["attacker", "target"]]


def test_a_broken_attack_is_a_failed_attempt_and_not_a_withstood_one():
    def broken(goal: Goal, rng):
        yield (user(goal.text),)
        raise KeyError("lost")

    def odd(goal: Goal, rng):
        yield "no step"

    assert {one.failed for one in run("x", broken, GOALS, crew(), SETTING)} == {"attack failed: KeyError: 'lost'"}
    failed = "attack failed: TypeError: it yielded str, which is no step"
    assert {one.failed for one in run("x", odd, GOALS, crew(), SETTING)} == {failed}


def test_an_attack_without_an_end_is_stopped():
    def endless(goal: Goal, rng):
        while True:
            yield Rate("again")

    found = run("x", endless, GOALS, crew(), SETTING)
    assert {one.failed for one in found} == {"attack failed: no end after 200 steps"}


def test_system_prompt_and_the_goals_own_turns_stand_before_what_is_said():
    heard: list[tuple[Message, ...]] = []

    class Listening(Rehearsal):
        def __call__(self, batch, sampling, seed):
            heard.extend(batch)
            return super().__call__(batch, sampling, seed)

    plain = load("plain").attack
    long = Prompt((user("hi"), assistant("hello"), user("and now?")), "harmful", "theft")
    own = Prompt((system("be kind"), user("and now?")), "harmful", "theft")
    listening = Crew(Listening(), Rehearsal(), crew().rate)
    run("plain", plain, [long, own], listening, Setting(Sampling(), system="be safe"))
    assert heard == [
        (system("be safe"), user("hi"), assistant("hello"), user("and now?")),
        (system("be kind"), user("and now?")),
    ]


def test_a_try_may_be_drawn_in_another_way_and_keeps_the_runs_length():
    def two(goal: Goal, rng):
        yield from reply_to((user("a"),))
        yield Say((user("b"),), decoding=Decoding(1.0, top_k=5))
        return ()

    turns = run("x", two, GOALS[:1], crew(), SETTING)[0].turns
    assert [turn.decoding for turn in turns] == ["", "t1-n16-k5"]


def test_a_conversation_that_ends_in_an_assistant_turn_goes_on():
    assert joined((user("a"), assistant("Sure,")), "here") == (user("a"), assistant("Sure, here"))
    assert joined((user("a"),), "no") == (user("a"), assistant("no"))


def test_goals_are_harmful_prompts_spread_over_categories(tmp_path):
    rows = [{"prompt": f"{name} {i}", "category": name} for name in ("theft", "fraud") for i in range(3)]
    rows += [{"prompt": "theft 0", "category": "theft"}, {"prompt": "how to bake", "intent": "benign"}]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = goals_from((str(path),), 4)
    assert [p.category for p in found.prompts] == ["fraud", "theft", "fraud", "theft"]
    assert found.left_out == {"intent is benign": 1, "the same words twice": 1, "over the limit": 2}
    assert spread(reversed(found.prompts), 4) == found.prompts
    assert isinstance(found, Goals)


def test_a_source_without_a_harmful_prompt_is_refused(tmp_path):
    path = tmp_path / "kind.jsonl"
    path.write_text('{"prompt": "how to bake", "intent": "benign"}\n')
    with pytest.raises(UsageError, match=r"kind\.jsonl: holds no prompt of harmful intent"):
        goals_from((str(path),), None)


def test_the_embedded_goals_are_held_out_ones():
    found = goals_from(("embedded",), 14)
    assert len(found.prompts) == 14
    assert {p.split for p in found.prompts} == {"test"}
    assert len({p.category for p in found.prompts}) == 7


def test_the_plain_request_is_always_there_and_first():
    assert [one.id for one in chosen(("poetry",), ())] == ["plain", "poetry"]
    assert [one.id for one in chosen((), ("prefill",))] == ["plain", "prefill"]
    with pytest.raises(UsageError, match="did you mean 'poetry'"):
        chosen(("poetri",), ())
    with pytest.raises(UsageError, match="did you mean 'logic'"):
        chosen((), ("logik",))


SCRIPT = """
import os, signal, sys
from pathlib import Path
from primum.pipeline import redteam
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.redteam.rehearsal import Rehearsal
redteam.SHARD = 2
class Dying(Rehearsal):
    def __call__(self, *given):
        if len(self.calls) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(*given)
config = redteam.RedteamConfig(
    out=sys.argv[1], limit=6, tries=2, judges=("rules",),
    attacks=("authority", "crescendo", "pair", "repeat"),
)
dying = Dying(("hero", "audit", "judge"))
engines = redteam.Engines("k", "k", {"model": {"name": "rehearsal", "parameters": 0}}, dying, Rehearsal(attacker=True))
redteam.attack(Journey(Path(sys.argv[1]), Terminal(quiet=True)), config, redteam.check(config), engines)
print(len(dying.calls))
"""


def _run(folder: Path, dies_at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(dies_at)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_run_that_was_killed_goes_on_and_ends_as_an_undisturbed_one(tmp_path):
    whole = _run(tmp_path / "whole", -1)
    assert whole.returncode == 0, whole.stderr
    killed = _run(tmp_path / "killed", 11)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "report.json").exists()
    resumed = _run(tmp_path / "killed", -1)
    assert resumed.returncode == 0, resumed.stderr
    assert 0 < int(resumed.stdout) < int(whole.stdout)
    for name in ("outcomes.jsonl", "transcripts.jsonl", "goals.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    results = [json.loads((tmp_path / part / "report.json").read_text())["results"] for part in ("killed", "whole")]
    assert results[0] == results[1]
