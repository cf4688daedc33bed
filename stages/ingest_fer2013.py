"""FER2013 as downloaded -> FaceSet of 48 x 48 faces, counts per class and usage, a sheet of faces.

Reads data/raw/<dataset>/fer2013 (layouts: see src/datasets/fer2013.py).
Writes data/interim/fer2013, metrics/details/ingest_fer2013.json, plots/faces/ingest_fer2013.png and
plots/class_distribution/ingest_fer2013.csv.
Run: python -m stages.ingest_fer2013 (35,887 faces: about 5 s)
"""

from src.datasets import fer2013
from src.errors import run_program
from src.faceset import write_class_distribution
from src.params import load_params
from src.sheets import draw_sheet, pick_examples, save_picture
from src.storage import write_json


def main() -> None:
    params = load_params()
    faces, report = fer2013.load(f"data/raw/{params.dataset}/fer2013", params.ingest_fer2013)
    faces.save("data/interim/fer2013")

    examples = pick_examples(faces.labels, per_class=12)
    captions = [f"{row.expression}\n{row.usage}" for row in faces.labels.iloc[examples].itertuples()]
    sheet = draw_sheet(list(faces.images[examples]), captions, 12, 96, f"FER2013: {len(faces)} faces, examples")
    save_picture("plots/faces/ingest_fer2013.png", sheet)
    write_class_distribution("plots/class_distribution/ingest_fer2013.csv", "ingest_fer2013", faces.labels)
    write_json("metrics/details/ingest_fer2013.json", report)
    print(f"FER2013: {len(faces)} faces from {report['read_from']}, {report['skipped']['total']} skipped")


if __name__ == "__main__":
    run_program(main)
