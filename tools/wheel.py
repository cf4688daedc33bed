"""Build a wheel of recognition, the live program and the released model, for people who want no pipeline.

    make wheel        # build/wheel/facial_expressions-0.1.0-py3-none-any.whl: 10 MB, a few seconds

In: src/recognition, src/realtime and what they import, the model in pretrained/. Out: a wheel for every system
and Python from 3.11 on. In it the package is called `facial_expressions` and the program `facial-expressions`: imports,
messages and help are rewritten so.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from src.errors import UserError, run_program

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "build/wheel"
PROJECT = ROOT / "tools/wheel_project"  # what says how it is built, and its README
_SOURCES = ("errors.py", "expressions.py", "storage.py", "recognition", "realtime")  # of src/
_MODEL = ("model.onnx", "model_card.md")  # of pretrained/
_NAMES = ((r"python -m src\.realtime", "facial-expressions"), (r"\bsrc\.(?=[a-z])", "facial_expressions."))


def lay_out(folder: Path) -> None:
    """Write the sources of the wheel to an empty folder. Raises UserError when the released model is missing."""
    package = folder / "facial_expressions"
    for name in _SOURCES:
        source = ROOT / "src" / name
        for file in sorted(source.glob("*.py")) if source.is_dir() else [source]:
            text = file.read_text(encoding="utf-8")
            for pattern, new in _NAMES:
                text = re.sub(pattern, new, text)
            target = package / file.relative_to(ROOT / "src")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    (package / "__init__.py").write_text('"""Facial expressions: see facial_expressions.recognition."""\n')
    (package / "py.typed").touch()
    (package / "pretrained").mkdir()
    for name in _MODEL:
        if not (ROOT / "pretrained" / name).is_file():
            raise UserError(f"No {name} in pretrained/. Release a model first: make release.")
        shutil.copyfile(ROOT / "pretrained" / name, package / "pretrained" / name)
    for file in (PROJECT / "pyproject.toml", PROJECT / "README.md", ROOT / "LICENSE"):
        shutil.copyfile(file, folder / file.name)


def build(output: Path = OUTPUT) -> Path:
    """The wheel, built with the setuptools of this environment; nothing is downloaded."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder) / "project")
        built = Path(folder) / "wheel"
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        # The same sources give the same bytes: every file in the archive has one date.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1577836800", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        subprocess.run([*command, "--wheel-dir", built, Path(folder) / "project"], check=True, env=environment)
        (wheel,) = built.glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(wheel, output / wheel.name))


def main() -> None:
    wheel = build()
    print(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size / 1e6:.1f} MB; install it with pip install {wheel.name}")


if __name__ == "__main__":
    run_program(main)
