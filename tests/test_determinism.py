"""The same faces, to the byte, whatever the number of workers and threads and the order of files on disk.

Training: test_network. Photos packed in other orders and other numbers of workers: test_cropping.
"""

import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, run_in
from tests.raw_data import contents, encode, expw_files, fer2013_pictures, texture, write_files

pytestmark = pytest.mark.slow
STAGES = ("ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote")


def run_stages(folder: Path, threads: int) -> dict[str, bytes]:
    """Each stage in a process held to so many threads; returns what was written."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["ingest_fer2013"]["labels"] = "original"
    params["split"]["copy_similarity"] = 0.95
    params["undersample"]["policy"] = "reference"
    params["smote"] |= {"enabled": True, "neighbors": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for stage in STAGES:
        run_in(
            folder, sys.executable, "-m", f"stages.{stage}", PYTHONPATH=str(ROOT),
            OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads),
        )  # fmt: skip
    return {name: content for name, content in contents(folder).items() if not name.startswith("data/raw")}


def test_data_stages_for_any_number_of_threads_and_order_of_files_on_disk(tmp_path: Path) -> None:
    """Folders list their files in the order in which these were made, or by a hash of it."""
    files = {f"expw/{name}": content for name, content in expw_files().items()}
    for number, name in enumerate(4 * list(fer2013_pictures())):
        files[f"fer2013/{name[:-4]}{number}.jpg"] = encode(texture(48, 48, 500 + number))
    written = []
    for threads, names in (
        (1, list(files)),
        (4, list(reversed(files))),
        (2, sorted(files, key=lambda name: name[::-1])),
    ):
        folder = tmp_path / str(threads)
        write_files(folder / "data/raw/full", {name: files[name] for name in names})
        written.append(run_stages(folder, threads))
    assert written[0] == written[1] == written[2]
    assert len(written[0]["data/processed/smote/labels.csv"]) > len(written[0]["data/processed/undersample/labels.csv"])
