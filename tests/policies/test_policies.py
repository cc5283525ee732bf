"""Every policy against a plain loop over one sequence, and the promises that all of them make."""

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from itscale.data.records import Problem, Unit, join_by_key, make_pool
from itscale.drivers.replay import replay
from itscale.errors import UserError
from itscale.grading.clusters import grade_table
from itscale.policies import POLICIES, make_policy
from itscale.policies.markovscale import fit_first_score, fit_strata
from itscale.policies.protocol import CODE, Reason
from itscale.theory import emissions, markov, truncnormal
from pools import KNOWN, random_pool

TOKENS = ("completion_tokens", "prompt_tokens", "cached_prompt_tokens", "verifier_tokens")

SETTINGS = {
    "best_of_n": {"n": 8},
    "weighted_best_of_n": {"n": 8},
    "self_consistency": {"n": 8},
    "cisc": {"n": 8, "temperature": 0.1},
    "deepconf": {"n": 12, "keep": 0.25},
    "asc_conf": {"n_max": 16, "share": 0.7},
    "esc": {"n_max": 16, "window": 3},
    "asc": {"n_max": 16, "threshold": 0.9},
    "dsc": {"n_max": 16, "threshold": 0.9, "sample_window": 3},
    "dsc_oracle": {"n_max": 16, "threshold": 0.9, "sample_window": 3},
    "score_threshold": {"s_min": 0.75, "n_max": 16},
    "pandora": {"cost": 0.02, "n_max": 16},
    "pandora_by_data": {"cost": 0.005, "n_max": 16, "n0": 2.0, "bonus": 0.5},
    "optscale": {"s_min": 0.8, "alpha": 0.9, "n_max": 16},
    "vote_lead": {"lead": 3, "n_max": 16},
    "vote_ratio": {"ratio": 50.0, "n_max": 16},
    "vote_posterior": {"eps": 0.05, "n_max": 16},
    "vote_heuristic": {"eps": 0.05, "n_max": 16},
    "vote_dirichlet": {"eps": 0.1, "n_max": 16, "alpha": 0.5},
    "vote_bayes": {"eps": 0.1, "n_max": 16},
    "vote_certified": {"delta": 0.3, "n_max": 16},
    "vote_doubling": {"n_max": 14},
    "mr_thinking": {"rounds": 5},
    "majority_over_rounds": {"n": 6},
    "best_scored_round": {"n": 6},
    "markovscale_gate": {"rounds": 16},
    "markovscale_zero": {"rounds": 16, "cost": 0.01},
    "markovscale_map": {"rounds": 16, "cost": 0.01, "strength": 30.0},
    "markovscale_filter": {"rounds": 5, "tau": 0.9, "cost": 0.02},
}
CASES = [
    *SETTINGS.items(),
    ("vote_posterior", {"eps": 0.05, "n_max": 16, "n_min": 5, "p0": 0.5, "options": 4}),
    ("optscale_paper", {"s_min": 0.8, "alpha": 0.9, "n_max": 16}),
    ("optscale_paper_predicted", {"s_min": 0.8, "alpha": 0.9, "n_max": 16}),
    ("optscale_fitted", {"s_min": 0.8, "alpha": 0.9, "n_max": 16}),
    ("optscale_predicted", {"s_min": 0.8, "alpha": 0.9, "n_max": 16, "n0": 3.0, "growth": 1.0}),
    ("first_answer", {}),
    ("pandora", {"cost": 0.02, "n_max": 16, "predicted": True, "n0": 4.0}),
    ("esc", {"n_max": 16, "window": 5}),
    ("asc", {"n_max": 16, "threshold": 0.9, "n_min": 4, "chunk": 3}),
    ("vote_doubling", {"n_max": 16, "n_min": 3, "share": 0.5}),
    ("markovscale_zero", {"rounds": 8}),
    ("markovscale_filter", {"rounds": 4, "tau": 1.0}),
]
REASONS = list(Reason)
XS = np.linspace(0, 60, 3001)
FIXED = {
    "best_of_n": "best",
    "weighted_best_of_n": "weighted",
    "cisc": "softmax",
    "deepconf": "surest",
    "self_consistency": "votes",
    "first_answer": "last",
    "mr_thinking": "last",
    "majority_over_rounds": "votes",
    "best_scored_round": "best",
}


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


