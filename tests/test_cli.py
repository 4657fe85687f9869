"""The command line as a user meets it: help without weight, exit codes, suggestions, one JSON document."""

import ast
import json
import re
import shlex
import subprocess
import sys
from typing import Literal

import pytest
from pydantic import Field

from primum import __version__, cli
from primum.core.catalogue import names
from primum.core.config import Config, from_flags
from primum.core.errors import StepFailedError
from primum.models.opening import choose
from primum.models.sampling import Opening
from primum.report.example import example_facts
from primum.report.write import write_report
from primum.verbs.doctor import extra_requirements
from primum.verbs.list import about_of

HEAVY = {"torch", "transformers", "peft", "accelerate", "numpy", "scipy", "pydantic", "rich", "yaml", "jinja2"}


class BrewConfig(Config):
    """A verb for these tests, beside the real ones."""

    leaf: str = Field("green", description="which tea", json_schema_extra={"positional": True})
    minutes: int = Field(3, description="how long")
    size: Literal["cup", "pot"] = Field("cup", description="how much")


def brew(config: BrewConfig, json_output: bool) -> tuple[int, dict]:
    """Brew, or fail in the ways that a verb can fail."""
    print("pouring")
    if config.leaf == "sand":
        raise StepFailedError("sand does not brew", where="the pot", cure="use tea")
    if config.leaf == "long":
        raise KeyboardInterrupt
    return (3 if config.leaf == "weak" else 0), {"leaf": config.leaf, "minutes": config.minutes, "size": config.size}


@pytest.fixture(autouse=True)
def brewing(monkeypatch):
    verb = cli.Verb("brew tea", f"{__name__}:brew", f"{__name__}:BrewConfig", ("primum brew oolong",))
    monkeypatch.setitem(cli.VERBS, "brew", verb)


def loaded_after(*arguments: str) -> set[str]:
    """Return the top-level modules in a fresh interpreter after running the command line."""
    code = (
        "import sys; from primum.cli import main; code = main(sys.argv[1:]);"
        "print('LOADED', code, sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stdout
    _, exit_code, listed = out.splitlines()[-1].split(maxsplit=2)
    assert exit_code == "0"
    return set(ast.literal_eval(listed))


@pytest.mark.parametrize("flag", ["--help", "-h", "--version"])
def test_help_loads_the_standard_library_only(flag):
    assert loaded_after(flag) & HEAVY == set()


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("report", "--help"), ("list", "--help")])
def test_light_verbs_load_no_model_library(arguments):
    assert loaded_after(*arguments) & {"torch", "transformers", "scipy", "numpy"} == set()


def test_help_names_every_verb_and_exit_code(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in ("repair", "report", "list", "doctor"))
    assert "0 passed, 1 the gate failed, 2 usage error, 3 undecided, 4 a step failed" in out


def test_no_verb_is_a_usage_error_with_the_help(capsys):
    assert cli.main([]) == 2
    assert "usage: primum VERB" in capsys.readouterr().err


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"primum {__version__}\n"


def test_unknown_verb_did_you_mean(capsys):
    assert cli.main(["repare"]) == 2
    assert "unknown verb 'repare'\n  cure: did you mean 'repair'?" in capsys.readouterr().err


def test_unknown_flag_did_you_mean(capsys):
    assert cli.main(["brew", "--minuts", "5"]) == 2
    assert "unknown argument '--minuts'\n  cure: did you mean '--minutes'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["brew", "--minutes", "soon"], "invalid int value: 'soon'"),
        (["brew", "--size", "bucket"], "invalid choice: 'bucket'"),
        (["brew", "--minutes"], "expected one argument"),
        (["brew", "green", "black"], "unknown argument 'black'"),
        (["--loud", "brew"], "unknown argument '--loud'"),
    ],
)
def test_wrong_use_exits_2_and_says_what(arguments, says, capsys):
    assert cli.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_verb_help_shows_defaults_and_examples(capsys):
    assert cli.main(["brew", "--help"]) == 0
    out = capsys.readouterr().out
    assert "how long (default: 3)" in out
    assert "primum brew oolong" in out


