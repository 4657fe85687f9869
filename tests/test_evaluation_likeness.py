"""BLEU, ROUGE and BERTScore: by hand, and the numbers of sacrebleu, rouge_score 0.1.2 and bert_score 0.3.13."""

import json
import math

import pytest
import torch

from primum.core.errors import BadInputError, StepFailedError, UsageError
from primum.evaluation import likeness
from primum.evaluation.benchmarks import helpfulness
from primum.evaluation.items import Answer
from primum.evaluation.likeness import bertscore, rouge, rouge_l
from primum.evaluation.own import read_own

PAIRS = [
    ("The cat sat on the mat.", "A cat was sitting on the mat, quietly."),
    ("Aspirin eases pain and thins the blood", "It thins the blood; aspirin also eases the pain."),
    ("no", "Yes, it is so."),
    ("Drink 2 litres of water a day, don't skip meals.", "Do not skip meals and drink 2 liters of water each day"),
]
WORDS = ["the", "cat", "sat", "on", "mat", ".", "a", "was", "sitting", ",", "quietly"]


@pytest.mark.parametrize(
    ("pair", "expected"),
    list(
        zip(
            PAIRS,
            # rouge_score.RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, reply), F measures
            [
                (0.571429, 0.333333, 0.571429),
                (0.75, 0.285714, 0.375),
                (0.0, 0.0, 0.0),
                (0.608696, 0.285714, 0.434783),
            ],
            strict=True,
        )
    ),
)
def test_rouge_is_that_of_rouge_score(pair, expected):
    found = (rouge(1, *pair), rouge(2, *pair), rouge_l(*pair))
    assert found == pytest.approx(expected, abs=1e-6)


def test_rouge_by_hand():
    assert rouge(1, "a a b", "a b b") == pytest.approx(2 * 2 / 6), "each word counts as often as both have it"
    assert rouge(2, "a b c", "b c a") == pytest.approx(2 * 1 / 4)
    assert rouge_l("a x b y c", "a b c") == pytest.approx(2 * 3 / 8)
    assert rouge(2, "one", "one") == 0.0, "no pair of words"
    assert rouge_l("", "") == 0.0


def test_bleu_by_hand():
    bleu = likeness.likeness("bleu")
    assert bleu("the cat sat on the mat", "the cat sat on the mat") == pytest.approx(1.0)
    assert bleu("", "the cat") == 0.0
    # precisions 3/3, 2/2, 1/1 (effective order 3), one word short of four: e^(1 - 4/3)
    assert bleu("the cat sat", "the cat sat down") == pytest.approx(math.exp(1 - 4 / 3))


@pytest.fixture
def encoder(tmp_path):
    """A tiny random BERT; bert_score was given the same one."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    shape = transformers.BertConfig(
        vocab_size=5 + len(WORDS), hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64
    )
    transformers.BertModel(shape).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    return str(folder)


def test_bertscore_is_that_of_its_authors(encoder):
    # bert_score.score([reply], [reference], model_type=folder, num_layers=2)
    found = [bertscore(encoder, 2, *pair) for pair in PAIRS[:2]]
    assert found == pytest.approx([0.956001, 0.949760], abs=1e-5)
    assert bertscore(encoder, None, *PAIRS[0]) == pytest.approx(0.955997, abs=1e-5), "the last layer, the third"
    assert bertscore(encoder, 2, "the cat", "the cat") == pytest.approx(1.0)
    assert bertscore(encoder, 2, " ", "the cat") == 0.0


def test_bertscore_by_hand(monkeypatch):
    """Three words against two: cosines .6 .8 / 1 0 / 0 1; the third row is a special token of ours."""
    vectors = {
        "ours": (torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([True, True, False])),
        "theirs": (torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([True, True])),
    }
    monkeypatch.setattr(likeness, "_encoder", lambda name, layer: vectors.__getitem__)
    precision, recall = (0.8 + 1.0) / 2, (1.0 + 1.0) / 2
    assert bertscore("x", None, "ours", "theirs") == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_learned_metric_reads_reference_and_reply_as_a_pair(encoder, tmp_path):
    transformers = pytest.importorskip("transformers")
    folder, several = tmp_path / "bleurt", tmp_path / "several"
    words = transformers.AutoTokenizer.from_pretrained(encoder)
    for place, labels in ((folder, 1), (several, 2)):
        network = transformers.AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=labels).eval()
        network.save_pretrained(place)
        words.save_pretrained(place)
    found = likeness.likeness(f"learned:{folder}")("a cat", "the cat sat")
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = words.convert_tokens_to_ids(["[CLS]", "the", "cat", "sat", "[SEP]", "a", "cat", "[SEP]"])
    with torch.no_grad():
        expected = network(torch.tensor([ids]), token_type_ids=torch.tensor([[0] * 5 + [1] * 3])).logits
    assert found == pytest.approx(float(expected[0, 0]), abs=1e-5)
    assert likeness.metrics_of([f"learned:{folder}"])[f"learned:{folder}"].unit == "score"
    with pytest.raises(UsageError, match="2 numbers"):
        likeness.likeness(f"learned:{several}")
    with pytest.raises(UsageError, match="cannot load"):
        likeness.likeness("learned:nowhere/at-all")


def test_a_missing_encoder_says_what_to_do():
    with pytest.raises(StepFailedError, match="no encoder 'nowhere/at-all'") as caught:
        bertscore("nowhere/at-all", None, "a", "b")
    assert "bertscore:FOLDER" in str(caught.value)


def test_names_of_likeness():
    assert likeness.likeness("bertscore:a/b:9").args == ("a/b", 9)
    assert likeness.likeness("bertscore:C:model").args == ("C:model", None), "a colon in a path is no layer"
    with pytest.raises(UsageError, match="no likeness 'rougel'"):
        likeness.likeness("rougel")


def test_a_benchmark_of_ones_own_by_likeness(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"q": "Say it.", "a": "the cat sat"}) + "\n")
    head = "name: own\nrows: rows.jsonl\nkind: likeness\nprompt: q\nanswer: a\n"
    (tmp_path / "own.yaml").write_text(head + "likeness: [rouge1, rougeL]\n")
    own = read_own(tmp_path / "own.yaml")
    (item,) = own.items(None)
    assert (own.judge, list(own.metrics)) == ("text", ["rouge1", "rougeL"])
    assert own.score(item, Answer("the dog sat")) == {"rouge1": pytest.approx(2 / 3), "rougeL": pytest.approx(2 / 3)}
    (tmp_path / "own.yaml").write_text(head + "likeness: [rouge9]\n")
    with pytest.raises(UsageError, match="rouge9"):
        read_own(tmp_path / "own.yaml")


def test_alpacas_rows_are_read_with_their_input(tmp_path):
    rows = [
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        {"instruction": "Hi", "input": "", "output": "Hey"},
    ]
    path = tmp_path / "alpaca.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [(item.prompt.text, item.target["answer"]) for item in helpfulness.items(path)]
    assert found == [("Add.\n\n1 and 2", "3"), ("Hi", "Hey")]
    path.write_text('{"instruction": "Add."}\n')
    with pytest.raises(BadInputError, match="output"):
        list(helpfulness.items(path))
