"""What named models and files add to a benchmark: rewards, regard and toxicity by tiny networks asked directly, BOLD's
formulas by hand, and both through `primum evaluate`."""

import json
import math

import pytest
import torch
import transformers

from primum.cli import main
from primum.core.errors import BadInputError, UsageError
from primum.core.records import assistant, system, user
from primum.evaluation import gauges, lexical
from primum.evaluation.benchmarks import bold, helpfulness
from primum.evaluation.data import asked
from primum.evaluation.estimates import estimate
from primum.evaluation.items import Answer, Benchmark, Item, Metric
from primum.evaluation.likeness import bertscore
from primum.evaluation.tables import ScoredItem, Table, read_tables
from primum.models.load import load
from primum.models.reward import Heads, save_heads
from primum.report.results import summary
from tiny_models import tiny

WORDS = ["human", "assistant", ":", "add", ".", "one", "two", "three", "she", "he", "is", "kind", "person", "xyz"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A maker of tiny random BERT classifiers with the labels given."""

    def make(*labels, multi=False):
        folder = tmp_path_factory.mktemp("classifier")
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
        torch.manual_seed(len(labels))
        shape = transformers.BertConfig(
            vocab_size=5 + len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=64, id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)}, initializer_range=2.0,
            problem_type="multi_label_classification" if multi else None,
        )  # fmt: skip
        transformers.BertForSequenceClassification(shape).save_pretrained(folder)
        words = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64)
        words.save_pretrained(folder)
        return str(folder)

    return make


def outputs(folder, text):
    """What the network says of a text whose words are given to it one by one."""
    network = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    ids = [known.index(word) if word in known else 1 for word in ["[CLS]", *text.split(), "[SEP]"]]
    with torch.no_grad():
        return network(torch.tensor([ids])).logits[0]


def case(text, reply, answer="three", **more):
    return Item(asked(text, "benign", "general", "test", "none"), "", target={"answer": answer}, **more), Answer(reply)


def test_a_reward_model_without_a_template_reads_the_papers_dialogue(classifier):
    folder = classifier("reward")
    assert gauges.dialogue((user("Add. one two"),), "three") == "\n\nHuman: Add. one two \n\nAssistant:three"
    whole = (system("Be kind."), user("one"), assistant("two"), user("three"))
    assert gauges.dialogue(whole, "x") == (
        "Be kind.\n\nHuman: one \n\nAssistant: two\n\nHuman: three \n\nAssistant:x"
    )  # fmt: skip
    found = gauges.REWARD.opened(folder)([case("Add. one two", "three"), case("Add.", "one")])
    wanted = [
        outputs(folder, "human : add . one two assistant : three"),
        outputs(folder, "human : add . assistant : one"),
    ]
    assert [one["reward"] for one in found] == pytest.approx([float(one[0]) for one in wanted], abs=1e-4)
    assert abs(found[0]["reward"] - found[1]["reward"]) > 1e-3
    with pytest.raises(UsageError, match="2 outputs"):
        gauges.REWARD.opened(classifier("a", "b"))
    with pytest.raises(UsageError, match="cannot read the model 'nowhere/at-all'"):
        gauges.REWARD.check("nowhere/at-all")


def test_of_our_own_reward_models_the_head_of_helpfulness_is_read(tmp_path):
    folder = tiny(tmp_path / "reward", 0)
    heads = Heads(32, ("safety", "helpfulness"), seed=3)
    save_heads(heads, folder, 64, 16)
    gauges.REWARD.check(str(folder))
    (found,) = gauges.REWARD.opened(str(folder))([case("Add one and two.", "It is three.")])
    model = load(str(folder))
    turns = [{"role": "user", "content": "Add one and two."}, {"role": "assistant", "content": "It is three."}]
    text = model.tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")
    ids = torch.tensor([model.tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        last = model.network.model(ids).last_hidden_state[:, -1]
        wanted = heads(last)[0]
    assert found["reward"] == pytest.approx(float(wanted[1]), abs=1e-3)
    assert abs(float(wanted[0] - wanted[1])) > 1e-2


def test_the_median_of_an_even_number_is_the_lower_one():
    """By hand: mean (1 + 2 + 3 + 10) / 4, and of 1, 2, 3, 10 the second; a share has none."""
    metrics = {"reward": Metric("", unit="score"), "share": Metric("")}
    rows = tuple(
        ScoredItem(str(i), "", {"reward": x, "share": float(i > 1)}) for i, x in enumerate((3.0, 1.0, 10.0, 2.0))
    )
    reward, share = estimate(Table("own", "text", metrics, rows))
    assert (reward["value"], reward["median"]) == (4.0, 2.0) and "median" not in share


LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


def test_a_text_is_toxic_by_any_of_the_labels(classifier):
    texts = ["she is kind", "he", "one two three", "xyz is . . add", "kind kind", "person : two"]
    folder, plain = classifier(*LABELS, multi=True), classifier("benign", "toxic")
    beside = classifier("toxicity", "male", "female", multi=True)
    metric = gauges.toxicity(lambda item, answer: answer.text)
    cases = [case("", text) for text in texts]
    by = {name: [one["toxicity"] for one in metric.opened(name)(cases)] for name in (folder, plain, beside)}
    assert by[folder] == [float((outputs(folder, text) >= 0).any()) for text in texts]
    assert by[plain] == [float(outputs(plain, text).argmax() == 1) for text in texts]
    # names of groups are no toxicity
    assert by[beside] == [float(outputs(beside, text)[0] >= 0) for text in texts]
    assert len({tuple(values) for values in by.values()}) > 1 and any(0 < sum(v) < len(texts) for v in by.values())
    assert metric.opened(plain)([case("", " ")]) == [{"toxicity": "empty generation"}]


def opening(domain, group, opens="He is"):
    return bold._item(domain, group, "Joy_Good", opens)


def test_regard_is_of_the_papers_groups_with_names_hidden(classifier):
    folder = classifier("negative", "neutral", "positive")
    gauge = bold.gauges["regard"]
    items = [opening("gender", "American_actors"), opening("race", "African_Americans"),
             opening("race", "Asian_Americans"), opening("profession", "nursing")]  # fmt: skip
    texts = ["Joy Good is kind .", "one two", "one two", "one two"]
    found = gauge.opened(folder)([(item, Answer(text)) for item, text in zip(items, texts, strict=True)])
    for one, text in zip(found[:2], ["person is kind .", "one two"], strict=True):
        said = int(outputs(folder, text).argmax())
        assert one == {"regard_positive": float(said == 2), "regard_negative": float(said == 0)}
    why = "regard is measured of gender, African and European Americans alone"
    assert found[2:] == [dict.fromkeys(gauge.metrics, why)] * 2
    with pytest.raises(UsageError, match="labels that are no regard"):
        gauge.opened(classifier("LABEL_0", "LABEL_1", "LABEL_2"))


def test_numbers_that_say_much_count_more():
    """BOLD's mean by hand: (.5^2 - .1^2) / (.5 + .1) = .4; the plain mean would be .2."""
    assert lexical.weighted([0.5, -0.1]) == pytest.approx(0.4)
    assert lexical.weighted([0.0, 0.0]) == 0.0
    assert lexical.polarity([0.5, -0.6, 0.1]) == (pytest.approx((0.25 - 0.36 + 0.01) / 1.2), -0.6)
    with pytest.raises(ValueError, match="nothing"):
        lexical.weighted([])


VECTORS = ["she 1 0", "he 0 1", "queen 3 -3", "chair 2 2", "farmer -1 1", "nurse 1 0.5", "New York 0 0"]


@pytest.mark.parametrize("head", [[], [f"{len(VECTORS)} 2"]], ids=["GloVe", "word2vec"])
def test_polarity_of_word_vectors_by_hand(tmp_path, head):
    """she - he is (1, -1): queen lies on it (1), farmer against it (-1), chair across it (0), nurse at
    .5 / (sqrt(2) sqrt(1.25)) = .316."""
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join([*head, *VECTORS]) + "\n")
    nurse = 0.5 / math.sqrt(2 * 1.25)
    half = math.sqrt(0.5)
    wanted = {"she": half, "he": -half, "queen": 1.0, "chair": 0.0, "farmer": -1.0, "nurse": nurse}
    assert lexical.cosines(path) == pytest.approx(wanted)
    texts = ["The nurse, a queen on a chair.", "The farmer!", "No word here", "Chair", ""]
    found = bold.gauges["vectors"].opened(str(path))([(opening("gender", "x"), Answer(text)) for text in texts])
    assert found[0] == {
        "polarity_wavg": pytest.approx((nurse**2 + 1) / (nurse + 1)), "polarity_max": pytest.approx(1.0),
        "male_wavg": 0.0, "female_wavg": 1.0, "male_max": 0.0, "female_max": 1.0,
    }  # fmt: skip
    assert (found[1]["polarity_wavg"], found[1]["male_wavg"], found[1]["male_max"]) == (pytest.approx(-1.0), 1.0, 1.0)
    assert set(found[2].values()) == {"no word of it has a vector"}
    assert (found[3]["polarity_wavg"], found[3]["female_wavg"], found[3]["male_wavg"]) == (pytest.approx(0.0), 0.0, 0.0)
    assert set(found[4].values()) == {"empty generation"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("she 1 0\nchair 1 1\n", "no vector of 'she' and 'he'"),
        ("she 1 0\nhe 1 0\n", "one vector"),
        ("she 1 0\nhe 0 one\n", "vectors.txt:2: not a word and 2 numbers"),
        ("she 1 0\nhe 0\n", "vectors.txt:2"),
        ("she 1 0\nhe 0 nan\n", "vectors.txt:2"),
    ],
)
def test_broken_vectors_are_named(tmp_path, text, message):
    path = tmp_path / "vectors.txt"
    path.write_text(text)
    with pytest.raises(BadInputError) as caught:
        lexical.cosines(path)
    assert message in str(caught.value)


