"""How pairs are made: one strategy a file.

Each member has `about` (one sentence) and

    pairs(prompts: Sequence[Prompt], replies: Mapping[prompt id, Sequence[Reply]],
          verdicts: Mapping[reply id, Verdict], seed: int = 0) -> Built

and may name in `needs` what it is given beside these, by keyword: `preferences` (votes); `ask` (a function `prefer`
that says which of two replies is better); `converse` (has conversations, see `pairing.talks`, and with it `judge` of
what comes of them, `principles` and `rounds`).
"""
