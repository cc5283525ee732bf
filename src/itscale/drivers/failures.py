"""Requests that failed: each is a row without an answer; too many of them end the job."""

from itscale.engines.protocol import Finish
from itscale.errors import UserError

# A job with a larger share of failed requests is stopped.
_SHARE = 0.1
# So many different questions, all failed and no request served, say that none ever will be.
_HOPELESS = 10


class Failures:
    """What has failed of a job's `planned` requests (the most that it may send)."""

    def __init__(self, planned: int) -> None:
        self._planned = planned
        self._served = 0
        self._found: list[tuple[str, str]] = []  # (problem, reason), in order of arrival
        self._problems: set[str] = set()

    def __len__(self) -> int:
        return len(self._found)

    def note(self, problem_id: str, finish: str, failure: str | None) -> None:
        """Take down what became of a request."""
        if finish == Finish.FAILED:
            self._found.append((problem_id, failure or "no reason given"))
            self._problems.add(problem_id)
        else:
            self._served += 1

    def forget(self) -> None:
        """Failed requests will be sent again."""
        self._found, self._problems = [], set()

    @property
    def too_many(self) -> bool:
        return len(self) > _SHARE * self._planned or (self._served == 0 and len(self._problems) >= _HOPELESS)

    def refusal(self, kept: str) -> UserError:
        """The sentence for a job that stops; `kept` says what happens to what it has drawn."""
        return UserError(
            f"{len(self)} of {len(self) + self._served} requests failed, too many to go on: {self.reasons()}. {kept}"
        )

    def reasons(self) -> str:
        """The first three different reasons, each with the first question that it met."""
        first: dict[str, str] = {}
        for problem_id, reason in self._found:
            first.setdefault(reason, problem_id)
        return "; ".join(f"{problem_id}: {reason}" for reason, problem_id in list(first.items())[:3])

    def summary(self) -> str:
        """One line for people; empty where nothing failed."""
        if not self._found:
            return ""
        return f"{len(self)} of {len(self) + self._served} requests failed and count as unanswered: {self.reasons()}"
