"""What flows into the pipeline: a further source, and data that are not there."""

import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from src.datasets.registry import SOURCES
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from tests.conftest import ROOT, copy_of_project, run_in
from tools.drawn_faces import draw_face


def test_missing_data_under_dvc_repro_lead_to_how_to_get_them(tmp_path: Path) -> None:
    clone = copy_of_project(tmp_path / "clone")
    result = run_in(clone, "dvc", "repro", check=False)
    assert result.returncode
    (folder,) = set(re.findall(r"missing data 'source': (data/raw/full)/\w+", result.stderr))
    text = (clone / folder / "README.md").read_text(encoding="utf-8")
    assert "missing data 'source'" in text
    for command in ("make demo", "python -m src.datasets.download --check", "dvc pull", "dvc add"):
        assert command in text
    assert "\n## Data\n" in (clone / "README.md").read_text(encoding="utf-8")


def test_every_source_keeps_the_contract() -> None:
    for name, source in SOURCES.items():
        assert (ROOT / f"stages/ingest_{name}.py").is_file()
        for word in ("TITLE", "LAYOUTS", "PAGE", "KAGGLE"):
            assert isinstance(getattr(source, word), str)
        assert callable(source.find) and callable(source.load) and callable(source.assign_usage)


TOY = '''"""A toy: pictures named <usage>_<expression>_<number>.png."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from src.errors import UserError
from src.faceset import FaceSet

TITLE, LAYOUTS, PAGE, KAGGLE = "Toy", "pictures", "nowhere", ""


def find(folder):
    pictures = sorted(Path(folder).glob("*.png"))
    if not pictures:
        raise UserError(f"{folder} holds no toy.")
    return pictures


def load(folder, settings):
    pictures = find(folder)
    names = [path.stem for path in pictures]
    labels = pd.DataFrame({"image_name": names, "expression": [name.split("_")[1] for name in names]})
    labels = labels.assign(source="toy", usage="", group=names, copy_of="", synthetic=False)
    images = np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in pictures])
    return FaceSet(images, labels), {"faces": len(names), "skipped": {"total": 0, "by_reason": {}}}


def assign_usage(labels):
    usages = {"train": "Training", "test": "PrivateTest"}
    return labels["image_name"].map(lambda name: usages.get(name.split("_")[0], ""))
'''
TOY_STAGE = '''"""The toy -> FaceSet."""

from src.datasets import toy
from src.errors import run_program
from src.params import load_params


def main() -> None:
    params = load_params()
    toy.load(f"data/raw/{params.dataset}/toy", params.ingest_toy)[0].save("data/interim/toy")


if __name__ == "__main__":
    run_program(main)
'''
TOY_ENTRY = """  ingest_toy:
    cmd: python -m stages.ingest_toy
    deps:
      - data/raw/${dataset}/toy
    params: [dataset, ingest_toy]
    outs:
      - data/interim/toy

  crop:
"""


def insert(file: Path, before: str, text: str) -> None:
    content = file.read_text(encoding="utf-8")
    assert content.count(before) == 1, f"{file} has no single {before!r}"
    file.write_text(content.replace(before, text), encoding="utf-8")


@pytest.mark.slow
def test_a_third_source_is_a_module_a_stage_and_a_section(tmp_path: Path) -> None:
    """As src/datasets/registry.py says; crop and split take it as it comes, and DVC runs it."""
    project = copy_of_project(tmp_path / "project")
    (project / "src/datasets/toy.py").write_text(TOY)
    insert(project / "src/datasets/registry.py", "import expw, fer2013\n", "import expw, fer2013, toy\n")
    insert(project / "src/datasets/registry.py", '"expw": expw}', '"expw": expw, "toy": toy}')
    (project / "stages/ingest_toy.py").write_text(TOY_STAGE)
    insert(project / "dvc.yaml", "  crop:\n", TOY_ENTRY)
    insert(
        project / "params.yaml",
        "\ncrop:\n",
        "\ningest_toy:\n  enabled: true\n  max_bad_fraction: 0.0\n  confidence_min: 0.0\n\ncrop:\n",
    )
    section = "    ingest_expw: IngestExpwParams\n"
    insert(project / "src/params.py", section, section + "    ingest_toy: IngestExpwParams\n")
    run_in(project, sys.executable, "-m", "tests.import_graph", "--write")
    insert(project / "params.yaml", "\ndataset: full", "\ndataset: sample")
    insert(project / "params.yaml", "copy_similarity: 0.65", "copy_similarity: 0.95")

    generator = np.random.default_rng(1)
    names = [f"{usage}_{expression}_{number}" for usage in ("train", "test", "none") for number in range(3)
             for expression in EXPRESSIONS]  # fmt: skip
    (project / "data/raw/sample/toy").mkdir()
    for name in names:
        picture = draw_face(generator, name.split("_")[1], 32)
        cv2.imwrite(str(project / f"data/raw/sample/toy/{name}.png"), picture)
    run_in(project, "dvc", "repro", "split")

    faces = FaceSet.load(project / "data/interim/faces")
    assert list(dict.fromkeys(faces.labels["source"])) == ["fer2013", "expw", "toy"]
    assert set(faces.labels["image_name"][faces.labels["source"] == "toy"]) == set(names)
    assert faces.images.shape[1:] == (48, 48)
    where: dict[str, Any] = {}
    for part in ("train", "validation", "test"):
        labels = FaceSet.load(project / "data/processed/split" / part).labels
        where |= dict.fromkeys(labels["image_name"][labels["source"] == "toy"], part)
    assert {part for name, part in where.items() if name.startswith("train")} == {"train"}
    assert {part for name, part in where.items() if name.startswith("test")} == {"test"}
    assert {part for name, part in where.items() if name.startswith("none")} == {"train", "validation", "test"}
    (project / "data/raw/sample/toy/train_happy_0.png").unlink()  # DVC watches it
    assert "ingest_toy" in run_in(project, "dvc", "status").stdout
