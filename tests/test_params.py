"""Every key of params.yaml is checked, and a mistake names the key, what was found and what is expected."""

import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from src.errors import UserError
from src.params import Params, load_params, parse_params
from tests.conftest import ROOT

CONTENT = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def _set(content: dict, key: str, value: object) -> None:
    *path, last = key.split(".")
    for name in path:
        content = content[name]
    content[last] = value


def known_keys(content: dict, path: str = "") -> list[str]:
    """Dotted, of all that is no section."""
    return [
        key
        for name, value in content.items()
        for key in (known_keys(value, f"{path}{name}.") if isinstance(value, dict) else [f"{path}{name}"])
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.bacbone", "cnn", "unknown key train.bacbone; did you mean train.backbone?"),
        ("training", {}, "unknown key training; did you mean train?"),
        ("train.augmentation.3", 3, "unknown key train.augmentation.3; known keys: rotation, "),
        ("train.augmentation", 3, "train.augmentation must be a mapping"),
        ("train.backbone", "vgg61", "train.backbone is 'vgg61'.*Did you mean vgg16?"),
        ("train.optimizer", None, "train.optimizer is None; it should be 'sgd' or 'adam'"),
        ("undersample.drop_fraction.happy", 1.0, "undersample.drop_fraction.happy is 1.0; it should be less than 1"),
        ("crop.image_size", 48.5, "crop.image_size is 48.5; it should be a whole number"),
        ("crop.image_size", 8, "crop.image_size is 8; it should be greater than or equal to 16"),
        ("smote.enabled", 1, "smote.enabled is 1; it should be true or false"),
        ("smote.neighbors", True, "smote.neighbors is True; it should be a whole number"),
        ("split.seed", 2**32, "split.seed is 4294967296; it should be less than"),
        ("train.mixup", "1e-4x", "train.mixup is '1e-4x'; it should be a valid number"),
        ("train.mixup", {"float": 1}, "train.mixup is {'float': 1}"),
        ("train.learning_rate", float("nan"), "train.learning_rate is nan; it should be a finite number"),
        ("train.input_size", "large", "train.input_size is 'large'; it should be a whole number or 'auto'"),
    ],
)
def test_mistake_is_named(params_content: dict, key: str, value: object, message: str) -> None:
    _set(params_content, key, value)
    with pytest.raises(UserError, match=message):
        parse_params(params_content)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary(max_size=4) | st.dates(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)
LIKELY = st.sampled_from(
    [0, 1, -1, 0.5, 1.0, "1e-4", "nan", "inf", "auto", "none", "1_000", "0x10", 2**70, 10**400, 1e308, True]
)


@settings(max_examples=400)
@given(key=st.sampled_from(known_keys(CONTENT)), value=LIKELY | JUNK)
def test_any_value_is_an_error_that_names_the_key_or_fits_its_type(key: str, value: Any) -> None:
    content = copy.deepcopy(CONTENT)
    _set(content, key, value)
    try:
        params: Any = parse_params(content)
    except UserError as error:
        assert key in str(error)
        return
    for name in key.split("."):
        params = getattr(params, name)
    assert isinstance(params, str | bool | int | float)


@settings(max_examples=200)
@given(place=st.floats(0, 1), length=st.integers(0, 40), other=st.binary(max_size=12))
def test_any_damage_to_the_file_is_a_user_error_or_still_valid(
    tmp_path_factory: pytest.TempPathFactory, place: float, length: int, other: bytes
) -> None:
    content = bytearray((ROOT / "params.yaml").read_bytes())
    start = round(place * len(content))
    content[start : start + length] = other
    path = tmp_path_factory.getbasetemp() / "damaged_params.yaml"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        assert isinstance(load_params(path), Params)


def test_missing_key_is_named(params_content: dict) -> None:
    del params_content["train"]["epochs"]
    with pytest.raises(UserError, match=r"train\.epochs is missing"):
        parse_params(params_content)


def test_fractions_that_no_policy_reads(params_content: dict) -> None:
    params_content["undersample"]["drop_fraction"]["happy"] = 0.5
    with pytest.raises(UserError, match=r"undersample.drop_fraction.happy needs undersample.policy=custom"):
        parse_params(params_content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"average_epochs": 5, "early_stopping": 4}, "train.early_stopping has nothing to choose"),
        ({"average_epochs": 0, "early_stopping": 4}, "most is learned while the rate falls"),
        ({"optimizer": "adam"}, "train.learning_rate=0.08 is for sgd"),
        ({"average_epochs": 0, "monitor": "last", "schedule": "plateau"}, "train.monitor=last keeps the last epoch"),
    ],
)
def test_settings_that_exclude_each_other(params_content: dict, changes: dict, message: str) -> None:
    params_content["train"].update(changes)
    with pytest.raises(UserError, match=message):
        parse_params(params_content)


def test_null_is_none_where_none_is_a_choice(params_content: dict) -> None:
    params_content["undersample"]["policy"] = params_content["train"]["class_weights"] = None
    params = parse_params(params_content)
    assert params.undersample.policy == params.train.class_weights == "none"


@pytest.mark.parametrize(("written", "expected"), [("1e-4", 1e-4), (1, 1.0), (0.5, 0.5)])
def test_numbers_in_every_yaml_spelling(params_content: dict, written: object, expected: float) -> None:
    params_content["train"]["learning_rate"] = written
    assert parse_params(params_content).train.learning_rate == expected


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(UserError, match="Run from the repository root"):
        load_params(path)
    texts = {"train: [": "not valid YAML", "seed: 2026-99-99": "not valid YAML", "": "must be a mapping"}
    for text, message in texts.items():
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            load_params(path)
