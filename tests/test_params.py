"""Every key of params.yaml is checked at the door, and a mistake names the key."""

from pathlib import Path

import pytest

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
        ("undersample.drop_fraction.happy", 1.5, "undersample.drop_fraction.happy is 1.5; expected a number from 0"),
        ("undersample.drop_fraction.happy", 1.0, "undersample.drop_fraction.happy is 1.0"),
        ("crop.image_size", 48.5, "crop.image_size is 48.5; expected a whole number from 16 to 512"),
        ("crop.image_size", 8, "crop.image_size is 8"),
        ("smote.enabled", "yes", "smote.enabled is 'yes'; expected true or false"),
        ("smote.neighbors", True, "smote.neighbors is True"),
        ("train.learning_rate", float("nan"), "train.learning_rate is nan"),
        ("train.input_size", "large", "train.input_size is 'large'; expected a whole number or auto"),
        ("train.augmentation", 3, "train.augmentation must be a mapping"),
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