def prior_of(options, predicted):
    """Mean and mean square of the pseudo-samples: predicted where they can be, else the calibration split's."""
    if options.get("predicted") and not np.isnan([predicted["score_mean"], predicted["score_sd"]]).any():
        m = predicted["score_mean"]
        return m, m**2 + min(predicted["score_sd"], 0.999 * np.sqrt(m * (1 - m))) ** 2
    return KNOWN.moments.mean, KNOWN.moments.mean_square


def pooled_fits(scores, n0, prior):
    """The fits to the first scores, one for each number of them."""
    count, known = n0 + np.cumsum(~np.isnan(scores)), np.nan_to_num(scores)
    return truncnormal.fit((np.cumsum(known) + n0 * prior[0]) / count, (np.cumsum(known**2) + n0 * prior[1]) / count)


def pooled_fit(scores, n0, prior):
    scores = scores[~np.isnan(scores)]
    count, total, square = len(scores) + n0, scores.sum() + n0 * prior[0], (scores**2).sum() + n0 * prior[1]
    return truncnormal.fit(np.array([total / count]), np.array([square / count]))


def needed(scores, options, prior):
    """N* of a list of scores."""
    s_min, alpha, n_max = options["s_min"], options["alpha"], options["n_max"]
    scores = scores[~np.isnan(scores)]
    if options.get("variant") == "fitted":  # the beta of the same moments
        n0 = options.get("n0", 1.0)
        mean, square = ((n0 * p + (scores**k).sum()) / (n0 + len(scores)) for k, p in enumerate(prior, 1))
        strength = mean * (1 - mean) / (square - mean**2) - 1
        below = stats.beta.cdf(s_min, mean * strength, (1 - mean) * strength)
        return next(n for n in range(1, n_max + 1) if n == n_max or 1 - below**n >= alpha - 1e-12)
    if options.get("variant") != "paper":
        fit = pooled_fit(scores, options.get("n0", 1.0), prior)
    elif options.get("predicted"):
        moments = (np.array([v]) for v in (len(scores), scores.mean(), (scores**2).mean()))
        fit = truncnormal.fit_with_normal_prior(*moments, prior[0], np.sqrt(prior[1] - prior[0] ** 2))
    elif len(scores) == 0:
        return n_max
    else:
        fit = truncnormal.fit(np.array([scores.mean()]), np.array([(scores**2).mean()]))
    return int(truncnormal.samples_needed(s_min, alpha, fit, n_max)[0])


@cache
def trusted(name, given, counts):
    """Whether a vote stops, from its options as pairs and its counts in descending order."""
    options = dict(given)
    lead = counts[0] - (counts[1] if len(counts) > 1 else 0)
    if name == "vote_lead":
        return lead >= options["lead"]
    if name == "asc":
        return stats.beta.sf(0.5, counts[0] + 1, counts[0] - lead + 1) >= options["threshold"]
    if name == "vote_bayes":
        first, second, rest = counts[0], counts[0] - lead, sum(counts) - 2 * counts[0] + lead
        chances = np.zeros(2)  # that the leader is another answer than the mode, or the mode
        for shares, weight in zip(KNOWN.types.shares, KNOWN.types.weight, strict=True):
            for names in permutations(shares):
                chances[int(names[0] == max(shares))] += weight * names[0] ** first * names[1] ** second * sum(names[2:]) ** rest
        return chances[1] / chances.sum() >= 1 - options["eps"]
    p0 = options.get("p0", KNOWN.votes.p0)
    m = options.get("options", KNOWN.votes.options) if name != "vote_heuristic" else len(counts) + 1
    r = p0 / ((1 - p0) / (m - 1))
    if name == "vote_ratio":
        return r**lead >= options["ratio"] * (1 - 1e-9)
    unseen = max(m - len(counts), 0)
    if name == "vote_dirichlet":
        shapes = [options["alpha"] + v for v in counts] + [options["alpha"]] * unseen
        below = np.prod([special.gammainc(a, XS) for a in shapes[1:]], axis=0)
        return np.trapezoid(stats.gamma.pdf(XS, shapes[0]) * below, XS) >= 1 - options["eps"]
    return r > 1 and r ** counts[0] / (sum(r**v for v in counts) + unseen) >= 1 - options["eps"]


