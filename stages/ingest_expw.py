"""ExpW as downloaded -> checked table of faces, counts, sheets of boxes and of crops by confidence.

Reads data/raw/<dataset>/expw (layouts: see src/datasets/expw.py), of the photos the headers only.
Writes data/interim/expw.csv, metrics/details/ingest_expw.json, plots/faces/expw_*.png and
plots/class_distribution/ingest_expw.csv.
Run: python -m stages.ingest_expw (3,430 photos: about 3 s)
"""

import numpy as np
import pandas as pd

from src.datasets import expw
from src.datasets.expw_sheets import draw_boxes, draw_crops
from src.errors import run_program
from src.faceset import write_class_distribution
from src.params import load_params
from src.sheets import draw_sheet, save_picture
from src.storage import replace_file, write_json

SHEETS = ("boxes", "crops_low_confidence", "crops_high_confidence")


def main() -> None:
    params = load_params()
    folder = f"data/raw/{params.dataset}/expw"
    table, report = expw.load(folder, params.ingest_expw)
    with replace_file("data/interim/expw.csv") as partial:
        table.to_csv(partial, index=False, lineterminator="\n")

    sheets = _draw_sheets(folder, table) if len(table) else dict.fromkeys(SHEETS, draw_sheet([], [], 1, 1, "No ExpW"))
    for name, sheet in sheets.items():
        save_picture(f"plots/faces/expw_{name}.png", sheet)
    write_class_distribution("plots/class_distribution/ingest_expw.csv", "ingest_expw", table)
    write_json("metrics/details/ingest_expw.json", report)
    print(f"ExpW: {len(table)} faces in {report['photos']} photos, {report['skipped']['total']} skipped")


def _draw_sheets(folder: str, table: pd.DataFrame) -> dict[str, np.ndarray]:
    photos, is_low = expw.find(folder).photos, table["confidence"] < 50
    low, high = (
        draw_crops(photos, rows, 10, f"ExpW, box confidence {which} 50 %")
        for which, rows in (("below", table[is_low]), ("from", table[~is_low]))
    )
    return dict(zip(SHEETS, (draw_boxes(photos, table, count=12), low, high), strict=True))


if __name__ == "__main__":
    run_program(main)
