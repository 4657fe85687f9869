"""Likelihoods of texts against a network asked directly: no context, a tokenizer that begins texts, long texts."""

from types import SimpleNamespace

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from primum.evaluation.likelihood import Request, loglikelihoods
from primum.models.embedded import embedded_folder
from tiny_models import SHAPE

LIMIT = 16


@pytest.fixture(scope="module")
def model():
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    torch.manual_seed(0)
    shape = {**SHAPE, "max_position_embeddings": LIMIT}
    network = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(tokenizer), **shape)).eval()
    return SimpleNamespace(network=network, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def beginning(model):
    """The same model, whose tokenizer puts a token before every text, as those of Llama, Mistral and Gemma do."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    token = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A $B", special_tokens=[(token, tokenizer.bos_token_id)]
    )
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    return SimpleNamespace(network=model.network, tokenizer=tokenizer)


def directly(model, ids, predicted):
    """The log-probability of the last `predicted` of these tokens, in one reading of the rest."""
    with torch.no_grad():
        logps = model.network(torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
    return sum(float(logps[i - 1, ids[i]]) for i in range(len(ids) - predicted, len(ids)))


def test_the_token_that_begins_a_text_is_read_and_not_counted(model, beginning):
    ids = model.tokenizer("A short text.")["input_ids"]
    for asked in (model, beginning):
        (found,) = loglikelihoods(asked, [Request("", "A short text.")])
        assert found.tokens == len(ids)
        assert found.logp == pytest.approx(directly(model, [model.tokenizer.bos_token_id, *ids], len(ids)), abs=1e-3)


def test_a_context_keeps_its_beginning(beginning):
    ids = beginning.tokenizer("A short text.")["input_ids"]
    (found,) = loglikelihoods(beginning, [Request("A short", " text.")])
    after = len(ids) - len(beginning.tokenizer("A short")["input_ids"])
    assert (found.tokens, found.logp) == (after, pytest.approx(directly(beginning, ids, after), abs=1e-3))


def test_a_text_longer_than_the_model_reads_is_taken_in_parts(model):
    text = " ".join(["one two three four"] * 10)
    ids = model.tokenizer(text)["input_ids"]
    assert 2 * LIMIT < len(ids) < 3 * LIMIT
    begun = [model.tokenizer.bos_token_id, *ids]
    rest = len(ids) - 2 * LIMIT
    by_hand = (
        directly(model, begun[: LIMIT + 1], LIMIT)
        + directly(model, begun[LIMIT : 2 * LIMIT + 1], LIMIT)
        + directly(model, begun[-LIMIT - 1 :], rest)  # the last part sees as much as the model can read
    )
    advanced = []
    (found, short) = loglikelihoods(model, [Request("", text), Request("", "")], advanced.append)
    assert (found.tokens, found.logp) == (len(ids), pytest.approx(by_hand, abs=1e-3))
    assert (short.tokens, sum(advanced)) == (0, 2)
    assert (found.context_cut, short.context_cut) == (0, 0)  # all of the text was scored


def test_what_a_context_loses_is_counted(model):
    context, continuation = " ".join(["one two three four"] * 6), " five six"
    ids = model.tokenizer(context + continuation)["input_ids"]
    own = len(ids) - len(model.tokenizer(context)["input_ids"])
    long, fits = loglikelihoods(model, [Request(context, continuation), Request("one two", continuation)])
    # the window reads 16 tokens, and what it predicts last it does not read
    kept = LIMIT + 1 - own
    assert long.context_cut == len(ids) - own - kept > 0
    assert long.logp == pytest.approx(directly(model, ids[-LIMIT - 1 :], own), abs=1e-3)
    assert fits.context_cut == 0
