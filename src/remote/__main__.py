"""Set up, or check, the team's Google Drive remote; docs/google-drive.md goes through it step by step.

    python -m src.remote --folder 'FOLDER' --client-file client_secret.json     a person; signs in with the browser
    python -m src.remote --folder 'FOLDER' --service-account key.json           a machine
    python -m src.remote                                                        check again what is configured

FOLDER is the id of a Drive folder or the address the browser shows for it (in quotes: the shell takes a bare & for
itself); without it the folder in .dvc/config is taken, so a teammate who has cloned the project leaves it out. Access
is tried first: sign-in, folder, and, unless --pull is given, writing and removing a small file. Only then are the
folder written to .dvc/config, which belongs into Git, and the secrets to .dvc/config.local, which Git ignores.

In CI put the key of a service account that may only read into the variable GDRIVE_CREDENTIALS_DATA, and run
`python -m src.remote --pull`.
"""

import argparse
import os
from pathlib import Path

from src.errors import UserError, run_program
from src.remote import configuration, drive, failures
from src.remote.credentials import Credentials, from_environment, read_client, read_key


def choose_credentials(
    client_file: Path | None, key_file: Path | None, configured: configuration.Remote | None
) -> Credentials:
    """What to sign in with: the options, else GDRIVE_CREDENTIALS_DATA, else what an earlier run has written."""
    for file in filter(None, (client_file, key_file)):
        configuration.check_not_in_git(file)
    environment = from_environment()
    if environment and (client_file or key_file):
        raise UserError(
            "GDRIVE_CREDENTIALS_DATA is set, and DVC would use it instead of what the options say. Unset it, or run "
            "without --client-file and --service-account."
        )
    if key_file:
        return read_key(key_file)
    if client_file:
        return read_client(client_file)
    credentials = environment or (configured.credentials() if configured else None)
    if credentials is None:
        raise UserError(
            "no credentials: neither an option nor GDRIVE_CREDENTIALS_DATA nor .dvc/config.local names any. Give "
            "--client-file with the JSON file of your team's own OAuth client (DVC's built-in one is blocked by "
            "Google), or --service-account with a key file. docs/google-drive.md says how to get one."
        )
    return credentials


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m src.remote", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", help="id or address of the Drive folder; default: the one in .dvc/config")
    parser.add_argument("--client-file", type=Path, metavar="FILE", help="OAuth client, as Google lets you download it")
    parser.add_argument("--service-account", type=Path, metavar="FILE", help="key file of a service account")
    parser.add_argument("--pull", action="store_true", help="this machine only pulls: write nothing on Drive")
    parser.add_argument("--port", type=int, default=0, help="port for the browser's answer; default: any free one")
    arguments = parser.parse_args()

    config = configuration.open_config()
    configured = configuration.read_remote(config)
    folder = configuration.parse_folder(arguments.folder) if arguments.folder else configured and configured.folder
    if not folder:
        raise UserError(
            ".dvc/config names no Google Drive remote. Give --folder with the id or address of the team's folder on "
            "Google Drive."
        )
    store = configured.store if configured and configured.folder == folder else configuration.STORE
    credentials = choose_credentials(arguments.client_file, arguments.service_account, configured)
    with failures.explained(folder, credentials):
        session = drive.sign_in(credentials, arguments.port)
        print("signed in" + (f" as {credentials.who}" if credentials.kind == "key" else ""))
        report = drive.check_folder(session, folder, store, credentials, arguments.pull)
    where = ", in a Shared Drive" if report.shared_drive else ""
    print(f"folder '{report.title}' is there and can be {'read' if arguments.pull else 'written to'}{where}")
    if not report.can_remove and not arguments.pull:
        print("note: this account may add files but not remove them, so `dvc push` works and `dvc gc -c` does not")
    url = f"gdrive://{folder}/{store}".rstrip("/")
    for line in configuration.write_remote(config, url, credentials, trash_only=report.shared_drive):
        print(line)
    if os.environ.get("GDRIVE_CREDENTIALS_DATA"):
        print("DVC takes the credentials from GDRIVE_CREDENTIALS_DATA: keep it set for dvc push and dvc pull")
    print(f"ready: {'dvc pull' if arguments.pull else 'dvc push, dvc pull'}")


if __name__ == "__main__":
    run_program(main)
