"""Export the trained network as ONNX and LiteRT, prove that both agree with Keras, and make the two variants.

Reads models/train, data/processed/split/validation (parity, temperatures, accuracy of the variants) and
data/processed/smote (ranges of the 8-bit one). Writes models/export/{model.onnx,model.tflite,model.int8.onnx,
model.multiview.onnx} and metrics/details/export.json.
Run: `python -m stages.export`; about a minute.
"""

from src.errors import run_program
from src.faceset import FaceSet
from src.network.exporting import export_model, export_multiview, export_quantized
from src.network.saving import load_trained
from src.params import load_params
from src.storage import replace_directory, write_json


def main() -> None:
    params = load_params()
    margin, uncertain_below = params.crop.margin, params.export.uncertain_below
    trained = load_trained("models/train")
    validation = FaceSet.load("data/processed/split/validation")
    rules = (margin, uncertain_below, params.export.parity_faces)
    with replace_directory("models/export") as partial:
        report = export_model(trained, validation, *rules, partial)
        if params.export.int8:
            train = FaceSet.load("data/processed/smote")
            report["int8"] = export_quantized(partial / "model.onnx", train, validation)
        if params.export.multiview:
            report["multiview"] = export_multiview(trained, validation, *rules, partial)
    write_json("metrics/details/export.json", report)


if __name__ == "__main__":
    run_program(main)
