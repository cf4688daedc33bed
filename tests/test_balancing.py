"""Undersampling and SMOTE: the counts of the reference, train only, seeded."""

from pathlib import Path

import numpy as np

from src.expressions import CODE, EXPRESSIONS
from src.faceset import FaceSet
from src.params import DropFractions, SmoteParams, UndersampleParams
from src.preparation.smote import balance, find_parents, smote_sheet
from src.preparation.undersampling import REFERENCE_FRACTIONS, drop_fractions, undersample
from tests.conftest import random_faces, with_votes

# FER2013 and ExpW together, in class order, before and after the DSPRO2 report's undersampling.
TOTAL = [8624, 4542, 6209, 39526, 16636, 11062, 41081]
KEPT = [8624, 4542, 6209, 11858, 12477, 11062, 12324]


def test_reference_counts() -> None:
    targets = np.random.default_rng(0).permutation(np.repeat(np.arange(7), TOTAL))
    rows = undersample(targets, REFERENCE_FRACTIONS, seed=42)
    assert np.bincount(targets[rows]).tolist() == KEPT
    assert (np.diff(rows) > 0).all()  # none twice, in the order of the faces
    assert not np.array_equal(rows, undersample(targets, REFERENCE_FRACTIONS, seed=43))
    np.testing.assert_array_equal(rows, undersample(targets, REFERENCE_FRACTIONS, seed=42))


def _undersample_params(policy: str, **fractions: float) -> UndersampleParams:
    drop = DropFractions(**{**dict.fromkeys(EXPRESSIONS, 0.0), **fractions})
    return UndersampleParams(policy=policy, drop_fraction=drop, seed=42)  # type: ignore[arg-type]


def test_policies() -> None:
    assert drop_fractions(_undersample_params("none")) == {}
    assert drop_fractions(_undersample_params("reference")) == REFERENCE_FRACTIONS
    assert drop_fractions(_undersample_params("custom", happy=0.5))["happy"] == 0.5


def _smote_params(enabled: bool = True, neighbors: int = 3, target_fraction: float = 1.0) -> SmoteParams:
    return SmoteParams(enabled=enabled, neighbors=neighbors, target_fraction=target_fraction, seed=42)


def test_smote_fills_up_and_keeps_the_originals() -> None:
    faces = random_faces(10)
    faces = faces.select(np.r_[0:10, 10:15, 20:70])  # disgust has 5, the others 10
    balanced = balance(faces, _smote_params())
    assert np.bincount(balanced.targets).tolist() == [10] * 7
    np.testing.assert_array_equal(balanced.images[: len(faces)], faces.images)
    new = balanced.labels[balanced.labels["synthetic"]]
    assert set(new["expression"]) == {"disgust"}
    assert set(new["source"]) == {"smote"}
    # A synthetic face lies between two faces of its class, so within their range at every pixel.
    disgust = faces.images[faces.targets == CODE["disgust"]]
    synthetic = balanced.images[len(faces) :]
    assert (synthetic >= disgust.min(0)).all()
    assert (synthetic <= disgust.max(0)).all()
    np.testing.assert_array_equal(balance(faces, _smote_params()).images, balanced.images)


def test_parents_of_synthetic_faces_are_found() -> None:
    faces = random_faces(10)
    faces = faces.select(np.r_[0:10, 10:15, 20:70])
    balanced = balance(faces, _smote_params())
    disgust = faces.images[faces.targets == CODE["disgust"]].astype(float)
    for face in balanced.images[len(faces) :]:
        first, second = disgust[list(find_parents(face, disgust.astype(np.uint8)))]
        share = ((face - first) * (second - first)).sum() / ((second - first) ** 2).sum()
        assert np.abs(first + share * (second - first) - face).max() < 1, "a mix of these two, rounded"
    made = len(balanced) - len(faces)
    assert smote_sheet(balanced, per_class=made).shape[0] > smote_sheet(faces).shape[0], "without any, a line of text"


def test_synthetic_faces_get_the_mix_of_their_parents_votes(tmp_path: Path) -> None:
    plain = random_faces(20).select(np.r_[0:20, 20:32, 40:140])
    disgust = plain.targets == CODE["disgust"]
    plain.images[disgust] = 20 * (10 - 2 * (np.flatnonzero(disgust) % 4))[:, None, None]  # a grey that tells the votes
    faces = with_votes(FaceSet(plain.images, plain.labels.copy()))
    params = _smote_params(neighbors=8)
    balanced = balance(faces, params)
    np.testing.assert_array_equal(balanced.images, balance(plain, params).images)  # votes move no pixel
    balanced.save(tmp_path / "set")
    balanced = FaceSet.load(tmp_path / "set")
    np.testing.assert_allclose(balanced.distributions[: len(faces)], faces.distributions)
    new, share = balanced.distributions[len(faces) :], balanced.images[len(faces) :, 0, 0] / 200
    assert len(new) == 8
    assert len(np.unique(share)) > 3
    np.testing.assert_allclose(new[:, CODE["disgust"]], share, atol=0.16)  # votes are whole, a single one is dropped
    np.testing.assert_allclose(new[:, CODE["fear"]], 1 - share, atol=0.16)


def test_without_votes_synthetic_faces_have_the_label_of_their_class() -> None:
    faces = with_votes(random_faces(10)).select(np.r_[0:10, 10:15, 20:70])
    faces.labels["label_source"] = "original"
    balanced = balance(faces, _smote_params())
    np.testing.assert_array_equal(balanced.distributions[-1], np.eye(7)[CODE["disgust"]])
    assert balanced.labels["votes_happy"].isna()[-5:].all()


def test_how_far_smote_fills_up() -> None:
    faces = random_faces(10).select(np.r_[0:10, 10:14, 20:70])
    balanced = balance(faces, _smote_params(target_fraction=0.6))
    assert np.bincount(balanced.targets).tolist() == [10, 6, 10, 10, 10, 10, 10]
    assert balance(faces, _smote_params(enabled=False)) is faces