def certified(cluster, delta):
    """Whether the leader's mixture of bets on it, theta from 1/2 to 1, has won enough for its place among the answers."""
    seen = [c for c in cluster.tolist() if c >= 0]
    if not seen:
        return False
    answers = list(dict.fromkeys(seen))
    leader = max(answers, key=lambda c: (seen.count(c), -answers.index(c)))
    rival = max((seen.count(c) for c in answers if c != leader), default=0)
    angle = np.linspace(np.pi / 4, np.pi / 2, 4001)  # theta = sin^2: the density of Beta(1/2, 1/2) is flat in it
    won = (2 * np.sin(angle) ** 2) ** (seen.count(leader) - 1) * (2 * np.cos(angle) ** 2) ** rival
    place = 1 + answers.index(leader)
    return np.trapezoid(won, angle) * 4 / np.pi >= place * (place + 1) / delta


def weighted(cluster, score, n):
    weight = {}
    for c, s in zip(cluster[:n].tolist(), score[:n], strict=True):
        if c >= 0:
            weight[c] = weight.get(c, 0.0) + (0.0 if np.isnan(s) else s)
    return cluster.tolist().index(max(weight, key=weight.get)) if weight else -1


def softmax_vote(cluster, score, n, temperature):
    usable = [i for i in range(n) if cluster[i] >= 0 and not np.isnan(score[i])]
    if not usable:
        return weighted(cluster, np.zeros(n), n)
    share = np.full(n, np.nan)
    share[usable] = special.softmax(score[usable] / temperature)
    return weighted(cluster, share, n)


def surest(cluster, score, n, keep):
    usable = sorted((i for i in range(n) if cluster[i] >= 0 and not np.isnan(score[i])), key=lambda i: -score[i])
    kept = usable[: int(np.ceil(keep * len(usable) - 1e-9))]
    return weighted(np.array([c if i in kept else -1 for i, c in enumerate(cluster[:n])]), score, n)


def asc(cluster, threshold, n_max):
    """Samples until the beta posterior is sure, and whether it is."""
    for n in range(1, n_max + 1):
        counts = sorted(Counter(c for c in cluster[:n].tolist() if c >= 0).values(), reverse=True)
        first, second = [*counts, 0, 0][:2]
        if stats.beta.sf(0.5, first + 1, second + 1) >= threshold:
            return n, True
    return n_max, False


def first_answer(cluster, score):
    """Stratum and P(correct) of a first answer."""
    s = score if not np.isnan(score) else -1.0
    stratum = [s >= edge for edge in KNOWN.strata.edges].count(True)
    return stratum, 0.0 if cluster < 0 else float(np.interp(s, KNOWN.first_score.knots, KNOWN.first_score.value))


def density(log_table, score):
    if np.isnan(score):
        return 1.0
    x = min(max(score, emissions.EDGE), 1 - emissions.EDGE)
    return float(np.exp(np.interp(np.log(x / (1 - x)), np.log(emissions.GRID / (1 - emissions.GRID)), log_table)))


def depth(p0, a, b, cost, rounds):
    """Rounds to draw in all, and why, by trying every depth."""
    transition = np.array([[1 - a, a], [b, 1 - b]])
    values = [(np.array([p0, 1 - p0]) @ np.linalg.matrix_power(transition, t))[0] - cost * t for t in range(rounds)]
    n = 1 + next(t for t, v in enumerate(values) if v >= max(values) - 1e-12)
    return n, {1: Reason.KEPT_FIRST, rounds: Reason.ALL_ROUNDS}.get(n, Reason.DEPTH)


