"""Every rule at the same budget: its price or threshold is searched on the calibration split until it spends that (ours).

A budget is a mean over questions: a rule may spend much on one and little on another. What is found is frozen, and what it spends
on other questions is measured there. Rules that have to see all questions at once are out of the protocol.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from itscale.data.records import Pool, Unit
from itscale.data.tables import NONE, OWN, interval_cells
from itscale.drivers.expectation import question_means, replayed
from itscale.drivers.limits import Limits, limit_setting, with_limit
from itscale.drivers.replay import replay
from itscale.policies import POLICIES, Rule, make_policy
from itscale.policies.calibration import Calibration
from itscale.policies.optscale import PUBLISHED_PEEKS
from itscale.policies.protocol import Policy, depends_on_verifier
from itscale.studies.methods import Method, within_pools
from itscale.theory.intervals import SHARE, mean_interval, paired_difference

ANSWERS = (1, 2, 4, 8)
# What a search may spend beyond the budget: a fixed N spends all of it, but for the lengths of its samples.
_ABOVE = 0.01
# Below this it is tried with a lower limit.
_BELOW = 0.02
_STEPS = 12


@dataclass(frozen=True, slots=True)
class Dial:
    """The setting of a rule that decides what it spends, from the `least` to the `most` that a search tries.

    `scale`: whole (numbers), even, ratio (equal factors), odds (equal steps of the log odds), span (ratio, in units of the span
    of the calibration split's scores, which may be of any scale), or score (a quantile of them).
    """

    setting: str
    scale: str
    least: float = 0.0
    most: float = 1.0

    def at(self, share: float, scores: np.ndarray | None) -> float | int:
        """The value at a share of the way from the cheapest to the dearest, 0 to 1."""
        if self.scale == "whole":
            return round(self.least + share * (self.most - self.least))
        if self.scale == "score":
            return float(np.interp(share, np.linspace(0, 1, len(scores)), scores))
        if self.scale in ("ratio", "span"):
            span = float(np.ptp(scores)) if self.scale == "span" else 1.0
            return float(span * self.least * (self.most / self.least) ** share)
        if self.scale == "odds":
            return float(special.expit((1 - share) * special.logit(self.least) + share * special.logit(self.most)))
        return float(self.least + share * (self.most - self.least))


_ERROR, _TARGET = ("odds", 0.49, 1e-9), ("odds", 0.01, 1 - 1e-6)
# The dial of every rule that has one. `most` of whole numbers is the pool's size.
DIALS: dict[str, Dial] = {
    **{name: Dial("n", "whole", 1) for name in ("best_of_n", "weighted_best_of_n", "cisc", "deepconf", "self_consistency")},
    **{name: Dial("n", "whole", 1) for name in ("majority_over_rounds", "best_scored_round")},
    "mr_thinking": Dial("rounds", "whole", 1),
    "asc_conf": Dial("share", "even", 0.01, 1.0),
    "esc": Dial("window", "whole", 1),
    "asc": Dial("threshold", "odds", 0.501, 1 - 1e-9),
    "dsc": Dial("threshold", "odds", 0.501, 1 - 1e-9),
    "score_threshold": Dial("s_min", "score"),
    "pandora": Dial("cost", "ratio", 0.5, 1e-6),
    "pandora_by_data": Dial("cost", "span", 1.0, 1e-6),
    **{name: Dial("s_min", *_TARGET) for name in ("optscale", "optscale_fitted", "optscale_predicted")},
    **{name: Dial("s_min", *_TARGET) for name in ("optscale_paper", "optscale_paper_predicted")},
    "vote_lead": Dial("lead", "whole", 1),
    **{name: Dial("eps", *_ERROR) for name in ("vote_posterior", "vote_heuristic", "vote_dirichlet", "vote_bayes")},
    "vote_certified": Dial("delta", "odds", 0.99, 1e-9),
    "vote_doubling": Dial("share", "even", 0.01, 1.0),
    "markovscale_zero": Dial("cost", "ratio", 0.5, 1e-6),
    "markovscale_map": Dial("cost", "ratio", 0.5, 1e-6),
    "markovscale_filter": Dial("tau", "odds", 0.01, 1 - 1e-9),
}
# And why the others have none.
WITHOUT = {
    "vote_ratio": "is vote_lead",
    "dsc_oracle": "reads what no live run knows",
    "first_answer": "spends one answer",
    "markovscale_gate": "spends what its rates say",
}


@dataclass(frozen=True, slots=True)
class Priced:
    """A rule whose dial was turned to a budget of `answers` mean answers; it spent `calibrated` completion tokens there.

    Counting rules spend by jumps: one that jumps over the budget has a lower limit, too.
    """

    rule: Rule
    answers: int
    budget: float
    setting: str
    value: float | int
    policy: Policy
    calibrated: float


def search(spend: Callable[[float], float], budget: float, distinct: int | None = None) -> tuple[float, float]:
    """Two shares of the way to the dearest setting: the last that spends at most the budget and a hundredth, and the next.

    By bisection: spending must not fall along the way. The first is 0 where even the cheapest spends more; both are 1 where the
    dearest spends less.

    Args:
        spend: mean spend at a share, 0 to 1.
        distinct: how many different settings there are on the way, where they are whole numbers.
    """
    most = (1 + _ABOVE) * budget
    if spend(1.0) <= most:
        return 1.0, 1.0
    low, high, steps = (0, distinct - 1, distinct - 1) if distinct is not None else (0, 2**_STEPS, 2**_STEPS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if spend(middle / steps) <= most else (low, middle)
    return low / steps, high / steps


def reads_scores(slug: str) -> bool:
    """Whether another verifier changes what a rule does."""
    return depends_on_verifier(make_policy(slug))


def mean_answer(pools: dict[Unit, Pool]) -> float:
    """Mean completion tokens of one answer: of a sample, else of a first round."""
    samples = pools.get(Unit.SAMPLE)
    if samples is None:
        return float(pools[Unit.ROUND].completion_tokens[:, 0].mean())
    return float(samples.completion_tokens.sum() / samples.have.sum())


def price_rules(
    pools: dict[Unit, Pool],
    known: Calibration,
    *,
    orders: int,
    seed: int,
    answers: Sequence[int] = ANSWERS,
    slugs: Sequence[str] = (),
) -> list[Priced]:
    """Every rule that these calibration pools allow, at each budget; other settings are those fixed beforehand.

    Args:
        slugs: these rules alone.
    """
    one = mean_answer(pools)
    found = []
    for slug, dial in DIALS.items():
        rule = POLICIES[slug]
        if (slugs and slug not in slugs) or not within_pools([Method(rule.name, slug)], pools)[0]:
            continue
        pool = pools[rule.policy.unit]
        for count in answers:
            if (limits := _limits(rule, pool, dial, count)) is not None:
                found.append(_priced(rule, dial, limits, pool, known, count, count * one, orders, seed))
    return found


def _limits(rule: Rule, pool: Pool, dial: Dial, answers: int) -> dict[str, Any] | None:
    """The limit of a rule for a budget; nothing where the dial itself is the limit, None where the rule has no fitting one.

    OptScale as published looks once, after a number of samples that goes with its limit: it has the least limit above the budget.
    """
    name = limit_setting(rule.policy)
    if name == dial.setting:
        return {}
    if rule.settings.get("variant") == "paper":
        fitting = [n for n in PUBLISHED_PEEKS if answers < n <= pool.size]
        return {name: min(fitting)} if fitting else None
    return {name: pool.size}


def _priced(
    rule: Rule,
    dial: Dial,
    limits: dict[str, Any],
    pool: Pool,
    known: Calibration,
    answers: int,
    budget: float,
    orders: int,
    seed: int,
) -> Priced:
    if dial.scale == "whole":
        dial = Dial(dial.setting, dial.scale, dial.least, pool.size)

    def policy(share: float) -> Policy:
        return make_policy(rule.slug, **limits, **{dial.setting: dial.at(share, known.scores)}).bind(known)

    @cache
    def spend(share: float) -> float:
        return float(np.mean(replay(policy(share), pool, orders=orders, seed=seed).ledger.completion))

    below, above = search(spend, budget, pool.size if dial.scale == "whole" else None)
    chosen, spent = policy(below), spend(below)
    if not 1 - _BELOW <= spent / budget <= 1 + _ABOVE and limits and not getattr(chosen, "limit_shapes", False):
        # It jumps over the budget: the dearer setting has its limit lowered until it fits.
        dearer, sizes = policy(above), np.arange(getattr(chosen, "n_min", 1), pool.size + 1)
        means = Limits(pool, orders=orders, seed=seed).of([dearer], sizes).completion.mean(axis=1)
        if len(fitting := np.flatnonzero(means <= (1 + _ABOVE) * budget)) and (spent > budget or means[fitting[-1]] > spent):
            chosen, spent = with_limit(dearer, int(sizes[fitting[-1]])), float(means[fitting[-1]])
    return Priced(rule, answers, budget, dial.setting, getattr(chosen, dial.setting), chosen, spent)


def at_budget(
    priced: Sequence[Priced], pools: dict[Unit, Pool], *, benchmark: str, orders: int, seed: int, verifier: str = OWN
) -> pd.DataFrame:
    """What rules do on other questions at the prices that the calibration split gave them; a row a rule and budget.

    Columns: answers, budget (completion tokens a question), setting, value, limit, calibrated and completion_tokens (spent there
    and here), total_tokens (with prompts), samples_drawn, of these unanswered and cut_off, accuracy, and its difference to the
    plurality of as many samples as the budget has answers, paired by question (NaN without samples); `spends`: within (5 % of
    the budget), less or more, here.
    """
    samples = pools.get(Unit.SAMPLE)

    @cache
    def plain(n: int) -> np.ndarray | None:
        if samples is None or n > samples.size:
            return None
        found = replay(make_policy("self_consistency", n=n), samples, orders=orders, seed=seed)
        return replayed(found, len(samples.problem_ids)).accuracy

    rows = []
    for each in priced:
        pool = pools.get(each.policy.unit)
        if pool is None or each.policy.limit > pool.size:
            continue
        outcomes = replay(each.policy, pool, orders=orders, seed=seed)
        # The expectation where a rule has one; differences are of replays in the same orders, which cancel.
        means, ordered = question_means(each.policy, pool, outcomes), replayed(outcomes, len(pool.problem_ids))
        beside = plain(each.answers)
        spent = mean_interval(means.ledger.completion)
        rows.append(
            {
                "benchmark": benchmark,
                "method": each.rule.name,
                "slug": each.rule.slug,
                "verifier": verifier if depends_on_verifier(each.policy) else NONE,
                "unit": str(each.policy.unit),
                "answers": each.answers,
                "budget": each.budget,
                "setting": each.setting,
                "value": each.value,
                "limit": each.policy.limit,
                "calibrated": each.calibrated,
                **spent.columns("completion_tokens"),
                **mean_interval(means.ledger.total).columns("total_tokens"),
                "spends": _said(spent.mean / each.budget),
                "samples_drawn": float(outcomes.drawn.mean()),
                **{kind: float(getattr(outcomes, kind).mean()) for kind in ("unanswered", "cut_off")},
                **mean_interval(means.accuracy, SHARE).columns("accuracy"),
                **(
                    paired_difference(ordered.accuracy, beside, SHARE).columns("difference")
                    if beside is not None
                    else dict.fromkeys(("difference", "difference_low", "difference_high"), np.nan)
                ),
            }
        )
    return pd.DataFrame(rows)


def _said(share: float) -> str:
    """Whether a rule spent its budget, here."""
    return "within" if abs(share - 1) <= 0.05 else "less" if share < 1 else "more"


def budget_markdown(table: pd.DataFrame) -> str:
    """The same for people: a table a benchmark and budget, the most accurate rule first."""
    parts = [
        "# One budget, every rule",
        "A rule's price or threshold (*setting*) was searched on the calibration split until it spent the budget, a mean over "
        "questions, there; one that jumps over it has a lower *limit*. Then both were frozen. *Spent* is what it took on these "
        "questions, in completion tokens a question; *total* adds prompts, verifier and predictor. *Against votes*: paired "
        "difference to the plurality of as many samples as the budget has answers. Brackets: 95 % intervals over questions.",
    ]
    for (benchmark, answers), rows in table.groupby(["benchmark", "answers"], sort=False):
        rows = rows.sort_values("accuracy", ascending=False, kind="stable").reset_index(drop=True)
        shown = pd.DataFrame(
            {
                "rule": rows["method"],
                "verifier": rows["verifier"],
                "setting": [f"{name}={value:.4g}" for name, value in zip(rows["setting"], rows["value"], strict=True)],
                "limit": rows["limit"],
                "samples": rows["samples_drawn"].map("{:.1f}".format),
                "unanswered, cut off": [f"{u:.2g}, {c:.2g}" for u, c in zip(rows["unanswered"], rows["cut_off"], strict=True)],
                "on calibration": rows["calibrated"].map("{:.0f}".format),
                "spent": interval_cells(rows, "completion_tokens", 1, 0),
                "": rows["spends"].replace("within", ""),
                "total": rows["total_tokens"].map("{:.0f}".format),
                "accuracy (%)": interval_cells(rows, "accuracy", 100, 1),
                "against votes (points)": interval_cells(rows, "difference", 100, 1),
            }
        )
        counted = f"{answers} answer{'s' if answers > 1 else ''}, {rows['budget'][0]:.0f} completion tokens a question"
        parts.append(f"## {benchmark}: {counted}\n\n{shown.to_markdown(index=False, disable_numparse=True)}")
    return "\n\n".join(parts) + "\n"
