"""primum's checks of IFEval beside the published ones, as lm-evaluation-harness carries them.

    pip install "lm_eval[ifeval]"
    python benchmarks/ifeval_checks.py [--texts 400] [--seed 0] [--json]

Draws texts of many shapes (lists, sections, JSON, quotes, titles, ...), checks each by every instruction whose
check needs neither NLTK's data nor langdetect, strict and loose, with both, and prints how often they differ.
"""

from __future__ import annotations

import argparse
import json
import random

APART = {
    "language:response_language", "length_constraints:number_sentences", "change_case:capital_word_frequency",
    "change_case:english_capital", "change_case:english_lowercase",
}  # fmt: skip
"""Told by other means (following.py says why): not compared."""
PIECES = (
    "The cat sat.", "* a point\n* another", "- dash", "\n\n", "***", "******", '{"a": 1}', "```json\n[1, 2]\n```",
    "<<A title>>", "[name]", "P.S. see you", "p. p. s. later", "SECTION 1", "Section 2 more", "*bold*", "**very**",
    "My answer is yes.", "HELLO WORLD", "quiet words", '"quoted"', ", and", "apple", "Apple pie", "the end", "\n",
    "'why'", "", "   ", "< <x> >", "<<  >>", "* *", "****", "no",
)  # fmt: skip


def arguments(kind, draw):
    relation = draw.choice(("less than", "at least"))
    return {
        "keywords:existence": {"keywords": draw.sample(["apple", "cat", "why"], 2)},
        "keywords:frequency": {"keyword": "a", "frequency": draw.randint(1, 6), "relation": relation},
        "keywords:forbidden_words": {"forbidden_words": draw.sample(["apple", "cat", "end"], 2)},
        "keywords:letter_frequency": {"letter": "e", "let_frequency": draw.randint(1, 9), "let_relation": relation},
        "length_constraints:number_paragraphs": {"num_paragraphs": draw.randint(1, 4)},
        "length_constraints:number_words": {"num_words": draw.randint(1, 30), "relation": relation},
        "length_constraints:nth_paragraph_first_word": {
            "num_paragraphs": draw.randint(1, 3), "nth_paragraph": 1, "first_word": draw.choice(("the", "apple")),
        },
        "detectable_content:number_placeholders": {"num_placeholders": draw.randint(1, 3)},
        "detectable_content:postscript": {"postscript_marker": draw.choice(("P.S.", "P.P.S"))},
        "detectable_format:number_bullet_lists": {"num_bullets": draw.randint(1, 4)},
        "detectable_format:number_highlighted_sections": {"num_highlights": draw.randint(1, 4)},
        "detectable_format:multiple_sections": {"section_spliter": "Section", "num_sections": draw.randint(1, 2)},
        "combination:repeat_prompt": {"prompt_to_repeat": draw.choice(("The cat sat.", "apple"))},
        "startend:end_checker": {"end_phrase": draw.choice(("the end", "no", "sat."))},
    }.get(kind, {})  # fmt: skip


def text(draw):
    body = draw.choice((" ", "\n", "")).join(draw.choices(PIECES, k=draw.randint(1, 9)))
    return draw.choice((body, body, body.upper(), body.lower(), f'"{body}"'))


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    from lm_eval.tasks.ifeval import utils

    from primum.evaluation.following import CHECKS, loose, strict

    draw, found = random.Random(args.seed), {}
    theirs = {strict: utils.test_instruction_following_strict, loose: utils.test_instruction_following_loose}
    for kind in sorted(set(CHECKS) - APART):
        differ = 0
        for _ in range(args.texts):
            said, given = text(draw), arguments(kind, draw)
            example = utils.InputExample(0, [kind], "", [given])
            differ += any(mine(kind, given, said) != other(example, said).follow_instruction_list[0]
                          for mine, other in theirs.items())  # fmt: skip
        found[kind] = differ
    print(json.dumps(found) if args.json else "\n".join(f"{n:>5} of {args.texts}  {kind}" for kind, n in found.items()))


if __name__ == "__main__":
    main()
