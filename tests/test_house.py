"""The habits of the house (docs/architecture.md, section 5), held by the code itself."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from primum.core.catalogue import FOLDERS

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
SHIPPED = [*SOURCES, *sorted((ROOT / "tools").rglob("*.py"))]

MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 500, 100, 8
TORCH_ROOMS = ("models", "training")
"""Rooms whose modules may import torch at their top; elsewhere it is imported inside a function."""
BROAD_EXCEPTS: dict[str, str] = {
    "src/primum/audit/engine.py": "one document that breaks a step does not end the audit: it is skipped and named",
    "src/primum/cli.py": "an uncaught error would leave with Python's exit code 1, which says that the gate failed",
    "src/primum/redteam/runner.py": "one attack that breaks does not end the run: its attempt becomes unscored",
    "src/primum/judging/runner.py": "one reply that breaks a judge does not end the batch: it becomes unscored",
}
"""File -> why it may catch everything."""
OPTIONAL_PACKAGES = {
    "datasets", "inspect_ai", "pytest", "pyarrow", "trl", "starlette", "uvicorn", "sqlalchemy", "alembic", "argon2",
    "fasttext", "fsspec", "phonenumbers", "stdnum", "zstandard", "openvino", "openvino_genai", "ray",
    "PIL", "spacy", "presidio_analyzer", "gliner", "bitsandbytes", "authlib", "joserfc", "requests", "sacrebleu",
    "torchao",
}  # fmt: skip
"""Imported inside functions; the extras of pyproject.toml install them."""

by_name = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def imported(tree: ast.AST) -> list[tuple[ast.stmt, str]]:
    """Return (statement, top-level package) of every absolute import."""
    found: list[tuple[ast.stmt, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node, alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node, node.module.partition(".")[0]))
    return found


@by_name
def test_files_and_functions_stay_small(path):
    assert path.read_text(encoding="utf-8").count("\n") <= MAX_FILE
    for function in functions(tree_of(path)):
        assert function.end_lineno - function.lineno + 1 <= MAX_FUNCTION, function.name
        arguments = function.args
        count = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
        assert count <= MAX_PARAMETERS, function.name


def catches_everything(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(isinstance(n, ast.Name) and n.id in {"Exception", "BaseException"} for n in ast.walk(handler.type))


@pytest.mark.parametrize("path", [*SHIPPED, *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda path: path.name)
def test_a_name_of_a_module_is_given_once(path):
    """No linter asked here sees the second of two constants of one name, nor a test that hides another."""
    named: list[str] = []
    for node in tree_of(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not any("overload" in ast.unparse(decorator) for decorator in node.decorator_list):
                named.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            named += [target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()]
    assert {name for name in named if named.count(name) > 1} == set()


@by_name
def test_no_broad_except(path):
    handlers = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ExceptHandler)]
    broad = [handler.lineno for handler in handlers if catches_everything(handler)]
    assert not broad or str(path.relative_to(ROOT)) in BROAD_EXCEPTS, f"lines {broad}"


@by_name
def test_torch_is_imported_at_the_top_only_in_its_rooms(path):
    if path.is_relative_to(ROOT / "src") and path.relative_to(ROOT / "src" / "primum").parts[0] in TORCH_ROOMS:
        return
    tree = tree_of(path)
    typing_only = {
        id(inner)
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    inside = {id(inner) for function in functions(tree) for inner in ast.walk(function)}
    heavy = [
        node.lineno
        for node, package in imported(tree)
        if package in {"torch", "transformers", "peft", "accelerate"} and id(node) not in inside | typing_only
    ]
    assert not heavy, f"lines {heavy}"


@by_name
def test_nothing_is_left_for_later(path):
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text(encoding="utf-8"))


def members() -> list[Path]:
    folders = [ROOT / "src" / package.replace(".", "/") for package in FOLDERS.values()]
    return [path for folder in folders for path in sorted(folder.glob("[!_]*.py"))]


@pytest.mark.parametrize("path", members(), ids=lambda path: str(path.relative_to(ROOT)))
def test_members_of_a_catalogue_never_import_each_other(path):
    package = ".".join(path.relative_to(ROOT / "src").parts[:-1])
    siblings = {f"{package}.{other.stem}" for other in path.parent.glob("[!_]*.py")}
    named = [alias.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.Import) for alias in node.names]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the direction"
            named += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    assert not siblings & set(named)


def test_every_package_has_an_init():
    folders = {path.parent for path in SOURCES} - {ROOT / "src"}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_third_party_import_is_declared_and_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w.-]+", need)[0].lower() for need in project["dependencies"]}
    pinned = {line.partition("==")[0] for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line}
    assert declared <= pinned
    provider = packages_distributions()
    for path in SOURCES:
        for _, package in imported(tree_of(path)):
            if package in sys.stdlib_module_names or package == "primum" or package in OPTIONAL_PACKAGES:
                continue
            assert {name.lower() for name in provider.get(package, [package])} & declared, f"{path.name}: {package}"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_every_test_asserts_something(path):
    for function in functions(tree_of(path)):
        if function.name.startswith("test_"):
            says = [node for node in ast.walk(function) if isinstance(node, ast.Assert)]
            named = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
            assert says or any(name == "raises" or name.startswith("assert_") for name in named), function.name
            assert not any(isinstance(node.test, ast.Constant) for node in says), function.name


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_no_mocks(path):
    names = {node.id for node in ast.walk(tree_of(path)) if isinstance(node, ast.Name)}
    assert not names & {"Mock", "MagicMock", "patch", "mocker"}


def test_the_version_is_in_the_changelog():
    from primum import __version__

    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{__version__}]" in changelog or "## [Unreleased]" in changelog


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_links_and_paths_in_the_docs_exist(page):
    text = (ROOT / page).read_text()
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if not target.startswith("http")]
    missing = [target for target in targets if not ((ROOT / page).parent / target).exists()]
    assert missing == []


def test_make_targets_in_the_docs_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        target
        for page in ("README.md", "CONTRIBUTING.md")
        for target in re.findall(r"^make ([\w-]+)|`make ([\w-]+)", (ROOT / page).read_text(), re.MULTILINE)
        for target in target
        if target
    }
    assert used
    assert used <= targets
