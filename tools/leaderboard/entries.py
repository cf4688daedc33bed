"""What stands on the leaderboard: named DVC experiments and the settings that make each of them.

Every setting that an entry names is its own; all others are those of params.yaml, so data, split and measure are the
same for all of them, but for `short-copies`, which is about the split. All start from random weights; with ImageNet
weights at hand, add `train.weights=imagenet`.
"""

from dataclasses import dataclass

from src.expressions import EXPRESSIONS


@dataclass(frozen=True)
class Entry:
    """name: of the DVC experiment. commit: where its figures are when no experiment of that name is in the clone.

    settings: none for a run of earlier code, which only its commit can repeat.
    """

    name: str
    title: str
    settings: tuple[str, ...]
    commit: str = ""


NO_AUGMENTATION = (
    "train.augmentation.rotation=0",
    "train.augmentation.shift=0",
    "train.augmentation.zoom=0",
    "train.augmentation.flip=false",
    "train.augmentation.brightness=0",
    "train.augmentation.contrast=0",
    "train.augmentation.erasing=0",
)
# Adam at a constant rate from random weights, the last epoch kept: none of our own regularization, as in the originals.
# In float32, as they did, which is also quicker on a CPU for networks of depthwise convolutions.
PLAIN = (
    "train.weights=none",
    "train.optimizer=adam",
    "train.learning_rate=0.001",
    "train.schedule=constant",
    "train.weight_decay=0",
    "train.label_smoothing=0",
    "train.class_weights=none",
    "train.mixup=0",
    "train.teacher_epochs=0",
    "train.monitor=last",
    "train.precision=float32",
    "export.int8=false",
    "export.multiview=false",
)
RECIPE = (
    "train.backbone=compact",
    "train.optimizer=sgd",
    "train.learning_rate=0.08",
    "train.schedule=cosine",
    "train.warmup_fraction=0.25",
    "train.label_smoothing=0.1",
    "train.teacher_weight=0.5",
    "train.augmentation.rotation=10",
    "train.augmentation.shift=0.05",
    "train.augmentation.zoom=0.12",
    "train.augmentation.flip=true",
    "train.augmentation.brightness=0.1",
    "train.augmentation.contrast=0.2",
)
LIGHT = ("train.weight_decay=0.003", "train.class_weights=none", "train.mixup=0", "train.augmentation.erasing=0")
STRONG = (
    "train.weight_decay=0.005",
    "train.class_weights=square_root",
    "train.mixup=0.2",
    "train.augmentation.erasing=0.3",
)
ALONE = "train.teacher_epochs=0"
# A third of recipe 3, for questions that need several runs.
SHORT_EPOCHS = "train.epochs=12"
SHORT = (*RECIPE, *STRONG, ALONE, SHORT_EPOCHS)

ENTRIES = (
    Entry(
        "reference-1",
        "MobileNetV2 at 96 px, SMOTE, augmentation",
        (
            *PLAIN,
            "undersample.policy=reference",
            "smote.enabled=true",
            "train.backbone=mobilenetv2",
            "train.input_size=96",
            "train.head_units=512",
            "train.dropout=0.4",
            "train.epochs=12",
            "train.augmentation.rotation=20",
            "train.augmentation.shift=0.1",
            "train.augmentation.zoom=0.1",
            "train.augmentation.flip=true",
            "train.augmentation.brightness=0.2",
            "train.augmentation.contrast=0",
            "train.augmentation.erasing=0",
        ),
    ),
    Entry(
        "reference-2",
        "CNN 16-32-64, no augmentation",
        (*PLAIN, *NO_AUGMENTATION, "train.backbone=cnn", "train.epochs=50"),
    ),
    Entry(
        "reference-3",
        "EfficientNetB2 at 96 px, augmentation",
        (
            *PLAIN,
            "train.backbone=efficientnetb2",
            "train.input_size=96",
            "train.head_units=512",
            "train.dropout=0.4",
            "train.epochs=6",
            "train.augmentation.rotation=15",
            "train.augmentation.shift=0.1",
            "train.augmentation.zoom=0.1",
            "train.augmentation.flip=true",
            "train.augmentation.brightness=0.1",
            "train.augmentation.contrast=0.1",
            "train.augmentation.erasing=0",
        ),
    ),
    Entry(
        "reference-4",
        "CNN 16-32-64, augmentation",
        (
            *PLAIN,
            "train.backbone=cnn",
            "train.epochs=40",
            "train.augmentation.rotation=10",
            "train.augmentation.shift=0.1",
            "train.augmentation.zoom=0.1",
            "train.augmentation.flip=true",
            "train.augmentation.brightness=0",
            "train.augmentation.contrast=0",
            "train.augmentation.erasing=0",
        ),
    ),
    Entry("recipe-1", "compact, 24 epochs, smoothed twice", (), commit="e6cf655"),
    Entry("recipe-2", "compact, 36 epochs", (*RECIPE, *LIGHT, ALONE, "train.epochs=36"), commit="47a0cfb"),
    Entry("recipe-3", "compact, 36 epochs, mixup, erasing", (*RECIPE, *STRONG, ALONE, "train.epochs=36")),
    Entry(
        "recipe-4",
        "student of recipe-3, 48 epochs",
        (*RECIPE, *STRONG, "train.teacher_epochs=36", "train.epochs=48"),
        commit="910497d",
    ),
    *(
        Entry(f"short-{seed}", f"recipe-3 in 12 epochs, seed {seed}", (*SHORT, f"train.seed={seed}"))
        for seed in (1, 2, 3)
    ),
    Entry(
        "short-copies",
        "recipe-3 in 12 epochs, copies left in, seed 1",
        (*SHORT, "train.seed=1", "split.remove_copies=false"),
    ),
    Entry(
        "short-half",
        "as many steps on half the train faces, seed 1",
        (
            *(setting for setting in SHORT if setting != SHORT_EPOCHS),
            "train.epochs=24",
            "train.seed=1",
            "undersample.policy=custom",
            *(f"undersample.drop_fraction.{expression}=0.5" for expression in EXPRESSIONS),
        ),
    ),
)