def plain_filter(options, cluster, score):
    """The filter by enumeration of all paths of right and wrong."""
    known, stratum = KNOWN.rounds, first_answer(cluster[0], score[0])[0]
    strata = KNOWN.strata
    a = (strata.n_cw[stratum] + 0.5) / (strata.n_c[stratum] + 1)
    b = (strata.n_wc[stratum] + 0.5) / (strata.n_w[stratum] + 1)
    fresh = known.log_correct, known.log_wrong
    again = [emissions.normalise(known.exponent * table) for table in fresh]

    def move(before, after, changed):
        if before:
            return (0.0 if changed else 1 - a) if after else (a if changed else 0.0)
        return (b if changed else 0.0) if after else (1 - b) * (known.q if changed else 1 - known.q)

    def paths(n):
        found = {}
        for path in product((True, False), repeat=n):
            weight = 1.0
            for t, right in enumerate(path):
                changed = t > 0 and cluster[t] != cluster[t - 1]
                weight *= (known.p0 if right else 1 - known.p0) if t == 0 else move(path[t - 1], right, changed)
                if cluster[t] < 0:
                    weight *= not right
                else:
                    weight *= density((fresh if t == 0 or changed else again)[not right], score[t])
            found[path] = weight
        total = sum(found.values())
        return {path: weight / total for path, weight in found.items()}

    def right_at(found, s):
        return sum(weight for path, weight in found.items() if path[s])

    grid, width = emissions.GRID[::4], emissions.weights(emissions.GRID[::4])
    for n in range(1, options["rounds"] + 1):
        found = paths(n)
        posterior = [right_at(found, s) if cluster[s] >= 0 else -1.0 for s in range(n)]
        best = max(max(posterior), 0.0)
        expected = 0.0
        for changed, tables in ((False, again), (True, fresh)):
            tables = [np.exp(np.asarray(table)[::4]) / (np.exp(np.asarray(table)[::4]) @ width) for table in tables]
            joint = np.zeros((n + 1, len(grid)))
            for path, weight in found.items():
                for right in (True, False):
                    mass = weight * move(path[-1], right, changed) * tables[not right]
                    joint += np.array([*path, right])[:, None] * mass
            expected += joint.max(axis=0) @ width
        column = int(np.argmax(posterior)) if max(posterior) >= 0 else -1
        if best >= options["tau"]:
            return n, column, Reason.POSTERIOR
        if expected - best < options.get("cost", 0.0) - 1e-9:
            return n, column, Reason.NO_GAIN
    return n, column, Reason.LIMIT


