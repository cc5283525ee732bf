"""Every policy against a plain loop over one sequence, and the promises that all of them make."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from itscale import markov, truncnormal
from itscale.errors import UserError
from itscale.policies import POLICIES, make_policy
from itscale.policies.markovscale import fit_strata
from itscale.policies.protocol import CODE, Reason
from itscale.records import Unit
from itscale.replay import replay
from pools import KNOWN, random_pool

SETTINGS = {
    "best_of_n": {"n": 8},
    "self_consistency": {"n": 8},
    "threshold": {"s_min": 0.75, "n_max": 16},
    "optscale": {"s_min": 0.8, "alpha": 0.9, "n_max": 16},
    "vote_lead": {"lead": 3, "n_max": 16},
    "vote_ratio": {"ratio": 50.0, "n_max": 16},
    "vote_posterior": {"eps": 0.05, "n_max": 16},
    "vote_heuristic": {"eps": 0.05, "n_max": 16},
    "vote_dirichlet": {"eps": 0.1, "n_max": 16, "alpha": 0.5},
    "mr_thinking": {"rounds": 5},
    "gate": {"rounds": 16},
}
CASES = [
    *SETTINGS.items(),
    ("vote_posterior", {"eps": 0.05, "n_max": 16, "n_min": 5, "p0": 0.5, "options": 4}),
    ("optscale", {"variant": "paper", "s_min": 0.8, "alpha": 0.9, "n_max": 16}),
]
REASONS = list(Reason)
GRID = np.linspace(0, 60, 3001)


def run(name, options, pool, orders=1, seed=0):
    policy = make_policy(name, **options).bind(KNOWN)
    return replay(policy, replace(pool, unit=policy.unit), orders=orders, seed=seed)


def test_every_registered_policy_is_tested():
    assert {name for name, _ in CASES} == set(POLICIES)


# The same rules, written as plainly as can be: (columns used, column returned, reason) of one row.


def best(cluster, score, n):
    usable = [i for i in range(n) if cluster[i] >= 0 and not np.isnan(score[i])]
    return max(usable, key=lambda i: score[i]) if usable else -1


def majority(cluster, n):
    votes = [c for c in cluster[:n].tolist() if c >= 0]
    return cluster.tolist().index(Counter(votes).most_common(1)[0][0]) if votes else -1


def needed(scores, s_min, alpha, n_max, prior=()):
    """N* of a list of scores; `prior` holds weight, mean and mean square of pseudo-samples."""
    scores = scores[~np.isnan(scores)]
    count, total, square = len(scores), scores.sum(), (scores**2).sum()
    if prior:
        count, total, square = count + prior[0], total + prior[0] * prior[1], square + prior[0] * prior[2]
    if count == 0:
        return n_max
    fit = truncnormal.fit(np.array([total / count]), np.array([square / count]))
    return int(truncnormal.samples_needed(s_min, alpha, fit, n_max)[0])


def trusted(name, options, counts):
    """Whether a vote stops, from its counts in descending order."""
    lead = counts[0] - (counts[1] if len(counts) > 1 else 0)
    if name == "vote_lead":
        return lead >= options["lead"]
    p0 = options.get("p0", KNOWN.votes.p0)
    m = options.get("options", KNOWN.votes.options) if name != "vote_heuristic" else len(counts) + 1
    r = p0 / ((1 - p0) / (m - 1))
    if name == "vote_ratio":
        return r**lead >= options["ratio"] * (1 - 1e-9)
    unseen = max(m - len(counts), 0)
    if name == "vote_dirichlet":
        shapes = [options["alpha"] + v for v in counts] + [options["alpha"]] * unseen
        below = np.prod([stats.gamma.cdf(GRID, a) for a in shapes[1:]], axis=0)
        return np.trapezoid(stats.gamma.pdf(GRID, shapes[0]) * below, GRID) >= 1 - options["eps"]
    return r > 1 and r ** counts[0] / (sum(r**v for v in counts) + unseen) >= 1 - options["eps"]


def plain(name, options, cluster, score):
    if name in ("best_of_n", "self_consistency", "mr_thinking"):
        n = options.get("n") or options["rounds"]
        column = {"best_of_n": best(cluster, score, n), "self_consistency": majority(cluster, n)}
        return n, column.get(name, n - 1 if cluster[n - 1] >= 0 else -1), Reason.FIXED
    if name == "gate":
        s = score[0] if not np.isnan(score[0]) else -np.inf
        stratum = int((s >= KNOWN.strata.edges).sum())
        a, b, p0 = KNOWN.strata.a[stratum], KNOWN.strata.b[stratum], KNOWN.strata.p0[stratum]
        n = options["rounds"] if p0 < b / (a + b) else 1
        return n, n - 1 if cluster[n - 1] >= 0 else -1, Reason.ALL_ROUNDS if n > 1 else Reason.KEPT_FIRST
    n_max = options["n_max"]
    if name == "threshold":
        for n in range(1, n_max + 1):
            if cluster[n - 1] >= 0 and score[n - 1] >= options["s_min"]:
                return n, best(cluster, score, n), Reason.THRESHOLD
        return n_max, best(cluster, score, n_max), Reason.LIMIT
    if name.startswith("vote_"):
        for n in range(options.get("n_min", 1), n_max + 1):
            counts = sorted(Counter(c for c in cluster[:n].tolist() if c >= 0).values(), reverse=True)
            if counts and trusted(name, options, counts):
                return n, majority(cluster, n), Reason.LEAD if name in ("vote_lead", "vote_ratio") else Reason.CONFIDENT
        return n_max, majority(cluster, n_max), Reason.LIMIT
    if options.get("variant") == "paper":
        n = max(5, needed(score[:5], options["s_min"], options["alpha"], n_max))
        return n, best(cluster, score, n), Reason.ENOUGH if n < n_max else Reason.LIMIT
    n = 1
    while True:
        want = needed(score[:n], options["s_min"], options["alpha"], n_max, (1.0, KNOWN.moments.mean, KNOWN.moments.mean_square))
        if n >= want:
            return n, best(cluster, score, n), Reason.ENOUGH
        if n == n_max:
            return n, best(cluster, score, n), Reason.LIMIT
        n = min(want, n + 1 if n < 4 else int(np.ceil(1.25 * n)), n_max)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("seed", range(4))
def test_a_replay_does_what_the_plain_rule_does(name, options, seed):
    pool = random_pool(seed, rows=30)
    outcomes = run(name, options, pool)
    for i in range(pool.rows):
        expected = plain(name, options, pool.cluster[i], pool.score[i])
        got = int(outcomes.used[i]), int(outcomes.column[i]), REASONS[outcomes.reason[i]]
        assert got == expected, (i, pool.cluster[i], pool.score[i])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_what_lies_beyond_the_samples_used_changes_nothing(name, options):
    pool = random_pool(5, rows=30)
    before = run(name, options, pool)
    hidden = np.arange(pool.size) >= before.used[:, None]
    other = random_pool(6, rows=30)
    changed = replace(
        pool,
        cluster=np.where(hidden, other.cluster, pool.cluster),
        score=np.where(hidden, other.score, pool.score),
    )
    after = run(name, options, changed)
    assert (before.used == after.used).all() and (before.column == after.column).all()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gold_answers_change_no_decision(name, options):
    pool = random_pool(7, rows=30)
    shuffled = replace(pool, correct=np.random.default_rng(0).permutation(pool.correct.ravel()).reshape(pool.correct.shape))
    one, two = run(name, options, pool, orders=3), run(name, options, shuffled, orders=3)
    assert (one.used == two.used).all() and (one.column == two.column).all() and (one.reason == two.reason).all()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_rows_do_not_touch_each_other(name, options):
    pool = random_pool(8, rows=10)
    whole = run(name, options, pool)
    for i in range(pool.rows):
        parts = {f.name: getattr(pool, f.name)[[i]] for f in fields(pool) if isinstance(getattr(pool, f.name), np.ndarray)}
        parts |= {"problem": np.zeros(1, int), "problem_ids": ("p",)}
        alone = run(name, options, replace(pool, **parts))
        assert (alone.used[0], alone.column[0]) == (whole.used[i], whole.column[i])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_votes_counted_in_chunks_overshoot_and_nothing_else(seed, chunk):
    pool = random_pool(seed, rows=6)
    one, many = (run("vote_lead", {"lead": 2, "n_max": 16, "chunk": k}, pool) for k in (1, chunk))
    stopped = one.reason == CODE[Reason.LEAD]
    assert (many.used >= one.used).all()
    assert (many.used[~stopped] == 16).all()


def test_no_policy_answers_with_an_unanswered_sample():
    pool = random_pool(9, rows=30)
    for name, options in CASES:
        outcomes = run(name, options, pool, orders=4)
        picked = outcomes.column >= 0
        rows = np.repeat(np.arange(30), len(picked) // 30)
        assert (pool.cluster[rows[picked], outcomes.column[picked]] >= 0).all()


def test_no_sample_with_an_answer_is_no_answer():
    pool = random_pool(10, rows=3)
    blank = replace(pool, cluster=np.full_like(pool.cluster, -1), correct=np.zeros_like(pool.correct))
    for name, options in CASES:
        assert (run(name, options, blank).column == -1).all(), name


def test_strata_are_quantiles_with_shrunken_rates():
    pool = random_pool(11, rows=40, unit=Unit.ROUND)
    known = fit_strata(pool, 4, 10.0)
    first = np.nan_to_num(pool.score[:, 0], nan=-np.inf)
    stratum = np.searchsorted(known.edges, first, side="right")
    n_c, n_cw, _, _ = markov.transition_counts(pool.correct)
    overall = n_cw.sum() / n_c.sum()
    for s in range(len(known.edges) + 1):
        inside = stratum == s
        expected = (n_cw[inside].sum() + 10 * overall) / (n_c[inside].sum() + 10)
        assert known.a[s] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("best_of_m", {}, "no policy 'best_of_m'"),
        ("threshold", {"smin": 0.5, "n_max": 4}, "no setting 'smin'"),
        ("threshold", {"n_max": 4}, "s_min"),
        ("optscale", {"s_min": 0.5, "alpha": 1.5, "n_max": 4}, "alpha"),
        ("optscale", {"s_min": 0.5, "alpha": 0.5, "n_max": 4, "variant": "official"}, "choose paper or ours"),
        ("vote_posterior", {"eps": 5.0, "n_max": 4}, "between 0 and 1"),
        ("vote_posterior", {"eps": 0.1, "n_max": 4, "p0": 0.2, "options": 4}, "must exceed 1/options"),
        ("vote_ratio", {"ratio": 0.5, "n_max": 4}, "exceed 1"),
        ("vote_lead", {"lead": 2, "n_max": 4, "n_min": 9}, "n_min <= n_max"),
    ],
)
def test_a_wrong_setting_is_named(name, options, message):
    with pytest.raises(UserError, match=message):
        make_policy(name, **options)
