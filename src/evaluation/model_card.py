"""models/model_card.md: what the model is, what it may be used for, how good it is and on what.

The headings follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. Every figure comes from the
content of metrics/evaluate.json or from the metadata in the exported file.
"""

import hashlib
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from src.recognition.classifier import VARIANTS, ExportMetadata

SAMPLE_SENTENCE = "Trained and measured on the bundled sample of drawn faces"
_SOURCE_NAMES = {"all": "all", "fer2013": "FER2013", "expw": "ExpW"}
_VARIANTS = {
    "int8": "weights and activations in 8 bits, for CPUs",
    "multiview": "the mean over the face, its mirror image and, where the network looks at the centre, the full frame",
}
_OFFICIAL_PARTS = {"test": "PrivateTest", "validation": "PublicTest"}


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """All that the card says beyond its fixed text."""

    metadata: ExportMetadata
    figures: Mapping[str, Any]  # content of metrics/evaluate.json
    distribution: pd.DataFrame  # stage, expression, faces, in stage order
    files: Mapping[str, tuple[int, str]]  # name of an exported file -> bytes, `file_digest`
    dataset: str  # params.yaml: dataset
    protocol: str  # params.yaml: split.protocol
    copies_removed: bool  # params.yaml: split.remove_copies
    environment: str  # what the figures were computed with


def render_model_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    parts = (
        _introduction(facts),
        _files(facts),
        _USAGE,
        _INTENDED_USE,
        _data(facts),
        _results(facts),
        _calibration(facts),
        _per_class(facts),
        _LIMITS,
        _LICENCES,
    )
    blocks = "\n\n".join(part.strip("\n") for part in parts).split("\n\n")
    return "\n\n".join(_wrapped(block) for block in blocks) + "\n"


def _wrapped(block: str) -> str:
    """Prose filled to 120 columns; headings, lists, tables and code as they are."""
    if block.startswith(("#", "-", "|", "```")):
        return block
    return textwrap.fill(block, 120, break_long_words=False, break_on_hyphens=False)


_USAGE = """
## How to call it

From the repository root, with `photo` a BGR array (`cv2.imread`) and `box` the (x, y, width, height) of a face, in
pixels:

```python
from src.recognition.classifier import Classifier
from src.recognition.crop_face import crop_face
classifier = Classifier("pretrained/model.onnx")
face = crop_face(photo, box, classifier.metadata.image_size, classifier.metadata.margin)
print(dict(zip(classifier.metadata.expressions, classifier.predict(face[None])[0])))
```
"""

_INTENDED_USE = """
## Intended use

Research and teaching: labelling the expression shown on a face in a photo or a video stream, on the user's own
computer, with the knowledge of the people in the picture.

Not intended, and not supported by the figures below:

- any decision about a person: hiring, education, insurance, credit, policing, border control, medicine;
- watching people who have not agreed to it;
- claims about what a person feels. The classes name how a face looks to a labeller; people's faces and their
  feelings are only loosely linked (Barrett et al., Psychological Science in the Public Interest 20, 2019);
- identifying people: the model has not been made for it.

In the European Union, inferring emotions at work and in schools is prohibited (Regulation (EU) 2024/1689, article 5).
"""

_LIMITS = """
## Limits and ethics

- Labels are opinions: on FER2013, people agree with them on 65 ± 5 % of the pictures (Goodfellow et al., ICONIP 2013),
  and some copies of one picture carry different labels. The model learns its labellers' habits.
- The pictures were gathered from the web by search words. Age, gender, skin colour and culture of the people are not
  recorded, so the figures cannot be given per group, and must be expected to differ between groups.
- Faces that are turned away, covered, badly lit or very small are rarer in the data than in front of a webcam.
- Seven classes always get the whole probability: a face that shows none of them is still named, which is why
  programs say "uncertain" below the threshold.
- Intervals treat faces as independent and the labels as true; they cover the sampling of the test faces, not the
  choice of the seed or a change of camera.
"""

_LICENCES = """
## Licences of the data

FER2013 (Goodfellow et al., ICONIP 2013; Kaggle) and ExpW (Zhang et al., IJCV 126, 2018) are given out for
non-commercial research and education. The pictures are not part of this project. Whether weights trained on them may
be used commercially is not settled: treat this model as research-only.
"""


def file_digest(path: Path) -> str:
    """The first 32 hexadecimal digits of the file's SHA-256: what the card calls it by."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _introduction(facts: CardFacts) -> str:
    text = f"""
# Model card: facial expressions, `{facts.metadata.backbone}`

A classifier that takes the grey crop of one face and gives seven probabilities:
{", ".join(facts.metadata.expressions)}. It is one small file that runs on a CPU without a deep-learning framework.
"""
    if facts.dataset == "sample":
        text += f"""
**{SAMPLE_SENTENCE}: it shows that the pipeline works and is of no use on
photos of people.**
"""
    return text


def _files(facts: CardFacts) -> str:
    metadata = facts.metadata
    size = metadata.image_size
    rows = "\n".join(
        f"| `{name}` | {count / 1e6:.2f} MB | `{digest}` |" for name, (count, digest) in facts.files.items()
    )
    return f"""
## Model

| file | size | SHA-256, first half |
|---|---|---|
{rows}

- Input: uint8 `(N, {size}, {size}, 1)`, grey [0, 255], one face each, cut out with a margin of
  {100 * metadata.margin:g} % of the box on each side by `src.recognition.crop_face.crop_face`. N is free.