def plain(name, options, cluster, score, predicted):
    options = {**POLICIES[name].settings, **options}
    if name in FIXED:
        n = options.get("n") or options["rounds"]
        column = {
            "best": best(cluster, score, n),
            "weighted": weighted(cluster, score, n),
            "softmax": softmax_vote(cluster, score, n, options.get("temperature", 1.0)),
            "surest": surest(cluster, score, n, options.get("keep", 0.1)),
            "votes": majority(cluster, n),
            "last": n - 1 if cluster[n - 1] >= 0 else -1,
        }
        return n, column[FIXED[name]], Reason.FIXED
    if name == "markovscale_gate":
        stratum, p0 = first_answer(cluster[0], score[0])
        a, b = KNOWN.strata.a[stratum], KNOWN.strata.b[stratum]
        n = options["rounds"] if p0 < b / (a + b) else 1
        return n, n - 1 if cluster[n - 1] >= 0 else -1, Reason.ALL_ROUNDS if n > 1 else Reason.KEPT_FIRST
    if name in ("markovscale_zero", "markovscale_map"):
        stratum, p0 = first_answer(cluster[0], score[0])
        rates = {"a": KNOWN.strata.a[stratum], "b": KNOWN.strata.b[stratum]}
        if name == "markovscale_map":
            for rate, moves, left in (("a", KNOWN.strata.n_cw, KNOWN.strata.n_c), ("b", KNOWN.strata.n_wc, KNOWN.strata.n_w)):
                if not np.isnan(predicted[rate]):
                    k = options["strength"]
                    rates[rate] = (moves[stratum] + k * predicted[rate]) / (left[stratum] + k)
            prior = KNOWN.rounds.p0 if np.isnan(predicted["p0"]) else predicted["p0"]
            right = prior * density(KNOWN.rounds.log_correct, score[0])
            p0 = 0.0 if cluster[0] < 0 else right / (right + (1 - prior) * density(KNOWN.rounds.log_wrong, score[0]))
        n, reason = depth(p0, rates["a"], rates["b"], options.get("cost", 0.0), options["rounds"])
        return n, n - 1 if cluster[n - 1] >= 0 else -1, reason
    if name == "markovscale_filter":
        return plain_filter(options, cluster, score)
    n_max = options["n_max"]
    if name == "score_threshold":
        for n in range(1, n_max + 1):
            if cluster[n - 1] >= 0 and score[n - 1] >= options["s_min"]:
                return n, best(cluster, score, n), Reason.THRESHOLD
        return n_max, best(cluster, score, n_max), Reason.LIMIT
    if name == "asc_conf":
        for n in range(options.get("n_min", 3), n_max + 1):
            weight = Counter()
            for c, s in zip(cluster[:n].tolist(), score[:n], strict=True):
                weight[c] += 0.0 if np.isnan(s) else s
            if max((w for c, w in weight.items() if c >= 0), default=0) >= options["share"] * weight.total() > 0:
                return n, weighted(cluster, score, n), Reason.SHARE
        return n_max, weighted(cluster, score, n_max), Reason.LIMIT
    if name == "pandora_by_data":
        for n in range(1, n_max + 1):
            column = best(cluster, score, n)
            if column < 0:
                continue
            seen = int((~np.isnan(score[:n])).sum())
            excess = np.maximum(KNOWN.scores - score[column], 0.0)
            values = np.concatenate([excess, np.zeros(seen)])
            weight = np.concatenate([np.full(len(excess), options["n0"] / len(excess)), np.ones(seen)])
            mean = np.average(values, weights=weight)
            spread = np.sqrt(np.average((values - mean) ** 2, weights=weight) / weight.sum())
            if mean + options["bonus"] * spread <= options["cost"]:
                return n, column, Reason.RESERVATION
        return n_max, best(cluster, score, n_max), Reason.LIMIT
    if name == "vote_doubling":
        n = min(options.get("n_min", 2), n_max)
        while True:
            counts = Counter(c for c in cluster[:n].tolist() if c >= 0)
            if counts and max(counts.values()) >= options.get("share", 0.75) * n:
                return n, majority(cluster, n), Reason.SHARE
            if n == n_max:
                return n, majority(cluster, n), Reason.LIMIT
            n = min(2 * n, n_max)
    if name == "vote_certified":
        stops = (n for n in range(1, n_max + 1) if certified(cluster[:n], options["delta"]))
        n = next(stops, None)
        return n or n_max, majority(cluster, n or n_max), Reason.CONFIDENT if n else Reason.LIMIT
    if name == "asc" or name.startswith("vote_"):
        for n in [*range(options.get("n_min", 1), n_max, options.get("chunk", 1)), n_max]:
            counts = sorted(Counter(c for c in cluster[:n].tolist() if c >= 0).values(), reverse=True)
            if counts and trusted(name, tuple(options.items()), tuple(counts)):
                return n, majority(cluster, n), Reason.LEAD if name in ("vote_lead", "vote_ratio") else Reason.CONFIDENT
        return n_max, majority(cluster, n_max), Reason.LIMIT
    if name == "esc":
        for n in range(options["window"], n_max + 1, options["window"]):
            window = cluster[n - options["window"] : n].tolist()
            if -1 not in window and len(set(window)) == 1:
                return n, majority(cluster, n), Reason.UNANIMOUS
        return n_max, majority(cluster, n_max), Reason.LIMIT
    if name in ("dsc", "dsc_oracle"):
        if name == "dsc":  # 13 of the 14 easy and 11 of the 12 hard ones have a whole window on their side
            difficulty, easy, hard = 1 - predicted["score_mean"], 12 / 40, 29 / 40
        elif name == "dsc_oracle":
            difficulty, easy, hard = 1 - np.nanmean(score), 0.2 + 12 / 80, 0.2 + 29 / 80
        if difficulty <= easy:
            return 1, majority(cluster, 1), Reason.EASY
        if difficulty >= hard:
            return n_max, majority(cluster, n_max), Reason.HARD
        n, sure = asc(cluster, options["threshold"], n_max)
        return n, majority(cluster, n), Reason.CONFIDENT if sure else Reason.LIMIT
    prior = prior_of(options, predicted)
    if name == "pandora":
        fits = pooled_fits(score[:n_max], options.get("n0", 1.0), prior)
        reservations = truncnormal.reservation(options["cost"], fits.e1, fits.e2)
        for n in range(1, n_max):
            answered = [s for c, s in zip(cluster[:n], score[:n], strict=True) if c >= 0 and not np.isnan(s)]
            if max([0.0, *answered]) >= reservations[n - 1]:
                return n, best(cluster, score, n), Reason.RESERVATION
        return n_max, best(cluster, score, n_max), Reason.LIMIT
    if options.get("variant") == "paper":
        n = max(5, needed(score[:5], options, prior))
        return n, best(cluster, score, n), Reason.ENOUGH if n < n_max else Reason.LIMIT
    n = 1
    while True:
        want = needed(score[:n], options, prior)
        if n >= want:
            return n, best(cluster, score, n), Reason.ENOUGH
        if n == n_max:
            return n, best(cluster, score, n), Reason.LIMIT
        growth = options.get("growth", 1.25)
        n = min(want, n + 1 if n < 4 or growth == 1 else int(np.ceil(growth * n)), n_max)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("seed", range(4))