def test_norms_by_hand(tmp_path):
    """Valence as rated, from 1 to 9: kind 8 is .75, sad 2 is -.75, table 5 is 0; joy from 0 to 1 as it stands."""
    path = tmp_path / "norms.csv"
    path.write_text("Word,Valence,joy\nkind,8,0.5\nsad,2,0\ntable,5,\nbright,9,0.1\n")
    (found, none) = bold.gauges["norms"].opened(str(path))(
        [(opening("gender", "x"), Answer("Kind and bright, sad at a table")), (opening("gender", "x"), Answer("Zzz"))]
    )
    assert found["valence"] == pytest.approx((0.75**2 + 1 - 0.75**2) / (0.75 + 1 + 0.75))
    assert found["joy"] == pytest.approx((0.25 + 0.01) / 0.6)
    assert found["anger"] == "the lexicon has no such column"
    assert none["valence"] == "no word of it is in the lexicon"
    already = tmp_path / "scaled.csv"
    already.write_text("lemma,dominance,fear\na,-0.5,0.2\nb,1,1\n")
    assert lexical.lexicon(already) == {"dominance": {"a": -0.5, "b": 1.0}, "fear": {"a": 0.2, "b": 1.0}}
    rated = tmp_path / "rated.csv"
    rated.write_text("term,anger\na,1\nb,4\n")
    assert lexical.lexicon(rated) == {"anger": {"a": 0.0, "b": 0.75}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("word,colour\na,1\n", "columns word, colour"),
        ("valence\n1\n", "columns valence"),
        ("word,valence\na,12\nb,3\n", "goes from 3 to 12"),
        ("word,valence\na,0.2\nb,0.9\n", "no 'valence' is below 0"),
        ("word,joy\na,-0.2\n", "goes from -0.2 to -0.2"),
        ("word,joy\na,much\n", "norms.csv:2: 'joy' is no number"),
        ("word,joy\na,\n", "no word with a norm"),
    ],
)
def test_broken_norms_are_named(tmp_path, text, message):
    path = tmp_path / "norms.csv"
    path.write_text(text)
    with pytest.raises(BadInputError) as caught:
        lexical.lexicon(path)
    assert message in str(caught.value)


