"""Nothing leaks between splits: no photo and no copy straddles, and the usage is FER2013's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import OTHER_VOTES, VOTES, FaceSet
from src.params import SplitParams
from src.preparation.copies import find_copies
from src.preparation.splitting import assign_splits, split_faces


def _params(protocol: str = "official", remove_copies: bool = True) -> SplitParams:
    return SplitParams(protocol=protocol, remove_copies=remove_copies, copy_similarity=0.65, seed=42)  # type: ignore[arg-type]


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, each unlike the others; uint8 `(N, 48, 48)`."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(count, 48, 48)).astype(np.float32)
    smooth = np.stack(
        [cv2.GaussianBlur(image, (0, 0), 1.5) + 3 * cv2.GaussianBlur(image, (0, 0), 6) for image in noise]
    )
    low, high = smooth.min((1, 2), keepdims=True), smooth.max((1, 2), keepdims=True)
    return np.rint((smooth - low) / (high - low) * 215 + 20).astype(np.uint8)


def _faces(per_usage: int = 21, photos: int = 60) -> FaceSet:
    """FER2013-like faces of every usage and class, then ExpW-like ones, three to a photo."""
    rows = []
    for usage in ("Training", "PublicTest", "PrivateTest"):
        for number in range(per_usage):
            name = f"fer2013/{usage}_{number:03d}"
            rows.append((name, "fer2013", usage, EXPRESSIONS[number % 7], name))
    for number in range(photos * 3):
        photo = f"expw/{number // 3:03d}.jpg"
        rows.append((f"{photo}#{number % 3}", "expw", "", EXPRESSIONS[(number // 3 + number % 3) % 7], photo))
    labels = pd.DataFrame(rows, columns=["image_name", "source", "usage", "expression", "group"])
    labels["copy_of"], labels["synthetic"] = "", False
    return FaceSet(pictures(len(rows)), labels)


def test_git_goes_on_ignoring_the_faces(tmp_path: Path, run_stage: Callable[..., Any]) -> None:
    """DVC's .gitignore lies in the folder that the stage replaces."""
    _faces().save(tmp_path / "data/interim/faces")
    ignore = tmp_path / "data/processed/split/.gitignore"
    ignore.parent.mkdir(parents=True)
    ignore.write_text("/train\n/validation\n/test\n")
    result = run_stage("split")
    assert result.returncode == 0, result.stderr
    assert ignore.read_text() == "/train\n/validation\n/test\n"
    assert sorted(path.name for path in ignore.parent.iterdir()) == [".gitignore", "test", "train", "validation"]


def test_unlike_pictures_are_not_copies() -> None:
    assert len(find_copies(pictures(200), 0.65).first) == 0


def _recompressed(image: np.ndarray) -> np.ndarray:
    decoded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return decoded


def change(image: np.ndarray, how: str) -> np.ndarray:
    if how == "exact":
        return image
    if how == "mirrored":
        return image[:, ::-1]
    if how == "jpeg":
        return _recompressed(image)
    if how == "brighter":
        return np.clip(image * 0.8 + 45, 0, 255).astype(np.uint8)
    if how == "shifted":
        return cv2.copyMakeBorder(image[2:, 1:], 0, 2, 1, 0, cv2.BORDER_REPLICATE)
    return _recompressed(image[:, ::-1])


@pytest.mark.parametrize("how", ["exact", "mirrored", "jpeg", "brighter", "shifted", "mirrored jpeg"])
def test_copy_is_found(how: str) -> None:
    images = pictures(50)
    images[40] = change(images[7], how)
    pairs = find_copies(images, 0.65)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([7], [40])
    assert pairs.mirrored.tolist() == [how.startswith("mirrored")]
    assert (pairs.similarity[0] == 1) == (how in ("exact", "mirrored"))


def test_blank_pictures_are_exact_copies_only() -> None:
    pictures = np.zeros((4, 48, 48), np.uint8)
    pictures[2:] = 128
    pairs = find_copies(pictures, 0.65)
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(0, 1), (2, 3)]


