"""The table of faults names tests that exist."""

import ast
import re

from experiments.config.packages import ROOT

TABLE = (ROOT / "tests/RELIABILITY.md").read_text()


def test_every_fault_has_tests_that_exist():
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", TABLE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 16))
    for number, row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, f"row {number} names no test"
        for file, name in named:
            body = ast.parse((ROOT / "tests" / file).read_text()).body
            found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == name]
            assert found, f"row {number}: {file} has no {name}"
            marks = [*map(ast.unparse, found[0].decorator_list), *(ast.unparse(node) for node in body if isinstance(node, ast.Assign))]
            slow = "pytest.mark.slow" in marks or "pytestmark = pytest.mark.slow" in marks
            assert slow == (f"*slow* `{file}::{name}`" in row), f"row {number}: is {name} slow?"


def test_the_readme_leads_to_the_table():
    assert "(tests/RELIABILITY.md)" in (ROOT / "README.md").read_text()
