"""What `python -m tools.leaderboard` queues as DVC experiments: systems to be ranked, and ablations of the recipe.

A run has the settings that its entry names and else those of params.yaml; which ones those were is read from its
dvc.lock, so each row of a table says all of them. All networks start from random weights.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """settings: as for `dvc exp run -S`. seeds: one run each, named `<entry>-1`, `<entry>-2` and so on."""

    title: str
    settings: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    too_short: bool = False  # fewer epochs than such a network needs: in the table, not in the picture


def runs_wanted(name: str, entry: Entry) -> list[tuple[str, list[str]]]:
    """Name and settings of each run of an entry."""
    if not entry.seeds:
        return [(name, [*entry.settings])]
    return [(f"{name}-{place}", [*entry.settings, f"train.seed={s}"]) for place, s in enumerate(entry.seeds, 1)]


def augmentation(**strengths: float) -> tuple[str, ...]:
    """Of rotation (degrees), shift, zoom, brightness, contrast (fractions), flip, erasing; what is not named is off."""
    names = ("rotation", "shift", "zoom", "brightness", "contrast", "erasing")
    flip = str(bool(strengths.pop("flip", False))).lower()
    return *(f"train.augmentation.{name}={strengths.get(name, 0)}" for name in names), f"train.augmentation.flip={flip}"


# Adam at a constant rate on single labels, the last epoch kept: none of our own regularization, as in the originals.
# In float32, as they did, which is also quicker on a CPU for networks of depthwise convolutions.
PLAIN = (
    "train.weights=none", "train.optimizer=adam", "train.learning_rate=0.001", "train.schedule=constant",
    "train.weight_decay=0", "train.label_smoothing=0", "train.vote_weight=0", "train.class_weights=none",
    "train.mixup=0", "train.expw_weight=1", "train.average_epochs=0", "train.teacher_epochs=0", "train.monitor=last",
    "train.precision=float32", "export.int8=false", "export.multiview=false",
)  # fmt: skip
LARGE = ("train.input_size=96", "train.head_units=512", "train.dropout=0.4")

LEADERBOARD = {
    "recipe-own-labels": Entry(
        "its recipe on FER2013's own labels, 45 epochs",
        ("ingest_fer2013.labels=original", "train.vote_weight=0", "train.epochs=45"),
    ),
    "recipe-own-labels-tuned": Entry(
        "the released model, then 8 epochs on FER2013's own labels",
        (
            *("ingest_fer2013.labels=original", "train.vote_weight=0", "train.weights=pretrained/network.npz"),
            *("train.frozen_epochs=0", "train.epochs=8", "train.fine_tune_learning_rate=0.01"),
        ),
    ),
    "reference-1": Entry(
        "MobileNetV2 at 96 px, reference undersampling, SMOTE, augmentation",
        (
            *(*PLAIN, *LARGE, "train.backbone=mobilenetv2", "train.epochs=12"),
            *("undersample.policy=reference", "smote.enabled=true"),
            *augmentation(rotation=20, shift=0.1, zoom=0.1, flip=True, brightness=0.2),
        ),
        too_short=True,
    ),
    "reference-2": Entry(
        "CNN 16-32-64, no augmentation", (*PLAIN, "train.backbone=cnn", "train.epochs=50", *augmentation())
    ),
    "reference-3": Entry(
        "EfficientNetB2 at 96 px, augmentation",
        (
            *(*PLAIN, *LARGE, "train.backbone=efficientnetb2", "train.epochs=6"),
            *augmentation(rotation=15, shift=0.1, zoom=0.1, flip=True, brightness=0.1, contrast=0.1),
        ),
        too_short=True,
    ),
    "reference-4": Entry(
        "CNN 16-32-64, augmentation",
        (
            *(*PLAIN, "train.backbone=cnn", "train.epochs=40"),
            *augmentation(rotation=10, shift=0.1, zoom=0.1, flip=True),
        ),
    ),
}

# The small CNN, since one run of it takes a quarter of an hour on one core, and a row needs two; else the recipe.
SMALL = ("train.backbone=cnn", "export.int8=false", "export.multiview=false")
SHORT = (*SMALL, "train.epochs=10")
BASELINE = "ablation-baseline"
ABLATIONS = {
    f"ablation-{name}": Entry(title, (*SHORT, *settings), seeds=(1, 2))
    for name, title, *settings in (
        ("baseline", "the recipe as it is: every face, no weights"),
        ("undersampling", "reference undersampling", "undersample.policy=reference"),
        ("smote", "SMOTE", "smote.enabled=true"),
        (
            *("undersampling-smote", "reference undersampling and SMOTE"),
            *("undersample.policy=reference", "smote.enabled=true"),
        ),
        ("balanced-weights", "class weights: balanced", "train.class_weights=balanced"),
        ("square-root-weights", "class weights: square root", "train.class_weights=square_root"),
        ("no-augmentation", "no augmentation, no mixup", "train.mixup=0", *augmentation()),
        ("no-expw", "ExpW left out of training", "train.expw_weight=0"),
        ("copies", "copies left in", "split.remove_copies=false"),
        ("single-labels", "one label a face, the largest vote", "train.vote_weight=0"),
        ("own-labels", "FER2013's own labels", "ingest_fer2013.labels=original", "train.vote_weight=0"),
    )
}
ABLATIONS["ablation-as-many-steps"] = Entry(
    "as many steps as with SMOTE: 24 epochs", (*SMALL, "train.epochs=24"), seeds=(1, 2)
)
