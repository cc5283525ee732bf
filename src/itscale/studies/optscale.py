"""What is shown of OptScale beyond the main table: bounds, reliability, the effect of selection, simulated guarantees."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy.stats import truncnorm

from itscale.data.records import Pool, Unit
from itscale.data.tables import NONE, OWN
from itscale.drivers.expectation import Means, pass_at, question_means, replayed
from itscale.drivers.replay import Outcomes, orders_of, per_problem, replay, replay_prescribed
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration, Moments
from itscale.policies.protocol import Batch, Decision, Policy, Reason, best_scored, decide, depends_on_verifier, usable_scores
from itscale.studies.calibrate import choose_published, reference
from itscale.studies.compare import summary
from itscale.theory import truncnormal
from itscale.theory.intervals import SHARE, mean_interval, paired_difference, ratio_interval


@dataclass(frozen=True, slots=True)
class Replays:
    """Replays over the pools of a benchmark, of which several tables are made: each bound rule is replayed once.

    What is kept is counts below 2^31 in 4 bytes each: a hundred rules on 1,319 questions in 100 orders take half a gigabyte.
    """

    pools: dict[Unit, Pool]
    orders: int
    seed: int
    _made: dict[Any, tuple[Policy, Outcomes]] = field(default_factory=dict, repr=False)

    def of(self, policy: Policy, orders: int | None = None) -> Outcomes:
        """Outcomes over so many orders, all by default. A rule that holds an array is told by identity alone."""
        times = self.orders if orders is None else orders
        try:
            hash(policy)
            key = policy, times
        except TypeError:
            key = id(policy), times
        if key not in self._made:
            self._made[key] = policy, _compact(self.once(policy, times))
        return self._made[key][1]

    def once(self, policy: Policy, orders: int) -> Outcomes:
        """The same of a rule that no other table asks for: it is not kept."""
        return replay(policy, self.pools[policy.unit], orders=orders, seed=self.seed)


def _compact(outcomes: Outcomes) -> Outcomes:
    """The same numbers in as few bytes as hold them."""

    def small(value: Any) -> Any:
        return value.astype(np.int32) if isinstance(value, np.ndarray) and value.dtype == np.int64 else value

    ledger = replace(outcomes.ledger, **{f.name: small(getattr(outcomes.ledger, f.name)) for f in fields(outcomes.ledger)})
    arrays = {f.name: small(getattr(outcomes, f.name)) for f in fields(outcomes) if f.name != "ledger"}
    return replace(outcomes, ledger=ledger, **arrays)


@dataclass(frozen=True, slots=True)
class _Given:
    """The state of a rule with hindsight: how many samples each row is to use."""

    drawn: np.ndarray


@dataclass(frozen=True, slots=True)
class Hindsight:
    """Best of a number of samples that is prescribed row by row: an analysis, no rule that anyone could run."""

    n_max: int
    drawn: np.ndarray
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_scores: ClassVar[bool] = True
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "best_of_n"
    replay_only: ClassVar[bool] = True

    @property
    def limit(self) -> int:
        return self.n_max

    def bind(self, known: Calibration) -> "Hindsight":
        return self

    def init(self, rows: int) -> _Given:
        return _Given(self.drawn)

    def step(self, state: _Given, batch: Batch, seen: np.ndarray) -> tuple[_Given, Decision]:
        return state, decide(batch.n, state.drawn, self.n_max, Reason.FIXED)

    def select(self, state: _Given, batch: Batch) -> np.ndarray:
        return best_scored(batch)


def oracle_stop(pool: Pool, n_max: int, *, orders: int, seed: int) -> Outcomes:
    """The shortest prefix that keeps every problem that best-of-n_max solves (docs/optscale.md), order by order.

    It bounds from below the tokens of every best-of-prefix rule that loses none of those problems; a problem that the full
    budget does not solve costs one sample.
    """
    usable = usable_scores(pool)

    def with_hindsight(row: np.ndarray, order: np.ndarray) -> Hindsight:
        row, order = row[:, None], order[:, :n_max]
        score = usable[row, order]
        # The column of the running best: it changes only where a score exceeds all before it.
        before = np.maximum.accumulate(np.pad(score, ((0, 0), (1, 0)), constant_values=-np.inf), axis=1)[:, :-1]
        best = np.maximum.accumulate(np.where(score > before, np.arange(n_max), -1), axis=1)
        right = np.where(best >= 0, np.take_along_axis(pool.correct[row, order], np.maximum(best, 0), axis=1), False)
        return Hindsight(n_max, np.where(right[:, -1], right.argmax(axis=1) + 1, 1))

    return replay_prescribed(with_hindsight, pool, orders=orders, seed=seed)


def bounds(pool: Pool, budgets: Iterable[int], *, benchmark: str, orders: int, seed: int, verifier: str = OWN) -> pd.DataFrame:
    """Rows like the main table's for the oracle stop (where there are scores) and for pass@N, at each budget.

    The oracle stop is shown as what is expected of best-of-N and what the stop changes of it on the same orders, at most
    pass@N: so neither bound lies on the wrong side of what it bounds by the chance of the orders.
    """
    problems = len(pool.problem_ids)
    rows = []
    for n in budgets:
        best = make_policy("best_of_n" if pool.scored else "self_consistency", n=n)
        full = replay(best, pool, orders=orders, seed=seed)
        label = {"benchmark": benchmark, "unit": str(Unit.SAMPLE), "budget": n}
        fixed = question_means(best, pool, full)
        passed = pass_at(pool, [n])[0] if orders > 1 else per_problem(pool.correct[:, :n].any(axis=1), pool, problems)
        if pool.scored:
            found = oracle_stop(pool, n, orders=orders, seed=seed)
            base, ours = replayed(full, problems), replayed(found, problems)
            accuracy = np.minimum(fixed.accuracy + ours.accuracy - base.accuracy, passed)
            shown = Means(accuracy, fixed.ledger + (ours.ledger - base.ledger))
            rows.append({**label, "method": "oracle stop", "verifier": verifier, **summary(shown, found, full)})
        gained = paired_difference(passed, fixed.accuracy, SHARE).columns("accuracy_difference")
        cells = mean_interval(passed, SHARE).columns("accuracy") | gained
        rows.append({**label, "method": "pass@N", "verifier": NONE, **summary(fixed, full, full), **cells})
    return pd.DataFrame(rows)


def reliability(pool: Pool, known: Calibration, *, benchmark: str, orders: int, seed: int, ahead: int = 4) -> pd.DataFrame:
    """P(max of the next `ahead` scores >= s_min) as fitted to the first five scores, against how often it is so.

    s_min: the calibration scores' mean plus 0, 1 and 2 standard deviations (at most 0.99). Fits: maximum likelihood, and
    the rule `ours` with the calibration split's and, where there are any, the question's predicted moments.
    """
    peek = 5
    if pool.size < peek + ahead or not pool.scored:
        return pd.DataFrame(columns=["benchmark", "fit", "predicted", "observed", "observed_low", "observed_high", "cases"])
    order = orders_of(pool, orders, seed).reshape(-1, pool.size)[:, : peek + ahead]
    row = np.repeat(np.arange(pool.rows), len(order) // pool.rows)
    score = pool.score[row[:, None], order]
    whole = ~np.isnan(score).any(axis=1)
    row, score = row[whole], score[whole]
    mean, square = score[:, :peek].mean(axis=1), (score[:, :peek] ** 2).mean(axis=1)
    priors: dict[str, tuple[np.ndarray, np.ndarray, float]] = {
        "maximum likelihood": (mean, square, 0.0),
        "calibration prior": (known.moments.mean, known.moments.mean_square, 2.0),
    }
    if {"score_mean", "score_sd"} <= set(pool.features):
        m, s = pool.features["score_mean"][row], pool.features["score_sd"][row]
        priors["predicted prior"] = (m, m**2 + np.minimum(s**2, 0.999 * m * (1 - m)), 2.0)
    spread = np.sqrt(known.moments.mean_square - known.moments.mean**2)
    frames = []
    for name, (m, q, n0) in priors.items():
        fit = truncnormal.fit((peek * mean + n0 * m) / (peek + n0), (peek * square + n0 * q) / (peek + n0))
        predicted, observed, problem = [], [], []
        for s_min in np.minimum(known.moments.mean + spread * np.arange(3), 0.99):
            p = truncnormal.confidence(s_min, ahead, fit.e1, fit.e2)
            predicted.append(np.where(fit.degenerate, fit.mean >= s_min, p))
            observed.append(score[:, peek:].max(axis=1) >= s_min)
            problem.append(pool.problem[row])
        frames.append(_bins(*(np.concatenate(v) for v in (predicted, observed, problem))).assign(fit=name))
    return pd.concat(frames, ignore_index=True).assign(benchmark=benchmark)


def _bins(predicted: np.ndarray, observed: np.ndarray, problem: np.ndarray, count: int = 10) -> pd.DataFrame:
    """Mean prediction and frequency over the cases in each bin of the prediction; intervals over problems."""
    bin_, questions = np.minimum((predicted * count).astype(int), count - 1), int(problem.max(initial=-1)) + 1
    rows = []
    for b in range(count):
        inside = bin_ == b
        if not inside.any():
            continue
        cases = np.bincount(problem[inside], minlength=questions)
        share = ratio_interval(np.bincount(problem[inside], observed[inside], questions), cases, SHARE)
        rows.append((predicted[inside].mean(), share.mean, share.low, share.high, int(inside.sum())))
    return pd.DataFrame(rows, columns=["predicted", "observed", "observed_low", "observed_high", "cases"])


def selection(
    record: dict[str, Any],
    policies: list[tuple[str, Policy]],
    replays: Replays,
    *,
    benchmark: str,
    verifier: str = OWN,
) -> pd.DataFrame:
    """How much of a figure is the choice of its cell: on the benchmark itself, as published, or on the calibration split.

    `published`: the most accurate cell of the grid on this benchmark, in one order, ties to the fewest tokens, reported in that
    order; `published, all orders`: that cell over all orders; `calibrated`: the cell that the calibration split chose.

    Args:
        record: the calibration file's content; `policies`: its methods, hyperparameters as chosen there, in the same order.
    """
    rows = []
    for (method, calibrated), (_, published) in zip(policies, choose_published(record, replays.pools), strict=True):
        if published is None:
            continue
        pool, every = replays.pools[calibrated.unit], replays.orders
        cases = (("published", published, 1), ("published, all orders", published, every), ("calibrated", calibrated, every))
        for protocol, policy, times in cases:
            again = protocol == "calibrated"
            outcomes = replays.of(policy, times) if again else replays.once(policy, times)
            full = replays.of(reference(policy), times)
            label = {"benchmark": benchmark, "method": method, "unit": str(policy.unit), "budget": policy.limit}
            label |= {"protocol": protocol, "verifier": verifier if depends_on_verifier(policy) else NONE}
            rows.append({**label, **summary(question_means(policy, pool, outcomes), outcomes, full)})
    if not rows:  # no method has a grid
        kept = ["benchmark", "method", "verifier", "unit", "budget", "protocol", "accuracy", "accuracy_low", "accuracy_high"]
        return pd.DataFrame(columns=kept)
    return pd.DataFrame(rows)


# Whom a rule on scores is held against, by how its display name begins: whatever stops at a score must beat the plain threshold.
RIVALS = {
    "OptScale": ("best-of-N", "self-consistency", "ASC", "score threshold", "Pandora", "Pandora by data"),
    "Pandora": ("best-of-N", "score threshold"),
}


def _rivals(method: str) -> tuple[str, ...]:
    return next((rivals for name, rivals in RIVALS.items() if method.startswith(name)), ())


def versus(policies: list[tuple[str, Policy]], replays: Replays, *, benchmark: str) -> pd.DataFrame:
    """Each rule of OptScale and Pandora against its rivals at the same budget: paired differences with intervals, and a word.

    `verdict`: beats, loses to (better in one of accuracy and completion tokens, worse in none, by 95 % intervals that leave
    out 0), trades with (better in one, worse in the other), is level with. unanswered and cut_off count the rule's own samples,
    rival_unanswered and rival_cut_off the other's.
    """
    problems = len(replays.pools[Unit.SAMPLE].problem_ids)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    lost = ("unanswered", "cut_off")
    shown = {rival for rivals in RIVALS.values() for rival in rivals}
    for method, policy in policies:
        if policy.unit is Unit.SAMPLE and (method in shown or _rivals(method)):
            outcomes = replays.of(policy)
            found[method, policy.limit] = {
                "accuracy": per_problem(outcomes.correct, outcomes, problems),
                "completion_tokens": per_problem(outcomes.ledger.completion, outcomes, problems),
                **{kind: getattr(outcomes, kind).mean() for kind in lost},
            }
    rows = []
    for (method, budget), mine in found.items():
        for rival in _rivals(method):
            if (rival, budget) not in found:
                continue
            row: dict[str, Any] = {"benchmark": benchmark, "method": method, "rival": rival, "budget": budget}
            signs = []
            for quantity, better in (("accuracy", 1), ("completion_tokens", -1)):
                within = SHARE if quantity == "accuracy" else None
                gap = paired_difference(mine[quantity], found[rival, budget][quantity], within)
                row |= {quantity: gap.mean, f"{quantity}_low": gap.low, f"{quantity}_high": gap.high}
                signs.append(better * (int(gap.low > 0) - int(gap.high < 0)))
            row["verdict"] = verdict(*signs)
            row |= {kind: float(mine[kind]) for kind in lost}
            row |= {f"rival_{kind}": float(found[rival, budget][kind]) for kind in lost}
            rows.append(row)
    ends = [f"{quantity}{end}" for quantity in ("accuracy", "completion_tokens") for end in ("", "_low", "_high")]
    columns = ["benchmark", "method", "rival", "budget", *ends, "verdict", *lost, *(f"rival_{kind}" for kind in lost)]
    return pd.DataFrame(rows, columns=columns).assign(protocol="calibrated")


def verdict(accuracy: int, tokens: int) -> str:
    """A word for two signs: 1 better, -1 worse, 0 not told apart."""
    if accuracy * tokens < 0:
        return "trades with"
    return {1: "beats", -1: "loses to", 0: "is level with"}[int(np.sign(accuracy + tokens))]


def number_of_samples(s_min: float, alpha: float, n_max: int) -> pd.DataFrame:
    """N* over a grid of mu and sigma."""
    mu, sigma = (v.ravel() for v in np.meshgrid(np.linspace(-0.2, 1.2, 141), np.geomspace(0.01, 1.0, 121), indexing="ij"))
    needed = truncnormal.samples_needed(s_min, alpha, truncnormal.known(mu, sigma), n_max)
    return pd.DataFrame({"mu": mu, "sigma": sigma, "needed": needed, "s_min": s_min, "alpha": alpha, "n_max": n_max})


# True parameters of the simulated questions: from unlikely to likely to score high, from narrow to the whole interval.
PARAMETERS = ((0.3, 0.1), (0.5, 0.1), (0.5, 0.3), (0.7, 0.2), (0.8, 0.05), (0.9, 0.3))
ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def simulated_pool(mu: float, sigma: float, rows: int, size: int, seed: int) -> Pool:
    """A pool of nothing but i.i.d. truncated normal scores; the questions' predictions are the true moments."""
    rng = np.random.default_rng(seed)
    score = truncnorm.rvs(-mu / sigma, (1 - mu) / sigma, mu, sigma, size=(rows, size), random_state=rng)
    mean, sd = truncnorm.mean(-mu / sigma, (1 - mu) / sigma, mu, sigma), truncnorm.std(-mu / sigma, (1 - mu) / sigma, mu, sigma)
    zero = np.zeros((rows, size), np.int64)
    return Pool(
        unit=Unit.SAMPLE,
        problem=np.arange(rows),
        problem_ids=tuple(str(i) for i in range(rows)),
        cluster=zero,
        correct=zero.astype(bool),
        score=score,
        completion_tokens=zero + 1,
        prompt_tokens=zero,
        cached_prompt_tokens=zero,
        verifier_tokens=zero,
        features={"score_mean": np.full(rows, mean), "score_sd": np.full(rows, sd)},
    )


