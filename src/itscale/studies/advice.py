"""Which rule, with which settings? Answered from a calibration file, or from stored pools.

Every rule that the pools allow is replayed once per setting, and that tells of every limit (drivers/limits.py). A question has no
say in what a rule knows beforehand: for the questions of each fold it is bound to the other folds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from itscale.data.ledger import Ledger, Price
from itscale.data.records import Pool, Unit
from itscale.drivers.limits import Limits, limit_setting, with_limit
from itscale.drivers.replay import refuse_misfit, replay
from itscale.errors import UserError
from itscale.policies import POLICIES, find_rule, make_policy
from itscale.policies.calibration import Calibration
from itscale.policies.frozen import frozen_policies, known_to_json
from itscale.policies.protocol import Policy
from itscale.studies.calibrate import known_from_pools
from itscale.studies.criterion import EXPLAINED, Choice, Criterion, Verdict, choose
from itscale.studies.grids import COARSE, GRIDS, fixed_beforehand
from itscale.studies.methods import Method
from itscale.studies.promise import HeldOut, promised_error
from itscale.theory.intervals import SHARE, Interval, mean_interval, paired_difference, ratio_interval

# Rules that another one in the list is under another name.
SAME = {"vote_ratio": "vote_lead", "first_answer": "mr_thinking"}
# Where released code knows how many scores to fit.
_PUBLISHED_LIMITS = (8, 16, 32, 64)
# Without other orders every question is replayed so often that there are about so many replays, within these ends.
_REPLAYS, _ORDERS = 300, (2, 10)
# A point of the frontier gains at least this over the one before.
_STEP = 0.01


def named_policy(name: str, settings: dict[str, Any], calibration: dict[str, Any] | None) -> Policy:
    """A policy ready to run: with the hyperparameters of a calibration file where there is one, else with the usual ones.

    Args:
        name: of a policy, or of a method of the calibration file; of several budgets the last is taken.
        settings: win over what the calibration file or the usual settings say.
        calibration: content of what `itscale calibrate` or `itscale advise` wrote.

    Raises:
        UserError: there is no such policy or setting, or the policy needs a calibration that nobody gives.
    """
    if calibration is None:
        policy = make_policy(name, **settings)
        return _refuse_unbound(name, policy.bind(Calibration()))
    rule = find_rule(name)
    names = {name, rule.slug} if rule else {name}
    found = [
        (entry, policy)
        for entry, (method, policy) in zip(calibration["methods"], frozen_policies(calibration), strict=True)
        if names & {method, entry["slug"], entry["policy"]}
        and settings.items() <= {**entry["settings"], **entry["hyperparameters"]}.items()
    ]
    if not found:
        methods = ", ".join(dict.fromkeys(entry["method"] for entry in calibration["methods"]))
        raise UserError(f"the calibration has no method {name!r} with these settings: it has {methods}.")
    return found[-1][1]


def _refuse_unbound(name: str, policy: Policy) -> Policy:
    """Policies say that they need a calibration when they first decide; here that is before anything is drawn."""
    pool = Pool(
        policy.unit,
        problem=np.zeros(1, np.int64),
        problem_ids=("p",),
        cluster=np.zeros((1, policy.limit), np.int64),
        correct=np.zeros((1, policy.limit), bool),
        score=np.linspace(0.1, 0.2, policy.limit)[None],
        **dict.fromkeys(
            ("completion_tokens", "prompt_tokens", "cached_prompt_tokens", "verifier_tokens"),
            np.ones((1, policy.limit), np.int64),
        ),
        features=dict.fromkeys(policy.needs_features, np.full(1, 0.5)),
    )
    try:
        replay(policy, pool, orders=1)
    except (ValueError, AttributeError) as error:
        raise UserError(f"policy {name!r} needs statistics of a calibration split ({error}): give --calibration.") from None
    return policy


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the accuracy of `same_as` for less, or a wanted `accuracy`, or the most for a `budget`; one is given."""

    same_as: Policy | None = None
    accuracy: float | None = None
    budget: float | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting of a rule under N limits, per question: accuracy, samples and cost [N, P]; and means over questions [N]."""

    method: str
    slug: str
    hyperparameters: Mapping[str, Any]
    policy: Policy  # bound to all questions
    limits: np.ndarray
    accuracy: np.ndarray
    drawn: np.ndarray
    cost: np.ndarray
    unanswered: np.ndarray  # [N], of the samples drawn
    cut_off: np.ndarray  # [N]

    def settings(self, row: int) -> dict[str, Any]:
        """Of one limit, as `make_policy` takes them."""
        name, own = limit_setting(self.policy), POLICIES[self.slug].settings
        return {**self.hyperparameters, **({} if name in own else {name: int(self.limits[row])})}


@dataclass(frozen=True, slots=True)
class Advice:
    """`answers`: a row a rule, the best first; `frontier`: no other has as much for less; `curves`: each rule's own frontier.

    Rows have rule, method, settings, samples, of these unanswered and cut_off, and per question cost, saving, accuracy and
    difference (to the baseline), each of these four with _low and _high. `saving` and `difference` are those of the choice made
    on the other folds.
    """

    answers: pd.DataFrame
    frontier: pd.DataFrame
    curves: pd.DataFrame
    baseline: dict[str, Any]
    choice: Choice
    saving: Interval
    difference: Interval
    left_out: Mapping[str, str]
    record: dict[str, Any] = field(repr=False)


class Advisor:
    """Replays of all rules over pools of the same questions, one a kind, from which questions are answered.

    Raises:
        UserError: the pools are of different questions, or of too few.
    """

    def __init__(
        self,
        pools: dict[Unit, Pool],
        methods: list[Method] | None = None,
        *,
        price: Price | None = None,
        folds: int = 5,
        orders: int | None = None,
        seed: int = 0,
    ) -> None:
        ids = {pool.problem_ids for pool in pools.values()}
        if len(ids) > 1:
            raise UserError("the samples and the chains are of different questions: give one of them with --pool.")
        problems = len(ids.pop())
        if problems < 4:
            raise UserError(f"a pool of {problems} problem(s) cannot be split to check an advice: give one of at least 4.")
        folds = min(folds, problems // 2)
        orders = orders or min(max(_REPLAYS // problems, _ORDERS[0]), _ORDERS[1])
        self.pools, self.price, self.orders, self.seed = pools, price, orders, seed
        self.fold = np.random.default_rng(seed).permutation(problems) % folds
        self._limits = {unit: Limits(pool, orders=orders, seed=seed, fold=self.fold) for unit, pool in pools.items()}
        outside = [{unit: pool.subset(self.fold[pool.problem] != k) for unit, pool in pools.items()} for k in range(folds)]
        self.known = [known_from_pools(part, strata=4, strength=10.0) for part in (*outside, pools)]
        self.tried, self.left_out = list[Tried](), dict[str, str]()
        for method in methods or every_rule():
            reason = self._refusal(POLICIES[method.policy].policy, method)
            if reason:
                self.left_out[method.slug] = reason
            elif tried := list(self._try(method)):
                self.tried += tried
            else:
                self.left_out[method.slug] = "needs more samples a question"
        if not self.tried:
            raise UserError("none of the methods can be replayed on this pool: give others with --methods.")

    def _refusal(self, policy: type, method: Method) -> str:
        """Why a rule cannot be tried on these pools; empty if it can."""
        if getattr(policy, "replay_only", False):
            return "reads what no live run knows"
        if policy.unit not in self.pools:
            return "needs chains" if policy.unit is Unit.ROUND else "needs parallel samples"
        if method.policy in SAME:
            return f"is {SAME[method.policy]}"
        try:
            policy = make_policy(method.policy, **method.settings)
        except UserError as error:
            return str(error)
        pool = self.pools[policy.unit]
        if policy.needs_scores and np.isnan(pool.score).all():
            return "needs scores"
        if lacking := set(policy.needs_features) - set(pool.features):
            return f"needs predictions of {', '.join(sorted(lacking))}"
        return ""

    def _try(self, method: Method) -> Iterator[Tried]:
        for settings in method.variants():
            for values in product(*method.grid.values()):
                yield from self._measure(method, {**settings, **dict(zip(method.grid, values, strict=True))})

    def _measure(self, method: Method, settings: dict[str, Any]) -> Iterator[Tried]:
        """Replay one setting under every limit, or that which it names; nothing where the pool is too small for it."""
        rule = POLICIES[method.policy]
        name, pool = limit_setting(rule.policy), self.pools[rule.policy.unit]
        own = {**rule.settings, **settings}
        policy = make_policy(rule.slug, **settings)
        if name in own:
            limits = np.array([own[name]])
        elif getattr(policy, "limit_shapes", False):
            limits = np.array(_PUBLISHED_LIMITS)
        else:
            limits = np.arange(getattr(policy, "n_min", 1), pool.size + 1)
        limits = limits[limits <= pool.size]
        if not len(limits):
            return
        policy = with_limit(policy, int(limits.max()))
        bound = [policy.bind(known) for known in self.known]
        spent = self._limits[policy.unit].of(bound[:-1], limits)
        paid = Ledger(prompt=spent.prompt, cached_prompt=spent.cached_prompt, completion=spent.completion)
        cost = spent.completion if self.price is None else self.price.dollars(paid)
        chosen = {key: value for key, value in settings.items() if key != name}
        found = (values.astype(np.float32) for values in (spent.accuracy, spent.drawn, cost))
        lost = (values.mean(axis=1) for values in (spent.unanswered, spent.cut_off))
        yield Tried(method.name, rule.slug, chosen, bound[-1], limits, *found, *lost)

    def answer(self, question: Question) -> Advice:
        """What is asked, of all rules and of each.

        Raises:
            UserError: the baseline counts what the pools lack, or more than they have.
        """
        base = self._baseline(question.same_as)
        table = _Table(self.tried)
        everything = np.ones(len(self.fold), bool)
        picks = {rule: table.pick(rows, question, base, everything) for rule, rows in table.rules().items()}
        best = table.best(picks, question)
        held = [np.zeros(len(self.fold)) for _ in range(2)]
        for k in range(len(self.known) - 1):
            rest, inside = self.fold != k, self.fold == k
            each = {rule: table.pick(rows, question, base, rest) for rule, rows in table.rules().items()}
            row = table.best(each, question)
            held[0][inside], held[1][inside] = table.accuracy[row][inside], table.cost[row][inside]
        order = sorted(picks, key=lambda rule: (rule != table.method[best], *table.rank(picks[rule], question)))
        answers = [{**table.describe(picks[rule].index, base), "verdict": _words(picks[rule], question, table)} for rule in order]
        curves = [table.describe(row, base) for rows in table.rules().values() for row in table.frontier(rows)]
        frontier = [table.describe(row, base) for row in table.frontier(np.arange(len(table.method)))]
        chosen = [picks[rule].index for rule in order]
        saving = ratio_interval(held[1], base.cost)
        return Advice(
            answers=pd.DataFrame(answers),
            frontier=pd.DataFrame(frontier),
            curves=pd.DataFrame(curves),
            baseline={**base.row, "questions": len(self.fold)},
            choice=picks[table.method[best]],
            saving=Interval(1 - saving.mean, 1 - saving.high, 1 - saving.low),
            difference=paired_difference(held[0], base.accuracy, SHARE),
            left_out=self.left_out,
            record=self._record(table, chosen),
        )

    def promises(self, answers: pd.DataFrame) -> list[tuple[str, float, Interval]]:
        """Of the rows of an advice that promise an error: rule, promise, and error of its stops on held-out samples."""
        rules = [(row["rule"], make_policy(row["rule"], **row["settings"])) for _, row in answers.iterrows()]
        promising = [(rule, policy, error) for rule, policy in rules if (error := promised_error(policy)) is not None]
        if not promising:
            return []
        held_out = HeldOut(self.pools[Unit.SAMPLE], self.orders, self.seed)
        return [(rule, error, held_out.error(policy, self.known[-1])) for rule, policy, error in promising]

    def needs_known(self, row: Mapping[str, Any]) -> bool:
        """Whether the rule of a row of the advice reads statistics of these pools, so that `solve` wants them."""
        policy = make_policy(row["rule"], **row["settings"])
        return policy.bind(self.known[-1]) is not policy

    def _baseline(self, policy: Policy | None) -> "_Base":
        """The fixed N that everything is compared with: as asked, else the largest of the pool, by score where there are any."""
        if policy is None:
            pool = self.pools.get(Unit.SAMPLE) or self.pools[Unit.ROUND]
            name = "self_consistency" if pool.unit is Unit.SAMPLE else "mr_thinking"
            policy = make_policy(name, **{limit_setting(POLICIES[name].policy): pool.size})
        if policy.unit not in self.pools:
            raise UserError(f"--same-as counts {policy.unit}s and the pool has none: give a rule of what it has.")
        fits = (r for r in POLICIES.values() if r.policy is type(policy))
        fits = (r for r in fits if all(getattr(policy, key) == value for key, value in r.settings.items()))
        rule = max(fits, key=lambda r: len(r.settings))
        settings = {name: getattr(policy, name) for name in (limit_setting(policy), *GRIDS.get(rule.slug, {}))}
        refuse_misfit(policy, self.pools[policy.unit])
        (tried,) = self._measure(Method(rule.name, rule.slug, settings), settings)
        row = {"rule": rule.slug, "method": rule.name, "settings": settings}
        row |= {
            "samples": float(tried.drawn.mean()),
            "unanswered": float(tried.unanswered[0]),
            "cut_off": float(tried.cut_off[0]),
        }
        row |= mean_interval(tried.cost[0]).columns("cost")
        return _Base(tried.accuracy[0], tried.cost[0], row | mean_interval(tried.accuracy[0], SHARE).columns("accuracy"))

    def _record(self, table: "_Table", rows: list[int]) -> dict[str, Any]:
        """The answers as `itscale calibrate` writes its own, for `solve --calibration` and `Stopper.from_advice`."""
        entries = [
            {
                "method": table.method[row],
                "slug": table.slug[row],
                "policy": table.slug[row],
                "settings": {},
                "hyperparameters": table.settings(row),
                "candidates": [],
            }
            for row in dict.fromkeys(rows)
        ]
        criterion = EXPLAINED[Criterion.INTERVAL]
        return {
            "criterion": criterion,
            "known": known_to_json(self.known[-1]),
            "advice": entries[0]["method"],
            "methods": entries,
        }


def every_rule(*, thorough: bool = False) -> list[Method]:
    """Every rule with its grid; the grids of rules that take long are whole if `thorough`."""
    grids = GRIDS if thorough else {**GRIDS, **COARSE}
    return [Method(rule.name, rule.slug, grid=grids.get(rule.slug, {})) for rule in POLICIES.values()]


@dataclass(frozen=True, slots=True)
class _Base:
    """Accuracy and cost [P] of the baseline, and its row."""

    accuracy: np.ndarray
    cost: np.ndarray
    row: dict[str, Any]


class _Table:
    """All settings under all limits, one a row: accuracy and cost [C, P]."""

    def __init__(self, tried: list[Tried]) -> None:
        self.tried = tried
        self.accuracy, self.cost = (np.concatenate([getattr(t, name) for t in tried]) for name in ("accuracy", "cost"))
        self.drawn = np.concatenate([t.drawn.mean(axis=1) for t in tried])
        self.unanswered, self.cut_off = (np.concatenate([getattr(t, name) for t in tried]) for name in ("unanswered", "cut_off"))
        sizes = [len(t.limits) for t in tried]
        self._of = np.repeat(np.arange(len(tried)), sizes)
        self._row = np.concatenate([np.arange(size) for size in sizes])
        self.method, self.slug = ([getattr(tried[i], name) for i in self._of] for name in ("method", "slug"))

    def settings(self, row: int) -> dict[str, Any]:
        return self.tried[self._of[row]].settings(self._row[row])

    def rules(self) -> dict[str, np.ndarray]:
        """The rows of each method."""
        names = np.array(self.method)
        return {name: np.flatnonzero(names == name) for name in dict.fromkeys(self.method)}

    def pick(self, rows: np.ndarray, question: Question, base: _Base, asked: np.ndarray) -> Choice:
        """The best of some rows for a question, by the problems `asked` [P] alone."""
        accuracy, cost = self.accuracy[rows][:, asked], self.cost[rows][:, asked].mean(axis=1)
        if question.accuracy is None and question.budget is None:
            found = choose(accuracy - base.accuracy[asked], cost, fixed=self._fixed(rows))
            return Choice(int(rows[found.index]), found.verdict, found.excluded)
        mean = accuracy.mean(axis=1)
        if question.budget is not None:
            inside = cost <= question.budget
            order = np.lexsort((cost, -np.round(mean, 6), ~inside)) if inside.any() else np.argsort(cost)
            met = bool(inside.any())
        else:
            inside = mean >= question.accuracy
            order = np.lexsort((cost, ~inside)) if inside.any() else np.lexsort((cost, -mean))
            met = bool(inside.any())
        return Choice(int(rows[order[0]]), Verdict.AS_GOOD if met else Verdict.WORSE, 0.0)

    def _fixed(self, rows: np.ndarray) -> int | None:
        """The place among the rows of the setting that was fixed beforehand, under the largest limit."""
        wanted = fixed_beforehand(self.slug[rows[0]])
        return next((i for i in range(len(rows) - 1, -1, -1) if wanted.items() <= self.settings(rows[i]).items()), None)

    def rank(self, choice: Choice, question: Question) -> tuple[float, ...]:
        """What comes first among the picks of several rules."""
        mean, cost = float(self.accuracy[choice.index].mean()), float(self.cost[choice.index].mean())
        verdicts = list(Verdict).index(choice.verdict)
        return (
            (verdicts, -mean, cost) if question.budget is not None or choice.verdict is Verdict.WORSE else (verdicts, cost, -mean)
        )

    def best(self, picks: dict[str, Choice], question: Question) -> int:
        """The row of the best pick."""
        return min(picks.values(), key=lambda choice: self.rank(choice, question)).index

    def frontier(self, rows: np.ndarray) -> list[int]:
        """Rows, cheapest first, that are more accurate by a step than every cheaper one."""
        mean, cost, found, best = self.accuracy[rows].mean(axis=1), self.cost[rows].mean(axis=1), [], -np.inf
        for i in np.lexsort((-mean, cost)):
            if mean[i] >= best + _STEP:
                found.append(int(rows[i]))
                best = mean[i]
        return found

    def describe(self, row: int, base: _Base) -> dict[str, Any]:
        """A row of the advice."""
        accuracy, cost = self.accuracy[row].astype(float), self.cost[row].astype(float)
        share = ratio_interval(cost, base.cost)
        return {
            "rule": self.slug[row],
            "method": self.method[row],
            "settings": self.settings(row),
            "samples": float(self.drawn[row]),
            "unanswered": float(self.unanswered[row]),
            "cut_off": float(self.cut_off[row]),
            **mean_interval(cost).columns("cost"),
            **Interval(1 - share.mean, 1 - share.high, 1 - share.low).columns("saving"),
            **mean_interval(accuracy, SHARE).columns("accuracy"),
            **paired_difference(accuracy, base.accuracy, SHARE).columns("difference"),
        }


def _words(choice: Choice, question: Question, table: _Table) -> str:
    """What is said of a pick beside its numbers."""
    if question.budget is not None:
        return "" if choice.verdict is Verdict.AS_GOOD else "beyond the budget"
    if question.accuracy is not None:
        return "" if choice.verdict is Verdict.AS_GOOD else "does not reach it"
    return "" if choice.verdict is Verdict.AS_GOOD else str(choice.verdict)