def test_a_replay_does_what_the_plain_rule_does(name, options, seed):
    pool = random_pool(seed, rows=30)
    outcomes = run(name, options, pool)
    for i in range(pool.rows):
        predicted = {feature: values[i] for feature, values in pool.features.items()}
        expected = plain(name, options, pool.cluster[i], pool.score[i], predicted)
        got = int(outcomes.drawn[i]), int(outcomes.column[i]), REASONS[outcomes.reason[i]]
        assert got == expected, (i, pool.cluster[i], pool.score[i])


@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] != "dsc_oracle"])
def test_what_lies_beyond_the_samples_drawn_changes_nothing(name, options):
    pool = random_pool(5, rows=30)
    before = run(name, options, pool)
    hidden = np.arange(pool.size) >= before.drawn[:, None]
    other = random_pool(6, rows=30)
    changed = replace(
        pool,
        cluster=np.where(hidden, other.cluster, pool.cluster),
        score=np.where(hidden, other.score, pool.score),
    )
    after = run(name, options, changed)
    assert (before.drawn == after.drawn).all() and (before.column == after.column).all()


@pytest.fixture(scope="module")
def graded_twice():
    """Texts of a pool, graded against their gold answers and against the same answers shuffled: two pools."""
    pool = random_pool(7, rows=30)
    table = pd.DataFrame(
        [
            {
                "problem_id": f"p{i:02d}",
                "chain": 0,
                "round": 0,
                "sample": k,
                "text": f"So it is $\\boxed{{{pool.cluster[i, k]}}}$." if pool.cluster[i, k] >= 0 else "No idea.",
                "score_mean": pool.score[i, k],
                **{name: getattr(pool, name)[i, k] for name in TOKENS},
            }
            for i in range(pool.rows)
            for k in range(pool.size)
        ]
    )
    gold = np.arange(pool.rows) % 3
    pools = []
    for answers in (gold, np.random.default_rng(0).permutation(gold)):
        problems = [Problem(f"p{i:02d}", "q", str(answer)) for i, answer in enumerate(answers)]
        found = make_pool(join_by_key(table, grade_table(table, problems), "grades"), Unit.SAMPLE)
        pools.append(replace(found, features=pool.features))
    return pools


def test_shuffled_gold_answers_change_verdicts_and_no_cluster(graded_twice):
    one, two = graded_twice
    assert (one.cluster == two.cluster).all() and (one.cluster == random_pool(7, rows=30).cluster).all()
    assert (one.correct != two.correct).mean() > 0.1


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gold_answers_change_no_decision(name, options, graded_twice):
    one, two = (run(name, options, pool, orders=3) for pool in graded_twice)
    assert (one.drawn == two.drawn).all() and (one.column == two.column).all() and (one.reason == two.reason).all()
    assert (one.correct != two.correct).any()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_rows_do_not_touch_each_other(name, options):
    pool = random_pool(8, rows=10)
    whole = run(name, options, pool)
    for i in range(pool.rows):
        alone = run(name, options, pool.subset(np.array([i])))
        assert (alone.drawn[0], alone.column[0]) == (whole.drawn[i], whole.column[i])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_votes_counted_in_chunks_overshoot_and_nothing_else(seed, chunk):
    pool = random_pool(seed, rows=6)
    one, many = (run("vote_lead", {"lead": 2, "n_max": 16, "chunk": k}, pool) for k in (1, chunk))
    stopped = one.reason == CODE[Reason.LEAD]
    assert (many.drawn >= one.drawn).all()
    assert (many.drawn[~stopped] == 16).all()


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


