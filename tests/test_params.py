"""Every key of params.yaml is checked, and a mistake names the key, what was found and what is expected."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from src.errors import UserError
from src.params import load_params, parse_params
from tests.conftest import ROOT


def _set(content: dict, key: str, value: object) -> None:
    *path, last = key.split(".")
    for name in path:
        content = content[name]
    content[last] = value


def test_committed_params_are_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.dataset == "full"
    assert params.crop.image_size == 48


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.bacbone", "cnn", "unknown key train.bacbone; did you mean train.backbone?"),
        ("training", {}, "unknown key training; did you mean train?"),
        ("train.backbone", "vgg61", "train.backbone is 'vgg61'.*Did you mean vgg16?"),
        ("split.protocol", "offical", "split.protocol is 'offical'.*Did you mean official?"),
        ("undersample.drop_fraction.happy", 1.5, "undersample.drop_fraction.happy is 1.5; it should be less than 1"),
        ("undersample.drop_fraction.happy", 1.0, "undersample.drop_fraction.happy is 1.0; it should be less than 1"),
        ("crop.image_size", 48.5, "crop.image_size is 48.5; it should be a whole number"),
        ("crop.image_size", 8, "crop.image_size is 8; it should be greater than or equal to 16"),
        ("smote.enabled", "yes", "smote.enabled is 'yes'; it should be true or false"),
        ("smote.neighbors", "five", "smote.neighbors is 'five'; it should be a whole number"),
        ("smote.enabled", 1, "smote.enabled is 1; it should be true or false"),
        ("smote.neighbors", True, "smote.neighbors is True; it should be a whole number"),
        ("split.seed", 42.0, "split.seed is 42.0; it should be a whole number"),
        ("split.seed", 2**32, "split.seed is 4294967296; it should be less than"),
        ("train.mixup", True, "train.mixup is True; it should be a valid number"),
        ("train.mixup", "1e-4x", "train.mixup is '1e-4x'; it should be a valid number"),
        ("train.mixup", "inf", "train.mixup is inf; it should be a finite number"),
        ("train.mixup", None, "train.mixup is None"),
        ("train.mixup", {"float": 1}, "train.mixup is {'float': 1}"),
        ("train.expw_weight", 10.1, "train.expw_weight is 10.1; it should be less than or equal to 10"),
        ("train.optimizer", None, "train.optimizer is None; it should be 'sgd' or 'adam'"),
        ("train.learning_rate", float("nan"), "train.learning_rate is nan; it should be a finite number"),
        ("train.input_size", "large", "train.input_size is 'large'; it should be a whole number or 'auto'"),
        ("train.augmentation", 3, "train.augmentation must be a mapping"),
        ("train.augmentation.3", 3, "unknown key train.augmentation.3; known keys: rotation, "),
    ],
)
def test_mistake_is_named(params_content: dict, key: str, value: object, message: str) -> None:
    _set(params_content, key, value)
    with pytest.raises(UserError, match=message):
        parse_params(params_content)


def test_missing_key_is_named(params_content: dict) -> None:
    del params_content["train"]["epochs"]
    with pytest.raises(UserError, match=r"train\.epochs is missing"):
        parse_params(params_content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"average_epochs": 5, "early_stopping": 4}, "train.early_stopping has nothing to choose"),
        ({"average_epochs": 0, "monitor": "last", "schedule": "plateau"}, "train.monitor=last keeps the last epoch"),
    ],
)
def test_settings_that_exclude_each_other(params_content: dict, changes: dict, message: str) -> None:
    params_content["train"].update(changes)
    with pytest.raises(UserError, match=message):
        parse_params(params_content)


@pytest.mark.parametrize("section", ["undersample.policy", "train.class_weights"])
def test_null_is_none_where_none_is_a_choice(params_content: dict, section: str) -> None:
    _set(params_content, section, None)
    name, key = section.split(".")
    assert getattr(getattr(parse_params(params_content), name), key) == "none"


def test_parameters_cannot_be_changed(params_content: dict) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_params(params_content).train.epochs = 3


@pytest.mark.parametrize(("written", "expected"), [("1e-4", 1e-4), (1, 1.0), (0.5, 0.5)])
def test_numbers_in_every_yaml_spelling(params_content: dict, written: object, expected: float) -> None:
    params_content["train"]["learning_rate"] = written
    assert parse_params(params_content).train.learning_rate == expected


@pytest.mark.parametrize(("text", "message"), [("train: [", "not valid YAML"), ("", "must be a mapping")])
def test_unreadable_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_params(tmp_path / "params.yaml")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Run from the repository root"):
        load_params(tmp_path / "params.yaml")