def reached_confidence(*, rows: int, seed: int, n_max: int = 64) -> pd.DataFrame:
    """How often the best score reaches s_min where alpha was asked for: parameters known, and estimated by each rule.

    Each of PARAMETERS is simulated with s_min at its 90 % quantile, so that N* is at most 29 and the budget never binds with
    known parameters. The intervals are those of the simulation.
    """
    pools = [simulated_pool(mu, sigma, rows, n_max, seed + i) for i, (mu, sigma) in enumerate(PARAMETERS)]
    known = Calibration(
        moments=Moments(
            float(np.mean([p.features["score_mean"][0] for p in pools])),
            float(np.mean([p.features["score_mean"][0] ** 2 + p.features["score_sd"][0] ** 2 for p in pools])),
        )
    )
    rules = {
        "estimated: OptScale^0 (paper), 5 first": {"variant": "paper", "peek": 5},
        "estimated: OptScale^0 (paper), 20 first": {"variant": "paper", "peek": 20},
        "estimated: OptScale^0 (ours)": {"variant": "ours", "n0": 2.0},
        "estimated: OptScale^t (ours), true moments predicted": {"variant": "ours", "n0": 8.0, "predicted": True},
    }
    found = []
    for alpha in ALPHAS:
        results: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for (mu, sigma), pool in zip(PARAMETERS, pools, strict=True):
            s_min = float(truncnorm.ppf(0.9, -mu / sigma, (1 - mu) / sigma, mu, sigma))
            needed = int(truncnormal.samples_needed(s_min, alpha, truncnormal.known(mu, sigma), n_max)[0])
            drawn = {"known parameters": np.full(rows, needed)}
            for name, options in rules.items():
                policy = make_policy("optscale", s_min=s_min, alpha=alpha, n_max=n_max, **options).bind(known)
                drawn[name] = replay(policy, pool, orders=1).drawn
            for name, n in drawn.items():
                seen = np.arange(n_max) < n[:, None]
                results.setdefault(name, []).append(((pool.score >= s_min) & seen, n))
        for name, parts in results.items():
            reached = np.concatenate([hit.any(axis=1) for hit, _ in parts]).astype(float)
            share = mean_interval(reached, SHARE)
            samples = float(np.mean([n.mean() for _, n in parts]))
            found.append((name, alpha, share.mean, share.low, share.high, samples))
    return pd.DataFrame(found, columns=["rule", "alpha", "reached", "reached_low", "reached_high", "samples"])


