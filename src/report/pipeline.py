"""dvc.yaml as a list of stages: what each does, reads and writes, and which stages pass what to which."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Stage:
    name: str
    purpose: str  # the first paragraph of the docstring of its file in stages/, or empty
    inputs: dict[str, str]  # what it reads that is not code -> the stage that writes it, or ""
    outputs: dict[str, list[str]]  # data, models, tables and pictures -> the stages that read them
    in_git: frozenset[str]  # outputs with `cache: false`: never pictures of people
    params: list[str]


def _purpose(file: Path) -> str:
    if not file.is_file():
        return ""
    docstring = ast.get_docstring(ast.parse(file.read_bytes())) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


def _paths(entries: Any, parameters: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Deps or outs, each text or a mapping of a path to its settings; `${name}` becomes the parameter."""
    named = [(entry, {}) if isinstance(entry, str) else next(iter(entry.items())) for entry in entries or []]
    return {
        re.sub(r"\$\{(\w+)\}", lambda match: str(parameters.get(match[1], match[0])), path): settings or {}
        for path, settings in named
    }


def read_stages(root: Path, text: str, parameters: Mapping[str, Any]) -> list[Stage]:
    """The stages of dvc.yaml, in its order. Raises what YAML and a mapping raise where it is no valid one."""
    stages = yaml.safe_load(text)["stages"]
    reads = {
        name: [path for path in _paths(stage.get("deps"), parameters) if not path.endswith(".py")]
        for name, stage in stages.items()
    }
    writes = {
        name: _paths([entry for kind in ("outs", "plots", "metrics") for entry in stage.get(kind) or []], parameters)
        for name, stage in stages.items()
    }
    writer = {path: name for name, outputs in writes.items() for path in outputs}
    return [
        Stage(
            name,
            _purpose(root / f"stages/{name}.py"),
            {path: writer.get(path, "") for path in reads[name]},
            {path: [reader for reader in stages if path in reads[reader]] for path in writes[name]},
            frozenset(path for path, settings in writes[name].items() if settings.get("cache") is False),
            [str(key) for key in stage.get("params") or []],
        )
        for name, stage in stages.items()
    ]
