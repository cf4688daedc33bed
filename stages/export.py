"""Export the trained network as ONNX and LiteRT, and prove that both agree with Keras.

Reads models/train and data/processed/split/validation. Writes models/export/{model.onnx,model.tflite} and
metrics/export.json. Run: `python -m stages.export`; about 40 s.
"""

from src.errors import run_program
from src.faceset import FaceSet
from src.network.exporting import export_model
from src.network.saving import load_trained
from src.params import load_params
from src.storage import replace_directory, write_json


def main() -> None:
    params = load_params()
    trained = load_trained("models/train")
    faces = FaceSet.load("data/processed/split/validation").images[: params.export.parity_faces]
    with replace_directory("models/export") as partial:
        report = export_model(trained, faces, params.crop.margin, params.export.uncertain_below, partial)
    write_json("metrics/export.json", report)


if __name__ == "__main__":
    run_program(main)