def beside_published(main: pd.DataFrame, published: pd.DataFrame, column: str | None, same: bool) -> pd.DataFrame:
    """Every published row beside ours: accuracy (%), interval, difference, tokens, and tokens against best-of-N's at this budget.

    Args:
        main: main table rows of one benchmark; `published`: config/published.csv.
        column: the published benchmark (MATH500, ...); None where nothing was published, so that nothing stands beside ours.
        same: whether ours was measured on that benchmark with that model; elsewhere the difference would compare two models and
            is left out.
    """
    rows = []
    baseline = main[main["method"] == "best-of-N"].set_index("budget")["completion_tokens"]
    theirs = published[published["method"] == "best-of-N"].set_index("budget").get(f"{column}_tokens", pd.Series(dtype=float))
    for entry in published.to_dict("records"):
        n = entry["budget"]
        mine = main[(main["method"] == entry["method"]) & (main["budget"] == n)]
        values = mine.iloc[0] if len(mine) else None
        there, tokens = (entry.get(f"{column}_{quantity}", np.nan) for quantity in ("accuracy", "tokens"))
        row = {"method": entry["method"], "budget": n, "published on": column}
        for end in ("", "_low", "_high"):
            row[f"accuracy{end}"] = 100 * values[f"accuracy{end}"] if values is not None else np.nan
        row["published_accuracy"] = there
        row["difference"] = row["accuracy"] - there if same else np.nan
        row["completion_tokens"] = values["completion_tokens"] if values is not None else np.nan
        row["published_tokens"] = tokens
        row["share_of_best_of_n"] = row["completion_tokens"] / baseline.get(n, np.nan)
        row["published_share_of_best_of_n"] = tokens / theirs.get(n, np.nan)
        row |= {kind: values[kind] if values is not None else np.nan for kind in ("unanswered", "cut_off")}
        row["source"] = entry["source"]
        rows.append(row)
    return pd.DataFrame(rows)
