"""Balance train with synthetic faces, where smote.enabled says so.

Reads data/processed/undersample. Writes data/processed/smote (FaceSet), plots/class_distribution/smote.csv, and
plots/faces/smote.png.
Run: `python -m stages.smote`; 2 s switched off, about a minute for 60,000 faces.
"""

from src.errors import run_program
from src.faceset import FaceSet, write_class_distribution
from src.params import load_params
from src.preparation.smote import balance, smote_sheet
from src.sheets import save_picture


def main() -> None:
    balanced = balance(FaceSet.load("data/processed/undersample"), load_params().smote)
    balanced.save("data/processed/smote")
    write_class_distribution("plots/class_distribution/smote.csv", "smote", balanced.labels)
    save_picture("plots/faces/smote.png", smote_sheet(balanced))


if __name__ == "__main__":
    run_program(main)
