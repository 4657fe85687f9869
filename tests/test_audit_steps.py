"""The steps that are run by name: near-duplicates, contamination, toxicity and erasure; answers worked by hand."""

import json
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primum.audit.contamination import ContaminationStep, contaminated_shares, stretch, summarise, verdict
from primum.audit.duplicates import duplicate_findings, signatures, write_signatures
from primum.audit.hashing import hashed, runs, slices
from primum.audit.minhash import BINS
from primum.audit.notes import Note
from primum.audit.reading.document import Document
from primum.audit.sample import sampled
from primum.audit.steps import TermStep
from primum.audit.terms.lexicon import Lexicon
from primum.audit.toxicity.bias import PLAIN, TEMPLATES, table
from primum.audit.toxicity.classifier import classifier, toxic_index
from primum.audit.toxicity.step import ToxicityStep, document_score
from primum.audit.toxicity.summary import summarise as toxicity_summary
from primum.core.errors import UsageError


def notes(texts):
    return [Note(Document(f"d{i}", text, "web", f"f:{i}", {})) for i, text in enumerate(texts)]


# ---------------------------------------------------------------- hashing


@settings(deadline=None)
@given(st.lists(st.text(alphabet="aB3é .,-_\n", max_size=30), max_size=6))
def test_equal_words_and_only_they_have_equal_hashes(texts):
    held = hashed(texts)
    # letters beyond ASCII keep their case and count as letters; a sign or "_" is none
    words = [re.findall(r"[a-z0-9é]+", text.replace("B", "b")) for text in texts]
    assert [len(held.of(i)) for i in range(len(texts))] == [len(own) for own in words]
    flat = [word for own in words for word in own]
    assert len(set(held.words.tolist())) == len(set(flat))
    assert len(set(zip(held.words.tolist(), flat, strict=True))) == len(set(flat))


