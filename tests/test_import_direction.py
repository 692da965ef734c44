"""Imports point one way: notebooks → widgets → plotting and concept modules → torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "nnopt_lab"
PROGRAMS = {"__main__", "cli", "first_cell", "twins"}
"""What is run, not imported by lessons."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str:
    """Return ``"widgets"``, ``"plotting"``, ``"programs"`` or ``"concepts"``."""
    part = (module.split(".") + [""])[1]
    if part in ("widgets", "plotting"):
        return part
    return "programs" if part in PROGRAMS else "concepts"


def imports_of(source: str, module: str, *, is_package: bool = False) -> set[str]:
    """Return everything that ``source`` imports, at whatever depth, with relative names resolved."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return found


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FORBIDDEN = {
    "concepts": (
        "matplotlib",
        "ipywidgets",
        "IPython",
        *(f"nnopt_lab.{p}" for p in ("plotting", "widgets", "cli", "twins")),
    ),
    "plotting": ("matplotlib.pyplot", "ipywidgets", "IPython", "nnopt_lab.widgets", "nnopt_lab.cli", "nnopt_lab.twins"),
    "widgets": ("matplotlib.pyplot", "nnopt_lab.cli", "nnopt_lab.twins"),
    "programs": ("matplotlib", "ipywidgets", "IPython", "nnopt_lab.plotting", "nnopt_lab.widgets"),
}
CONCEPTS = [module for module in MODULES if layer_of(module) == "concepts"]


def forbidden_imports(names: set[str], layer: str) -> set[str]:
    return {name for name in names for barred in FORBIDDEN[layer] if name == barred or name.startswith(f"{barred}.")}


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_lies_below_it(module):
    path = MODULES[module]
    names = imports_of(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py")
    assert forbidden_imports(names, layer_of(module)) == set()


@pytest.mark.parametrize(
    "source, module, found",
    [
        ("import matplotlib.pyplot as plt", "nnopt_lab.training.loop", {"matplotlib.pyplot"}),
        ("def f():\n    from ipywidgets import HTML", "nnopt_lab.ledger", {"ipywidgets", "ipywidgets.HTML"}),
        ("from nnopt_lab import plotting", "nnopt_lab.ledger", {"nnopt_lab.plotting"}),
        ("from . import plotting", "nnopt_lab.ledger", {"nnopt_lab.plotting"}),
        ("from ..widgets import panel", "nnopt_lab.plotting.curves", {"nnopt_lab.widgets", "nnopt_lab.widgets.panel"}),
        ("from matplotlib import pyplot", "nnopt_lab.widgets.live", {"matplotlib.pyplot"}),
        ("import matplotlib_inline", "nnopt_lab.ledger", set()),
        ("from matplotlib.figure import Figure", "nnopt_lab.plotting.curves", set()),
    ],
)
def test_the_rule_finds_what_it_should(source, module, found):
    assert forbidden_imports(imports_of(source, module), layer_of(module)) == found


def test_concept_modules_run_where_nothing_can_be_drawn():
    """One fresh interpreter imports them all; what it pulled in counts, whoever asked for it."""
    program = (
        "import importlib, sys\n"
        f"for name in {CONCEPTS!r}: importlib.import_module(name)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & {'matplotlib', 'ipywidgets', 'IPython'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
