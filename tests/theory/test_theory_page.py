"""The page on theory names its tests; they exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "docs" / "theory.md").read_text("utf-8"))


def functions_of(path):
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_test_that_the_page_names_exists():
    assert len(NAMED) >= 15
    assert not [f"{path}::{name}" for path, name in NAMED if name not in functions_of(path)]


def test_every_axiom_and_the_relation_to_prices_are_on_the_page():
    paths = {path for path, _ in NAMED}
    assert {"tests/theory/test_propositions.py", "tests/theory/test_axioms.py"} <= paths
    axioms = {name for name in functions_of("tests/theory/test_axioms.py") if name != "test_ig_alone_keeps_all_axioms"}
    assert axioms <= {name for _, name in NAMED}
