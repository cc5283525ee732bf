"""A policy in somebody else's loop: one question, one answer at a time."""

from collections.abc import Callable, Hashable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np

from itscale.data.records import read_json
from itscale.errors import UserError
from itscale.policies import find_rule, make_policy
from itscale.policies.calibration import Calibration
from itscale.policies.frozen import frozen_policies
from itscale.policies.protocol import Batch, Policy, Reason, scores_read, usable_scores
from itscale.theory.voting import asc_confidence

_REASONS = list(Reason)


class Stopper:
    """Tells when enough answers to one question are there, and which of them to return.

        stop = Stopper("asc", n_max=16)
        while not stop.done:
            stop.add(answer=ask(question))
        print(stop.answer, stop.reason)

    It decides exactly as the policy does in a replay or a live run: in the order of `add`, at the looks that the policy asks for.
    Draw `wanted` answers at once where you can. What is added once it is done is not counted.

    Args:
        rule: of `itscale policies`, by either name, or a policy.
        key: what must be equal for two answers to be equal; the answer itself without it.
        features: what a predictor says of the question, for rules that read it.
        settings: of the rule.

    Raises:
        UserError: there is no such rule or setting, or the rule needs a calibration (`from_advice` brings one).
    """

    def __init__(
        self,
        rule: str | Policy = "asc",
        *,
        key: Callable[[Any], Hashable] | None = None,
        features: Mapping[str, float] | None = None,
        **settings: Any,
    ) -> None:
        self.policy = make_policy(rule, **settings).bind(Calibration()) if isinstance(rule, str) else rule
        if getattr(self.policy, "replay_only", False):
            raise UserError(f"{type(self.policy).__name__} exists in replays only: choose another rule.")
        self._key = key or (lambda answer: answer)
        self._features = {name: np.array([value]) for name, value in (features or {}).items()}
        if lacking := set(self.policy.needs_features) - set(self._features):
            raise UserError(f"{type(self.policy).__name__} reads {min(lacking)!r} of each question: give it in features.")
        self._state = self.policy.init(1)
        self._answers: list[Any] = []
        self._clusters: dict[Hashable, int] = {}
        self._cluster, self._score, self._tokens = list[int](), list[float](), list[int]()
        self._seen, self._want, self._reason = 0, 0, Reason.CONTINUE
        self._look()

    @classmethod
    def from_advice(cls, advice: str | PathLike[str] | Mapping[str, Any], rule: str | None = None, **more: Any) -> Self:
        """With the rule, settings and statistics that `itscale advise --out` (or `itscale calibrate`) wrote.

        Args:
            advice: the file, its folder, or its content.
            rule: another one of the file than the advised; of several settings the last.
            more: `key` and `features`.

        Raises:
            UserError: the file is something else, or has no such rule.
        """
        if not isinstance(advice, Mapping):
            path = Path(advice)
            advice = read_json(path / "advice.json" if path.is_dir() else path)
        if not isinstance(advice, Mapping) or not {"known", "methods"} <= advice.keys():
            raise UserError("this is no advice: give the folder that `itscale advise --out` wrote.")
        wanted = rule or advice.get("advice")
        if wanted is None:
            known = ", ".join(dict.fromkeys(entry["slug"] for entry in advice["methods"]))
            raise UserError(f"a calibration recommends no rule: say which with rule=, one of {known}.")
        names = {wanted, getattr(find_rule(wanted), "slug", wanted)} if wanted else set()
        pairs = zip(advice["methods"], frozen_policies(dict(advice)), strict=True)
        found = [policy for entry, (_, policy) in pairs if names & {entry["method"], entry["slug"]}]
        if not found:
            known = ", ".join(dict.fromkeys(entry["slug"] for entry in advice["methods"]))
            raise UserError(f"the advice has no rule {wanted!r}: choose one of {known}.")
        return cls(found[-1], **more)

    def add(self, answer: Any, *, score: float | None = None, tokens: int = 0) -> bool:
        """One more answer (None or an empty text: none was found), in the order of asking; whether that is enough.

        Raises:
            UserError: the rule reads scores and there is none.
        """
        if self.done:
            return True
        if (
            score is None
            and self.policy.needs_scores
            and len(self._answers) < getattr(self.policy, "scores_read", self.policy.limit)
        ):
            raise UserError(f"{type(self.policy).__name__} reads scores: give score= with each answer.")
        missing = answer is None or answer == ""
        self._answers.append(None if missing else answer)
        self._cluster.append(-1 if missing else self._clusters.setdefault(self._key(answer), len(self._clusters)))
        self._score.append(float("nan") if score is None else float(score))
        self._tokens.append(int(tokens))
        if len(self._answers) >= self._want:
            self._look()
        return self.done

    @property
    def done(self) -> bool:
        """Whether there are enough."""
        return self._reason is not Reason.CONTINUE

    @property
    def wanted(self) -> int:
        """How many more the rule waits for before it looks again; 0 when it is done."""
        return 0 if self.done else self._want - len(self._answers)

    @property
    def drawn(self) -> int:
        """Answers that count."""
        return len(self._answers)

    @property
    def tokens(self) -> int:
        """Tokens of the answers that count."""
        return sum(self._tokens)

    @property
    def answer(self) -> Any:
        """The answer to return, of those so far; None without any."""
        if not self._answers:
            return None
        column = int(self.policy.select(self._state, self._batch())[0])
        return self._answers[column] if column >= 0 else None

    @property
    def reason(self) -> str:
        """Why it is done."""
        return str(self._reason)

    @property
    def confidence(self) -> float | None:
        """Of rules that return the best score that score, else how surely the leading answer beats the next (ASC's posterior)."""
        batch = self._batch()
        if self.policy.family == "best_of_n":
            best = float(usable_scores(batch).max(initial=-np.inf))
            return best if np.isfinite(best) else None
        votes = np.sort(np.bincount(batch.cluster[batch.cluster >= 0], minlength=2))
        return float(asc_confidence(votes[-1], votes[-2])) if votes[-1] else None

    def _batch(self) -> Batch:
        n = np.array([len(self._answers)])
        arrays = (np.array([values]) for values in (self._cluster, self._score, self._tokens))
        cluster, score, tokens = (values.reshape(1, -1) for values in arrays)
        score = np.where(np.arange(n[0]) < scores_read(self.policy), score.astype(float), np.nan)
        return Batch(n, cluster.astype(np.int64), score, tokens.astype(np.int64), self._features)

    def _look(self) -> None:
        batch = self._batch()
        try:
            self._state, decision = self.policy.step(self._state, batch, np.array([self._seen]))
        except (ValueError, AttributeError) as error:
            if self._answers or "calibration" in str(error):
                raise UserError(
                    f"{type(self.policy).__name__} needs statistics of a calibration ({error}): use Stopper.from_advice."
                ) from None
            raise
        self._seen, want = len(self._answers), min(int(decision.want[0]), self.policy.limit)
        if want <= self._seen:
            self._reason = _REASONS[int(decision.reason[0])]
        self._want = want
