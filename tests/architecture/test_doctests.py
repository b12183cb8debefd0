"""The examples in docstrings say what happens."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    (path, ".".join(path.relative_to(src).with_suffix("").parts).removesuffix(".__init__"))
    for src in ROOT.glob("**/src")
    if ".venv" not in src.parts
    for path in src.rglob("*.py")
)
MODULES = [name for path, name in FILES if ">>> " in path.read_text()]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    ran = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert ran.attempted
    assert not ran.failed
