"""A folder is a catalogue, and the policy is a file: unknown names are answered with the nearest known one."""

import pytest

from primum.core import taxonomy
from primum.core.catalogue import FOLDERS, member, names
from primum.core.errors import BadInputError, UsageError
from primum.core.taxonomy import policy


def test_unknown_catalogue_and_member_name_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'judges'"):
        member("judge", "embedded")
    with pytest.raises(UsageError, match="did you mean 'hf'"):
        member("engines", "hff")


@pytest.mark.parametrize("catalogue", sorted(FOLDERS))
def test_names_are_the_files(catalogue, root):
    folder = root / "src" / FOLDERS[catalogue].replace(".", "/")
    files = {path.stem for path in folder.glob("[!_]*.py")}
    assert files <= set(names(catalogue))


def test_third_parties_add_members_by_entry_points(tmp_path, monkeypatch):
    package = tmp_path / "mine-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[primum.judges]\nshouting = my_shouting_judge\n")
    (tmp_path / "my_shouting_judge.py").write_text("about = 'hears shouting'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "shouting" in names("judges")
    assert member("judges", "shouting").about == "hears shouting"


def test_a_member_with_a_missing_part_says_so(tmp_path, monkeypatch):
    package = tmp_path / "broken-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[primum.judges]\nbroken = my_broken_judge\n")
    (tmp_path / "my_broken_judge.py").write_text("import no_such_library_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_library_anywhere"):
        member("judges", "broken")


def test_policy_has_the_three_risks_of_llama_2_and_what_a_safe_answer_does():
    risks = {category.risk for category in policy().categories.values()}
    assert risks == {"illicit", "hateful", "unqualified"}
    assert [line.split()[0] for line in policy().expected] == ["address", "address", "provide"]
    assert len(policy().avoid) == 4


def test_mlcommons_hazards_all_exist_and_the_text_ones_are_covered():
    covered = {category.mlcommons for category in policy().categories.values() if category.mlcommons}
    assert covered == {f"S{n}" for n in range(1, 15)}  # Llama Guard 3's hazards S1 to S14


def test_whole_categories_are_held_out_and_others_are_trained_on():
    held_out = {category.id for category in policy().categories.values() if category.held_out}
    assert len(held_out) >= 4
    assert held_out < set(policy().categories)
    by_risk = {policy().categories[name].risk for name in held_out}
    assert by_risk == {"illicit", "hateful", "unqualified"}  # so that each risk is tested on unseen categories


def test_unknown_category_names_the_nearest():
    assert policy().category("fraud").name == "Fraud and scams"
    with pytest.raises(UsageError, match="did you mean 'weapons'"):
        policy().category("weapon")


# ---------------------------------------------------------------- the project's own policy


@pytest.fixture
def mine(tmp_path):
    """A policy file with one category more."""
    path = tmp_path / "mine.yaml"
    more = "  forestry: {name: Forestry, risk: illicit, held_out: true}\nlanguages:\n  de: {avoid: [eins, zwei]}\n"
    path.write_text(taxonomy.shipped() + more, encoding="utf-8")
    return path


def test_one_variable_names_the_policy_for_every_command(mine, monkeypatch):
    shipped = policy()
    assert "forestry" not in shipped.categories and shipped.hash == taxonomy.stamp()["hash"]
    monkeypatch.setenv("PRIMUM_POLICY", str(mine))
    assert policy().category("forestry").held_out and taxonomy.stamp()["hash"] != shipped.hash
    assert policy() is policy(), "read once"
    mine.write_text(mine.read_text().replace("Forestry", "Woods and trees"))
    assert policy().category("forestry").name == "Woods and trees", "and again where it changed"
    monkeypatch.setenv("PRIMUM_POLICY", str(mine.with_name("nothing.yaml")))
    with pytest.raises(UsageError, match=r"PRIMUM_POLICY=.*no such file"):
        policy()


def test_a_studio_s_file_is_the_policy_while_it_works_unless_the_variable_names_another(mine, monkeypatch, tmp_path):
    with taxonomy.using(tmp_path / "not there.yaml"):
        assert "forestry" not in policy().categories
    with taxonomy.using(mine):
        assert "forestry" in policy().categories
        other = tmp_path / "other.yaml"
        other.write_text(taxonomy.shipped(), encoding="utf-8")
        monkeypatch.setenv("PRIMUM_POLICY", str(other))
        assert "forestry" not in policy().categories
        monkeypatch.delenv("PRIMUM_POLICY")
    assert "forestry" not in policy().categories


def test_a_language_takes_its_own_overlay_or_that_of_its_family(mine):
    found = taxonomy.read(mine)
    assert found.overlay("de") == found.overlay("DE-ch") == {"avoid": ("eins", "zwei")}
    assert found.overlay("en") == {}


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [("  fraud:", "  frauds:", "'fraud' is missing"), ("  forestry:", "  ../../x:", "no name of a category"),
     ("  forestry:", "  Trees:", "no name of a category"),
     ("risk: illicit, held_out: true}\nlang", "risk: x}\nlang", "needs a name and a risk"),
     ("avoid: [eins, zwei]", "avoid: eins", "both lists")],
)  # fmt: skip
def test_a_policy_file_that_does_not_hold_together_names_what_and_where(mine, old, new, match):
    mine.write_text(mine.read_text().replace(old, new))
    with pytest.raises(BadInputError, match=match) as caught:
        taxonomy.read(mine)
    assert "mine.yaml" in (caught.value.where or "")


def test_a_category_of_the_project_has_the_sentences_of_others(mine, monkeypatch):
    from primum.pairing.completions import pieces

    monkeypatch.setenv("PRIMUM_POLICY", str(mine))
    assert pieces("forestry") == pieces("other") != pieces("fraud")
    assert pieces("../completions/fraud") == pieces("_refusals") == pieces("other"), "no path, no other file"
