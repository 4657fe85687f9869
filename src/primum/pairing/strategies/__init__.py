"""How pairs are made: one strategy a file.

Each member has `about` (one sentence) and

    pairs(prompts: Sequence[Prompt], replies: Mapping[prompt id, Sequence[Reply]],
          verdicts: Mapping[reply id, Verdict], seed: int = 0) -> Built
"""
