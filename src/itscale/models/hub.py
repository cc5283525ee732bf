"""Models of the hub (at a pinned revision, hashes compared) or of a local folder, and errors that say what to do."""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from itscale.data.records import read_json, write_json
from itscale.errors import UserError

if TYPE_CHECKING:
    from tenacity import RetryCallState

_REVISION = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# How often a hub that does not answer is asked, and the first of the growing waits between (seconds).
_ATTEMPTS, _WAIT = 4, 5
# No pickles, no code.
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
# A model folder may hold the SHA-256 of its files, as `sha256sum` writes them; they are compared whenever it is loaded.
SUMS = "SHA256SUMS"


Found = TypeVar("Found")


class Unreachable(UserError):
    """The hub does not answer now; it may do so later, as what else can be wrong with it will not."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model lies: a local folder, or a hub id with the 40 digits of a commit as its revision."""

    path: str
    revision: str | None = None


def pinned(what: str, path: str, revision: str | None) -> bool:
    """Whether a source is one of the hub; a local folder needs no revision.

    Raises:
        UserError: it is neither a local folder nor pinned to a commit.
    """
    if Path(path).is_dir():
        return False
    if not _REVISION.fullmatch(revision or ""):
        raise UserError(
            f"{what}: {path!r} is no local folder, and what comes from the hub needs the 40 digits of a commit as its revision: "
            "set revision."
        )
    return True


@contextmanager
def hub_errors(what: str, path: str) -> Iterator[None]:
    """Turn what goes wrong between here and the hub into one sentence that says what to do.

    Raises:
        UserError: with that sentence; `Unreachable` where it may pass.
    """
    import httpx
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            f"{what}: {path} is gated: accept its terms at https://huggingface.co/{path} and log in with `hf auth login` "
            "(or set HF_TOKEN)."
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{what}: {path} has no such revision: correct revision.") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{what}: {path} does not exist on the hub, or is private: correct the name, or log in with `hf auth login` "
            "(or set HF_TOKEN)."
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx.TransportError, ConnectionError):
        kind = UserError if constants.HF_HUB_OFFLINE else Unreachable
        raise kind(
            f"{what}: {path} is not in the cache and the hub cannot be reached from this machine: run this step where there is a "
            "network, or give the path of a local folder."
        ) from None
    except errors.HfHubHTTPError as error:
        passing = error.response.status_code >= 500 or error.response.status_code == 429
        kind = Unreachable if passing else UserError
        raise kind(f"{what}: {path} cannot be read from the hub ({str(error).splitlines()[0]}): try again later.") from None


def patiently(read: Callable[[], Found]) -> Found:
    """What `read` returns. A hub that does not answer is asked again, four times in all; what is wrong for good is said at once.

    Raises:
        UserError: as `read`.
    """
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    def said(state: "RetryCallState") -> None:
        print(f"the hub does not answer, asked again in {state.upcoming_sleep:.0f} s", file=sys.stderr)

    again = retry_if_exception_type(Unreachable)
    stop, wait = stop_after_attempt(_ATTEMPTS), wait_exponential(multiplier=_WAIT)
    return Retrying(retry=again, stop=stop, wait=wait, before_sleep=said, reraise=True)(read)


def fetch_model(source: ModelSource, what: str, out: Path) -> None:
    """Make `out` a folder of links to a model's files: a local folder's, or the hub cache's at the pinned revision.

    Files of the hub that have a published SHA-256 (the weights) are compared with it.

    Raises:
        UserError: not pinned, gated, missing, no network, an incomplete folder, or a file whose hash differs.
    """
    folder = _snapshot(source, what) if pinned(what, source.path, source.revision) else Path(source.path).resolve()
    if lacking := what_lacks(folder):
        raise UserError(f"{what}: {source.path} lacks {lacking}: it is no whole model folder, complete it.")
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted({file for pattern in _WANTED for file in folder.glob(pattern)}):
        link = out / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())


def newest_revision(path: str, what: str) -> str:
    """The 40 digits of the commit that a model of the hub is at now.

    Raises:
        UserError: as `fetch_model`.
    """
    from huggingface_hub import HfApi

    with hub_errors(what, path):
        return str(HfApi().model_info(path).sha)