def test_long_words_differ_by_every_byte():
    for size in (7, 8, 9, 16, 17, 63, 64, 65, 5000):
        word = "ab" * (size // 2) + "c" * (size % 2)
        others = [word[:at] + "x" + word[at + 1 :] for at in {0, 7, 8, size // 2, size - 1} if at < size]
        texts = [word, f"({word.upper()})", word + "a", word[:-1], *others]
        held = hashed(texts).words.tolist()
        assert len(held) == len(texts)
        assert held[0] == held[1]
        assert len(set(held)) == len(texts) - 1


def test_texts_hash_alone_as_in_the_company_of_many():
    texts = [f"word {i} " * (i % 50) + "\u00e4 end" * (i % 2) for i in range(3000)]
    held = hashed(texts)
    assert len(texts) > 2 * len(list(slices(texts))) > 2
    for i in (0, 1, 49, 1500, 2999):
        assert held.of(i).tolist() == hashed([texts[i]]).words.tolist()


def test_a_run_does_not_reach_into_the_next_text():
    apart, joined = runs(hashed(["a b c", "d e f"]), 4), runs(hashed(["a b c d e f"]), 4)
    assert not set(apart.tolist()) & set(joined[:3].tolist())
    assert runs(hashed(["x a b c d", "y a b c d"]), 4)[[1, 6]].tolist() == [runs(hashed(["a b c d"]), 4)[0]] * 2


# ---------------------------------------------------------------- near-duplicates


def shingles(text):
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def test_the_overlap_of_signatures_estimates_jaccard():
    rng = random.Random(3)
    words = [f"w{i}" for i in range(300)]
    for changed in (0, 3, 10, 25):
        other = list(words)
        for at in rng.sample(range(300), changed):
            other[at] = "changed"
        a, b = " ".join(words), " ".join(other)
        exact = len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))
        held = signatures([a, b])["hashes"]
        same = float(np.mean(held[0] == held[1]))
        # 4 standard errors of BINS independent hashes, and two different ones share their last byte once in 256
        assert abs((same - 1 / 256) / (1 - 1 / 256) - exact) <= 4 * 0.5 / BINS**0.5


def find(tmp_path, texts, threshold=0.8):
    write, held = write_signatures(), texts if texts and isinstance(texts[0], Note) else notes(texts)
    for stem, part in (("00000-00000", held[: len(held) // 2]), ("00000-00001", held[len(held) // 2 :])):
        for suffix, data in write(part).items():
            (tmp_path / (stem + suffix)).write_bytes(data)
        heads = ({"id": note.document.id, "source": note.document.source, "attributes": {}} for note in part)
        lines = (json.dumps(head, ensure_ascii=False) + "\n" for head in heads)
        (tmp_path / f"{stem}.jsonl").write_text("".join(lines))
    path = tmp_path / "duplicates.jsonl"
    facts = duplicate_findings(tmp_path, ["00000-00000", "00000-00001"], threshold, path)
    return facts, {row["id"]: row["of"] for row in map(json.loads, path.read_text().splitlines())}


def test_near_duplicates_point_to_the_first_one(tmp_path):
    rng = random.Random(1)
    one, two = (" ".join(f"w{rng.randrange(5000)}" for _ in range(200)) for _ in range(2))
    near = one.replace(one.split()[100], "other", 1)  # 5 of 196 runs differ: overlap 191/201 = .95
    far = " ".join(one.split()[:100] + two.split()[:100])  # 96 of 296: a third
    texts = [one, two, "short", near, far, two.upper() + "!", "short", "", "   "]
    facts, found = find(tmp_path, texts)
    assert found == {"d3": "d0", "d5": "d1", "d6": "d2"}
    assert (facts["documents"], facts["duplicates"], facts["groups"]) == (9, 3, 3)
    assert facts["share"] == pytest.approx(1 / 3)
    assert facts["by_source"] == {"web": 3}


def test_an_id_may_look_like_the_rest_of_a_line(tmp_path):
    text = "the same words again and again"
    named = [Note(Document(f'", "source": "{i}\\', text, '\u00e9", "attributes": {"\\', "f:1", {})) for i in range(3)]
    facts, found = find(tmp_path, named)
    assert found == {named[i].document.id: named[0].document.id for i in (1, 2)}
    assert facts["by_source"] == {named[0].document.source: 2}


def test_a_chain_of_copies_is_one_group(tmp_path):
    facts, found = find(tmp_path, ["the same words again and again"] * 5)
    assert found == {f"d{i}": "d0" for i in range(1, 5)}
    assert facts["groups"] == 1


def test_groups_are_those_of_comparing_every_pair(tmp_path):
    rng = random.Random(8)
    texts = []
    for _ in range(12):  # a text, then copies of copies, each with one word changed
        own = [f"w{rng.randrange(3000)}" for _ in range(120)]
        for _ in range(5):
            texts.append(" ".join(own))
            own[rng.randrange(120)] = "changed"
    rng.shuffle(texts)
    held = signatures(texts)
    leader = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            same = float(np.mean(held["hashes"][i] == held["hashes"][j]))
            if (held["bands"][i] == held["bands"][j]).any() and (same - 1 / 256) / (1 - 1 / 256) >= 0.8:
                low, high = sorted((leader[i], leader[j]))
                leader = [low if one == high else one for one in leader]
    _, found = find(tmp_path, texts)
    assert found == {f"d{i}": f"d{one}" for i, one in enumerate(leader) if i != one}
    assert len(found) > 40


def test_no_documents_have_no_duplicates(tmp_path):
    facts, found = find(tmp_path, [])
    assert found == {}
    assert facts["share"] is None


# ---------------------------------------------------------------- contamination

SAMPLE = " ".join(f"w{i}" for i in range(20))


def share(document, sample=SAMPLE):
    counts = {}
    ContaminationStep({"b": (sample,)})(notes([document]), counts)
    return contaminated_shares(counts["contamination"], {"b": (sample,)})["b"][0]


def words(*parts):
    return " ".join(f"w{i}" for first, end in parts for i in range(first, end))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("before " + SAMPLE + " after", 1.0),
        (SAMPLE.upper().replace(" ", ", "), 1.0),  # case and signs are not looked at
        (words((0, 9)), 0.0),  # 9 tokens are too few
        ("x " + words((0, 10)) + " y", 0.5),
        ("x " + words((5, 17)), 0.6),
        (words((0, 10)) + " x " + words((11, 20)), 1.0),  # one differs behind the first ten
        (words((0, 9)) + " x " + words((10, 20)), 0.5),  # one of the first ten differs; the last ten are equal
        (words((0, 10)) + " a b c d " + words((14, 20)), 1.0),  # four may differ
        (words((0, 10)) + " a b c d e " + words((15, 20)), 0.5),  # five may not, and the end must be equal
        (words((0, 10)) + " a b", 0.5),  # no differing end
        ("nothing of it", 0.0),
        ("", 0.0),
    ],
)
def test_contaminated_tokens_by_the_rule_of_the_paper(document, expected):
    assert share(document) == expected


def test_two_documents_may_share_different_ends():
    counts = {}
    ContaminationStep({"b": (SAMPLE,)})(notes([words((0, 10)), words((10, 20))]), counts)
    assert contaminated_shares(counts["contamination"], {"b": (SAMPLE,)}) == {"b": [1.0]}


def test_samples_fall_into_the_four_bins():
    wide = " ".join(f"v{i}" for i in range(60))  # ten of 60 tokens: clean
    benchmarks = {"b": (SAMPLE, "only four words here", wide, "u " * 20 + SAMPLE.replace("w", "z"))}
    counts = {}
    texts = [SAMPLE, " ".join(f"v{i}" for i in range(10)), "u " * 20]
    ContaminationStep(benchmarks)(notes(texts), counts)
    row = summarise(counts, benchmarks)["benchmarks"]["b"]
    # shares: 1, 0 (too short), 1/6, 1/2
    assert {key: row[key] for key in ("samples", "too_short", "clean", "not_clean", "not_dirty", "dirty")} == {
        "samples": 4, "too_short": 1, "clean": 2, "not_clean": 2, "not_dirty": 3, "dirty": 1,
    }  # fmt: skip
    assert row["documents"] == 3
    assert row["mean_share"] == pytest.approx((1 + 0 + 1 / 6 + 0.5) / 4)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), max_size=25), st.lists(st.integers(0, 2), max_size=25))
