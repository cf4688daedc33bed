"""Train the network; resumes after a kill.

Reads data/processed/smote and data/processed/split/validation. Writes models/train (network.npz and
network.json), metrics/details/train.json and plots/history.csv.
Run: `python -m stages.train`; about 70 s an epoch for the default network and 29,000 faces on two cores.
"""

import os
from pathlib import Path

from src.errors import run_program
from src.faceset import FaceSet
from src.network.saving import save_trained, write_history
from src.network.state import only_run, remove_state, state_root, training_keys
from src.network.training import train_network
from src.network.wandb_log import Tracker
from src.params import load_params
from src.sheets import draw_sheet
from src.storage import write_json


def main() -> None:
    params = load_params()
    inputs = ("data/processed/smote", "data/processed/split/validation")
    train, validation = (FaceSet.load(path) for path in inputs)
    keys, root = training_keys(inputs, params.train), state_root(Path.cwd())
    state = root / keys.training
    with only_run(state):
        tracker = Tracker(keys.config, run_id=keys.training)
        if os.environ.get("FER_LOG_IMAGES") == "true":  # faces are personal data
            tracker.log_sheet(draw_sheet(list(train.images[:48]), list(train.labels["expression"][:48]), 12, 96))
        trained = train_network(train, validation, params.train, state, tracker, root / keys.teacher)
        save_trained("models/train", trained)
        write_history("plots/history.csv", trained.history)
        write_json("metrics/details/train.json", {**trained.report, "run": keys.training})
        tracker.finish(trained.report, validation.targets, trained.predicted)
        remove_state(state)


if __name__ == "__main__":
    run_program(main)
