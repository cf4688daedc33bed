"""Score the exported model on the test and validation faces, draw the plots, write the model card.

In: models/export/, data/processed/split/{validation,test}, data/interim/expw.csv (how large a face was in its photo),
plots/history.csv, plots/class_distribution/. The 8-bit and the multi-view variant are scored beside it, where they are.
Out: metrics/evaluate.json (the headline), metrics/details/evaluate.json, plots/*.{csv,png}, plots/faces/mistakes.png,
models/model_card.md. Thresholds, mistakes and where the model fails are of validation, all else of both splits.
Run: `dvc repro evaluate`, or `python -m stages.evaluate` from the repository root: about 2 min for 8,000 faces on
2 CPU cores with the default network, ending in a table of the main figures.
"""

import os
from importlib.metadata import version
from pathlib import Path

from src.errors import run_program
from src.evaluation import plots, scoring
from src.evaluation.failures import failure_figures
from src.evaluation.labellings import main_sections
from src.evaluation.metrics import ScoringRules, headline
from src.evaluation.model_card import CardFacts, file_digest, render_model_card
from src.params import load_params
from src.recognition.classifier import VARIANTS, Classifier
from src.storage import replace_file, write_json

EXPORT = Path("models/export")
SPLIT = Path("data/processed/split")
PLOTS = Path("plots")


def main() -> None:
    params = load_params()
    classifier = Classifier(EXPORT / "model.onnx", threads=os.cpu_count() or 1)
    history = scoring.read_history(PLOTS / "history.csv")
    distribution = scoring.read_class_distribution(PLOTS / "class_distribution")
    box_sides = scoring.read_box_sides("data/interim/expw.csv")
    rules = ScoringRules(
        uncertain_below=classifier.metadata.uncertain_below,
        reliability_bins=params.evaluate.reliability_bins,
        bootstrap_samples=params.evaluate.bootstrap_samples,
        seed=params.evaluate.seed,
    )
    validation = scoring.score_split(classifier, SPLIT / "validation")
    test = scoring.score_split(classifier, SPLIT / "test")

    figures = scoring.evaluation_figures(test, validation, rules)
    for key, name in VARIANTS.items():
        if (EXPORT / name).is_file():
            variant = Classifier(EXPORT / name, threads=os.cpu_count() or 1)
            figures[key] = scoring.variant_figures(variant, {"test": test, "validation": validation}, rules)
    figures["failures"] = failure_figures(classifier, validation, box_sides, rules)

    scoring.write_plot_tables(PLOTS, test, validation, rules)
    scoring.draw_plots(PLOTS, test.main(), figures["test"], rules, "test")
    scoring.draw_validation_plots(PLOTS, validation, figures["failures"], rules)
    scoring.draw_mistakes(PLOTS / "faces/mistakes.png", validation.main(), params.evaluate.mistakes)
    plots.draw_learning_curves(PLOTS / "learning_curves.png", history)
    plots.draw_class_distribution(PLOTS / "class_distribution.png", distribution)

    card = CardFacts(
        metadata=classifier.metadata,
        figures=figures,
        main=main_sections(test.faces.labels),
        distribution=distribution,
        files={path.name: (path.stat().st_size, file_digest(path)) for path in sorted(EXPORT.glob("model.*"))},
        dataset=params.dataset,
        protocol=params.split.protocol,
        copies_removed=params.split.remove_copies,
        environment=f"ONNX Runtime {version('onnxruntime')} and NumPy {version('numpy')}, CPU",
    )
    with replace_file("models/model_card.md") as partial:
        partial.write_text(render_model_card(card), encoding="utf-8")
    write_json("metrics/details/evaluate.json", figures)
    write_json("metrics/evaluate.json", headline(figures, main_sections(validation.faces.labels)))
    print(scoring.summary(figures))


if __name__ == "__main__":
    run_program(main)