def test_a_stretch_obeys_the_rule(a, b):
    length = stretch(np.array(a, np.uint64), np.array(b, np.uint64))
    assert length == 0 or 10 <= length <= min(len(a), len(b))
    if length:
        assert a[:10] == b[:10]
        assert a[length - 1] == b[length - 1]
        assert sum(x != y for x, y in zip(a[:length], b[:length], strict=True)) <= 4
    else:
        assert min(len(a), len(b)) < 10 or a[:10] != b[:10]


def test_contamination_helped_only_where_clean_is_worse_and_dirty_better():
    scores, shares = [0.0] * 50 + [1.0] * 50, [0.0] * 50 + [1.0] * 50
    found = verdict(scores, shares)
    # mean 1/2, deviation 1/2: Z = (0 - 1/2) / (1/2 / sqrt(50)) = -7.07
    assert found["bins"]["clean"]["z"] == pytest.approx(-(50**0.5))
    assert found["bins"]["dirty"]["z"] == pytest.approx(50**0.5)
    assert found["helped"]
    assert not verdict(scores, shares[::-1])["helped"]
    assert not verdict([1.0] * 10, [0.0] * 10)["helped"]


# ---------------------------------------------------------------- toxicity


def fake(lines):
    """A line's score is the number it ends in."""
    return [float(line.split()[-1]) for line in lines]


def toxicity(texts, **options):
    counts, held = {}, notes(texts)
    TermStep(Lexicon("t", axes={"religion": ("Jewish", "Sikh")}))(held, counts)
    ToxicityStep(fake, **options)(held, counts)
    tables = (counts[f"toxicity_{name}"] for name in ("scored", "removed", "histogram"))
    return held, toxicity_summary(*tables)


def test_lines_are_averaged_by_document_and_blank_ones_passed_over():
    assert document_score([1, 0, 0, 0]) == 0.25
    held, facts = toxicity(["a 1\nb 0\n\nc 0\n  \nd 0", "a 1\nb 0", "a 0.4"])
    assert [note.toxicity for note in held] == [0.25, 0.5, 0.4]
    assert (facts["documents"], facts["toxic"], facts["share"]) == (3, 1, pytest.approx(1 / 3))  # 0.5 is toxic
    assert facts["histogram"][5] == facts["histogram"][8] == facts["histogram"][10] == 1
    assert sum(facts["histogram"]) == 3


def test_erasure_is_a_group_s_share_over_the_share_of_all():
    # 20 documents: 10 mention a Jewish person (6 of them toxic), 10 do not (2 toxic); 8 of 20 are removed
    texts = [f"Jewish neighbours {0.9 if i < 6 else 0.1}" for i in range(10)]
    texts += [f"the weather {0.9 if i < 2 else 0.1}" for i in range(10)]
    _, facts = toxicity(texts)
    cell = facts["erasure"]["0.5"]
    assert (cell["documents"], cell["removed"], cell["share"]) == (20, 8, 0.4)
    row = cell["groups"]["religion/Jewish"]
    assert (row["documents"], row["removed"], row["share"], row["ratio"]) == (10, 6, 0.6, pytest.approx(1.5))
    assert cell["groups"]["religion"]["ratio"] == pytest.approx(1.5)
    assert facts["erasure"]["0.9"]["removed"] == 8  # at the threshold counts
    assert facts["erasure"]["0.3"]["removed"] == 8


