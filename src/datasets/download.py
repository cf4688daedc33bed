"""Fetch a data set into data/raw/full, or check that both are there.

    python -m src.datasets.download fer2013       56 MB, Kaggle
    python -m src.datasets.download expw          about 8 GB, a mirror on Kaggle
    python -m src.datasets.download --check       exit code 0 when both are there in a known layout

Kaggle downloads run through kagglehub, which keeps what it has under ~/.cache/kagglehub (or
$KAGGLEHUB_CACHE) and goes on from there when it was interrupted. ExpW's official source is the authors'
page http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html (a Google Drive folder); its files,
and FER2013 from anywhere else, may simply be put into data/raw/full/expw and data/raw/full/fer2013.
"""

import argparse
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from src.datasets import expw, fer2013
from src.errors import UserError, run_program
from src.storage import replace_directory

ROOT = Path("data/raw/full")


@dataclass(frozen=True)
class DataSet:
    title: str
    kaggle_handle: str
    layouts: str
    page: str


DATA_SETS = {
    "fer2013": DataSet(
        "FER2013", "msambare/fer2013", fer2013.LAYOUTS, "https://www.kaggle.com/datasets/msambare/fer2013"
    ),
    "expw": DataSet(
        "ExpW",
        "shahzadabbas/expression-in-the-wild-expw-dataset",
        expw.LAYOUTS,
        "http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html (official), or "
        "https://www.kaggle.com/datasets/shahzadabbas/expression-in-the-wild-expw-dataset",
    ),
}


def find(name: str, folder: Path) -> None:
    """Raise UserError unless `folder` holds the data set in a known layout."""
    if name == "fer2013":
        fer2013.find_source(folder)
    else:
        expw.find_expw(folder)


def check(root: Path) -> None:
    """Raise UserError that says what is missing below `root` and every way to get it."""
    problems = []
    for name, data_set in DATA_SETS.items():
        folder = root / name
        if not folder.is_dir():
            problems.append(f"{folder} ({data_set.title}) is missing.")
            continue
        try:
            find(name, folder)
        except UserError as error:
            problems.append(str(error))
    if not problems:
        return
    tracked = [f"{root / name}.dvc" for name in DATA_SETS if Path(f"{root / name}.dvc").exists()]
    pull = (
        f"  dvc pull {' '.join(tracked)}\n      if somebody has pushed the data to your DVC remote\n" if tracked else ""
    )
    raise UserError(
        "the raw data is not complete.\n"
        + "".join(f"  - {problem}\n" for problem in problems)
        + "Do one of:\n"
        + pull
        + "  make demo\n      runs everything on the drawn faces in data/raw/sample; needs no download\n"
        + "".join(
            f"  python -m src.datasets.download {name}\n"
            f"      fetches {data_set.title} from Kaggle (needs a free account and a token)\n"
            f"      or put it into {root / name} yourself: {data_set.layouts}\n"
            f"      from {data_set.page}\n"
            for name, data_set in DATA_SETS.items()
        )
        + f"then\n  dvc add {' '.join(str(root / name) for name in DATA_SETS)}"
    )


def download(name: str, root: Path) -> None:
    """Fetch a data set from Kaggle into `root/name`; nothing happens when it is there already."""
    data_set, target = DATA_SETS[name], root / name
    if target.is_dir() and any(target.iterdir()):
        find(name, target)  # raises when what is there is something else, and says what
        print(f"{target} already holds {data_set.title}; nothing to do.")
        return
    source = _fetch_from_kaggle(data_set, target)
    find(name, source)
    with replace_directory(target) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True, copy_function=_link_or_copy)
    print(f"{data_set.title} is in {target}. Track it: dvc add {target}")


def _link_or_copy(source: str, target: str) -> None:
    """A hard link costs no space; on another file system copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _fetch_from_kaggle(data_set: DataSet, target: Path) -> Path:
    """Download through kagglehub's cache. Raises UserError that says what to do when it fails."""
    try:
        import kagglehub
        import requests
        from kagglehub import config, exceptions
    except ImportError:
        raise UserError("kagglehub is not installed. Run `make setup`.") from None

    by_hand = f"Or download it by hand from {data_set.page} and put the files into {target}."
    try:
        has_token = config.get_kaggle_credentials() is not None
    except ValueError as error:
        raise UserError(f"{error}. Make a new token on https://www.kaggle.com/settings/api.") from error
    token = (
        "Make a token on https://www.kaggle.com/settings/api and either set the environment variable "
        "KAGGLE_API_TOKEN to it or save kaggle.json as ~/.kaggle/kaggle.json; then run the same command again."
    )
    no_token = "" if has_token else f" No Kaggle token was found either. {token}"
    try:
        return Path(kagglehub.dataset_download(data_set.kaggle_handle))
    except exceptions.UnauthenticatedError:
        raise UserError(f"Kaggle asks for a login to download {data_set.title}. {token} {by_hand}") from None
    except exceptions.KaggleApiHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status == 404:
            raise UserError(f"Kaggle no longer has {data_set.kaggle_handle}. {by_hand}") from error
        if status in (401, 403) and not has_token:
            raise UserError(f"Kaggle refused the download of {data_set.title} (HTTP {status}). {token}") from error
        if status in (401, 403):
            raise UserError(
                f"Kaggle refused the download of {data_set.title} (HTTP {status}) although a token was sent. Open "
                f"https://www.kaggle.com/datasets/{data_set.kaggle_handle} in a browser, log in, accept its rules, "
                f"check that the token is still valid, and run the same command again. {by_hand}"
            ) from error
        raise UserError(
            f"Kaggle answered HTTP {status}. Wait a few minutes and run the same command again: it goes on where it "
            f"stopped. {by_hand}"
        ) from error
    except exceptions.DataCorruptionError as error:
        raise UserError(
            f"the download of {data_set.title} arrived damaged and was discarded. Run the same command again."
        ) from error
    except requests.RequestException as error:
        raise UserError(
            f"Kaggle cannot be reached ({type(error).__name__}). Check the network and proxy settings (HTTPS_PROXY), "
            f"then run the same command again: it goes on where it stopped.{no_token} {by_hand}"
        ) from error


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m src.datasets.download",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", nargs="?", choices=sorted(DATA_SETS), help="which data set to fetch")
    parser.add_argument("--to", type=Path, default=ROOT, metavar="FOLDER", help=f"default: {ROOT}")
    parser.add_argument("--check", action="store_true", help="only check that both data sets are there")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.to)
    elif arguments.dataset:
        download(arguments.dataset, arguments.to)
    else:
        parser.print_help(sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run_program(main)
