"""ExpW as downloaded -> checked table of faces, counts, sheets of boxes and of crops by confidence.

Reads data/raw/<dataset>/expw (layouts: see src/datasets/expw.py), of the photos the headers only.
Writes data/interim/expw.csv, metrics/details/ingest_expw.json, plots/faces/expw_*.png and
plots/class_distribution/ingest_expw.csv.
Run: python -m stages.ingest_expw (3,430 photos: about 3 s)
"""

from src.datasets import expw
from src.datasets.expw_sheets import draw_boxes, draw_crops
from src.errors import run_program
from src.faceset import write_class_distribution
from src.params import load_params
from src.sheets import save_picture
from src.storage import replace_file, write_json


def main() -> None:
    params = load_params()
    folder = f"data/raw/{params.dataset}/expw"
    table, report = expw.load(folder, params.ingest_expw)
    with replace_file("data/interim/expw.csv") as partial:
        table.to_csv(partial, index=False, lineterminator="\n")

    photos = expw.find(folder).photos
    save_picture("plots/faces/expw_boxes.png", draw_boxes(photos, table, count=12))
    is_low = table["confidence"] < 50
    for name, rows in (("low", table[is_low]), ("high", table[~is_low])):
        title = f"ExpW, box confidence {'below' if name == 'low' else 'from'} 50 %"
        save_picture(f"plots/faces/expw_crops_{name}_confidence.png", draw_crops(photos, rows, 10, title))
    write_class_distribution("plots/class_distribution/ingest_expw.csv", "ingest_expw", table)
    write_json("metrics/details/ingest_expw.json", report)
    print(f"ExpW: {len(table)} faces in {report['photos']} photos, {report['skipped']['total']} skipped")


if __name__ == "__main__":
    run_program(main)
