"""Requests that failed: each is a row without an answer; too many of them end the job."""

from collections import Counter

from itscale.engines.protocol import Finish
from itscale.errors import UserError

# A job with a larger share of failed requests, or of refused questions, is stopped; a single one never stops it.
_SHARE = 0.1
# Of a run that may stop early nobody knows how many requests it will send: a share is read once there are so many.
_ENOUGH = 20
# So many failures of a question, and nothing served, say that it is refused for good.
_REFUSED = 3
# So many different questions, all failed and no request served, say that none ever will be.
_HOPELESS = 10


class Failures:
    """What has failed of a job of so many `questions`, `each` with at most so many requests.

    A question that is refused for good counts once, however many requests it has; else one bad question of a few would stop a
    job for ever. `planned`: all requests will be sent, so that the share is one of them all; else it is of those sent so far.
    """

    def __init__(self, questions: int, each: int, *, planned: bool = True) -> None:
        self._questions, self._each, self._planned = questions, each, planned
        self._sent = 0  # those that failed and are forgotten left out
        self._served: set[str] = set()  # questions
        self._failed: Counter[str] = Counter()  # requests of each question
        self._found: list[tuple[str, str]] = []  # (problem, reason), in order of arrival

    def __len__(self) -> int:
        return len(self._found)

    def note(self, problem_id: str, finish: str, failure: str | None) -> None:
        """Take down what became of a request."""
        self._sent += 1
        if finish == Finish.FAILED:
            self._failed[problem_id] += 1
            self._found.append((problem_id, failure or "no reason given"))
        else:
            self._served.add(problem_id)

    def forget(self) -> None:
        """Failed requests will be sent again."""
        self._sent -= len(self._found)
        self._failed, self._found = Counter(), []

    def too_many(self, *, ended: bool = False) -> bool:
        """Whether the job is to stop; `ended`: every request has been sent."""
        if not self._failed:
            return False
        if not self._served and (ended or len(self._failed) >= _HOPELESS):
            return True
        least = 1 if ended else min(_REFUSED, self._each)
        refused = [count for name, count in self._failed.items() if name not in self._served and count >= least]
        single = len(self) - sum(refused)
        requests = self._questions * self._each if self._planned else self._sent if ended else max(self._sent, _ENOUGH)
        return len(refused) > max(1, _SHARE * self._questions) or single > max(1, _SHARE * requests)

    def refusal(self, kept: str) -> UserError:
        """The sentence for a job that stops; `kept` says what happens to what it has drawn."""
        return UserError(f"{len(self)} of {self._sent} requests failed, too many to go on: {self.reasons()}. {kept}")

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
        return f"{len(self)} of {self._sent} requests failed and count as unanswered: {self.reasons()}"


def goes_on(path: object) -> str:
    """What a job that stops says of what it has drawn, and of what to do."""
    return (
        f"What was drawn is in {path}; the same command goes on and sends the failed requests again. What fails each time needs "
        "another window or max_tokens, or has to be left out of the questions, for a job of its own."
    )
