"""models/model_card.md: what the model is, what it may be used for, how good it is and on what.

The text is `model_card.md.jinja`, beside this file; its headings follow Mitchell et al., "Model Cards for Model
Reporting", FAT* 2019. Every figure comes from metrics/details/evaluate.json or from the metadata in the exported file.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from src.evaluation.labellings import title
from src.evaluation.plots import CONDITIONS
from src.recognition.classifier import VARIANTS, ExportMetadata

SAMPLE_SENTENCE = "Trained and measured on the bundled sample of drawn faces"
_VARIANTS = {
    "int8": "weights and activations in 8 bits, for CPUs",
    "multiview": "the mean over the face, its mirror image and, where the network looks at the centre, the full frame",
}
_OFFICIAL = {"test": "FER2013's PrivateTest", "validation": "FER2013's PublicTest"}
# On PrivateTest, section -> system -> accuracy, as published. Barsoum et al., ICMI 2016 (VGG13); Wang et al.,
# IEEE TIP 29, 2020 (RAN), and CVPR 2020 (SCN); Zhang et al., Electronics 12, 2023 (DDAMFN); Goodfellow et al., ICONIP
# 2013; Pham et al., ICPR 2020 (RMN). FER2013's own label is counted by us, as an answer to the same question.
_PUBLISHED = {
    "ferplus": {
        "FER2013's own label": ".670",
        "VGG13 of the FER+ authors, from random weights, 8.75 M parameters": ".850",
        "RAN, pretrained on millions of faces": ".886",
        "SCN, pretrained on millions of faces": ".894",
        "DDAMFN, pretrained on millions of faces": ".907",
    },
    "fer2013": {"people": ".65 ± .05", "Residual Masking Network, ImageNet, 142.9 M parameters": ".741"},
}


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """All that the card says beyond its fixed text."""

    metadata: ExportMetadata
    figures: Mapping[str, Any]  # content of metrics/details/evaluate.json
    main: Mapping[str, str]  # source -> section of the test split, see `labellings.main_sections`
    distribution: pd.DataFrame  # stage, expression, faces, in stage order
    files: Mapping[str, tuple[int, str]]  # name of an exported file -> bytes, `file_digest`
    dataset: str  # params.yaml: dataset
    protocol: str  # params.yaml: split.protocol
    copies_removed: bool  # params.yaml: split.remove_copies
    environment: str  # what the figures were computed with


def render_model_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"count": "{:,}".format, "decimal": "{:.3f}".format, "interval": _interval}
    counts = facts.distribution.groupby("stage", sort=False)["faces"].agg(["sum", "min", "max"])
    return environment.get_template("model_card.md.jinja").render(
        **vars(facts),
        title=title,
        stages=[(stage, *row) for stage, row in zip(counts.index, counts.to_numpy().tolist(), strict=True)],
        parts=partial(_part, facts.protocol == "official"),
        published=_PUBLISHED,
        conditions=CONDITIONS,
        variants=_VARIANTS,
        variant_files=VARIANTS,
        sample_sentence=SAMPLE_SENTENCE,
    )


def file_digest(path: Path) -> str:
    """The first 32 hexadecimal digits of the file's SHA-256: what the card calls it by."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _part(official: bool, split: str, source: str) -> str:
    """What a split holds of a source, in words."""
    fer2013 = _OFFICIAL[split] if official else "FER2013 (drawn at random)"
    return fer2013 if source == "fer2013" else f"{title(source)} (drawn at random by photo)"


def _interval(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f}–{row[f'{name}_high']:.3f})"
