"""The first code cell of every notebook: nothing to do where the workbook is installed, all of it in Colab."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

from nnopt_lab.doctor import missing_requirements

REPOSITORY = "https://github.com/OWNER/nnopt_lab"
"""Where the workbook is published. Change it here and in README.md, then run ``python -m nnopt_lab twins``."""

CELL_ID = "setup"

SOURCE = f'''\
# @title Set-up (nothing to do here)
# Does nothing where nnopt_lab is installed. Elsewhere (Colab) it fetches the workbook and installs what is missing.
import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec("nnopt_lab") is None:
    folder = pathlib.Path.cwd()
    clones = [place for place in folder.parents if (place / "nnopt_lab" / "__init__.py").exists()]
    home = clones[0] if clones else folder / "nnopt_lab_workbook"
    if not home.exists():
        subprocess.run(["git", "clone", "--quiet", "--depth=1", "{REPOSITORY}", home], check=True)
    sys.path.insert(0, str(home))
    from nnopt_lab.first_cell import install_missing

    install_missing()'''


def install_missing() -> list[str]:
    """Install the packages the notebooks need and that are not there; never change one that is.

    Returns
    -------
    list of str
        The requirements that were missing.

    Raises
    ------
    OSError
        If pip cannot install them; the message names them.
    """
    missing = missing_requirements(for_tests=False)
    if not missing:
        return []
    # Everything installed is pinned for pip, so that a dependency can neither upgrade nor downgrade it.
    pins = sorted(
        {
            f"{distribution.metadata['Name']}=={distribution.version}"
            for distribution in importlib.metadata.distributions()
            if distribution.metadata["Name"]
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(pins), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *missing]
        if subprocess.run(command).returncode:
            raise OSError(f"pip could not install {', '.join(missing)}; its own message stands above.")
    return missing
