"""Set up, or check, the team's Google Drive remote; docs/google-drive.md goes through it step by step.

    python -m src.remote --folder FOLDER --client-file client_secret.json     a person; signs in with the browser
    python -m src.remote --folder FOLDER --service-account key.json           a machine; Shared Drives only
    python -m src.remote                                                      check again what is configured

FOLDER is the id of a Drive folder or the address the browser shows for it; without it the folder in .dvc/config is
taken, so a teammate who has cloned the project leaves it out. Access is tried first: sign-in, folder, and writing
and removing a file of a few bytes. Only then are the folder written to .dvc/config, which belongs into Git, and the
secrets to .dvc/config.local, which Git ignores.

In CI put a service account's key, or the token file of somebody who has signed in, into the variable
GDRIVE_CREDENTIALS_DATA, and run `python -m src.remote` without options.
"""

import argparse
import getpass
import os
from pathlib import Path

from src.errors import UserError, run_program
from src.remote import configuration, drive, failures
from src.remote.credentials import Credentials, OAuthClient, ServiceAccount, from_environment, read_client


def choose_credentials(arguments: argparse.Namespace, configured: configuration.Remote | None) -> Credentials:
    """What to sign in with: the options, else GDRIVE_CREDENTIALS_DATA, else what an earlier run has written."""
    from_options: Credentials | None = None
    if arguments.service_account:
        from_options = ServiceAccount.from_file(arguments.service_account)
    elif arguments.client_file:
        from_options = read_client(arguments.client_file)
    elif arguments.client_id:
        secret = arguments.client_secret
        if not secret and not drive.is_interactive():
            raise UserError("--client-id was given without --client-secret. Give both, or --client-file.")
        from_options = OAuthClient(arguments.client_id, secret or getpass.getpass("Client secret: "))
    elif arguments.client_secret:
        raise UserError("--client-secret was given without --client-id. Give both, or --client-file.")
    environment = from_environment()
    if from_options and environment:
        raise UserError(
            "GDRIVE_CREDENTIALS_DATA is set, and DVC would use it instead of what the options say. Unset it, or run "
            "without --client-file, --client-id and --service-account."
        )
    credentials = from_options or environment or (configured.credentials if configured else None)
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
    parser.add_argument("--client-id", metavar="ID", help="or its id ...")
    parser.add_argument("--client-secret", metavar="SECRET", help="... and its secret; asked for when left out")
    parser.add_argument("--service-account", type=Path, metavar="FILE", help="key file of a service account")
    parser.add_argument("--name", default="gdrive", help="name of the DVC remote; default: gdrive")
    parser.add_argument("--port", type=int, default=0, help="port for the browser's answer; default: any free one")
    parser.add_argument(
        "--wait", type=float, default=300, metavar="SECONDS", help="how long to wait for the browser; default: 300"
    )
    arguments = parser.parse_args()

    name = arguments.name.lower()
    config = configuration.open_config()
    for file in filter(None, (arguments.client_file, arguments.service_account)):
        configuration.check_not_in_git(file)
    configured = configuration.read_remote(config, name)
    if arguments.folder:
        folder, store = configuration.parse_folder(arguments.folder), configuration.STORE
        if configured and configured.folder == folder:
            store = configured.store
    elif configured:
        folder, store = configured.folder, configured.store
    else:
        raise UserError(
            f".dvc/config names no Google Drive remote '{name}'. Give --folder with the id or address of the team's "
            "folder on Google Drive."
        )
    credentials = choose_credentials(arguments, configured)
    with failures.explained(folder, credentials):
        session = drive.sign_in(credentials, arguments.port, arguments.wait)
        print(f"signed in with {credentials.title}")
        report = drive.check_folder(session, folder, store)
    print(
        f"folder '{report.title}' is there and can be written to"
        + (", in a Shared Drive" if report.shared_drive else "")
    )
    if not report.can_remove:
        print("note: this account may add files but not remove them, so `dvc push` works and `dvc gc -c` does not")
    url = f"gdrive://{folder}/{store}".rstrip("/")
    written = configuration.write_remote(config, name, url, credentials, trash_only=report.shared_drive)
    for line in written:
        print(line)
    if os.environ.get("GDRIVE_CREDENTIALS_DATA"):
        print("DVC takes the credentials from GDRIVE_CREDENTIALS_DATA: keep it set for dvc push and dvc pull")
    print("ready: dvc push, dvc pull")


if __name__ == "__main__":
    run_program(main)
