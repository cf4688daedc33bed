"""Balance train with synthetic faces, where smote.enabled says so.

Reads data/processed/undersample. Writes data/processed/smote (FaceSet) and plots/class_distribution/smote.csv.
Run: `python -m stages.smote`; 2 s switched off, about a minute for 60,000 faces.
"""

from src.errors import run_program
from src.faceset import FaceSet, write_class_distribution
from src.params import load_params
from src.preparation.smote import balance


def main() -> None:
    balanced = balance(FaceSet.load("data/processed/undersample"), load_params().smote)
    balanced.save("data/processed/smote")
    write_class_distribution("plots/class_distribution/smote.csv", "smote", balanced.labels)


if __name__ == "__main__":
    run_program(main)
