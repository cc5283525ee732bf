"""The error a user reads: one sentence saying what is wrong, where, and what to do."""

import errno
from typing import Any


class UserError(Exception):
    """Wrong input or configuration; the command line prints its message alone and exits with status 1."""


_SPACE = "free some space and run the same command again, what has finished is kept"
_PLACE = "correct its permissions, or choose another place"
_ADVICE = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EACCES: _PLACE,
    errno.EPERM: _PLACE,
    errno.EROFS: _PLACE,
    errno.ENOENT: "give the path of a file that exists, or run the rule that makes it",
    errno.EISDIR: "give the path of a file",
    errno.ENOTDIR: "give a path whose folders are folders",
    errno.EEXIST: "give a path whose folders are folders",
    errno.ENAMETOOLONG: "give a shorter path",
}
# Packages that come with an extra of this one, by the name that is imported.
_EXTRAS = {
    **dict.fromkeys(("openai", "tenacity"), "serve"),
    **dict.fromkeys(("torch", "transformers", "tokenizers", "safetensors", "accelerate", "huggingface_hub", "httpx"), "local"),
    **dict.fromkeys(("trl", "peft"), "train"),
    **dict.fromkeys(
        ("matplotlib", "snakemake", "jsonschema", "yaml", "networkx", "grimp", "tabulate", "datasets", "jinja2"), "workflow"
    ),
}
# How libraries that write weights say that the disk is full.
_FULL = ("os error 28", "inline_container", "PytorchStreamWriter failed", "iostream error")


def sentence_of(error: Exception) -> str | None:
    """A UserError's own sentence, or that of what the machine refuses (a full disk, a path); None for any other error."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (package := (error.name or "").split(".")[0]) in _EXTRAS:
        return f"{package} is not installed: pip install 'itscale[{_EXTRAS[package]}]'."
    if any(words in str(error) for words in _FULL):
        return f"weights cannot be written, the disk seems to be full: {_SPACE}."
    if not isinstance(error, OSError) or error.errno not in _ADVICE:
        return None
    if error.filename is None and _ADVICE[error.errno] is not _SPACE:
        return None
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{(error.strerror or '').lower()}: {_ADVICE[error.errno]}."


def refuse_below(least: float, settings: Any, *names: str) -> None:
    """Refuse settings of which a named number is below `least`.

    Raises:
        UserError: the first such number.
    """
    for name in names:
        value = getattr(settings, name)
        if not value >= least:
            raise UserError(f"{name} of {type(settings).__name__} is {value}: give at least {least:g}.")