@pytest.mark.parametrize("arguments", [["--json", "brew", "weak"], ["brew", "weak", "--json"]])
def test_json_is_one_document_and_the_exit_code_is_the_verbs(arguments, capsys):
    assert cli.main(arguments) == 3
    out, err = capsys.readouterr()
    assert json.loads(out) == {"leaf": "weak", "minutes": 3, "size": "cup"}
    assert err == "pouring\n"


def test_an_error_is_told_without_traceback(capsys):
    assert cli.main(["brew", "sand"]) == 4
    assert capsys.readouterr().err == "primum: the pot: sand does not brew\n  cure: use tea\n"


def test_an_error_with_json_is_a_document_too(capsys):
    assert cli.main(["brew", "sand", "--json"]) == 4
    said = {"error": "sand does not brew", "where": "the pot", "cure": "use tea", "exit_code": 4}
    assert json.loads(capsys.readouterr().out) == said


def test_an_interrupt_exits_130_and_says_how_to_go_on(capsys):
    assert cli.main(["brew", "long", "--minutes", "9"]) == 130
    assert "run it again:\n  primum brew long --minutes 9" in capsys.readouterr().err


def test_settings_come_from_a_file_and_flags_override_them(tmp_path, capsys):
    path = tmp_path / "tea.yaml"
    path.write_text("leaf: black\nminutes: 5\nsize: pot\n")
    assert cli.main(["brew", "--config", str(path), "--minutes", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"leaf": "black", "minutes": 7, "size": "pot"}
    assert cli.main(["--config", str(path), "brew", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["minutes"] == 5


def test_an_empty_file_changes_nothing(tmp_path, capsys):
    path = tmp_path / "tea.yaml"
    path.write_text("# nothing yet\n")
    assert cli.main(["brew", "--config", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"leaf": "green", "minutes": 3, "size": "cup"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("minuts: 5\n", "{path}: unknown key 'minuts'\n  cure: did you mean 'minutes'?"),
        ("minutes: soon\n", "{path}: minutes:"),
        ("leaf: black\nminutes: [5\n", "{path}:3: no valid YAML"),
        ("- leaf\n", "{path}: must hold settings by name"),
        ("5: leaf\n", "{path}: must hold settings by name"),
    ],
)
def test_a_wrong_file_is_named(text, says, tmp_path, capsys):
    path = tmp_path / "tea.yaml"
    path.write_text(text)
    assert cli.main(["brew", "--config", str(path)]) == 2
    assert says.format(path=path) in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path, capsys):
    assert cli.main(["brew", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: no such configuration file" in capsys.readouterr().err


def test_python_m_primum_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "primum", "repare"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean 'repair'?" in done.stderr


def test_a_reader_that_goes_away_is_no_crash():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m primum list | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() in {"0", "141"}
    assert done.stderr == ""


def test_list_shows_each_member_with_what_it_says(capsys):
    assert cli.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "hf" in found["engines"]
    assert all(about for members in found.values() for about in members.values())
    assert cli.main(["list", "engines"]) == 0
    assert "hf  " in capsys.readouterr().out


def test_list_of_one_benchmark_says_what_its_numbers_mean(capsys, tmp_path):
    assert cli.main(["list", "benchmarks", "harmbench"]) == 0
    out = capsys.readouterr().out
    assert "that the reply goes along with (lower is better)" in " ".join(out.split())
    said = [line.split(maxsplit=1) for line in out.splitlines() if line]
    told = {line[0]: line[1] for line in said if len(line) == 2}
    assert (told["licence"], told["cluster"], told["drawn"]) == ("MIT", "a behaviour", "t0-n256")
    assert told["judge"] == "rules (--judge names another)"
    assert told["apart"].startswith("not comparable with published numbers: HarmBench judges")
    assert cli.main(["list", "benchmarks", "truthfulqa", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["benchmarks"]["truthfulqa"]
    assert found["judge"] == "likelihood" and found["sampling"] is None
    assert found["metrics"]["mc1"]["direction"] == "higher_is_better"

    (tmp_path / "rows.jsonl").write_text('{"q": "?", "o": ["a", "b"], "a": 0}\n')
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nrows: rows.jsonl\nkind: choices\nprompt: q\noptions: o\nanswer: a\n")
    assert cli.main(["list", "benchmarks", str(own)]) == 0
    assert "none: scored by likelihood" in capsys.readouterr().out
    assert cli.main(["list", "benchmarks", "harmbenhc"]) == 2
    assert "did you mean 'harmbench'?" in capsys.readouterr().err


def test_list_of_one_member(capsys):
    assert cli.main(["list", "engines", "hf"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][:2] == ["engines", "hf"]
    assert cli.main(["list", "engines", "hff"]) == 2
    assert "no 'hff' in engines" in capsys.readouterr().err
    assert cli.main(["list", "benchmarks"]) == 0
    assert "primum list benchmarks NAME: " in capsys.readouterr().out


def test_list_of_an_unknown_catalogue(capsys):
    assert cli.main(["list", "judgs"]) == 2
    assert "did you mean 'judges'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "about"),
    [
        ('"""First line.\n\nMore."""\nabout = "what it is"\n', "what it is"),
        ('about: str = (\n    "two "\n    "parts"\n)\n', "two parts"),
        ('"""First line.\n\nMore."""\nabout = make()\n', "First line."),
        ("import no_such_library_anywhere\n", ""),
    ],
)
def test_about_is_read_without_running_the_file(source, about, tmp_path):
    (tmp_path / "member.py").write_text(source)
    assert about_of(tmp_path / "member.py") == about


def test_doctor_gives_every_missing_part_its_command(capsys):
    code = cli.main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == (0 if document["able"] else 4)
    names = [check["name"] for check in document["checks"]]
    assert {"python", "torch", "device", "memory", "disk", "[hub]", "[parquet]", "[trl]", "public data"} <= set(names)
    assert all(check["ok"] or check["cure"] for check in document["checks"])


def test_doctor_says_of_every_engine_whether_it_runs_and_which_one_auto_takes(capsys, monkeypatch):
    monkeypatch.setenv("PRIMUM_VLLM", "/nowhere/vllm")
    cli.main(["doctor", "--json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    found = {name: checks[f"engine {name}"] for name in names("engines")}
    assert not any(check["needed"] for check in found.values()) and found["hf"]["ok"]
    assert (
        not found["vllm"]["ok"]
        and "no vllm command" in found["vllm"]["text"]
        and "pip install" in found["vllm"]["cure"]
    )
    assert not found["http"]["ok"] and "--url" in found["http"]["cure"]
    taken = [name for name, check in found.items() if check["text"] == "ready; --engine auto takes it"]
    assert taken == [choose("auto", Opening()).engine]
    assert cli.main(["doctor"]) in (0, 4)
    lines = capsys.readouterr().out.splitlines()
    assert any("engine vllm" in line and "no vllm command" in line for line in lines)


def test_the_requirements_of_an_extra_are_read_from_the_metadata():
    listed = ["torch>=2.6", 'datasets>=4.0; extra == "hub"', "trl>=1.0 ; extra == 'trl'"]
    assert extra_requirements("hub", listed) == ["datasets>=4.0"]
    assert extra_requirements("trl", listed) == ["trl>=1.0"]
    assert extra_requirements("other", listed) == []


def test_report_writes_the_page_again_and_leaves_the_facts(tmp_path, capsys):
    write_report(tmp_path, example_facts())
    facts = (tmp_path / "report.json").read_bytes()
    page = (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    assert cli.main(["report", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["page"] == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == page
    assert (tmp_path / "report.json").read_bytes() == facts


def test_report_of_no_run_is_a_usage_error(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "no report.json in this folder" in capsys.readouterr().err


def commands_in(page):
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [part for line in lines for part in line.split(" && ") if part.startswith("primum ")]


def test_every_command_that_we_show_is_one_that_we_take(root):
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    shown = [example for verb in cli.VERBS.values() for example in verb.examples]
    shown += [line for page in pages for line in commands_in(page)]
    assert len(shown) > 200
    for line in shown:
        name, behind = cli.verb_of(shlex.split(line.partition(" > ")[0], comments=True)[1:])
        verb = cli.VERBS[name]
        cls = cli._load(verb.config)
        flags = cli._parse(name, verb, cls, behind)
        assert from_flags(cls, flags), line
