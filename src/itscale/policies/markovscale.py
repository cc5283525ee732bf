"""MarkovScale's gate (arXiv 2602.01120): re-answer only where the two-state chain says that it helps."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from itscale import markov
from itscale.policies.calibration import Calibration, Strata
from itscale.policies.fixed import last_round
from itscale.policies.protocol import CODE, Batch, Decision, NoState, Reason
from itscale.records import Pool, Unit


@dataclass(frozen=True, slots=True)
class Gate:
    """All rounds where the first answer's stratum has p0 < pi, else the first answer; the last round's answer counts."""

    rounds: int
    strata: Strata | None = None
    unit: ClassVar[Unit] = Unit.ROUND
    needs_scores: ClassVar[bool] = True
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "mr_thinking"

    @property
    def limit(self) -> int:
        return self.rounds

    def bind(self, known: Calibration) -> Self:
        return replace(self, strata=known.strata)

    def init(self, rows: int) -> NoState:
        return NoState()

    def step(self, state: NoState, batch: Batch, seen: np.ndarray) -> tuple[NoState, Decision]:
        if not batch.n.any():
            return state, Decision(np.ones_like(batch.n), np.full(len(batch.n), CODE[Reason.CONTINUE]))
        if self.strata is None:
            raise ValueError("bind the policy to a calibration first")
        stratum = self.strata.of(batch.score[:, 0])
        p0, a, b = self.strata.p0[stratum], self.strata.a[stratum], self.strata.b[stratum]
        helps = p0 < markov.fixed_point(a, b, p0)
        want = np.where(helps, self.rounds, 1)
        stopped = np.where(helps, CODE[Reason.ALL_ROUNDS], CODE[Reason.KEPT_FIRST])
        return state, Decision(want, np.where(want > batch.n, CODE[Reason.CONTINUE], stopped))

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        return last_round(batch)


def fit_strata(pool: Pool, strata: int, strength: float) -> Strata:
    """Transition rates and first-round accuracy per stratum of the first answer's score, drawn towards the overall rates.

    Strata are quantile bins of the first score; bins that coincide are merged. Labels are the calibration split's.
    """
    first = np.nan_to_num(pool.score[:, 0], nan=-np.inf)
    edges = np.unique(np.quantile(first, np.arange(1, strata) / strata, method="lower"))
    stratum = np.searchsorted(edges, first, side="right")
    counts = [np.bincount(stratum, c, len(edges) + 1) for c in markov.transition_counts(pool.correct)]
    n_c, n_cw, n_w, n_wc = counts
    overall_a, overall_b = markov.pooled_rates(pool.correct)
    right, size = np.bincount(stratum, pool.correct[:, 0], len(edges) + 1), np.bincount(stratum, minlength=len(edges) + 1)
    return Strata(
        edges,
        a=markov.shrunk_rate(n_cw, n_c, overall_a, strength),
        b=markov.shrunk_rate(n_wc, n_w, overall_b, strength),
        p0=markov.shrunk_rate(right, size, float(pool.correct[:, 0].mean()), strength),
    )
