"""FER2013 and the faces in ExpW's photos -> one FaceSet of grey S x S faces.

Reads data/interim/fer2013, data/interim/expw.csv and the photos in data/raw/<dataset>/expw.
Writes data/interim/faces, metrics/details/crop.json and plots/class_distribution/crop.csv.
Run: python -m stages.crop (3,430 photos on 2 cores: about 3 s)
"""

from src.errors import run_program
from src.faceset import FaceSet, write_class_distribution
from src.params import load_params
from src.preparation.combining import combine, read_expw_table
from src.storage import write_json


def main() -> None:
    params = load_params()
    fer2013 = FaceSet.load("data/interim/fer2013")
    table = read_expw_table("data/interim/expw.csv")
    faces, report = combine(fer2013, table, f"data/raw/{params.dataset}/expw", params.crop)
    faces.save("data/interim/faces")
    write_class_distribution("plots/class_distribution/crop.csv", "crop", faces.labels)
    write_json("metrics/details/crop.json", report)
    print(f"crop: {len(faces)} faces, {report['skipped']['total']} skipped")


if __name__ == "__main__":
    run_program(main)
