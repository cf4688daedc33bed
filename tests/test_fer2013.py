"""FER2013: every layout gives the same faces and votes, every bad row is counted or stops the stage."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.datasets.fer2013 import USAGES, find, load
from src.datasets.ferplus import parse_votes
from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.params import IngestFer2013Params
from tests.raw_data import (
    FER2013_HEADER,
    bomb_bytes,
    contents,
    encode,
    fer2013_csv,
    fer2013_pictures,
    fer2013_rows,
    huge_jpeg,
    tar_bytes,
    texture,
    write_files,
    zip_bytes,
)

RunStage = Callable[..., subprocess.CompletedProcess[str]]


def read(
    folder: Path, files: dict[str, bytes], max_bad_fraction: float = 0.0, labels: str = "original"
) -> tuple[FaceSet, dict]:
    write_files(folder, files)
    return load(folder, IngestFer2013Params(labels=labels, max_bad_fraction=max_bad_fraction))  # type: ignore[arg-type]


def csv_text(header: str = FER2013_HEADER) -> str:
    """The usual rows under another header."""
    places = {"emotion": 0, "pixels": 1, "usage": 2}
    order = [places.get(name.strip().strip('"').lower()) for name in header.split(",")]
    lines = [",".join("x" if place is None else str(row[place]) for place in order) for row in fer2013_rows()]
    return "\n".join([header, *lines]) + "\n"


PLAIN = csv_text().encode()
CSV_LAYOUTS = {
    "fer2013.csv": {"fer2013.csv": PLAIN},
    "below a folder": {"fer2013/fer2013/fer2013.csv": PLAIN},
    "icml_face_data.csv": {"icml_face_data.csv": csv_text("emotion, Usage, pixels").encode()},
    "further column": {"fer2013.csv": csv_text("id,emotion,pixels,Usage").encode()},
    "zip": {"archive.zip": zip_bytes({"fer2013.csv": PLAIN})},
    "zip below a folder": {"downloads/archive.zip": zip_bytes({"data/fer2013.csv": PLAIN})},
    "tar.gz": {"fer2013.tar.gz": tar_bytes({"fer2013/README": b"x", "fer2013/fer2013.csv": PLAIN})},
    "icml in tar.gz": {"a.tar.gz": tar_bytes({"icml_face_data.csv": csv_text("emotion, Usage, pixels").encode()})},
    "Windows line ends": {"fer2013.csv": PLAIN.replace(b"\n", b"\r\n")},
    "byte order mark": {"fer2013.csv": b"\xef\xbb\xbf" + PLAIN},
    "quoted": {"fer2013.csv": b"\n".join(b'"' + line.replace(b",", b'","') + b'"' for line in PLAIN.splitlines())},
    "no newline at the end": {"fer2013.csv": PLAIN.rstrip()},
    "blank lines": {"fer2013.csv": PLAIN.replace(b"\n", b"\n\n")},
    "several spaces": {"fer2013.csv": PLAIN.replace(b" ", b"  ")},
    "other files of the competition": {
        "icml_face_data.csv": csv_text("emotion, Usage, pixels").encode(),
        "fer2013.tar.gz": tar_bytes({"fer2013/fer2013.csv": PLAIN}),
        "train.csv": b"emotion,pixels\n0,1 2\n",
        "test.csv": b"pixels\n1 2\n",
    },
}


@pytest.mark.parametrize("layout", CSV_LAYOUTS)
def test_every_csv_layout_gives_the_same_faces(tmp_path: Path, layout: str) -> None:
    faces, report = read(tmp_path, CSV_LAYOUTS[layout])
    expected = np.array([row[1].split() for row in fer2013_rows()], np.uint8).reshape(-1, 48, 48)
    np.testing.assert_array_equal(faces.images, expected)
    assert list(faces.labels["expression"]) == [EXPRESSIONS[row[0]] for row in fer2013_rows()]
    assert list(faces.labels["usage"]) == [row[2] for row in fer2013_rows()]
    assert faces.labels["image_name"].is_unique
    assert faces.labels["image_name"].iloc[7] == "fer2013/PublicTest_000008"
    assert (faces.labels["group"] == faces.labels["image_name"]).all()
    assert report["rows_read"] == report["faces"] == 21
    assert report["skipped"]["total"] == 0
    assert report["faces_per_usage"]["PublicTest"]["disgust"] == 1
    digests = sorted(hashlib.sha256(bytes(map(int, row[1].split()))).digest() for row in fer2013_rows())
    assert report["manifest"]["pixels_sha256"] == hashlib.sha256(b"".join(digests)).hexdigest()
    assert [file["name"] for file in report["manifest"]["files"]] == [report["read_from"]]


PICTURES = fer2013_pictures()
PICTURE_LAYOUTS = {
    "folder": PICTURES,
    "below a folder": {f"archive/{name}": content for name, content in PICTURES.items()},
    "zip": {"archive.zip": zip_bytes(PICTURES)},
    "zip with top folder": {"archive.zip": zip_bytes({f"fer2013/{name}": PICTURES[name] for name in PICTURES})},
    "zip in another order": {"archive.zip": zip_bytes(dict(reversed(PICTURES.items())))},
    "other folder names": {name.replace("/happy/", "/Happiness/"): PICTURES[name] for name in PICTURES},
}


@pytest.mark.parametrize("layout", PICTURE_LAYOUTS)
def test_every_picture_layout_gives_the_same_bytes(tmp_path: Path, layout: str) -> None:
    faces, report = read(tmp_path / "raw", PICTURE_LAYOUTS[layout])
    reference, _ = read(tmp_path / "reference", PICTURES)
    faces.save(tmp_path / "a")
    reference.save(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert report["faces_per_usage"]["Training"]["faces"] == 7
    names = list(faces.labels["image_name"])
    assert names == sorted(names)
    row = faces.labels.set_index("image_name").loc["fer2013/PrivateTest_203_happy"]
    assert (row["usage"], row["expression"]) == ("PrivateTest", "happy")


def test_pictures_are_close_to_the_csv(tmp_path: Path) -> None:
    pictures, _ = read(tmp_path / "pictures", PICTURES)
    table, _ = read(tmp_path / "table", {"fer2013.csv": PLAIN})
    order = np.argsort([f"{row[2]}_{100 * USAGES.index(row[2]) + row[0]}_" for row in fer2013_rows()])
    assert np.abs(pictures.images.astype(int) - table.images[order]).mean() < 4


def test_one_number_in_two_classes_names_two_pictures(tmp_path: Path) -> None:
    again = {"train/sad/Training_3.jpg": encode(texture(48, 48, 99))}
    faces, report = read(tmp_path, {**PICTURES, **again})
    assert report["faces"] == 22
    assert {"fer2013/Training_3_sad", "fer2013/Training_3_happy"} < set(faces.labels["image_name"])


class TestSeveralCopies:
    def test_exact_pixels_win_over_jpeg(self, tmp_path: Path) -> None:
        _, report = read(tmp_path, {"archive.zip": zip_bytes(PICTURES), "more/icml_face_data.csv": PLAIN})
        assert (report["read_from"], report["not_read"]) == ("more/icml_face_data.csv", ["archive.zip"])

    @pytest.mark.parametrize(
        "files",
        [
            {"a/fer2013.csv": PLAIN, "b/fer2013.csv": PLAIN},
            {"a.zip": zip_bytes(PICTURES), "b.zip": zip_bytes(PICTURES)},
        ],
        ids=["csv", "zip"],
    )
    def test_equally_good_copies_are_an_error_that_names_them(self, tmp_path: Path, files: dict[str, bytes]) -> None:
        write_files(tmp_path, files)
        with pytest.raises(UserError) as caught:
            find(tmp_path)
        assert all(name in str(caught.value) for name in files)


def damage_csv(row: int, old: str, new: str) -> str:
    lines = fer2013_csv().splitlines()
    lines[row] = lines[row].replace(old, new, 1)
    return "\n".join(lines) + "\n"


FIRST_PIXEL = fer2013_rows()[7][1].split()[0]
PIXELS = "pixels are not 2304 whole numbers 0..255"
BAD_CSV = {
    "2303 pixels": (damage_csv(8, f",{FIRST_PIXEL} ", ","), PIXELS),
    "2305 pixels": (damage_csv(8, f",{FIRST_PIXEL} ", f",{FIRST_PIXEL} 1 "), PIXELS),
    "pixel 256": (damage_csv(8, f",{FIRST_PIXEL} ", ",256 "), PIXELS),
    "pixel 99999999999": (damage_csv(8, f",{FIRST_PIXEL} ", ",99999999999 "), PIXELS),
    "pixel abc": (damage_csv(8, f",{FIRST_PIXEL} ", ",abc "), PIXELS),
    "pixel 12x": (damage_csv(8, f",{FIRST_PIXEL} ", ",12x "), PIXELS),
    "pixel 1.5": (damage_csv(8, f",{FIRST_PIXEL} ", ",1.5 "), PIXELS),
    "pixel -1": (damage_csv(8, f",{FIRST_PIXEL} ", ",-1 "), PIXELS),
    "label 7": (damage_csv(8, "0,", "7,"), "label is not 0..6"),
    "label empty": (damage_csv(8, "0,", ","), "label is not 0..6"),
    "usage Test": (damage_csv(8, "PublicTest", "Test"), "unknown usage"),
    "four columns": (damage_csv(8, "PublicTest", "PublicTest,1"), "wrong number of columns"),
}
BAD_PICTURES = {
    "truncated JPEG": (PICTURES["test/angry/PublicTest_100.jpg"][:-200], "photo cut short"),
    "text named .jpg": (b"this is text", "photo unreadable"),
    "empty file": (b"", "photo unreadable"),
    "64 x 64 pixels": (encode(texture(64, 64, 1)), "not 48 x 48 pixels"),
    "30,000 x 30,000 pixels": (huge_jpeg(), "photo too large"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_row_is_skipped_and_counted(tmp_path: Path, case: str) -> None:
    text, reason = BAD_CSV[case]
    faces, report = read(tmp_path, {"fer2013.csv": text.encode()}, max_bad_fraction=0.05)
    assert (report["rows_read"], len(faces)) == (21, 20)
    assert report["skipped"]["by_reason"] == {reason: 1}
    assert report["skipped"]["examples"] == {reason: ["row 8"]}
    good = [row for number, row in enumerate(fer2013_rows(), start=1) if number != 8]
    np.testing.assert_array_equal(
        faces.images.reshape(20, -1), np.array([row[1].split() for row in good], dtype=np.uint8)
    )


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_bad_picture_is_skipped_and_counted(tmp_path: Path, case: str) -> None:
    content, reason = BAD_PICTURES[case]
    faces, report = read(tmp_path, {**PICTURES, "test/angry/PublicTest_100.jpg": content}, max_bad_fraction=0.05)
    assert len(faces) == 20
    assert report["skipped"]["by_reason"] == {reason: 1}
    assert report["skipped"]["examples"] == {reason: ["test/angry/PublicTest_100.jpg"]}


NO_DISGUST = "".join(line for line in fer2013_csv().splitlines(keepends=True) if not line.startswith("1,"))
FATAL: dict[str, tuple[dict[str, bytes], list[str]]] = {
    "too many bad rows": ({"fer2013.csv": BAD_CSV["2303 pixels"][0].encode()}, ["row 8", "max_bad_fraction"]),
    "too many bad pictures": (
        {**PICTURES, "test/angry/PublicTest_100.jpg": b"text"},
        ["photo unreadable", "PublicTest_100.jpg", "max_bad_fraction"],
    ),
    "truncated zip": ({"fer2013.zip": zip_bytes(PICTURES)[:-500]}, ["fer2013.zip", "cut short", "Download"]),
    "truncated tar.gz": ({"a.tar.gz": tar_bytes({"fer2013.csv": PLAIN})[:-500]}, ["a.tar.gz", "cut short"]),
    "wrong columns": (
        {"fer2013.csv": PLAIN.replace(b"emotion", b"label")},
        ["label, pixels, usage", "emotion, pixels"],
    ),
    "semicolons": ({"fer2013.csv": PLAIN.replace(b",", b";")}, ["emotion;pixels;usage", "Expected"]),
    "one endless line": ({"fer2013.csv": PLAIN + b"1 " * 2**20}, ["has a line of more than"]),
    "class without pictures in the CSV": ({"fer2013.csv": NO_DISGUST.encode()}, ["no usable face of disgust"]),
    "class without pictures": (
        {name: content for name, content in PICTURES.items() if "/fear/" not in name},
        ["no usable face of fear"],
    ),
    "unknown class folder": (
        {**PICTURES, "train/contempt/Training_900.jpg": PICTURES["train/sad/Training_4.jpg"]},
        ["contempt", "expected angry"],
    ),
    "pictures whose names say no usage": (
        {"train/happy/im0.png": b"x", "train/sad/im1.png": b"x"},
        [
            "names (train/happy/im0.png) do not tell to which official part",
            "train/<class>/Training_*.jpg",
            "download fer2013",
        ],
    ),
    "zip bomb": ({"a.zip": bomb_bytes()}, ["would unpack to 52.0 GiB", "at most"]),
    "header only": ({"fer2013.csv": b"emotion,pixels,Usage\n"}, ["holds no rows"]),
    "binary named .csv": ({"fer2013.csv": os.urandom(5000)}, ["fer2013.csv has the columns"]),
    "empty folder": ({}, ["holds no FER2013", "train/<class>", "src.datasets.download fer2013"]),
    "pictures in a tar": ({"a.tar.gz": tar_bytes(PICTURES)}, ["holds no FER2013", "plain or in a .zip"]),
}


@pytest.mark.parametrize("case", FATAL)
def test_unusable_data_is_one_clear_error(tmp_path: Path, case: str) -> None:
    files, words = FATAL[case]
    with pytest.raises(UserError) as caught:
        read(tmp_path, files, max_bad_fraction=0.01)
    assert all(word in str(caught.value) for word in words), caught.value


def test_our_own_mistakes_keep_their_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.datasets.fer2013.parse_pixels", lambda field: [][1])
    with pytest.raises(IndexError):
        read(tmp_path, {"fer2013.zip": zip_bytes({"fer2013.csv": PLAIN})})


def test_stage_stops_with_one_message_and_earlier_outputs_stay(tmp_path: Path, run_stage: RunStage) -> None:
    write_files(tmp_path / "data/raw/full/fer2013", FATAL["truncated zip"][0])
    write_files(tmp_path, {"data/interim/fer2013/images.npy": b"earlier"})
    before = contents(tmp_path)
    result = run_stage("ingest_fer2013", dataset="full")
    assert result.returncode == 1
    assert result.stderr.startswith("error: data/raw/full/fer2013/fer2013.zip cannot be read as an archive")
    assert "Traceback" not in result.stderr
    after = contents(tmp_path)
    del after["params.yaml"]
    assert after == before


def test_missing_folder_says_how_to_get_the_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is missing; expected FER2013 .* src\.datasets\.download fer2013"):
        find(tmp_path / "nowhere")


# --- FER+ ---

VOTES_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def votes_csv(changes: dict[int, str] | None = None) -> bytes:
    """Ten votes for FER2013's own label in every row, but those changed (row from 0 -> its ten numbers)."""
    columns = [VOTES_HEADER.split(",").index(name) - 2 for name in
               ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")]  # fmt: skip
    lines = [VOTES_HEADER]
    for row, (code, _, usage) in enumerate(fer2013_rows()):
        own = ",".join("10" if place == columns[code] else "0" for place in range(10))
        lines.append(f"{usage},fer{row:07d}.png,{(changes or {}).get(row, own)}")
    return "\n".join(lines).encode() + b"\n"


#                 neutral happy surprise sad anger disgust fear contempt unknown no face
CHANGES = {0: "0,0,0,6,4,0,0,0,0,0", 1: "0,0,0,5,0,5,0,0,0,0", 2: "0,0,0,0,0,0,0,0,2,8", 3: "2,2,0,0,0,0,0,6,0,0"}


def test_several_tables_of_votes_must_be_equal(tmp_path: Path) -> None:
    files = {"fer2013.csv": PLAIN, "fer2013new.csv": votes_csv(), "old/fer2013new.csv": votes_csv()}
    assert read(tmp_path, files, labels="ferplus")[1]["votes_from"] == "fer2013new.csv"
    with pytest.raises(UserError, match=r"different tables of votes: fer2013new\.csv, old/fer2013new\.csv\."):
        read(tmp_path, {"old/fer2013new.csv": votes_csv(CHANGES)}, labels="ferplus")


@pytest.mark.parametrize("packed", [False, True], ids=["beside", "in one zip"])
def test_votes_decide_and_travel_with_the_faces(tmp_path: Path, packed: bool) -> None:
    files = {"fer2013.csv": PLAIN, "votes/fer2013new.csv": votes_csv(CHANGES)}
    faces, report = read(tmp_path, {"all.zip": zip_bytes(files)} if packed else files, labels="ferplus")
    labels = faces.labels
    # Most say sad; tied with sad, so FER2013's own; nobody names one of the seven; tied with neutral.
    assert list(labels["expression"][:4]) == ["sad", "disgust", "fear", "happy"]
    assert list(labels["original_expression"][:4]) == ["angry", "disgust", "fear", "happy"]
    assert set(labels["label_source"]) == {"ferplus"}
    assert (labels.loc[2, "votes_unknown"], labels.loc[2, "votes_no_face"]) == (2, 8)
    np.testing.assert_allclose(faces.distributions[0], [0.4, 0, 0, 0, 0.6, 0, 0])
    np.testing.assert_allclose(faces.distributions[2], np.eye(7)[2])
    assert report["labels_that_differ"] == 1
    assert report["votes_from"].endswith("fer2013new.csv")
    assert report["votes_from"] in [file["name"] for file in report["manifest"]["files"]]


def test_votes_of_rows_that_are_skipped_move_nothing(tmp_path: Path) -> None:
    """Rows count from the table, not from the usable faces."""
    files = {"fer2013.csv": BAD_CSV["2303 pixels"][0].encode(), "fer2013new.csv": votes_csv({8: CHANGES[0]})}
    faces, _ = read(tmp_path, files, max_bad_fraction=0.1, labels="ferplus")
    changed = faces.labels["expression"] != faces.labels["original_expression"]
    assert list(faces.labels["image_name"][changed]) == ["fer2013/PublicTest_000009"]


def test_own_labels_stay_when_asked_for_and_votes_come_along(tmp_path: Path) -> None:
    faces, report = read(tmp_path, {"fer2013.csv": PLAIN, "fer2013new.csv": votes_csv(CHANGES)})
    assert (faces.labels["expression"] == faces.labels["original_expression"]).all()
    assert faces.labels.loc[0, "votes_sad"] == 6
    assert set(faces.labels["label_source"]) == {"original"}
    np.testing.assert_allclose(faces.distributions[0], np.eye(7)[0])
    assert report["labels_that_differ"] == 0


def test_pictures_whose_names_carry_the_row_get_their_votes(tmp_path: Path) -> None:
    pictures = {
        f"{'train' if usage == 'Training' else 'test'}/{EXPRESSIONS[code]}/{usage}_{row}.jpg": encode(
            texture(48, 48, row)
        )
        for row, (code, _, usage) in enumerate(fer2013_rows())
    }
    faces, _ = read(tmp_path, {**pictures, "fer2013new.csv": votes_csv(CHANGES)}, labels="ferplus")
    changed = faces.labels["expression"] != faces.labels["original_expression"]
    assert list(faces.labels["image_name"][changed]) == ["fer2013/Training_0_angry"]


NO_VOTES: dict[str, tuple[dict[str, bytes], str]] = {
    "no votes": ({"fer2013.csv": PLAIN}, r"has no fer2013new\.csv.*src\.datasets\.download fer2013"),
    "a row too few": (
        {"fer2013.csv": PLAIN, "fer2013new.csv": b"\n".join(votes_csv().splitlines()[:-1])},
        "has 20 rows, the table of faces 21",
    ),
    "another order": (
        {"fer2013.csv": fer2013_csv(fer2013_rows()[::-1]).encode(), "fer2013new.csv": votes_csv()},
        "their usages differ",
    ),
    "pictures without rows": ({**PICTURES, "fer2013new.csv": votes_csv()}, "do not carry the row"),
}


@pytest.mark.parametrize("case", NO_VOTES)
def test_votes_that_cannot_be_joined_are_an_error_or_left_alone(tmp_path: Path, case: str) -> None:
    files, words = NO_VOTES[case]
    with pytest.raises(UserError, match=rf"{words}.*ingest_fer2013\.labels=original"):
        read(tmp_path, files, labels="ferplus")
    faces, _ = read(tmp_path, files, labels="original")
    assert not [column for column in faces.labels if str(column).startswith("votes")]


@pytest.mark.parametrize(
    "content",
    [b"", b"Usage,anger\nTraining,1\n", votes_csv({0: "0,0,0,11,0,0,0,0,0,0"}), votes_csv({0: "0,0,0,.5,0,0,0,0,0,0"}),
     votes_csv({0: ",0,0,1,0,0,0,0,0,0"}), votes_csv({0: "x,0,0,1,0,0,0,0,0,0"}), b"\xff\xfe"],
    ids=["empty", "other columns", "eleven votes", "half a vote", "a gap", "text", "binary"],
)  # fmt: skip
def test_damaged_votes_are_one_clear_error(content: bytes) -> None:
    with pytest.raises(UserError, match=r"votes\.csv .*Download it again"):
        parse_votes(content, "votes.csv")


@pytest.mark.slow
@pytest.mark.skipif("FER_REAL_DATA" not in os.environ, reason="FER_REAL_DATA names no folder with fer2013.zip")
def test_real_faces(tmp_path: Path) -> None:
    for name in ("fer2013.zip", "fer2013new.csv"):
        (tmp_path / name).symlink_to(Path(os.environ["FER_REAL_DATA"], name))
    faces, report = read(tmp_path, {}, labels="ferplus")
    assert [report["faces_per_usage"][usage]["faces"] for usage in USAGES] == [28_709, 3_589, 3_589]
    # Among the 2,686 clear cases of PrivateTest, FER2013's own label agrees with people in .722.
    test = faces.labels[faces.labels["usage"] == "PrivateTest"]
    votes = test[[column for column in test if str(column).startswith("votes")]].to_numpy(int)
    clear = (votes[:, :7].max(axis=1) > votes.sum(axis=1) / 2) & (votes[:, 9] == 0)
    assert clear.sum() == 2_686
    agree = (test["expression"] == test["original_expression"])[clear].mean()
    assert agree == pytest.approx(0.722, abs=0.001)