def test_strata_are_quantiles_and_hold_the_rates_of_their_chains():
    rng = np.random.default_rng(0)
    pool = random_pool(11, rows=600, unit=Unit.ROUND, chains=4)
    weak = np.repeat(np.arange(150) % 2 == 0, 4)
    score = pool.score.copy()
    score[:, 0] = np.where(weak, 0.2, 0.8) + rng.uniform(-0.1, 0.1, 600)
    correct = markov.simulate(np.where(weak, 0.2, 0.8), np.where(weak, 0.4, 0.1), np.where(weak, 0.1, 0.5), 16, rng)
    known = fit_strata(replace(pool, score=score, correct=correct), 2)
    assert known.edges == pytest.approx([0.5], abs=0.25)
    assert known.a == pytest.approx([0.4, 0.1], abs=0.04) and known.b == pytest.approx([0.1, 0.5], abs=0.04)
    n_c, n_cw, n_w, n_wc = (counts.sum() for counts in markov.transition_counts(correct))
    assert (known.n_c.sum(), known.n_cw.sum(), known.n_w.sum(), known.n_wc.sum()) == (n_c, n_cw, n_w, n_wc)


def test_first_score_says_how_often_such_answers_are_correct():
    rng = np.random.default_rng(1)
    pool = random_pool(12, rows=4000, size=2, unit=Unit.ROUND)
    score, cluster = rng.uniform(size=(4000, 2)), np.zeros((4000, 2), int)
    correct = rng.random((4000, 2)) < score**2
    known = fit_first_score(replace(pool, score=score, cluster=cluster, correct=correct), 5.0)
    x = np.linspace(0.1, 0.9, 9)
    assert known.of(x, np.zeros(9, int)) == pytest.approx(x**2, abs=0.07)
    assert (np.diff(known.value) >= 0).all()
    assert known.of(np.array([0.9, np.nan]), np.array([-1, 0])).tolist() == [0.0, known.value[0]]


def test_map_without_a_prediction_is_zero_with_bayes_first_score():
    pool = replace(random_pool(13, rows=200), unit=Unit.ROUND)
    blank = replace(pool, features={name: np.full(200, np.nan) for name in pool.features})
    policies = [make_policy("markovscale_map", rounds=8, cost=0.01, strength=k).bind(KNOWN) for k in (0.0, 1e6)]
    one, two = (replay(policy, blank) for policy in policies)
    assert (one.drawn == two.drawn).all()
    strong = replay(
        policies[1], replace(pool, features={"p0": np.full(200, 0.5), "a": np.full(200, 1e-9), "b": np.full(200, 0.9)})
    )
    assert (strong.drawn >= 2).mean() > 0.95  # all but the surest first answers


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("best_of_m", {}, "no policy 'best_of_m'"),
        ("score_threshold", {"smin": 0.5, "n_max": 4}, "no setting 'smin'"),
        ("optscale", {"s_min": 0.5, "alpha": 1.5, "n_max": 4}, "alpha"),
        ("optscale", {"s_min": 0.5, "alpha": 0.5, "n_max": 4, "variant": "official"}, "choose paper, ours or fitted"),
        ("vote_posterior", {"eps": 5.0, "n_max": 4}, "between 0 and 1"),
        ("vote_posterior", {"eps": 0.1, "n_max": 4, "p0": 0.2, "options": 4}, "must exceed 1/options"),
        ("vote_ratio", {"ratio": 0.5, "n_max": 4}, "exceed 1"),
        ("vote_lead", {"lead": 2, "n_max": 4, "n_min": 9}, "n_min <= n_max"),
        ("vote_asc", {"n_max": 4}, "now called 'asc'"),
        ("asc", {"n_max": 4, "threshold": 0.5}, "threshold of asc"),
        ("vote_doubling", {"n_max": 4, "share": 1.5}, "share of vote_doubling"),
        ("vote_bayes", {"n_max": 4, "eps": 0.0}, "eps of vote_bayes"),
        ("cisc", {"temperature": 0.0}, "temperature of cisc"),
        ("deepconf", {"keep": 0.0}, "keep of deepconf"),
        ("asc_conf", {"share": 1.1}, "share of asc_conf"),
        ("asc_conf", {"n_max": 4, "n_min": 9}, "n_min <= n_max"),
        ("pandora_by_data", {"cost": 0.0}, "cost of pandora_by_data"),
        ("vote_certified", {"n_max": 4, "delta": 5.0}, "delta of vote_certified"),
        ("optscale", {"s_min": 0.5, "alpha": 0.5, "n_max": 4, "n0": -1.0}, "n0 of optscale"),
        ("markovscale_zero", {"rounds": 4, "cost": -1.0}, "cost of markovscale_zero"),
        ("markovscale_map", {"rounds": 4, "strength": -1.0}, "strength of markovscale_map"),
        ("markovscale_filter", {"rounds": 4, "tau": 0.0}, "tau of markovscale_filter"),
    ],
)
def test_a_wrong_setting_is_named(name, options, message):
    with pytest.raises(UserError, match=message):
        make_policy(name, **options)


