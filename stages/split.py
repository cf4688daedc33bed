"""Split the faces into train, validation and test without leaks.

Reads data/interim/faces. Writes data/processed/split/{train,validation,test} (FaceSets), metrics/details/split.json,
plots/class_distribution/split.csv and plots/faces/copies.png (the least similar pairs taken for copies).
Run: `python -m stages.split`; 36,000 faces take about 20 s.
"""

import shutil
from pathlib import Path

from src.errors import run_program
from src.faceset import FaceSet, write_class_distribution
from src.params import load_params
from src.preparation.copies import copies_sheet
from src.preparation.splitting import split_faces
from src.sheets import save_picture
from src.storage import replace_directory, write_json

SPLIT = Path("data/processed/split")


def main() -> None:
    faces = FaceSet.load("data/interim/faces")
    split = split_faces(faces, load_params().split)
    with replace_directory(SPLIT) as partial:
        for name, part in split.parts.items():
            part.save(partial / name)
        if (SPLIT / ".gitignore").is_file():  # DVC's; without it Git would see the faces
            shutil.copy(SPLIT / ".gitignore", partial)
    write_json("metrics/details/split.json", split.report)
    write_class_distribution("plots/class_distribution/split.csv", "split", split.parts["train"].labels)
    save_picture(Path("plots/faces/copies.png"), copies_sheet(faces.images, split.pairs))


if __name__ == "__main__":
    run_program(main)
