"""Goals x attacks -> transcripts and success rates. An attack wraps a given request; it writes no harm of its own.

talk.py        what an attack may do: say something to the model, ask an attacker model, have a reply rated
attacks/       the catalogue; a member has about, vector, source and attack(goal, rng)
goals.py       what is asked for: embedded held-out prompts, a file, a benchmark
runner.py      all live conversations advance together, one engine batch a turn
outcomes.py    transcripts and verdicts -> did the attack succeed, at which try, with which label
measure.py     outcomes -> matrix, paired uplift, success after n tries, turns to success, held-out vectors
against.py     what an earlier run failed at, and how much of it this model no longer does
campaign.py    sessions of people: violations per person and hour
rehearsal.py   a model made of rules, for rehearsals and tests
"""
