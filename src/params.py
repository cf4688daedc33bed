"""params.yaml as typed, frozen objects.

`load_params("params.yaml")` returns `Params`; an unknown, missing, mistyped or out-of-range key raises
UserError that names the key, what was found and what is expected.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from src.errors import UserError


def _number(value: object) -> object:
    """PyYAML follows YAML 1.1 and reads 1e-4 as text; DVC, with YAML 1.2, as a number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_number)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
BelowOne = Annotated[Number, Field(ge=0, lt=1)]
Rate = Annotated[Number, Field(ge=0, le=10)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Text = Annotated[str, Field(strict=False, coerce_numbers_to_str=True)]  # a folder may be called 2024
OrNone = BeforeValidator(lambda value: "none" if value is None else value)  # null is none, where none is a choice
Auto = Literal["auto"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class IngestFer2013Params(_Section):
    labels: Literal["ferplus", "original"]
    max_bad_fraction: Fraction


class IngestExpwParams(_Section):
    enabled: bool
    confidence_min: Annotated[Number, Field(ge=0, le=100)]
    max_bad_fraction: Fraction


class CropParams(_Section):
    image_size: Annotated[int, Field(ge=16, le=512)]
    margin: Fraction
    max_bad_fraction: Fraction


class SplitParams(_Section):
    protocol: Literal["official", "random"]
    remove_copies: bool
    copy_similarity: Annotated[Number, Field(ge=0.3, le=1)]
    seed: Seed


class DropFractions(_Section):
    angry: BelowOne
    disgust: BelowOne
    fear: BelowOne
    happy: BelowOne
    sad: BelowOne
    surprise: BelowOne
    neutral: BelowOne


class UndersampleParams(_Section):
    policy: Annotated[Literal["none", "reference", "custom"], OrNone]
    drop_fraction: DropFractions
    seed: Seed

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        unread = [name for name, fraction in self.drop_fraction.model_dump().items() if fraction]
        if self.policy != "custom" and unread:
            raise ValueError(f"undersample.drop_fraction.{unread[0]} needs undersample.policy=custom; set that too.")
        return self


class SmoteParams(_Section):
    enabled: bool
    neighbors: Annotated[int, Field(ge=1, le=100)]
    target_fraction: Fraction
    seed: Seed


class AugmentationParams(_Section):
    rotation: Annotated[Number, Field(ge=0, le=180)]
    shift: Annotated[Number, Field(ge=0, le=0.5)]
    zoom: Annotated[Number, Field(ge=0, le=0.9)]
    flip: bool
    brightness: Fraction
    contrast: Fraction
    erasing: Fraction


class TrainParams(_Section):
    backbone: Literal["compact", "cnn", "mobilenetv2", "vgg16", "resnet50", "efficientnetb2"]
    weights: Annotated[Text, OrNone]
    input_size: Annotated[int, Field(ge=24, le=512)] | Auto
    view_fraction: Annotated[Number, Field(ge=0.5, le=1)] | Auto
    head_units: Annotated[int, Field(ge=0, le=8192)] | Auto
    dropout: BelowOne | Auto
    frozen_epochs: Count
    teacher_epochs: Count
    teacher_weight: Fraction
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    optimizer: Literal["sgd", "adam"]
    learning_rate: Rate
    frozen_learning_rate: Rate
    fine_tune_learning_rate: Rate
    schedule: Literal["constant", "cosine", "plateau"]
    warmup_fraction: BelowOne
    weight_decay: Fraction
    label_smoothing: BelowOne
    vote_weight: Fraction
    expw_weight: Rate
    class_weights: Annotated[Literal["none", "square_root", "balanced"], OrNone]
    mixup: Rate
    average_epochs: Count
    monitor: Literal["val_accuracy", "val_loss", "last"]
    early_stopping: Count
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    augmentation: AugmentationParams
    seed: Seed

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.average_epochs and self.early_stopping:
            raise ValueError(
                "train.average_epochs keeps the mean of the last epochs, so train.early_stopping has nothing to "
                "choose. Set one of the two to 0."
            )
        if self.monitor == "last" and (self.early_stopping or self.schedule == "plateau"):
            raise ValueError(
                "train.monitor=last keeps the last epoch, so there is nothing for train.early_stopping or "
                "train.schedule=plateau to wait for. Set train.monitor to val_accuracy or val_loss, or these two to 0 "
                "and constant or cosine."
            )
        if self.early_stopping and self.schedule == "cosine":
            raise ValueError(
                "train.schedule=cosine: most is learned while the rate falls, in the last epochs, which "
                "train.early_stopping would cut off. Set the one to plateau or constant, or the other to 0."
            )
        if self.optimizer == "adam" and self.learning_rate > 0.02:
            raise ValueError(
                f"train.learning_rate={self.learning_rate:g} is for sgd. For train.optimizer=adam .001 is usual, .02 "
                "the most."
            )
        return self


class ExportParams(_Section):
    uncertain_below: Fraction
    int8: bool
    multiview: bool
    parity_faces: Annotated[int, Field(ge=1, le=100_000)]


class EvaluateParams(_Section):
    bootstrap_samples: Annotated[int, Field(ge=100, le=100_000)]
    reliability_bins: Annotated[int, Field(ge=2, le=100)]
    mistakes: Annotated[int, Field(ge=1, le=400)]
    seed: Seed


class Params(_Section):
    """All sections; one per stage, same name."""

    dataset: Text
    ingest_fer2013: IngestFer2013Params
    ingest_expw: IngestExpwParams
    crop: CropParams
    split: SplitParams
    undersample: UndersampleParams
    smote: SmoteParams
    train: TrainParams
    export: ExportParams
    evaluate: EvaluateParams


def _explain(error: ValidationError) -> str:
    """The first problem, an unknown key before all others: the key that was meant is then missing as well."""
    problems = error.errors(include_url=False)
    unknown = ("extra_forbidden", "invalid_key")
    first = min(problems, key=lambda problem: problem["type"] not in unknown)
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    path: list[str] = []
    section: Any = Params
    for name in first["loc"]:  # below a leaf follow the alternatives of its type
        path.append(str(name))
        if name not in section.model_fields or not hasattr(section.model_fields[name].annotation, "model_fields"):
            break
        section = section.model_fields[name].annotation
    key = ".".join(path)
    if first["type"] in unknown:
        close = difflib.get_close_matches(path[-1], section.model_fields, n=1)
        known = ", ".join(section.model_fields)
        return f"unknown key {key}; " + (
            f"did you mean {'.'.join([*path[:-1], *close])}?" if close else f"known keys: {known}."
        )
    if first["type"] == "missing":
        return f"{key} is missing; add it (`git diff params.yaml` shows what changed)."
    if first["type"] == "model_type":
        return f"{key or 'the file'} must be a mapping of keys to values, found {first['input']!r}."
    same = [problem["msg"] for problem in problems if problem["loc"][: len(path)] == first["loc"][: len(path)]]
    expected = " or ".join(text.removeprefix("Input should be ") for text in same)
    expected = expected.replace("a valid boolean", "true or false").replace("a valid integer", "a whole number")
    close = difflib.get_close_matches(str(first["input"]), re.findall("'(.*?)'", expected), n=1)
    return f"{key} is {first['input']!r}; it should be {expected}." + (f" Did you mean {close[0]}?" if close else "")


def parse_params(content: Any) -> Params:
    """Check a mapping as read from params.yaml. Raises UserError."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"params.yaml: {_explain(error)}") from None


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml. Raises UserError when it is missing, not YAML, or wrong in any key."""
    try:
        content = yaml.safe_load(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing. Run from the repository root; `git checkout {path}` restores it."
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that cannot be, such as 2026-99-99
        raise UserError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}. Correct the line it names."
        ) from error
    return parse_params(content)
