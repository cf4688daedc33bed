"""The faces of all sources -> one FaceSet of grey S x S faces.

Reads data/interim/<source> or data/interim/<source>.csv, and for the latter the photos in data/raw/<dataset>/<source>.
Writes data/interim/faces, metrics/details/crop.json and plots/class_distribution/crop.csv.
Run: python -m stages.crop (3,430 photos on 2 cores: about 3 s)
"""

from src.errors import run_program
from src.faceset import write_class_distribution
from src.params import load_params
from src.preparation.cropping import combine
from src.storage import write_json


def main() -> None:
    params = load_params()
    faces, report = combine(f"data/raw/{params.dataset}", "data/interim", params.crop)
    faces.save("data/interim/faces")
    write_class_distribution("plots/class_distribution/crop.csv", "crop", faces.labels)
    write_json("metrics/details/crop.json", report)
    print(f"crop: {len(faces)} faces, {report['skipped']['total']} skipped")


if __name__ == "__main__":
    run_program(main)
