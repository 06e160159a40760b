"""An export goes to the hub: a private repository where there is none yet, all files in one commit.

The token is read from HF_TOKEN alone: what stands on a command line is read by every user of the machine, and what
huggingface_hub remembers on the disk may be somebody else's.
"""

import os
from pathlib import Path

from openrlhf_prefix.errors import UserError

TOKEN = "HF_TOKEN"
REASONS = {401: f"{TOKEN} is not valid there", 403: f"{TOKEN} may not write there: give one with write access"}


def check(repository: str) -> None:
    """Before the export is made. Raises UserError where it could not be pushed, as far as nobody has to be asked."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"--push_to {repository!r} names no repository ({error}): give OWNER/NAME") from None
    if not os.environ.get(TOKEN):
        raise UserError(f"--push_to needs a token with write access in the variable {TOKEN}")


def push(folder: Path, repository: str) -> str:
    """Uploads a folder; returns the address of its commit. Raises UserError."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(token=os.environ[TOKEN])
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="export"))
    except HfHubHTTPError as error:
        said = str(error).strip().splitlines()[0]
        reason = REASONS.get(error.response.status_code, said)
    except (httpx.HTTPError, OfflineModeIsEnabled) as error:
        reason = f"{api.endpoint} does not answer ({error})"
    again = f"the folder is complete, and `hf upload {repository} {folder} .` sends it"
    raise UserError(f"{folder} was not pushed to {repository}: {reason}; {again}")
