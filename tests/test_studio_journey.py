"""From people to weights: votes on the studio's pages become a file, and the file trains, with nothing done by hand."""

import json

import pytest
from sqlalchemy import select

from primum.cli import main
from primum.pairing.columns import read_pairs
from primum.studio.tables import Item
from studio_kit import serving

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
ROWS = [
    {"prompt": f"question {n}", "intent": "harmful" if n % 2 else "benign",
     "replies": [{"text": f"yes good {n}", "model": "new"}, {"text": f"no bad {n}", "model": "old"}]}
    for n in range(8)
]  # fmt: skip


def tokenizer_of(texts):
    """One token a word: enough to see whether training moves the right way."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|user|>", "<|assistant|>", "<|end|>", "<unk>"]
    words = sorted({word for text in texts for word in text.split()})
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*special, *words])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", unk_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": special[:2]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def vote_for_good(browser):
    """Vote until nothing is left: for the reply that begins with yes, wherever it is shown."""
    given = 0
    while "Nothing left" not in (page := browser.get("/tasks/1/work").text):
        fields = browser.work_fields()
        first = "A" if page.index("yes good") < page.index("no bad") else "B"
        answer = browser.post("/tasks/1/work", **fields, do="vote", outcome=first, strength="significantly")
        assert answer.status == 303
        given += 1
    return given


@pytest.fixture
def voted(tmp_path, capsys):
    """The file of pairs after eight votes on the pages."""
    items, out = tmp_path / "items.jsonl", tmp_path / "pairs.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with serving(tmp_path) as running:
        assert main(["studio", "import", f"--data={tmp_path}", "--task=t", f"--file={items}"]) == 0
        assert vote_for_good(running.browser()) == 8
        with running.studio.database.reading() as db:
            assert len(db.scalars(select(Item)).all()) == 8
        assert main(["studio", "export", f"--data={tmp_path}", "--task=t", f"--file={out}"]) == 0
    capsys.readouterr()
    return out


def test_votes_train_a_policy_by_dpo(voted, tmp_path):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from primum.training.examples import Limits, paired
    from primum.training.methods import dpo

    pairs = read_pairs(voted)
    assert [(p.chosen.split()[0], p.rejected.split()[0], p.strength) for p in pairs] == [("yes", "no", 1.0)] * 8
    assert sorted({p.kind for p in pairs}) == ["general", "harmful"], "the trainer's own words for them"
    tokenizer = tokenizer_of([t for p in pairs for t in (p.prompt[0].content, p.chosen, p.rejected)])
    examples = paired(pairs, tokenizer, Limits(prompt=16, answer=8))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    network = LlamaForCausalLM(config).float()
    known = dpo.reference(network, examples)
    settings = dpo.Config(learning_rate=1e-2, epochs=6, batch_size=4)
    log, _ = dpo.train(settings, network, known, tmp_path / "out")
    after = dpo.reference(network, examples)
    moved = [
        (after_.ref_chosen - before.ref_chosen) - (after_.ref_rejected - before.ref_rejected)
        for before, after_ in zip(known, after, strict=True)
    ]
    assert len(log) == 12, "eight pairs in steps of four, six times"
    assert min(moved) > 1, "every pair's margin grew, in nats"


def test_the_file_has_the_columns_that_trl_reads(voted):
    """TRL's conversational preference format: three lists of turns a row (its `is_conversational` looks for them)."""
    rows = [json.loads(line) for line in voted.read_text().splitlines()]
    for row in rows:
        for column in ("prompt", "chosen", "rejected"):
            assert all(set(turn) == {"role", "content"} for turn in row[column])
        assert [row[column][-1]["role"] for column in ("prompt", "chosen", "rejected")] == [
            "user", "assistant", "assistant"
        ]  # fmt: skip
    assert len(rows) == 8
