"""How often the 95 % intervals of the tables hold the truth, over families of per-question values, and how wide they are.

Means: values 0 and 1, and of several levels (Beta around p; the smaller its strength, the more lies at 0 and 1). Differences
of two rules: pairs of either kind with a Gaussian copula, and rules that differ on few questions only. For comparison the
percentile bootstrap. The last family is beyond the interval of a difference: a rule that loses on few questions, nearly always
next to nothing and now and then a lot. Then differences that a training makes, over seeds and questions; for comparison the
bootstrap of rows and columns, and the interval over questions alone.
"""

from harness import Measurement, Options, run  # before numpy: it sets the number of threads

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from scipy import stats
from scipy.special import expit

from itscale.theory.intervals import SHARE, difference_over_seeds, mean_interval, paired_difference

SIZES = (20, 30, 40, 150)
SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
PAIRS = ((0.5, 0.5), (0.5, 0.6), (0.7, 0.2), (0.05, 0.1), (0.9, 0.8), (0.9, 0.9), (0.95, 0.99), (0.99, 0.99))
RESAMPLES = 400

Draw = Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]  # -> both rules' values [repeats, n]


def levels(uniform: np.ndarray, p: float, strength: float) -> np.ndarray:
    """Values with mean p from uniform ones: 0 and 1 for a strength of 0, else Beta."""
    return (uniform < p).astype(float) if strength == 0 else stats.beta.ppf(uniform, p * strength, (1 - p) * strength)


def means(strength: float) -> Iterator[tuple[dict, float, Draw]]:
    for p in SHARES:
        yield {"p": p}, p, lambda rng, r, n, p=p: (levels(rng.random((r, n)), p, strength), np.zeros((r, n)))


def copulas(strength: float) -> Iterator[tuple[dict, float, Draw]]:
    for (p, q), rho in product(PAIRS, (0.0, 0.5, 0.9, 0.99)):

        def draw(rng, r, n, p=p, q=q, rho=rho):
            z, e = rng.standard_normal((2, r, n))
            both = stats.norm.cdf(z), stats.norm.cdf(rho * z + np.sqrt(1 - rho**2) * e)
            return levels(both[0], p, strength), levels(both[1], q, strength)

        yield {"p": p, "q": q, "correlation": rho}, p - q, draw


def sparse(size: tuple[float, float] | None) -> Iterator[tuple[dict, float, Draw]]:
    """Differences on a share of the questions, a share of them gains; size: Beta parameters (None: a whole point)."""
    mean = 1.0 if size is None else size[0] / sum(size)
    for share, gains in product((0.02, 0.05, 0.1, 0.3), (0.5, 0.2, 0.0)):

        def draw(rng, r, n, share=share, gains=gains):
            sign = np.where(rng.random((r, n)) < gains, 1.0, -1.0) * (rng.random((r, n)) < share)
            value = sign if size is None else sign * rng.beta(*size, (r, n))
            return value, np.zeros((r, n))

        yield {"differ": share, "gains": gains}, share * (2 * gains - 1) * mean, draw


FAMILIES = {
    "means of 0 and 1": means(0),
    **{f"means of levels, strength {s}": means(s) for s in (1, 3, 10, 50)},
    "differences of 0 and 1": copulas(0),
    **{f"differences of levels, strength {s}": copulas(s) for s in (1, 3, 10)},
    "few differences, of 1": sparse(None),
    "few differences, uniform": sparse((1, 1)),
    "few differences, mostly small (mean 0.1, Beta(1, 9))": sparse((1, 9)),
    "few differences, mostly tiny (mean 0.1, Beta(0.2, 1.8))": sparse((0.2, 1.8)),
}


def trained(rng: np.random.Generator, seeds: int, n: int, spread: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of 16 right samples [seeds, n] after and before a training that moves logits by 0.4, seed, question and both."""
    seed, question, both = spread
    logit = rng.normal(-1, 2, n)
    moved = logit + 0.4 + rng.normal(0, seed, (seeds, 1)) + rng.normal(0, question, n) + rng.normal(0, both, (seeds, n))
    return rng.binomial(16, expit(moved)) / 16, rng.binomial(16, expit(logit), (seeds, n)) / 16


def over_seeds(repeats: int) -> list[Measurement]:
    """Seeds that differ by nothing to much (standard deviation of the logit); 3 or 5 of them, 60 or 150 questions."""
    rng, rows = np.random.default_rng(0), []
    for seeds, n, spread in product((3, 5), (60, 150), ((0, 0, 0), (0, 1, 0.5), (0.3, 1, 0.5), (0.6, 1, 0.5), (1, 0.5, 0.5))):
        logit, moved = rng.normal(-1, 2, 2_000_000), rng.normal(0.4, np.linalg.norm(spread), 2_000_000)
        truth, covered = (expit(logit + moved) - expit(logit)).mean(), np.zeros((repeats, 3))
        for row in covered:
            after, before = trained(rng, seeds, n, spread)
            ours, questions = difference_over_seeds(after, before, SHARE), paired_difference(after.mean(0), before.mean(0), SHARE)
            drawn = (rng.multinomial(k, np.full(k, 1 / k), RESAMPLES) / k for k in (seeds, n))
            plain = np.quantile(np.einsum("rs,sq,rq->r", next(drawn), after - before, next(drawn)), (0.025, 0.975))
            row[:] = [low <= truth <= high for low, high in ((ours.low, ours.high), plain, (questions.low, questions.high))]
        names = ("covered", "bootstrap covered", "questions alone covered")
        rows.append({"seeds": seeds, "n": n, "spread": spread, **dict(zip(names, covered.mean(axis=0).tolist(), strict=True))})
    least = {name: min(row[name] for row in rows) for name in names}
    detail = {"repeats": repeats, "rows": rows}
    return [
        Measurement("training, over seeds and questions: least coverage", least["covered"], "", "at least 0.92", detail),
        Measurement("training, over seeds and questions: of the bootstrap", least["bootstrap covered"], ""),
        Measurement("training, over seeds and questions: of the interval over questions", least["questions alone covered"], ""),
    ]


def measure(options: Options) -> list[Measurement]:
    repeats, sizes = (40, SIZES[:1]) if options.short else (1000, SIZES)
    rng, found = np.random.default_rng(0), []
    for family, cases in FAMILIES.items():
        rows = []
        for case, truth, draw in cases:
            for n in sizes:
                ours, theirs = draw(rng, repeats, n)
                if family.startswith("means"):
                    intervals = [mean_interval(values, SHARE) for values in ours]
                else:
                    intervals = [paired_difference(*pair, SHARE) for pair in zip(ours, theirs, strict=True)]
                low, high = np.array([(i.low, i.high) for i in intervals]).T
                weight = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
                plain = np.quantile((ours - theirs) @ weight.T, (0.025, 0.975), axis=1)
                row = {"n": n, **case}
                for name, ends in (("", (low, high)), ("bootstrap ", plain)):
                    row[f"{name}covered"] = float(((ends[0] <= truth + 1e-9) & (truth - 1e-9 <= ends[1])).mean())
                    row[f"{name}width"] = float((ends[1] - ends[0]).mean())
                rows.append(row)
        goal = None if "tiny" in family else "at least 0.92"
        worst, plain = (min(row[f"{name}covered"] for row in rows) for name in ("", "bootstrap "))
        found.append(Measurement(f"{family}: least coverage", worst, "", goal, {"repeats": repeats, "rows": rows}))
        found.append(Measurement(f"{family}: of the bootstrap", plain, ""))
    return found + over_seeds(repeats)


if __name__ == "__main__":
    run(__doc__, measure)
