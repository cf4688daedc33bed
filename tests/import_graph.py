"""Which of our own modules a module imports, directly or through others, read from the source."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _file_of(module: str) -> Path | None:
    """The file of one of our modules, or None for a name that is not a module of ours."""
    path = ROOT / Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _packages_of(file: Path) -> set[Path]:
    """The `__init__.py` files that are run before it."""
    return {folder / "__init__.py" for folder in file.parents if (folder / "__init__.py").is_file()}


def _direct_imports(file: Path) -> set[Path]:
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not followed"
            names = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] in ("src", "stages"):
                path = _file_of(name)
                if path is not None:
                    found |= {path, *_packages_of(path)}
    return found


def imported_files(start: str | Path) -> set[str]:
    """Paths below the repository root of `start` and all it imports of ours; empty `__init__.py` left out."""
    waiting = [ROOT / start, *_packages_of(ROOT / start)]
    seen: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += _direct_imports(file)
    return {str(file.relative_to(ROOT)) for file in seen if file.stat().st_size}
