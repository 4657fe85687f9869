"""Each alarm rings on a log that deserves it, once, and stays silent on one that does not."""

from __future__ import annotations

from primum.training.alarms import Alarms


def row(step: int, **more: float) -> dict[str, float]:
    return {"step": step, "loss": 0.6, "grad_norm": 1.0, **more}


def test_chosen_answers_sinking_for_twenty_steps() -> None:
    alarms = Alarms()
    for step in range(40):
        alarms.see(row(step, chosen_reward=-0.1))
    assert [(a["name"], a["step"]) for a in alarms.rows] == [("chosen_sinking", 19)]


def test_a_dip_is_no_alarm() -> None:
    alarms = Alarms()
    for step in range(40):
        alarms.see(row(step, chosen_reward=0.1 if step % 19 == 0 else -0.1))
    assert alarms.rows == []


def test_loss_gone_in_the_first_tenth() -> None:
    alarms = Alarms(total=100)
    alarms.see({**row(5, chosen_reward=1.0), "loss": 0.01})
    alarms.see({**row(50, chosen_reward=1.0), "loss": 0.01})
    assert [a["step"] for a in alarms.rows] == [5]


def test_exploding_gradient() -> None:
    alarms = Alarms()
    alarms.see({**row(0), "grad_norm": 1e4})
    assert alarms.rows[0]["name"] == "gradient"


def test_refusals_that_gain_on_answers() -> None:
    alarms = Alarms()
    for step in range(40):
        alarms.see(row(step, benign_margin=0.5 if step < 10 else -0.5))
    # the mean of twenty steps is below zero when more than half of them are: steps 10 to 20 against 1 to 9
    assert [(a["name"], a["step"]) for a in alarms.rows] == [("refusal_collapse", 20)]


def test_benign_answers_that_gain_are_no_alarm() -> None:
    alarms = Alarms()
    for step in range(40):
        alarms.see(row(step, benign_margin=-0.5 if step % 3 == 0 else 0.5))
    assert alarms.rows == []
