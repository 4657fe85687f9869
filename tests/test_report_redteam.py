"""The red-team page and its verb: self-contained, hostile text stays text, transcripts stay behind a click."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import pytest

from primum import cli
from primum.models.sampling import Generated
from primum.pipeline import redteam
from primum.pipeline.redteam_facts import closing
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.redteam.rehearsal import Rehearsal
from primum.report.redteam import page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e</bdi>"
VOID = {"meta", "link", "br", "hr", "img", "input"}


@dataclass
class Hostile(Rehearsal):
    """A model that writes markup."""

    def _answer(self, messages):
        return Generated(f"Sure! {HOSTILE} Here is how to do it: 1. first, 2. then.", "stop", 1, 1)


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.shown: list[str] = []
        self.open: list[tuple[str, bool]] = []
        self.unbalanced: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href") or key.startswith("on")]
        if tag not in VOID:
            self.open.append((tag, tag == "details" and "open" not in dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        last = self.open.pop()[0] if self.open else ""
        self.unbalanced += [] if last == tag else [f"</{tag}> closes <{last}>"]

    def handle_data(self, data):
        if not any(closed for _, closed in self.open) or "summary" in [tag for tag, _ in self.open]:
            self.shown.append(data)


def attacked(folder, engine=None, **settings):
    """Run the attacks by a model of rules; return the facts."""
    given = {"limit": 4, "tries": 2, "judges": ("rules",), "attacks": ("authority", "crescendo", "prefill", "repeat")}
    config = redteam.RedteamConfig(out=str(folder), **{**given, **settings})
    about = {"model": {"name": "rehearsal", "parameters": 0}, "attacker": None}
    target = engine or Rehearsal(("hero", "audit", "article"))
    engines = redteam.Engines("k", "k", about, target, Rehearsal(attacker=True))
    journey = Journey(folder, Terminal(quiet=True))
    return redteam.attack(journey, config, redteam.check(config), engines if config.machine else None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs: a weak model, and a stronger one against it, with a campaign and a vector held out."""
    folder = tmp_path_factory.mktemp("runs")
    people = folder / "people.csv"
    people.write_text("session,person,hours,violations,category,degree\ns,<b>p</b>,2,1,theft,3\ns,q,2,3,fraud,5\n")
    weak = attacked(folder / "weak", Hostile())
    strong = attacked(
        folder / "strong", against=str(folder / "weak"), campaign=str(people), held_out=("prefill",), vectors=()
    )
    return folder, weak, strong


def test_the_page_loads_nothing_and_runs_nothing(runs):
    text = (runs[0] / "weak" / "report.html").read_text()
    read = Reader(text)
    assert [link for link in read.links if not link.startswith(("#", "data:"))] == []
    assert not {"script", "iframe", "object", "embed", "img", "form", "base"} & set(read.tags)
    assert "default-src 'none'" in text
    assert read.unbalanced == []
    assert "\x1b" not in text and "\u202e" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_prompts_that_the_model_did_not_read_whole_are_counted_by_attack(tmp_path, capsys):
    @dataclass
    class Narrow(Rehearsal):
        """A model that has read at most forty words."""

        def _answer(self, messages):
            words = sum(len(message.text.split()) for message in messages)
            return replace(super()._answer(messages), prompt_cut=max(0, words - 40))

    facts = attacked(tmp_path, Narrow())
    rows = [json.loads(line) for line in (tmp_path / "transcripts.jsonl").read_text().splitlines()]
    sent = [(row["attack"], sum(len(m["content"].split()) for m in turn["messages"])) for row in rows
            for turn in row["turns"]]  # fmt: skip
    wanted = Counter(name for name, words in sent if words > 40)
    assert wanted["authority"] and not wanted["plain"] and facts["prompts_cut"] == dict(wanted)
    line = f"authority: {wanted['authority']} prompts longer than the model's window, cut at the beginning"
    assert line in closing(facts, tmp_path / "report.html")
    assert "Prompts cut" in (tmp_path / "report.html").read_text()


def test_every_link_within_the_page_has_its_place(runs):
    for name in ("weak", "strong"):
        text = (runs[0] / name / "report.html").read_text()
        assert [link for link in Reader(text).links if link.startswith("#") and f'id="{link[1:]}"' not in text] == []


def test_goals_and_replies_stay_behind_a_click(runs):
    folder, weak, _ = runs
    shown = " ".join(Reader((folder / "weak" / "report.html").read_text()).shown)
    assert "Here is how to do it" not in shown
    assert not [row for row in weak["transcripts"] if row["goal"] in shown]


def test_a_weak_model_fails_and_the_page_says_so(runs):
    _, weak, _ = runs
    found = weak["results"]["rules"]
    assert found["any"] == {"k": 4, "n": 4, "unknown": 0, "least": 1.0, "most": 1.0}
    assert weak["failed"] == 0
    assert weak["goals"]["n"] == 4