COUNTS = [
    *((name, {}, "n") for name in ("best_of_n", "weighted_best_of_n", "self_consistency", "majority_over_rounds")),
    ("best_scored_round", {}, "n"),
    ("mr_thinking", {}, "rounds"),
    ("esc", {}, "n_max"),
    ("esc", {"n_max": 8}, "window"),
    ("asc", {}, "n_max"),
    ("dsc", {}, "n_max"),
    ("dsc", {"n_max": 8}, "sample_window"),
    ("dsc_oracle", {"n_max": 8}, "judge_window"),
    ("score_threshold", {"s_min": 0.5}, "n_max"),
    ("pandora", {"cost": 0.1}, "n_max"),
    ("optscale", {"s_min": 0.5, "alpha": 0.5}, "n_max"),
    ("optscale", {"s_min": 0.5, "alpha": 0.5, "n_max": 8, "variant": "paper"}, "peek"),
    ("vote_lead", {"n_max": 8}, "lead"),
    *(("asc", {"n_max": 8}, setting) for setting in ("n_min", "chunk")),
    ("vote_doubling", {}, "n_max"),
    ("cisc", {}, "n"),
    ("deepconf", {}, "n"),
    ("asc_conf", {"n_max": 8}, "n_min"),
    ("pandora_by_data", {}, "n_max"),
    *((name, {}, "rounds") for name in ("markovscale_gate", "markovscale_zero", "markovscale_map", "markovscale_filter")),
]


ANY_SCALE = ("best_of_n", "cisc", "score_threshold", "pandora_by_data", "best_scored_round")
UNIT = ("optscale", "pandora", "markovscale_map", "markovscale_filter")
WEIGHTS = ("weighted_best_of_n", "deepconf", "asc_conf")


@pytest.mark.parametrize("name", [*ANY_SCALE, *UNIT, *WEIGHTS])
def test_scores_of_another_scale_do_the_same_or_are_refused_in_a_sentence(name):
    """Logits in place of probabilities: what compares scores does not mind, what computes with them says so."""
    pool = random_pool(14, rows=30)
    options = {**SETTINGS[name]}
    if name in ANY_SCALE:
        moved = replace(pool, score=8 * pool.score - 6)
        one = run(name, options, pool)
        for setting in {"s_min"} & set(options):
            options[setting] = 8 * options[setting] - 6
        for setting in {"cost", "temperature"} & set(options):
            options[setting] *= 8
        policy = make_policy(name, **options).bind(replace(KNOWN, scores=8 * KNOWN.scores - 6))
        two = replay(policy, replace(moved, unit=policy.unit), orders=1)
        assert (one.drawn == two.drawn).all() and (one.column == two.column).all()
        return
    with pytest.raises(UserError, match="takes scores for "):
        run(name, options, replace(pool, score=pool.score - 0.9))
    larger = replace(pool, score=3 * pool.score)
    if name in UNIT:
        with pytest.raises(UserError, match="numbers from 0 to 1"):
            run(name, options, larger)
    else:
        assert (run(name, options, larger).column == run(name, options, pool).column).all()


@pytest.mark.parametrize("value", [0, -3, 2.5])
@pytest.mark.parametrize(("name", "options", "setting"), COUNTS)
def test_a_number_of_samples_is_a_whole_one_of_at_least_1(name, options, setting, value):
    with pytest.raises(UserError, match=f"^{setting} of .* is {value}: it is a number of samples") as found:
        make_policy(name, **options, **{setting: value})
    assert str(found.value).count(".") - str(value).count(".") == 1
    make_policy(name, **options, **{setting: 8})
