"""Fetch a data set into data/raw/full, or check that both are there.

    python -m src.datasets.download fer2013       about 100 MB, Kaggle; and FER+'s votes, 1.6 MB, from their authors
    python -m src.datasets.download expw          about 8 GB, a mirror on Kaggle
    python -m src.datasets.download --check       exit code 0 when both are there in a known layout

kagglehub keeps what it has under ~/.cache/kagglehub (or $KAGGLEHUB_CACHE) and continues from there when it was
interrupted. ExpW's official source is http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html. Files from
anywhere else may simply be put into data/raw/full/expw and data/raw/full/fer2013.
"""

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

from src.datasets import ferplus
from src.datasets.registry import SOURCES
from src.errors import UserError, run_program
from src.params import load_params
from src.storage import replace_directory, replace_file


def check(root: Path) -> None:
    """Raise UserError that says what is missing below `root` and every way to get it."""
    problems = []
    for name, source in SOURCES.items():
        try:
            source.find(root / name)
        except UserError as error:
            if name == "expw" and not load_params().ingest_expw.enabled:
                (root / name).mkdir(parents=True, exist_ok=True)  # DVC wants it to be there
                continue
            problems.append(f"- {error}")
    if not problems:
        if ferplus.find_votes(root / "fer2013") is None:
            print(
                f"{root / 'fer2013'} has no {ferplus.VOTES_FILE}, which ingest_fer2013.labels=ferplus needs; "
                "`python -m src.datasets.download fer2013` fetches it."
            )
        return
    tracked = [f"{root / name}.dvc" for name in SOURCES if Path(f"{root / name}.dvc").exists()]
    if tracked:
        problems.append(f"If somebody has pushed the data to your DVC remote: dvc pull {' '.join(tracked)}")
    if not (root / "expw").exists():
        problems.append("To do without ExpW: `enabled: false` under ingest_expw in params.yaml, then run this again.")
    problems.append(f"Then: dvc add {' '.join(str(root / name) for name in SOURCES)}")
    raise UserError("the raw data is not complete.\n" + "\n".join(problems))


def download(name: str, root: Path) -> None:
    """Fetch a data set from Kaggle into `root/name`, and FER+'s votes with FER2013; only what is not there already."""
    source, target = SOURCES[name], root / name
    if target.is_dir() and any(not path.name.startswith(".") for path in target.iterdir()):
        try:
            source.find(target)
        except UserError as error:
            raise UserError(
                f"{target} is not empty, so nothing was fetched: {error} Or move away what is there, run this again, "
                "and put back what belongs to it."
            ) from error
        print(f"{target} already holds {source.TITLE}.")
    else:
        cached = _fetch_from_kaggle(name, target)
        packed = [path for path in cached.rglob("*.7z*") if path.is_file()]
        if not packed:
            source.find(cached)
        with replace_directory(target) as partial:
            shutil.copytree(cached, partial, dirs_exist_ok=True)
        if packed:
            source.find(target)  # raises, and says how to unpack it
        print(f"{source.TITLE} is in {target}. Kaggle's client keeps a copy in {cached}; it may be deleted.")
    if name == "fer2013" and ferplus.find_votes(target) is None:
        votes = _fetch_votes(target)
        with replace_file(target / ferplus.VOTES_FILE) as partial:
            partial.write_bytes(votes)
        print(f"{target / ferplus.VOTES_FILE} holds the votes of FER+.")
    print(f"Track it: dvc add {target}")


def _fetch_votes(target: Path) -> bytes:
    """FER+'s table, checked by its hash. Raises UserError that says what to do when it cannot be had."""
    import requests

    by_hand = f"or put {ferplus.VOTES_FILE} into {target} yourself, or set ingest_fer2013.labels=original."
    try:
        response = requests.get(ferplus.VOTES_URL, timeout=60)
        response.raise_for_status()
    except requests.RequestException as error:
        raise UserError(
            f"the votes of FER+ cannot be fetched from {ferplus.VOTES_URL} ({type(error).__name__}). Check the network "
            f"and proxy settings (HTTPS_PROXY), then run the same command again, {by_hand}"
        ) from error
    found = hashlib.sha256(response.content).hexdigest()
    if found != ferplus.VOTES_SHA256:
        raise UserError(
            f"{ferplus.VOTES_URL} gave another file than expected (SHA-256 {found}, expected {ferplus.VOTES_SHA256}), "
            f"which was discarded. Run the same command again, {by_hand}"
        )
    return response.content


def _fetch_from_kaggle(name: str, target: Path) -> Path:
    """Download through kagglehub's cache. Raises UserError that says what to do when it fails."""
    title, handle = SOURCES[name].TITLE, SOURCES[name].KAGGLE
    by_hand = f"download it by hand from {SOURCES[name].PAGE} and put the files into {target}."
    if not handle:
        raise UserError(f"{title} is not on Kaggle; {by_hand}")
    import kagglehub
    import requests
    from kagglehub import config, exceptions

    try:
        has_token = config.get_kaggle_credentials() is not None
    except ValueError as error:
        raise UserError(f"{error}. Make a new token on https://www.kaggle.com/settings/api.") from error
    try:
        return Path(kagglehub.dataset_download(handle))
    except (exceptions.UnauthenticatedError, exceptions.DataCorruptionError, requests.RequestException) as error:
        response = getattr(error, "response", None)
        status = 0 if response is None else response.status_code
        if status == 404:
            raise UserError(f"Kaggle no longer has {handle}; {by_hand}") from error
        advice = "" if status else "Check the network and proxy settings (HTTPS_PROXY). "
        if not has_token:
            advice += (
                "No Kaggle token was found: make one on https://www.kaggle.com/settings/api and either set the "
                "environment variable KAGGLE_API_TOKEN to it or save kaggle.json as ~/.kaggle/kaggle.json. "
            )
        elif status in (401, 403):
            advice += (
                f"A token was sent: open https://www.kaggle.com/datasets/{handle} in a browser, log in, accept its "
                "rules, and check that the token is still valid. "
            )
        raise UserError(
            f"{title} could not be downloaded from Kaggle ({f'HTTP {status}' if status else type(error).__name__}). "
            f"{advice}Run the same command again, it continues where it stopped; or {by_hand}"
        ) from error


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m src.datasets.download",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", nargs="?", choices=list(SOURCES), help="which data set to fetch")
    parser.add_argument("--to", type=Path, default=Path("data/raw/full"), metavar="FOLDER", help="default: %(default)s")
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
