"""Every direct dependency imports and does the one thing that the known broken combinations fail at.

`pip check` passes on those combinations, so it proves nothing.
"""

import importlib
import re

import pytest

from tests.conftest import ROOT

# Packages whose module has another name.
MODULES = {
    "dvc": "dvc.repo",
    "opencv-python": "cv2",
    "scikit-learn": "sklearn",
    "imbalanced-learn": "imblearn",
    "pyyaml": "yaml",
    "pillow": "PIL",
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "pydrive2": "pydrive2.fs",
    "markdown-it-py": "markdown_it",
    "pysocks": "socks",
    "oauth2client": "oauth2client.client",
    "pyopenssl": "OpenSSL.crypto",
}
# Named in requirements.in only to keep another package's version in bounds.
BOUNDS_ONLY = {"backports-strenum"}


def _names(file: str) -> list[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [match[1].lower() for line in lines if (match := re.match(r"([A-Za-z0-9._-]+?)(\[|=|>|<|$|\s)", line))]


@pytest.mark.parametrize("package", [name for name in _names("requirements.in") if name not in BOUNDS_ONLY])
def test_dependency_imports(package: str) -> None:
    importlib.import_module(MODULES.get(package, package.replace("-", "_")))


def test_lock_pins_every_direct_dependency_with_hashes() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9._-]+)==\S+ \\\n    --hash=sha256:", text, re.MULTILINE))
    assert set(_names("requirements.in")) <= locked
    assert not re.search(r"https?://|--index-url|--find-links|file:", text)


def test_signing_with_a_service_account_key_works() -> None:
    """pyOpenSSL 25 and later dropped `sign`, with which PyDrive2 signs in to a service account."""
    from OpenSSL import crypto

    key = crypto.PKey()
    key.generate_key(crypto.TYPE_RSA, 2048)
    assert crypto.sign(key, b"text", "sha256")


def test_haar_cascade_and_yunet_are_there() -> None:
    import cv2

    folder = cv2.data.haarcascades  # type: ignore[attr-defined]
    assert not cv2.CascadeClassifier(folder + "haarcascade_frontalface_default.xml").empty()
    assert hasattr(cv2, "FaceDetectorYN")
