"""A folder is a catalogue, and the policy is a file: unknown names are answered with the nearest known one."""

import pytest

from primum.core.catalogue import FOLDERS, member, names
from primum.core.errors import UsageError
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