def test_every_gauge_says_what_it_needs_and_refuses_what_is_not_there():
    for gauge in (*bold.gauges.values(), *helpfulness.gauges.values()):
        assert gauge.needs and gauge.metrics and not any(metric.primary for metric in gauge.metrics.values())
        with pytest.raises((UsageError, BadInputError)):
            gauge.check("nowhere/at-all")


def test_a_benchmark_has_the_metrics_of_what_is_named():
    gauge = helpfulness.gauges["reward"]
    plain = Benchmark(
        "own", "", "", "text", "", {"a": Metric("")}, lambda source: iter(()), lambda i, a: {"a": 1.0},
        gauges={"reward": gauge},
    )  # fmt: skip
    assert plain.gauged({}) is plain and plain.gauged({"truth": "x"}) is plain
    wider = plain.gauged({"reward": "x"})
    assert list(wider.metrics) == ["a", "reward"]
    assert wider.score(case("", "")[0], Answer("", gauged={"reward": 2.5})) == {"a": 1.0, "reward": 2.5}


def test_helpfulness_with_a_reward_and_an_encoder(classifier, tmp_path, capsys):
    pytest.importorskip("sacrebleu")
    model, reward, encoder = str(tiny(tmp_path / "model", 0)), classifier("reward"), classifier("encoder", "x", "y")
    rows = [{"instruction": f"Add. {word}", "output": "one two three"} for word in ("one", "two", "three")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        "evaluate", model, "--benchmark=helpfulness", f"--data={tmp_path / 'rows.jsonl'}", "--engine=canned",
        f"--judge-model=reward={reward}", f"--judge-model=bertscore={encoder}:1", f"--out={tmp_path / 'run'}",
    ]  # fmt: skip
    assert main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not measured, nothing was named: learned" in said and "median" in said
    (table,) = read_tables(tmp_path / "run")
    for row in table.rows:
        asked_for = row.prompt.removeprefix("Add. ")
        (wanted,) = gauges.REWARD.opened(reward)([case(f"Add. {asked_for}", row.reply)])
        assert row.scores["reward"] == pytest.approx(wanted["reward"], abs=1e-4)
        assert row.scores["bertscore"] == pytest.approx(bertscore(encoder, 1, row.reply, "one two three"), abs=1e-5)
    assert "learned" not in table.metrics and table.facts["readers"] == {"reward": reward, "bertscore": f"{encoder}:1"}
    document = json.loads((tmp_path / "run" / "results.json").read_text())
    (found,) = [one for one in document["tables"][0]["estimates"] if one["metric"] == "reward"]
    assert found["median"] == sorted(row.scores["reward"] for row in table.rows)[1]
    page = (tmp_path / "run" / "results.html").read_text()
    assert "nothing was named: learned" in page and "median" in page
    assert "learned" in summary(document, tmp_path / "page")
    assert main(["evaluate", model, "--benchmark=helpfulness", "--judge-model=rewards=x", *command[3:4]]) == 2
    assert "reward" in capsys.readouterr().err
