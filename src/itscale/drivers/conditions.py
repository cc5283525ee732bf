"""What an engine turned out to be: kept in a job's journal, so that a job that goes on says it of all its samples."""

from pathlib import Path
from typing import Any

from itscale.engines.protocol import Engine
from itscale.errors import UserError


class Conditions:
    """The window that samples were drawn within (None: a server's own) and the parameters that a server has refused.

    Neither is asked for in so many words: the one follows from the memory that vLLM gets on a CPU, the other from the server.
    """

    def __init__(self, engine: Engine, journal: Path | None) -> None:
        self._engine, self._journal = engine, journal
        self.window: int | None = getattr(engine, "window", None)
        self.parameters: dict[str, str | None] = {}
        self._written: dict[str, Any] | None = None

    def recall(self, record: dict[str, Any]) -> bool:
        """Take over what an earlier process kept; False if the record is another one.

        Raises:
            UserError: it drew within another window.
        """
        if "conditions" not in record:
            return False
        before = self._written = record["conditions"]
        if before["window"] != self.window:
            raise UserError(
                f"{self._journal} was begun with a window of {before['window']} tokens, and the engine has one of {self.window} "
                f"now: set engine.max_model_len to {before['window']}."
            )
        self.parameters |= before["parameters"]
        return True

    def record(self) -> dict[str, Any]:
        """Both, as manifests and journals hold them."""
        return {"parameters": dict(self.parameters), "window": self.window}

    def news(self) -> list[dict[str, Any]]:
        """A record for the journal, where something is not in it."""
        self.parameters |= getattr(self._engine, "learnt", {})
        now = self.record()
        if now == self._written:
            return []
        self._written = now
        return [{"conditions": now}]
