"""How good is a model on pictures of your own? The report of stage evaluate, for any labelled folder.

    python -m src.evaluation my_pictures/                     # my_pictures/happy/*.jpg, my_pictures/sad/*.png, ...
    python -m src.evaluation faces.csv --cropped              # columns image, expression; the pictures are faces
    python -m src.evaluation my_pictures/ --against other.onnx

In: labelled pictures and an exported model (pretrained/model.onnx). Out: a table on screen and, in build/evaluation,
evaluate.json, predictions.csv, charts, and a sheet of the worst mistakes.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from src.errors import UserError, run_program
from src.evaluation import scoring
from src.evaluation.metrics import ScoringRules, evaluate_split
from src.evaluation.own_pictures import NO_FACE, list_pictures, read_faces
from src.expressions import EXPRESSIONS
from src.params import load_params
from src.recognition.classifier import RELEASED_MODEL, Classifier
from src.recognition.detection import CHOICES, open_detector
from src.storage import replace_directory, write_json

_LARGEST_SHEET = 64


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m src.evaluation",
        description="Evaluate a model on labelled pictures: a folder with one subfolder per expression, or a CSV with "
        "the columns image, expression and, where faces are marked, x, y, width, height (pixels).",
        epilog=f"Expressions: {', '.join(EXPRESSIONS)}. Of a picture with several faces the largest is taken. Nothing "
        "leaves this machine; the sheet of mistakes shows faces.",
        allow_abbrev=False,
    )
    parser.add_argument("source", type=Path, metavar="FOLDER", help="the folder, or the CSV file")
    for flag, metavar, default, text in (
        ("--model", "FILE", RELEASED_MODEL, "an export of this project (default: pretrained/)"),
        ("--against", "FILE", None, "another export, to be compared on the same faces"),
        ("--detector-model", "FILE", None, "a YuNet file to use instead of fetching one"),
        ("--output", "DIR", Path("build/evaluation"), "default: build/evaluation"),
    ):
        parser.add_argument(flag, type=Path, metavar=metavar, default=default, help=text)
    parser.add_argument("--cropped", action="store_true", help="the pictures are cropped faces: detect nothing")
    parser.add_argument("--detector", choices=CHOICES, default="auto", help="auto: YuNet, fetched once, or else Haar")
    return parser.parse_args(arguments)


def _check_output(output: Path, source: Path) -> None:
    """The report replaces `output` as a whole, so that must be an earlier report or nothing at all."""
    resolved, pictures = output.resolve(), source.resolve()
    if resolved in (pictures, *pictures.parents, Path.cwd(), *Path.cwd().parents) or pictures in resolved.parents:
        raise UserError(f"--output {output} holds the pictures or the project, or lies among them. Name a new folder.")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file. Name a new folder for the report.")
    report_is_there = all((output / name).is_file() for name in ("evaluate.json", "predictions.csv"))
    if output.is_dir() and any(output.iterdir()) and not report_is_there:
        raise UserError(
            f"--output {output} holds files that are no earlier report, and a report would replace them. Name a new "
            f"folder, such as {output / 'report'}."
        )


def evaluate_pictures(options: argparse.Namespace) -> str:
    """Write the report; returns the table for the screen. Raises UserError where there is nothing to score."""
    _check_output(options.output, options.source)
    pictures = list_pictures(options.source)
    classifier = Classifier(options.model, threads=2)
    other = Classifier(options.against, threads=2) if options.against else None
    if other is not None and other.metadata.image_size != classifier.metadata.image_size:
        raise UserError(
            f"{options.against} takes faces of {other.metadata.image_size} pixels, {options.model} of "
            f"{classifier.metadata.image_size}. Compare models of one face size, or evaluate each by itself."
        )
    detector = None
    if not options.cropped and any(picture.box is None for picture in pictures):
        detector, reason = open_detector(options.detector, options.detector_model)
        print(reason)
    metadata = classifier.metadata
    faces, skipped = read_faces(pictures, detector, metadata.image_size, metadata.margin)
    for reason, count in skipped.most_common():
        print(f"skipped {count} of {len(pictures)} pictures: {reason}")
    if not len(faces):
        hint = " If they are cropped faces, pass --cropped." if NO_FACE in skipped else ""
        raise UserError(f"None of the {len(pictures)} pictures of {options.source} could be scored.{hint}")

    settings = load_params().evaluate
    rules = ScoringRules(
        uncertain_below=metadata.uncertain_below,
        reliability_bins=settings.reliability_bins,
        bootstrap_samples=settings.bootstrap_samples,
        seed=settings.seed,
    )
    scored = scoring.ScoredFaces(faces, classifier.predict(faces.images), faces.targets)
    figures: dict[str, Any] = {
        "pictures": evaluate_split(scored.probabilities, faces.labels, rules),
        "skipped": dict(sorted(skipped.items())),
        "model": str(options.model),
    }
    if other is not None:
        figures["against"] = scoring.variant_figures(other, {"pictures": scored}, rules)
    with replace_directory(options.output) as partial:
        write_json(partial / "evaluate.json", figures)
        _predictions(scored).to_csv(partial / "predictions.csv", index=False, lineterminator="\n")
        scoring.draw_plots(partial, {"all": scored}, figures["pictures"], rules, "your pictures")
        scoring.draw_mistakes(partial / "mistakes.png", {"all": scored}, min(settings.mistakes, _LARGEST_SHEET))
    return scoring.summary(figures, splits=("pictures",))


def _predictions(scored: scoring.ScoredFaces) -> pd.DataFrame:
    names = pd.Series(EXPRESSIONS)
    table = scored.faces.labels[["image_name", "expression"]].assign(
        predicted=names[scored.predicted].to_numpy(), confidence=scored.confidence.round(4)
    )
    return table.join(pd.DataFrame(scored.probabilities.round(4), columns=EXPRESSIONS))


def main() -> None:
    options = parse_options()
    print(evaluate_pictures(options))
    print(f"wrote {options.output}: evaluate.json, predictions.csv, confusion.png, per_class.png, mistakes.png, ...")


if __name__ == "__main__":
    run_program(main)