@pytest.mark.parametrize(("protocol", "shares"), [("official", (0.7, 0.15, 0.15)), ("random", (0.6, 0.2, 0.2))])
def test_photos_are_drawn_in_these_shares(protocol: str, shares: tuple[float, ...]) -> None:
    photos = pd.Series([f"expw/{number}.jpg" for number in range(5000)])
    split = assign_splits(pd.DataFrame({"group": photos, "usage": "", "source": "expw"}), protocol, 42)
    for name, share in zip(("train", "validation", "test"), shares, strict=True):
        assert (split == name).mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("protocol", ["official", "random"])
def test_one_photo_more_or_less_and_another_order_move_no_other(protocol: str) -> None:
    labels = _faces().labels
    whole = dict(zip(labels["image_name"], assign_splits(labels, protocol, 42), strict=True))
    fewer = labels[labels["group"] != "expw/007.jpg"].sample(frac=1, random_state=1)
    assert len(fewer) == len(labels) - 3
    for name, split in zip(fewer["image_name"], assign_splits(fewer, protocol, 42), strict=True):
        assert whole[name] == split


@pytest.mark.parametrize("remove", [True, False], ids=["removed", "kept"])
def test_the_test_picture_stays_and_its_copies_leave(remove: bool) -> None:
    faces = _faces()
    images = faces.images.copy()
    train, validation, test = 0, 21, 42  # rows of one usage each
    images[train] = images[validation] = images[test]
    images[train + 1] = images[validation + 1]  # a copy without a test picture
    images[train + 3] = images[train + 2]  # a copy within train leaks nothing
    split = split_faces(FaceSet(images, faces.labels), _params(remove_copies=remove))
    names = {name: set(part.labels["image_name"]) for name, part in split.parts.items()}
    assert "fer2013/PrivateTest_000" in names["test"]
    assert "fer2013/PublicTest_001" in names["validation"]
    assert {"fer2013/Training_002", "fer2013/Training_003"} <= names["train"]
    assert ("fer2013/PublicTest_000" in names["validation"]) == (not remove)
    assert ("fer2013/Training_000" in names["train"]) == (not remove)
    assert ("fer2013/Training_001" in names["train"]) == (not remove)
    assert split.report["removed"] == ({"train": 2, "validation": 1, "test": 0} if remove else dict.fromkeys(names, 0))
    test_rows = split.parts["test"].labels.set_index("image_name")
    assert test_rows.loc["fer2013/PrivateTest_000", "copy_in_train"]
    assert test_rows["copy_in_train"].sum() == 1
    assert split.parts["train"].labels.set_index("image_name").loc["fer2013/Training_003", "copy_of"] == (
        "fer2013/Training_002"
    )


def test_pictures_without_a_face_or_an_expression_leave_train_alone_and_are_counted() -> None:
    faces = _faces()
    for column in (*VOTES, *OTHER_VOTES):
        faces.labels[column] = pd.Series([1] * len(faces), dtype="Int64")
    nothing = faces.labels["image_name"].str.endswith(("_003", "_011")).to_numpy()  # two of each usage
    faces.labels.loc[nothing, "votes_no_face"] = 4
    faces.labels.loc[faces.labels["image_name"].str.endswith("_011"), "votes_contempt"] = 4  # a tie: it shows something
    faces.labels["label_source"] = np.where(faces.labels["source"] == "fer2013", "ferplus", "original")
    names = set(split_faces(faces, _params()).parts["train"].labels["image_name"])
    assert {"fer2013/Training_003", "fer2013/Training_011"} - names == {"fer2013/Training_003"}
    split = split_faces(faces, _params())
    assert split.report["removed_no_face_or_unknown"] == 1
    assert {"fer2013/PublicTest_003"} <= set(split.parts["validation"].labels["image_name"])
    assert {"fer2013/PrivateTest_003"} <= set(split.parts["test"].labels["image_name"])
    faces.labels["label_source"] = "original"
    assert split_faces(faces, _params()).report["removed_no_face_or_unknown"] == 0


def test_unknown_usage_is_an_error() -> None:
    faces = _faces()
    faces.labels.loc[0, "usage"] = "Trainig"
    with pytest.raises(UserError, match=r"split.protocol=random"):
        split_faces(faces, _params())


def test_train_without_a_class_is_an_error() -> None:
    faces = _faces()
    keep = ~((faces.labels["expression"] == "disgust") & (faces.labels["usage"] != "PublicTest")).to_numpy()
    with pytest.raises(UserError, match=r"no faces of disgust"):
        split_faces(faces.select(keep), _params())