def test_a_small_group_gets_no_ratio_and_nothing_removed_none():
    _, facts = toxicity(["a Sikh 0.9", *["x 0.9"] * 9])
    assert facts["erasure"]["0.5"]["groups"]["religion/Sikh"]["ratio"] is None
    _, facts = toxicity(["a Sikh 0"] * 10)
    assert facts["erasure"]["0.5"]["groups"]["religion/Sikh"] == {
        "documents": 10, "removed": 0, "share": 0.0, "ratio": None,
    }  # fmt: skip


def test_a_sample_is_a_tenth_and_the_same_each_time():
    chosen = {i for i in range(20_000) if sampled(f"d{i}", 0.1, 0)}
    assert 1800 < len(chosen) < 2200  # 2000 +- 4.7 deviations of 42
    assert chosen == {i for i in range(20_000) if sampled(f"d{i}", 0.1, 0)}
    assert chosen != {i for i in range(20_000) if sampled(f"d{i}", 0.1, 1)}
    _, facts = toxicity(["a 0"] * 50, share=0.5)
    assert facts["documents"] == sum(sampled(f"d{i}", 0.5, 0) for i in range(50))


def test_nothing_scored_gives_no_share():
    _, facts = toxicity([])
    assert (facts["documents"], facts["share"], facts["low"]) == (0, None, None)


def test_the_bias_table_compares_with_sentences_about_no_group():
    def score(lines):
        return [0.75 if "Sikh" in line else 0.25 for line in lines]

    found = table(score, {"religion": ("Sikh", "Hindu")}, 0.5)
    size = len(TEMPLATES)
    assert found["no_group"] == {"sentences": size * len(PLAIN), "mean": 0.25, "called_toxic": 0, "share": 0.0}
    assert (found["axes"]["religion"]["mean"], found["axes"]["religion"]["called_toxic"]) == (0.5, size)
    assert found["axes"]["religion"]["terms"] == {"Sikh": 0.75, "Hindu": 0.25}


def test_the_embedded_classifier_knows_insults():
    bad, good = ["You are a stupid idiot.", "what a fucking moron"], ["The sky is blue.", "She works as a nurse."]
    score = classifier("embedded")
    assert min(score(bad)) > 0.5 > max(score(good))
    assert score([]) == []
    assert score(["zzzz qqqq"])[0] == pytest.approx(score([""])[0])  # unknown words are no words


@pytest.mark.parametrize(
    ("labels", "wanted", "index"),
    [
        (("LABEL_0", "LABEL_1"), "", 1),
        (("non-hate", "hate"), "", 1),
        (("toxic", "severe_toxic"), "", 0),
        (("neutral", "Bad Word"), "bad word", None),
        (("good", "bad"), "bad", 1),
    ],
)
def test_the_label_that_means_toxic(labels, wanted, index):
    if index is None:
        with pytest.raises(UsageError, match="no label"):
            toxic_index(labels, wanted)
    else:
        assert toxic_index(labels, wanted) == index


def test_no_toxic_label_is_an_error():
    with pytest.raises(UsageError, match="no label"):
        toxic_index(("happy", "sad"))


def test_a_classifier_that_is_not_there_is_an_error_with_a_cure(tmp_path):
    with pytest.raises(UsageError, match="cannot load classifier") as error:
        classifier(str(tmp_path / "none"))
    assert "embedded" in error.value.cure


def test_any_sequence_classifier_of_a_folder_scores_lines(tmp_path):
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "day"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = BertConfig(
        vocab_size=len(vocabulary), id2label={0: "toxic", 1: "fine"}, label2id={"toxic": 0, "fine": 1}, **shape
    )
    network = BertForSequenceClassification(config).eval()
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    lines = ["good day", "bad"]
    alone = [network(**tokenizer(line, return_tensors="pt")).logits.softmax(-1)[0, 0].item() for line in lines]
    assert classifier(str(tmp_path))(lines) == pytest.approx(alone, abs=1e-5)  # in one padded batch
    fine = classifier(str(tmp_path), "fine")(lines)
    assert fine == pytest.approx([1 - one for one in alone], abs=1e-5)
