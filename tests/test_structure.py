"""The plan of the house holds: import order, names, sizes, and a README that tells the truth about the rooms."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "neologism"
FILES = sorted(PACKAGE.rglob("*.py"))
CODE = [*FILES, *sorted((ROOT / "workshop").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
BANNED = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "shared", "base", "core", "handler"}
DOORS = {"__init__", "__main__"}
"""They stand outside the order: one hands out names, the other calls the command."""


def order() -> list[str]:
    """The rooms in the order of their imports, from ARCHITECTURE.md."""
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    listed = re.search(r"```rooms\n(.*?)```", page, re.DOTALL)
    assert listed, "ARCHITECTURE.md has no ```rooms list"
    lines = [line.split("#")[0].strip() for line in listed[1].splitlines()]
    return [line for line in lines if line]


def room(file: Path) -> str:
    """The room that a file belongs to: a module of the package or one of its folders."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms() -> set[str]:
    """The rooms on disk."""
    return {room(file) for file in FILES} - DOORS


def imported(file: Path) -> Iterator[str]:
    """The rooms that a file imports, wherever in it; for types alone does not count."""
    tree = ast.parse(file.read_text("utf-8"))
    types_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node not in types_only:
            yield from (name.split(".")[1] for name in modules(node) if name.startswith("neologism."))


def modules(node: ast.AST) -> list[str]:
    """The modules that a statement imports, by full name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module == "neologism":
        return [f"neologism.{alias.name}" for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []


def test_every_room_has_its_place_in_the_order() -> None:
    assert rooms() - set(order()) == set()
    assert len(order()) == len(set(order()))


@pytest.mark.parametrize("file", [file for file in FILES if room(file) not in DOORS], ids=lambda file: str(file.name))
def test_each_room_imports_only_rooms_above_it(file: Path) -> None:
    above = order()[: order().index(room(file))]
    breaches = {name for name in imported(file) if name in order() and name not in [*above, room(file)]}
    assert breaches == set(), f"{file} imports from below"


def test_no_relative_imports() -> None:
    found = [
        f"{file}:{node.lineno}"
        for file in CODE
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [str(file) for file in CODE if {file.stem, file.parent.name} & BANNED] == []


def test_no_file_is_longer_than_300_lines() -> None:
    lengths = {str(file): len(file.read_text("utf-8").splitlines()) for file in CODE}
    assert {file: length for file, length in lengths.items() if length > 300} == {}


def test_no_function_is_longer_than_50_lines() -> None:
    lengths = {
        f"{file}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for file in CODE
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > 50} == {}


@pytest.mark.parametrize("module", ["neologism", "neologism.cli"])
def test_importing_the_front_doors_takes_no_torch(module: str) -> None:
    if module.count(".") and not (PACKAGE / "cli.py").exists():
        pytest.skip("there is no cli.py yet")
    heavy = "sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    command = [sys.executable, "-c", f"import sys, {module}; print({heavy})"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_found_where_it_is_said_to_live() -> None:
    import neologism

    assert sorted(neologism.ROOMS) == sorted(neologism.__all__)
    assert set(neologism.ROOMS.values()) <= set(order())
    assert [name for name in neologism.__all__ if not hasattr(neologism, name)] == []


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import neologism

    with pytest.raises(AttributeError, match="has no attribute 'tarin'"):
        _ = neologism.tarin


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_readme_lists_every_room_and_only_those(page: str) -> None:
    tree = re.search(r"```\nsrc/neologism/\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert tree, f"{page} has no tree of src/neologism/"
    listed = {name.removesuffix("/").removesuffix(".py") for name in re.findall(r"^  (\S+)  ", tree[1], re.MULTILINE)}
    assert listed == rooms() | {"emoji", "pages", "prompts", "recipes"}
