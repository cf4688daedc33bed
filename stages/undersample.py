"""Drop a fraction of the frequent classes from train.

Reads data/processed/split/train. Writes data/processed/undersample (FaceSet) and
plots/class_distribution/undersample.csv. Run: `python -m stages.undersample`; about 2 s.
"""

from src.errors import run_program
from src.faceset import FaceSet, write_class_distribution
from src.params import load_params
from src.preparation.undersampling import drop_fractions, undersample


def main() -> None:
    params = load_params().undersample
    train = FaceSet.load("data/processed/split/train")
    kept = train.select(undersample(train.targets, drop_fractions(params), params.seed))
    kept.save("data/processed/undersample")
    write_class_distribution("plots/class_distribution/undersample.csv", "undersample", kept.labels)


if __name__ == "__main__":
    run_program(main)
