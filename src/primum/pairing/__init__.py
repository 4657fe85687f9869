"""Verdicts to pairs: what a model is trained towards and away from, and the lint that refuses bad sets.

    strategies/       how a pair is made: prompts, replies and verdicts in, pairs and demonstrations out
    completions/      the words of safe completions and refusals, by harm category, as data
    completions.py    puts those words together, differently for each prompt
    replies.py        which of a model's own replies is the worst, which the best, and where it must be cut
    given.py          what a user's file gives: replies, or the columns of PKU-SafeRLHF, BeaverTails, HH
    demonstration.py  what a strategy returns, and who may not enter it
    lint.py           what a bad set of pairs looks like, in numbers
    columns.py        pairs on disk, in TRL's preference columns

Nothing here knows how a model is run, judged or trained.
"""