def _snapshot(source: ModelSource, what: str) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    with hub_errors(what, source.path):
        folder = Path(snapshot_download(source.path, revision=source.revision, allow_patterns=list(_WANTED)))
        if constants.HF_HUB_OFFLINE:  # nothing to compare with
            return folder
        published = HfApi().model_info(source.path, revision=source.revision, files_metadata=True).siblings or []
    for entry in published:
        file = folder / entry.rfilename
        if entry.lfs is not None and file.exists() and _sha256(file) != entry.lfs.sha256:
            raise UserError(f"{what}: {file} is not the file that the hub has (SHA-256 differs): delete it and run again.")
    return folder


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_digest(model: Path | str) -> str | None:
    """SHA-256 over the weights of a model folder, None for what is no folder: what a resumed job must find as it was.

    Weights of many gigabytes are not read at every start: the hub's cache names a file by its SHA-256, and of any other file the
    hash is kept in the user's cache folder, with the size and the time of the change that it belongs to.
    """
    files = sorted(Path(model).glob("*.safetensors")) if Path(model).is_dir() else []
    return hashlib.sha256("".join(map(_known_sha256, files)).encode()).hexdigest() if files else None


# A file may change twice within what its file system's clock can tell.
_SETTLED_NS = 2_000_000_000


def _known_sha256(file: Path) -> str:
    file = file.resolve()
    if file.parent.name == "blobs" and _SHA256.fullmatch(file.name):
        return file.name
    found = file.stat()
    stamp = [str(file), found.st_size, found.st_mtime_ns]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = home / "itscale" / "sha256" / f"{hashlib.sha256(str(file).encode()).hexdigest()}.json"
    try:
        entry = json.loads(kept.read_text())
        if entry["file"] == stamp:
            return entry["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = _sha256(file)
    if time.time_ns() - found.st_mtime_ns > _SETTLED_NS:
        with suppress(OSError):  # a cache that cannot be written is none
            write_json(kept, {"file": stamp, "sha256": digest})
    return digest


def stop_tokens(folder: Path | str, tokenizer: Any) -> set[int]:
    """Every token that ends a completion: the tokenizer's, and those of generation_config.json and config.json.

    Raises:
        UserError: none of them names one, so that no completion would ever end.
    """
    found = {tokenizer.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        path = Path(folder) / name
        named = read_json(path).get("eos_token_id") if path.exists() else None
        found.update(named if isinstance(named, list) else [named])
    if not (stops := found - {None}):
        raise UserError(f"model folder {folder} names no token that ends a text: set eos_token_id in its generation_config.json.")
    return stops


def what_lacks(folder: Path) -> str | None:
    """The first file that a model folder lacks; libraries make do without some, and read nonsense."""
    if not (folder / "config.json").exists():
        return "config.json"
    if not any((folder / name).exists() for name in _TOKENIZERS):
        return _TOKENIZERS[0]
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return None if any(folder.glob("*.safetensors")) else "model.safetensors"
    shards = sorted(set(read_json(index)["weight_map"].values()))
    return next((shard for shard in shards if not (folder / shard).exists()), None)


def sums(folder: Path) -> str:
    """The SHA-256 of every file of a folder, a line each as `sha256sum` writes it."""
    return "".join(f"{_sha256(file)}  {file.name}\n" for file in sorted(folder.iterdir()) if file.name != SUMS)


def altered(folder: Path) -> str | None:
    """The first file of a model folder that is not as its SHA256SUMS has it; None where all are, or there are no sums."""
    if not (folder / SUMS).exists():
        return None
    stated = (line.split(maxsplit=1) for line in (folder / SUMS).read_text().splitlines() if line.strip())
    return next((n for digest, n in stated if not (folder / n).exists() or _sha256(folder / n) != digest), None)


@contextmanager
def model_files(model: Path | str) -> Iterator[None]:
    """Turn what is wrong with a model folder into one sentence that names the folder and the fault."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar of the library for every file that is read
    folder = Path(model)
    if not folder.is_dir():
        raise UserError(
            f"model {model} is no folder: give the path of one, or make one from the hub at a pinned revision with "
            "`itscale fetch-model`."
        )
    if lacking := what_lacks(folder):
        raise UserError(f"model folder {folder} lacks {lacking}: restore it, or make the folder anew.")
    if changed := altered(folder):
        raise UserError(f"model folder {folder}: {changed} is not the file of {SUMS} (SHA-256 differs): restore it.")
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"model folder {folder} cannot be read ({reason}): restore it, or make it anew.") from None
