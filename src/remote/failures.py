"""What Google and the libraries under DVC say when something is wrong, in the user's terms."""

import contextlib
import socket
import ssl
from collections.abc import Iterator

import httplib2
from oauth2client.client import AccessTokenRefreshError, FlowExchangeError
from pydrive2.files import ApiRequestError

from src.errors import UserError
from src.remote.credentials import HOW_TO_GET_A_CLIENT, Credentials

_WAIT = "Wait a few minutes and run the same command again."
_AGAIN = "Remove the token file in ~/.cache/pydrive2fs and run this again"
_BUSY = f"was asked too often. {_WAIT}"
_FULL = "is full. Free some space (`dvc gc -c -a -T` removes what no branch or tag uses) or use another folder."
# Google's reason or HTTP status -> what follows "Google Drive".
_ANSWERS: dict[str | int, str] = {
    "rateLimitExceeded": _BUSY,
    "userRateLimitExceeded": _BUSY,
    "dailyLimitExceeded": _BUSY,
    "storageQuotaExceeded": _FULL,
    "teamDriveFileLimitExceeded": _FULL,
    "quotaExceeded": _FULL,
    "accessNotConfigured": "has its API switched off in the project of your OAuth client or service account. Google "
    f"Cloud console > APIs & Services > Library > Google Drive API > Enable. {_WAIT}",
    "insufficientPermissions": "is not among what the sign-in allows: on the consent page the box for Google Drive was "
    f"not ticked. {_AGAIN}, and tick it.",
    401: f"does not accept the sign-in. {_AGAIN}.",
    403: "does not allow this to {who}. Share the folder with it as Editor or, in a Shared Drive, as Content manager.",
    404: "has no folder {folder} that {who} can see. Open the folder in the browser, copy its address, and share the "
    "folder (or the Shared Drive) with {who}.",
    429: _BUSY,
}
_BAD_CLIENT = ("invalid_client", "unauthorized_client", "deleted_client", "disabled_client", "admin_policy_enforced")


@contextlib.contextmanager
def explained(folder: str, credentials: Credentials) -> Iterator[None]:
    """Turn the failures of the block into UserError; an unknown one passes unchanged."""
    try:
        yield
    except ApiRequestError as error:
        raise UserError(_explain_answer(error, folder, credentials)) from error
    except (FlowExchangeError, AccessTokenRefreshError) as error:
        raise UserError(_explain_sign_in(str(error), credentials)) from error
    except ssl.SSLError as error:
        raise UserError(
            f"the connection to Google is not trusted ({error.reason or error}). If a proxy of your organisation opens "
            "connections, set HTTPLIB2_CA_CERTS to a file with its certificate."
        ) from error
    except (httplib2.HttpLib2Error, OSError) as error:
        network = (httplib2.HttpLib2Error, ConnectionError, TimeoutError, socket.gaierror)
        if not isinstance(error, network) and not type(error).__module__.startswith("socks"):
            raise
        raise UserError(
            f"Google cannot be reached ({type(error).__name__}: {error}). Check the network; behind a proxy, set "
            "HTTPS_PROXY, and then run the same command again."
        ) from error


def _explain_sign_in(said: str, credentials: Credentials) -> str:
    if any(code in said for code in _BAD_CLIENT):
        return f"Google does not accept this OAuth client ({said}). Check its id and secret. {HOW_TO_GET_A_CLIENT}"
    if credentials.kind == "key":
        return (
            f"Google does not accept the key of {credentials.who} ({said}). The key was deleted, or the clock of "
            "this machine is wrong. Make a new key: Google Cloud console > IAM & Admin > Service Accounts > Keys."
        )
    if "invalid_grant" in said:
        return (
            f"Google no longer accepts the saved sign-in ({said}). As long as the consent screen is in Testing mode a "
            "token lives 7 days; changing the password or removing the access ends it too. Publish the app (Google "
            "Cloud console > Google Auth Platform > Audience > Publish app), then sign in again where a browser is."
        )
    return f"Google did not sign you in ({said}). {_WAIT}"


def _explain_answer(error: ApiRequestError, folder: str, credentials: Credentials) -> str:
    status, reason = int(error.error.get("code", 0)), error.GetField("reason")
    answer = _ANSWERS.get(reason) or _ANSWERS.get(status) or f"could not answer. {_WAIT}"
    said = f"HTTP {status}, {reason or error.error.get('message', 'no reason given')}"
    return f"Google Drive {answer.format(folder=folder, who=credentials.who)} ({said})"
