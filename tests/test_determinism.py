"""The same faces, to the byte, whatever the number of workers and threads and the order of files on disk.

Training: test_network. Photos packed in other orders and other numbers of workers: test_cropping.
"""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, SAMPLE
from tests.raw_data import contents, expw_files, fer2013_pictures, write_files

pytestmark = pytest.mark.slow
INGEST = ("ingest_fer2013", "ingest_expw")
PARALLEL = ("crop", "split", "undersample", "smote")  # those that use threads, and what lies between them


def run_stages(folder: Path, stages: tuple[str, ...], threads: int) -> dict[str, bytes]:
    """Each stage in a process held to so many threads; returns what was written."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["dataset"] = "full"
    params["ingest_fer2013"]["labels"] = "original"
    params["split"]["copy_similarity"] = 0.95
    params["undersample"]["policy"] = "reference"
    params["smote"] |= {"enabled": True, "neighbors": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(limits, str(threads))}
    for stage in stages:
        result = subprocess.run(
            [sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
    return {name: content for name, content in contents(folder).items() if not name.startswith("data/raw")}


@pytest.mark.parametrize("threads", [2, 4])
def test_data_stages_for_any_number_of_threads(tmp_path: Path, one_thread: tuple[Path, dict], threads: int) -> None:
    folder, expected = one_thread
    for part in ("data/interim/fer2013", "data/interim/expw.csv", "metrics", "plots"):
        target = tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (folder / part).is_dir():
            shutil.copytree(folder / part, target)
        else:
            shutil.copyfile(folder / part, target)
    (tmp_path / "data/raw").mkdir()
    (tmp_path / "data/raw/full").symlink_to(SAMPLE)
    assert run_stages(tmp_path, PARALLEL, threads) == expected


@pytest.fixture(scope="module")
def one_thread(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder in which the data stages have run on one thread, and all that they wrote."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "data/raw").mkdir(parents=True)
    (folder / "data/raw/full").symlink_to(SAMPLE)
    return folder, run_stages(folder, INGEST + PARALLEL, threads=1)


def test_ingested_and_cropped_faces_for_any_order_of_files_on_disk(tmp_path: Path) -> None:
    """Folders list their files in the order in which these were made, or by a hash of it."""
    pictures = {f"fer2013/{name}": content for name, content in fer2013_pictures().items()}
    numbered = {name.replace(".jpg", f"{copy}.jpg"): pictures[name] for copy in range(4) for name in pictures}
    photos = {f"expw/{name}": content for name, content in expw_files().items()}
    files = {**numbered, **photos}
    orders = {
        "written": list(files),
        "reversed": list(reversed(files)),
        "interleaved": [name for pair in itertools.zip_longest(numbered, reversed(photos)) for name in pair if name],
    }
    written = []
    for order, names in orders.items():
        folder = tmp_path / order
        write_files(folder / "data/raw/full", {name: files[name] for name in names})
        written.append(run_stages(folder, (*INGEST, "crop"), threads=2))
    assert written[0] == written[1] == written[2]
