"""OptPO's vote (arXiv 2512.02882): stop when the leading answer is far enough ahead."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Batch, Decision, Reason, stop_or_limit
from itscale.records import Unit
from itscale.voting import Tally, empty_tally, plurality, vote


@dataclass(frozen=True, slots=True)
class VoteLead:
    """Stop when the leader is `lead` votes ahead of the runner-up and n >= n_min, or at n_max.

    The likelihood ratio test Lambda_t = r^(v_L - v_S) >= B is such a lead (METHODS section 4; the simplification is
    derived). Votes are counted in submission order; `chunk` are drawn at a time and the overshoot is paid.
    """

    lead: int
    n_max: int
    n_min: int = 1
    chunk: int = 1
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_scores: ClassVar[bool] = False
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "self_consistency"

    @property
    def limit(self) -> int:
        return self.n_max

    def bind(self, known: Calibration) -> Self:
        return self

    def init(self, rows: int) -> Tally:
        return empty_tally(rows)

    def step(self, state: Tally, batch: Batch, seen: np.ndarray) -> tuple[Tally, Decision]:
        for column in range(int(seen.min(initial=self.n_max)), batch.cluster.shape[1]):
            state = vote(state, np.where((column >= seen) & (column < batch.n), batch.cluster[:, column], -1))
        led = (state.first - state.second >= self.lead) & (batch.n >= self.n_min)
        want = np.where(led, batch.n, np.maximum(batch.n + self.chunk, self.n_min))
        return state, stop_or_limit(batch.n, want, self.n_max, Reason.LEAD, led)

    def select(self, state: Tally, batch: Batch) -> np.ndarray:
        return plurality(batch.cluster)
