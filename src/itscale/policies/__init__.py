"""The registry: every rule by its slug and its display name.

Both are accepted wherever a rule is named: in the configuration, on the command line, in `make_policy`. Tables show both.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from itscale.errors import UserError
from itscale.policies.consistency import DifficultyAdaptive, DifficultyOracle, EarlyStopping
from itscale.policies.fixed import BestOfN, MultiRoundThinking, SelfConsistency, WeightedBestOfN
from itscale.policies.markovscale import Gate, Map, Zero
from itscale.policies.optpo import VoteDirichlet, VoteHeuristic, VoteLead, VotePosterior, VoteRatio
from itscale.policies.optscale import OptScale, Pandora, ScoreThreshold
from itscale.policies.protocol import Policy
from itscale.policies.rounds import BestScoredRound, Filter, MajorityOverRounds
from itscale.policies.votes import Adaptive, Doubling


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as people name it: `slug` in files and commands, `name` in tables and figures; `settings` make it this rule."""

    slug: str
    name: str
    policy: type
    settings: Mapping[str, Any] = field(default_factory=dict)


_PAPER, _PREDICTED = {"variant": "paper"}, {"predicted": True}

POLICIES: dict[str, Rule] = {
    rule.slug: rule
    for rule in (
        Rule("best_of_n", "best-of-N", BestOfN),
        Rule("weighted_best_of_n", "weighted best-of-N", WeightedBestOfN),
        Rule("self_consistency", "self-consistency", SelfConsistency),
        Rule("esc", "ESC", EarlyStopping),
        Rule("asc", "ASC", Adaptive),
        Rule("dsc", "DSC", DifficultyAdaptive),
        Rule("dsc_oracle", "DSC (oracle, replay only)", DifficultyOracle),
        Rule("score_threshold", "score threshold", ScoreThreshold),
        Rule("pandora", "Pandora", Pandora),
        Rule("optscale", "OptScale^0 (ours)", OptScale, {"variant": "ours"}),
        Rule("optscale_predicted", "OptScale^t (ours)", OptScale, {"variant": "ours", **_PREDICTED}),
        Rule("optscale_paper", "OptScale^0 (paper)", OptScale, _PAPER),
        Rule("optscale_paper_predicted", "OptScale^t (paper)", OptScale, {**_PAPER, **_PREDICTED}),
        Rule("vote_lead", "OptPO vote lead", VoteLead),
        Rule("vote_ratio", "OptPO ratio", VoteRatio),
        Rule("vote_posterior", "OptPO posterior", VotePosterior),
        Rule("vote_heuristic", "OptPO heuristic", VoteHeuristic),
        Rule("vote_dirichlet", "Dirichlet vote", VoteDirichlet),
        Rule("vote_doubling", "doubling vote", Doubling),
        Rule("first_answer", "first answer", MultiRoundThinking, {"rounds": 1}),
        Rule("mr_thinking", "MR-Thinking", MultiRoundThinking),
        Rule("majority_over_rounds", "majority over rounds", MajorityOverRounds),
        Rule("best_scored_round", "best-scored round", BestScoredRound),
        Rule("markovscale_gate", "MarkovScale gate", Gate),
        Rule("markovscale_zero", "MarkovScale^0", Zero),
        Rule("markovscale_map", "MarkovScale^t", Map),
        Rule("markovscale_filter", "MarkovScale filter (ours)", Filter),
    )
}


# Names of before, which are an error that says the new one.
RENAMED = {
    "vote_asc": "asc",
    "threshold": "score_threshold",
    "reservation": "pandora",
    "gate": "markovscale_gate",
    "zero": "markovscale_zero",
    "map": "markovscale_map",
    "filter": "markovscale_filter",
}


def find_rule(name: str) -> Rule | None:
    """A rule by its slug or its display name, capitals aside."""
    wanted = name.casefold()
    return next((rule for rule in POLICIES.values() if wanted in (rule.slug, rule.name.casefold())), None)


def named_rule(name: str) -> Rule:
    """`find_rule`, of which there must be one.

    Raises:
        UserError: there is no such rule; the message lists all.
    """
    if (rule := find_rule(name)) is None:
        if name in RENAMED:
            raise UserError(f"policy {name!r} is now called {RENAMED[name]!r}: rename it.")
        raise UserError(f"there is no policy {name!r}: choose one of {', '.join(POLICIES)}.")
    return rule


def make_policy(name: str, **settings: Any) -> Policy:
    """A policy by its slug or display name; `settings` win over those that make the rule what it is.

    Raises:
        UserError: the name or a setting is not known, or a setting is missing; the message lists what there is.
    """
    rule = named_rule(name)
    known = [f.name for f in fields(rule.policy)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise UserError(f"policy {name!r} has no setting {unknown[0]!r}: it takes {', '.join(known)}.")
    values = {**rule.settings, **settings}
    needed = [f.name for f in fields(rule.policy) if f.init and f.default is f.default_factory is MISSING]
    if missing := [setting for setting in needed if setting not in values]:
        raise UserError(
            f"policy {name!r} needs {' and '.join(missing)}: give {'them' if len(missing) > 1 else 'it'} as settings."
        )
    try:
        return rule.policy(**values)
    except TypeError as error:
        raise UserError(f"policy {name!r} cannot be made ({error}): correct its settings.") from None
