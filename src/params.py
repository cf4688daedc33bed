"""params.yaml as typed, frozen objects, checked once at the door.

`load_params("params.yaml")` returns `Params`; an unknown, missing, mistyped or out-of-range key raises
UserError that names the key, what was found and what is expected.
"""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from src.errors import UserError

Auto = Literal["auto"]
_UNIONS = (types.UnionType, typing.Union)  # int | Literal[...] makes the second


def _within(low: float, high: float, *, open_high: bool = False) -> Any:
    """A field whose number must lie in [low, high], or [low, high) with `open_high`."""
    return field(metadata={"low": low, "high": high, "open_high": open_high})


def _at_least(low: float) -> Any:
    return _within(low, float("inf"))


@dataclass(frozen=True, kw_only=True)
class IngestFer2013Params:
    labels: Literal["ferplus", "original"]
    max_bad_fraction: float = _within(0, 1)


@dataclass(frozen=True, kw_only=True)
class IngestExpwParams:
    confidence_min: float = _within(0, 100)
    max_bad_fraction: float = _within(0, 1)


@dataclass(frozen=True, kw_only=True)
class CropParams:
    image_size: int = _within(16, 512)
    margin: float = _within(0, 1)
    max_bad_fraction: float = _within(0, 1)


@dataclass(frozen=True, kw_only=True)
class SplitParams:
    protocol: Literal["official", "random"]
    remove_copies: bool
    copy_similarity: float = _within(0.3, 1)
    seed: int = _within(0, 2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class DropFractions:
    angry: float = _within(0, 1, open_high=True)
    disgust: float = _within(0, 1, open_high=True)
    fear: float = _within(0, 1, open_high=True)
    happy: float = _within(0, 1, open_high=True)
    sad: float = _within(0, 1, open_high=True)
    surprise: float = _within(0, 1, open_high=True)
    neutral: float = _within(0, 1, open_high=True)


@dataclass(frozen=True, kw_only=True)
class UndersampleParams:
    policy: Literal["none", "reference", "custom"]
    drop_fraction: DropFractions
    seed: int = _within(0, 2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class SmoteParams:
    enabled: bool
    neighbors: int = _within(1, 100)
    target_fraction: float = _within(0, 1)
    seed: int = _within(0, 2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class AugmentationParams:
    rotation: float = _within(0, 180)
    shift: float = _within(0, 0.5)
    zoom: float = _within(0, 0.9)
    flip: bool
    brightness: float = _within(0, 1)
    contrast: float = _within(0, 1)
    erasing: float = _within(0, 1)


@dataclass(frozen=True, kw_only=True)
class TrainParams:
    backbone: Literal["compact", "cnn", "mobilenetv2", "vgg16", "resnet50", "efficientnetb2"]
    weights: str
    input_size: int | Auto = _within(24, 512)
    view_fraction: float | Auto = _within(0.5, 1)
    head_units: int | Auto = _within(0, 8192)
    dropout: float | Auto = _within(0, 1, open_high=True)
    frozen_epochs: int = _at_least(0)
    teacher_epochs: int = _at_least(0)
    teacher_weight: float = _within(0, 1)
    epochs: int = _at_least(1)
    batch_size: int = _within(1, 65536)
    optimizer: Literal["sgd", "adam"]
    learning_rate: float = _within(0, 10)
    frozen_learning_rate: float = _within(0, 10)
    fine_tune_learning_rate: float = _within(0, 10)
    schedule: Literal["constant", "cosine", "plateau"]
    warmup_fraction: float = _within(0, 1, open_high=True)
    weight_decay: float = _within(0, 1)
    label_smoothing: float = _within(0, 1, open_high=True)
    vote_weight: float = _within(0, 1)
    expw_weight: float = _within(0, 10)
    class_weights: Literal["none", "square_root", "balanced"]
    mixup: float = _within(0, 10)
    average_epochs: int = _at_least(0)
    monitor: Literal["val_accuracy", "val_loss", "last"]
    early_stopping: int = _at_least(0)
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    augmentation: AugmentationParams
    seed: int = _within(0, 2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class ExportParams:
    uncertain_below: float = _within(0, 1)
    int8: bool
    multiview: bool
    parity_faces: int = _within(1, 100_000)


@dataclass(frozen=True, kw_only=True)
class EvaluateParams:
    bootstrap_samples: int = _within(100, 100_000)
    reliability_bins: int = _within(2, 100)
    mistakes: int = _within(1, 400)
    seed: int = _within(0, 2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class Params:
    """All sections; one per stage, same name."""

    dataset: str
    ingest_fer2013: IngestFer2013Params
    ingest_expw: IngestExpwParams
    crop: CropParams
    split: SplitParams
    undersample: UndersampleParams
    smote: SmoteParams
    train: TrainParams
    export: ExportParams
    evaluate: EvaluateParams


def _describe(kind: Any, metadata: Any) -> str:
    """What a key accepts, in words."""
    options = typing.get_args(kind) if typing.get_origin(kind) in _UNIONS else (kind,)
    words = []
    for option in options:
        if typing.get_origin(option) is Literal:
            words.append(" | ".join(map(str, typing.get_args(option))))
        else:
            words.append({int: "a whole number", float: "a number", bool: "true or false", str: "text"}[option])
    text = " or ".join(words)
    if "low" in metadata:
        if metadata["high"] == float("inf"):
            text += f" of at least {metadata['low']}"
        else:
            text += f" from {metadata['low']} to {'below ' if metadata['open_high'] else ''}{metadata['high']}"
    return text


def _convert(value: Any, kind: Any) -> Any:
    """`value` as `kind`; raises ValueError where it does not fit without loss."""
    if typing.get_origin(kind) in _UNIONS:
        for option in typing.get_args(kind):
            try:
                return _convert(value, option)
            except (ValueError, OverflowError):
                continue
        raise ValueError
    if typing.get_origin(kind) is Literal:
        # YAML 1.1 reads a bare `none`-like word as text but `off` as a boolean; compare as text.
        if isinstance(value, str) and value in typing.get_args(kind):
            return value
        if value is None and "none" in typing.get_args(kind):
            return "none"
        raise ValueError
    if kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind is float:
        # PyYAML follows YAML 1.1 and reads 1e-4 as text; DVC, with YAML 1.2, as a number.
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            if number == number and abs(number) != float("inf"):
                return number
    elif kind is str and isinstance(value, str | int):
        return str(value)
    raise ValueError


def _build(kind: Any, content: Any, path: str) -> Any:
    """Fill dataclass `kind` from a mapping; `path` is the dotted name of the mapping."""
    if not isinstance(content, dict):
        raise UserError(f"params.yaml: {path or 'the file'} must be a mapping of keys to values, found {content!r}.")
    kinds = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}
    prefix = f"{path}." if path else ""
    for key in content:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"known keys: {', '.join(fields)}."
            raise UserError(f"params.yaml: unknown key {prefix}{key}; {hint}")
    values = {}
    for name, item in fields.items():
        if name not in content:
            raise UserError(
                f"params.yaml: {prefix}{name} is missing; add it (`git diff params.yaml` shows what changed)."
            )
        if dataclasses.is_dataclass(kinds[name]):
            values[name] = _build(kinds[name], content[name], prefix + name)
            continue
        expected = _describe(kinds[name], item.metadata)
        try:
            value = _convert(content[name], kinds[name])
        except (ValueError, OverflowError):  # the second: a whole number beyond the range of float
            close = difflib.get_close_matches(str(content[name]), expected.split(" | "), n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise UserError(f"params.yaml: {prefix}{name} is {content[name]!r}; expected {expected}.{hint}") from None
        if isinstance(value, int | float) and not isinstance(value, bool) and "low" in item.metadata:
            low, high = item.metadata["low"], item.metadata["high"]
            if value < low or value > high or (value == high and item.metadata["open_high"]):
                raise UserError(f"params.yaml: {prefix}{name} is {value}; expected {expected}.")
        values[name] = value
    return kind(**values)


def parse_params(content: Any) -> Params:
    """Check a mapping as read from params.yaml. Raises UserError."""
    params = typing.cast(Params, _build(Params, content, ""))
    train = params.train
    if train.average_epochs and train.early_stopping:
        raise UserError(
            "params.yaml: train.average_epochs keeps the mean of the last epochs, so train.early_stopping has "
            "nothing to choose. Set one of the two to 0."
        )
    if train.monitor == "last" and (train.early_stopping or train.schedule == "plateau"):
        raise UserError(
            "params.yaml: train.monitor=last keeps the last epoch, so there is nothing for train.early_stopping or "
            "train.schedule=plateau to wait for. Set train.monitor to val_accuracy or val_loss, or these two to 0 and "
            "constant or cosine."
        )
    return params


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml. Raises UserError when it is missing, not YAML, or wrong in any key."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing. Run from the repository root; `git checkout {path}` restores it."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that cannot be, such as 2026-99-99
        raise UserError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}. Correct the line it names."
        ) from error
    return parse_params(content)