def test_old_failures_campaign_and_held_out_vectors_are_reported(runs):
    folder, weak, strong = runs
    old = strong["against"]["judges"]["rules"]["all"]
    rows = [json.loads(line) for line in (folder / "weak" / "outcomes.jsonl").read_text().splitlines()]
    assert old["n"] == sum(row["outcome"] is True for row in rows) == 5 * 4
    now = [json.loads(line) for line in (folder / "strong" / "outcomes.jsonl").read_text().splitlines()]
    assert old["value"] == sum(row["outcome"] is False for row in now) / 20
    assert 0 < old["value"] < 1
    assert [row["goal"] for row in now] == [row["goal"] for row in rows]
    assert strong["against"]["differs"] == []
    assert strong["campaign"]["rate"]["value"] == 1.0
    assert strong["results"]["rules"]["held_out"]["vectors"] == ["prefill"]
    text = (folder / "strong" / "report.html").read_text()
    for said in ("Old failures", "Violations per person and hour", "Vectors held out: prefill"):
        assert said in text
    assert weak["campaign"] is None


def test_a_search_is_charted_by_its_tries(tmp_path):
    """PAIR's prompts are tries, each a conversation of its own: none is a turn of another."""
    facts = attacked(tmp_path, attacks=("pair",), tries=3)
    row = next(row for row in facts["results"]["rules"]["attacks"] if row["attack"] == "pair")
    text = page(facts)
    assert len(row["by_try"]) == 3
    assert "success by try" in text and "<span>3 tries</span></div></figure>" in text
    assert "by turn<span" not in text and " turns</span></div></figure>" not in text


def test_charts_say_what_their_axes_are_and_share_one_scale(runs):
    text = (runs[0] / "weak" / "report.html").read_text()
    charts = text.split("<figure>")[1:]
    assert len(charts) == 2  # crescendo by turn, repeat by try
    assert all('<div class="yaxis"><span>100%</span><span>0%</span></div>' in one for one in charts)
    assert sum(" turns</span></div></figure>" in one for one in charts) == 1
    assert sum("<span>2 tries</span></div></figure>" in one for one in charts) == 1
    assert "training steps" not in text
    assert all("at the end <b>100%</b>" in one for one in charts)  # every goal was reached


def test_the_closing_table_fits_a_terminal(runs):
    from primum.pipeline.redteam_facts import closing

    folder, _, strong = runs
    lines = closing(strong, folder / "report.html").splitlines()
    assert max(len(line) for line in lines[:-1]) <= 80
    assert any(line.startswith("people: 1 violations per person and hour") for line in lines)
    assert any(line.startswith("old failures mitigated:") for line in lines)


def test_a_gap_in_the_facts_does_not_break_the_page():
    assert "Red team" in page({"kind": "redteam"})


def test_the_page_is_written_again_from_its_facts(runs, capsys):
    folder = runs[0] / "weak"
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    assert cli.main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text() == before
    assert "report.html" in capsys.readouterr().out


def test_a_campaign_alone_needs_no_model(tmp_path, capsys):
    people = tmp_path / "people.jsonl"
    people.write_text('{"session": 1, "person": "a", "hours": 20, "violations": 9}\n')
    out = tmp_path / "out"
    assert cli.main(["redteam", "--no-machine", "--campaign", str(people), "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["campaign"]["rate"]["value"] == 0.45
    assert "results" not in document
    assert "0.45" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--attacks", "poetri"], "did you mean 'poetry'"),
        (["--vectors", "logik"], "did you mean 'logic'"),
        (["--held-out", "logik"], "did you mean 'logic'"),
        (["--judges", "rulez"], "did you mean 'rules'"),
        (["--goals", "no-such-file.jsonl"], "no such file"),
        (["--against", "no-such-run"], "no outcomes of a red-team run here"),
        (["--campaign", "none.csv"], "none.csv: no such file"),
        (["--no-machine"], "there is nothing to do"),
        (["--tries", "0"], "tries: Input should be greater than or equal to 1"),
    ],
)
def test_wrong_use_is_told_before_a_model_is_loaded(arguments, says, tmp_path, capsys):
    assert cli.main(["redteam", *arguments, "--dry-run", "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err


def test_a_run_with_other_settings_takes_the_old_report_away(tmp_path):
    attacked(tmp_path, attacks=("authority",), limit=2)
    dying = Rehearsal()

    def stop(*_):
        raise KeyboardInterrupt

    dying._answer = stop
    with pytest.raises(KeyboardInterrupt):
        attacked(tmp_path, dying, attacks=("poetry",), limit=2)
    assert not (tmp_path / "report.json").exists()
