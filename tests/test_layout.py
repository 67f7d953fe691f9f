"""The layout: which room may import which, one name per module, no circle, nothing imported in a function."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "keras_rar"
ROOMS = ["paper", "reports", "evaluation", "attacks", "explaining", "training", "methods", "networks", "core"]
"""From the roof to the ground: imports point down."""
APART = {("attacks", "training"), ("training", "attacks")}
"""So that any network can be measured, and the adversaries of training and of evaluation stay independent."""
LONGEST = 250


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
PATHS = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_by(nodes, package):
    """The modules of the package that these statements import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in TREES else base for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "keras_rar"}


def imports_of(module):
    path, tree = PATHS[module], TREES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return imported_by(ast.walk(tree), package)


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "front door"


def may_import(room, other):
    if room == "front door" or room == other:
        return True
    return other in ROOMS and ROOMS.index(room) < ROOMS.index(other) and (room, other) not in APART


def test_the_rooms_are_those_of_the_layout():
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)


@pytest.mark.parametrize("module", TREES)
def test_imports_point_down(module):
    wrong = {other for other in imports_of(module) if not may_import(room_of(module), room_of(other))}
    assert not wrong


def test_imports_that_point_up_are_found():
    """Negative control."""
    assert not may_import("core", "networks")
    assert not may_import("training", "attacks")
    assert not may_import("attacks", "training")
    assert not may_import("networks", "front door")
    assert imported_by(ast.parse("from ..evaluation import report").body, "keras_rar.core") == {
        "keras_rar.evaluation.report"
    }


def test_the_core_does_not_know_keras():
    for module in TREES:
        if room_of(module) == "core":
            names = [alias.name for n in ast.walk(TREES[module]) if isinstance(n, ast.Import) for alias in n.names]
            names += [n.module or "" for n in ast.walk(TREES[module]) if isinstance(n, ast.ImportFrom)]
            assert not [name for name in names if name.split(".")[0] == "keras"], module


def test_there_is_no_circle():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in sorted(imports_of(module) - {"keras_rar"}):
            # A room's own __init__ gathers its modules: from inside the room it is no import of them.
            if not (PATHS[other].name == "__init__.py" and module.startswith(f"{other}.")):
                visit(other)
        path.pop()
        done.add(module)

    for module in TREES:
        if module != "keras_rar":
            visit(module)


@pytest.mark.parametrize("module", TREES)
def test_nothing_of_the_package_is_imported_in_a_function(module):
    package = module if PATHS[module].name == "__init__.py" else module.rpartition(".")[0]
    functions = [n for n in ast.walk(TREES[module]) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = set().union(*(imported_by(ast.walk(function), package) for function in functions))
    assert not inside


def test_no_two_modules_have_one_name():
    names = [path.stem for path in PATHS.values() if path.name != "__init__.py"] + ROOMS
    assert sorted({name for name in names if names.count(name) > 1}) == []


COMMAND = sorted((PACKAGE.parent / "keras_rar_cli").glob("*.py"))


@pytest.mark.parametrize("path", [*PATHS.values(), *COMMAND], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_is_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


def test_the_command_line_loads_nothing_heavy_before_it_must():
    """At the top of its files; `test_cli_mistakes` looks at a process."""
    for path in COMMAND:
        found = [
            node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        names = [alias.name for n in found if isinstance(n, ast.Import) for alias in n.names]
        names += [node.module or "" for node in found if isinstance(node, ast.ImportFrom)]
        assert not {name.split(".")[0] for name in names} & {"keras_rar", "keras", "tensorflow", "numpy"}, path


@pytest.mark.parametrize("room", [*ROOMS, ""])
def test_a_room_says_what_lives_there_and_what_it_may_import(room):
    text = ast.get_docstring(TREES["keras_rar" + (f".{room}" if room else "")])
    assert text
    assert not room or "may import" in text.lower()
