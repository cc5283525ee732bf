"""What published figures of one run can bear: MR-Thinking's rounds against the two-state chain, differences between methods
against the noise of the questions."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import binom

ROUNDS = (1, 2, 4, 8, 16, 32, 64)
QUESTIONS = {"MATH500": 500, "GSM8K": 1319, "AIME24": 30, "AIME25": 30, "AMC23": 40}
# Questions on which alone two methods must differ, all one way, before a two-sided sign test rejects at 5 %: 2 / 2^6.
SIGN_TEST = 6


@dataclass(frozen=True, slots=True)
class TwoState:
    """Accuracy per round of a two-state chain, p_t = pi + lambda^t (p0 - pi) with t = round - 1 (docs/markovscale.md)."""

    first: float
    limit: float
    pace: float  # lambda

    def at(self, rounds: np.ndarray) -> np.ndarray:
        """Accuracy of rounds [K], the first being 1."""
        return self.limit + self.pace ** (np.asarray(rounds) - 1) * (self.first - self.limit)


def two_state(first: float, second: float, later: float) -> TwoState:
    """The chain that begins at `first`, is at `second` one re-answer on, and tends to `later`; all shares.

    Where no lambda from -1 to 1 leads there, it is at its limit after one re-answer (lambda = 0).
    """
    gap = first - later
    pace = (second - later) / gap if gap else 0.0
    return TwoState(first, later, pace if abs(pace) <= 1 else 0.0)


def band(share: np.ndarray, questions: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares between which 95 % of runs over so many independent questions lie where `share` [K] is true."""
    low, high = binom.interval(0.95, questions, share)
    return low / questions, high / questions


def rounds_against_chain(table: pd.DataFrame) -> pd.DataFrame:
    """Published accuracy of each round (config/published_rounds.csv, %) beside the two-state chain and its binomial band (%)."""
    rows = []
    for entry in table.to_dict("records"):
        chain = two_state(entry["round_1"] / 100, entry["round_2"] / 100, entry["mean"] / 100)
        expected = chain.at(np.array(ROUNDS))
        low, high = band(expected, entry["questions"])
        rows += [
            {
                "benchmark": entry["benchmark"],
                "questions": entry["questions"],
                "round": t,
                "published": entry[f"round_{t}"],
                "two_state": 100 * expected[i],
                "low": 100 * low[i],
                "high": 100 * high[i],
            }
            for i, t in enumerate(ROUNDS)
        ]
    return pd.DataFrame(rows)


def differences(published: pd.DataFrame, baseline: str = "best-of-N") -> pd.DataFrame:
    """Each published accuracy minus the baseline's at the same N, and whether one run's noise could make it.

    `independent`: beyond 1.96 standard deviations of two independent runs over the questions. `paired`: at least SIGN_TEST
    questions, so that a sign test on the same questions could reject, had all that differ gone one way; fewer never can.
    """
    rows = []
    for (budget, group), benchmark in product(published.groupby("budget"), QUESTIONS):
        n, column = QUESTIONS[benchmark], f"{benchmark}_accuracy"
        base = group.loc[group["method"] == baseline, column].iloc[0] / 100
        for method, value in zip(group["method"], group[column] / 100, strict=True):
            if method == baseline or np.isnan(value):
                continue
            noise = 1.96 * np.sqrt((base * (1 - base) + value * (1 - value)) / n)
            rows.append(
                {
                    "benchmark": benchmark,
                    "budget": budget,
                    "method": method,
                    "difference": 100 * (value - base),
                    "noise": 100 * noise,
                    "questions": round(abs(value - base) * n),
                    "independent": bool(abs(value - base) > noise),
                    "paired": round(abs(value - base) * n) >= SIGN_TEST,
                }
            )
    return pd.DataFrame(rows)