- Output: float32 `(N, 7)`, probabilities in the order above. Resizing, scaling and the temperature
  ({metadata.temperature:.3f}) are part of the file, and so are these facts, as metadata.
{_variants(facts)}"""


def _variants(facts: CardFacts) -> str:
    """What the other exports of the same network are, and how good."""
    lines = []
    for key, title in _VARIANTS.items():
        if key in facts.figures:
            row, name = facts.figures[key]["test"]["all"], _section_name("all", "test", facts)
            lines.append(
                f"- `{VARIANTS[key]}`: {title}. On test, {name} (n = {row['n']:,}),\n"
                f"  its accuracy is {_interval(row, 'accuracy')}, macro F1 {row['macro_f1']:.3f}, calibration error "
                f"{row['ece']:.3f};\n  to {100 * row['same_answer']:.1f} % of the faces it gives the same answer as "
                "`model.onnx`."
            )
    if not lines:
        return ""
    return "\n".join([*lines, "- All other figures here are those of `model.onnx`."])


def _data(facts: CardFacts) -> str:
    counts = facts.distribution.groupby("stage", sort=False)["faces"].agg(["sum", "min", "max"])
    rows = "\n".join(
        f"| {stage} | {row['sum']:,} | {row['min']:,} | {row['max']:,} |" for stage, row in counts.iterrows()
    )
    copies = (
        "Exact and near copies of test pictures were removed from validation and train, and those of validation "
        "pictures from train."
        if facts.copies_removed
        else "Copies of test pictures were left in train (`split.remove_copies: false`), so that figures are "
        "comparable with the literature and too high; read the lines without copies."
    )
    return f"""
## Data

FER2013 (grey faces of 48 x 48 pixels) and ExpW (faces cut out of photos), data set `{facts.dataset}`, protocol
`{facts.protocol}`. Test: {_held_out("test", facts)}. Validation: {_held_out("validation", facts)}.
{copies}

Faces after each stage of the pipeline; the last line is what the model was trained on:

| stage | faces | smallest class | largest class |
|---|---|---|---|
{rows}
"""


def _held_out(split: str, facts: CardFacts) -> str:
    """What a split holds of each source."""
    parts = []
    for source in ("fer2013", "expw"):
        if source in facts.figures[split]:
            what = "drawn at random by photo"
            if facts.protocol == "official" and source == "fer2013":
                what = _OFFICIAL_PARTS[split]
            parts.append(
                f"{facts.figures[split][source]['n']:,} faces of {_section_name(source, split, facts)} ({what})"
            )
    return " and ".join(parts)


def _results(facts: CardFacts) -> str:
    rows = []
    for split in ("test", "validation"):
        for section, row in facts.figures[split].items():
            rows.append(
                f"| {split} | {_section_name(section, split, facts)} | {row['n']:,} | {_interval(row, 'accuracy')} "
                f"| {_interval(row, 'balanced_accuracy')} | {_interval(row, 'macro_f1')} | {row['loss']:.3f} |"
            )
    table = "\n".join(rows)
    baseline = facts.figures["baseline"]
    return f"""
## Results

| split | faces | n | accuracy | balanced accuracy | macro F1 | loss |
|---|---|---|---|---|---|---|
{table}

In brackets 95 % intervals: Wilson's for accuracy, bootstrap for the macro averages. One training run. Without
copies: the pictures that have no exact or near copy in the train part as it was before copies were
removed. For comparison, on all of test: a blind guess {baseline["chance_accuracy"]:.3f}, always naming the most
frequent class {baseline["majority_class_accuracy"]:.3f}. What training keeps
is chosen on validation; it never sees test. Computed with {facts.environment}.
"""


def _calibration(facts: CardFacts) -> str:
    row = facts.figures["test"]["all"]
    certain = row.get("accuracy_when_certain")
    threshold = facts.metadata.uncertain_below
    if certain is None:
        of_certain = "no face of test reaches it"
    else:
        of_certain = f"{row['coverage']:.3f} of the test faces reach it, and {certain:.3f} of those answers are right"
    return f"""
## Calibration

Expected calibration error on test, {_section_name("all", "test", facts)}, n = {row["n"]:,}: {row["ece"]:.3f}.
Without error, answers given with 80 % are right in 80 of 100 cases.
Programs answer "uncertain" below a probability of {threshold:g}: {of_certain}.
"""


def _per_class(facts: CardFacts) -> str:
    section = facts.figures["test"]["all"]
    rows = "\n".join(
        f"| {name} | {row['n']:,} | {row['precision']:.3f} | {_interval(row, 'recall')} | {row['f1']:.3f} "
        f"| {row['loss']:.3f} | {row['ece']:.3f} |"
        for name, row in section["per_class"].items()
    )
    return f"""
## Per class

Test, {_section_name("all", "test", facts)}, n = {section["n"]:,}. Recall is the accuracy on the faces of the class.

| expression | n | precision | recall (95 %) | F1 | loss | calibration error |
|---|---|---|---|---|---|---|
{rows}
"""


def _section_name(section: str, split: str, facts: CardFacts) -> str:
    source = section.removesuffix("_without_copies")
    name = _SOURCE_NAMES[source]
    return f"{name}, without copies" if section.endswith("_without_copies") else name


def _interval(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f}–{row[f'{name}_high']:.3f})"
