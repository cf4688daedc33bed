"""The remote in DVC's two configuration files: .dvc/config is shared through Git, .dvc/config.local is not."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.config import Config, ConfigError

from src.errors import UserError
from src.remote.credentials import KEY_FILE, Credentials, read_key

NAME = "gdrive"  # of the DVC remote
# DVC does not create the folder that its remote names (`dvc push` ends with "Confirm ... exists"), so we do.
STORE = "dvcstore"
CLIENT, USE_SERVICE_ACCOUNT = {"gdrive_client_id", "gdrive_client_secret"}, "gdrive_use_service_account"


@dataclass(frozen=True)
class Remote:
    """What the two files say together."""

    folder: str
    store: str  # path of DVC's own folder in it
    settings: dict[str, Any]  # as DVC understands them, paths absolute

    def credentials(self) -> Credentials | None:
        """What an earlier run has saved. Raises UserError when the key file is not there any more."""
        if self.settings.get(USE_SERVICE_ACCOUNT) and KEY_FILE in self.settings:
            return read_key(Path(self.settings[KEY_FILE]))
        if set(self.settings) >= CLIENT:
            return Credentials("client", {key.removeprefix("gdrive_"): self.settings[key] for key in CLIENT})
        return None


def parse_folder(text: str) -> str:
    """Id of a folder, from the id itself or from an address such as https://drive.google.com/drive/folders/<id>."""
    match = re.search(r"/folders/([\w-]+)", text) or re.search(r"[?&]id=([\w-]+)", text)
    folder = match[1] if match else text.strip()
    if not re.fullmatch(r"[\w-]{4,}", folder):
        raise UserError(
            f"'{text}' is no Drive folder. Open the folder in the browser and copy its address, or the part after "
            "/folders/."
        )
    return folder


def open_config() -> Config:
    try:
        config = Config.from_cwd()
    except ConfigError as error:
        raise UserError(f"DVC cannot read its configuration: {error}. Mend .dvc/config or .dvc/config.local.") from None
    if "repo" not in config.files:
        raise UserError("this is no DVC project. Run this in the root of the project, where .dvc is.")
    return config


def read_remote(config: Config) -> Remote | None:
    """The configured remote, or None. Raises UserError when that name belongs to another kind of remote."""
    settings = config["remote"].get(NAME)
    if settings is None:
        return None
    match = re.fullmatch(r"gdrive://([^/]+)/?(.*?)/?", settings["url"])
    if not match:
        raise UserError(
            f"the DVC remote '{NAME}' is {settings['url']}, not on Google Drive. Rename it: `dvc remote rename {NAME} "
            "other`."
        )
    return Remote(match[1], match[2], settings)


def check_not_in_git(path: Path, remedy: str = "Move it out of the project, for example to ~/.config.") -> None:
    """Raise UserError for a secret that `git add -A` would take; outside a repository nothing is taken."""
    path = path.expanduser().resolve()
    if subprocess.run(["git", "check-ignore", "--quiet", str(path)], capture_output=True).returncode == 1:
        raise UserError(
            f"{path} is for secrets, inside the project, and Git does not ignore it: it would be committed. {remedy}"
        )


def write_remote(config: Config, url: str, credentials: Credentials, trash_only: bool) -> list[str]:
    """Write what has changed, the secret part first; says what it has done, a line each."""
    local_file = Path(config.files["local"])
    check_not_in_git(local_file, "Add the line /config.local to .dvc/.gitignore and run this again.")
    lines = []
    local, new = dict(config.load_one("local")["remote"].get(NAME, {})), credentials.settings()
    # What comes from the environment is not saved, so it takes no saved client's place.
    replaced = CLIENT | {KEY_FILE, USE_SERVICE_ACCOUNT} if (CLIENT | {KEY_FILE}) & set(new) else {USE_SERVICE_ACCOUNT}
    wanted = {key: value for key, value in local.items() if key not in replaced} | new
    if wanted != local:
        local_file.touch(mode=0o600)
        local_file.chmod(0o600)
        # The secret part alone is no valid remote as long as .dvc/config has no url.
        with config.edit("local", validate=False) as content:
            content["remote"][NAME] = wanted
        lines.append(".dvc/config.local: your credentials, for this clone only; Git ignores it")

    shared = {"url": url, "gdrive_acknowledge_abuse": "true"}
    if trash_only:
        shared["gdrive_trash_only"] = "true"  # only managers of a Shared Drive may delete for good
    repository = config.load_one("repo")
    before, default = dict(repository["remote"].get(NAME, {})), repository["core"].get("remote")
    if before | shared != before or default is None:
        with config.edit("repo") as content:
            content["remote"][NAME] = before | shared
            content["core"].setdefault("remote", NAME)
        lines.append(".dvc/config: the folder, for everybody: git add .dvc/config && git commit")
    if default not in (None, NAME):
        lines.append(f"note: the default remote stays '{default}'; `dvc push -r {NAME}` uses this one")
    return lines
