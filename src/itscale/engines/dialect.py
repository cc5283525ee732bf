"""Which parameters a server takes and under which names: as the settings say, and as it says itself when it refuses one."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from itscale.engines.replies import one_line

# What a parameter may be called elsewhere, to be tried before it is left out.
_OTHER_NAMES = {"max_tokens": ("max_completion_tokens", "max_tokens")}
# It is the parameter that is refused ...
_REFUSED = re.compile(
    r"unsupported|not supported|does ?n.t support|does not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|"
    r"extra[_ ](forbidden|inputs|fields)|only the default|must be verified|not available",
    re.IGNORECASE,
)
# ... and not its value.
_VALUE = re.compile(r"too (large|long|big|high|many)|maximum|at most|exceed|context length", re.IGNORECASE)


class Dialect:
    """Our names of parameters and the server's; `version` counts what was learnt."""

    def __init__(self, url: str, names: Mapping[str, str | None]) -> None:
        self._url = url
        self._names = dict(names)
        self._tried: set[str] = {name for name in names.values() if name is not None}
        self.learnt: dict[str, str | None] = {}
        self.version = 0

    def spoken(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as the server takes them; those that are None, or that it does not take, are left out."""
        named = {self._names.get(ours, ours): value for ours, value in wanted.items() if value is not None}
        return {theirs: value for theirs, value in named.items() if theirs is not None}

    def takes(self, ours: str) -> bool:
        return self._names.get(ours, ours) is not None

    def learn(self, version: int, sent: Mapping[str, Any], words: str, parameter: str | None) -> bool:
        """Whether the request is worth sending again, since what the server refuses goes another way now.

        Args:
            version: of this dialect when the request was sent.
            sent: the request's parameters, by our names.
            words: what the server said; it is passed on to the user once.
            parameter: which parameter it names in so many words.
        """
        if version != self.version:
            return True
        ours = self._refused(sent, words, parameter)
        if ours is None:
            return False
        theirs = self._names.get(ours, ours)
        self._tried.add(theirs)
        other = next((name for name in _OTHER_NAMES.get(ours, ()) if name not in self._tried), None)
        self._names[ours] = self.learnt[ours] = other
        self.version += 1
        how = "it is left out" if other is None else f"it is sent as {other}"
        print(f"{self._url} refuses {theirs} ({one_line(words)}): {how} from now on (engine.parameters).", file=sys.stderr)
        return True

    def _refused(self, sent: Mapping[str, Any], words: str, parameter: str | None) -> str | None:
        if not _REFUSED.search(words) or _VALUE.search(words):
            return None
        names = {self._names.get(ours, ours): ours for ours, value in sent.items() if value is not None and self.takes(ours)}
        if parameter is not None and (named := parameter.split(".")[-1]) in names:
            return names[named]
        if parameter is not None and (named := parameter.split(".")[0]) in names:
            return names[named]
        found = {theirs: match.start() for theirs in names if (match := re.search(rf"\b{re.escape(theirs)}\b", words))}
        return names[min(found, key=lambda theirs: found[theirs])] if found else None
