"""The registry: from the name in the configuration to the policy class."""

from dataclasses import fields
from typing import Any

from itscale.errors import UserError
from itscale.policies.consistency import Adaptive, DifficultyAdaptive, DifficultyOracle, EarlyStopping
from itscale.policies.fixed import BestOfN, MultiRoundThinking, SelfConsistency, WeightedBestOfN
from itscale.policies.markovscale import Gate, Map, Zero
from itscale.policies.optpo import VoteASC, VoteDirichlet, VoteHeuristic, VoteLead, VotePosterior, VoteRatio
from itscale.policies.optscale import OptScale, Reservation, Threshold
from itscale.policies.protocol import Policy
from itscale.policies.rounds import BestScoredRound, Filter, MajorityOverRounds

POLICIES: dict[str, type] = {
    "best_of_n": BestOfN,
    "weighted_best_of_n": WeightedBestOfN,
    "self_consistency": SelfConsistency,
    "esc": EarlyStopping,
    "asc": Adaptive,
    "dsc": DifficultyAdaptive,
    "dsc_oracle": DifficultyOracle,
    "threshold": Threshold,
    "reservation": Reservation,
    "optscale": OptScale,
    "vote_lead": VoteLead,
    "vote_asc": VoteASC,
    "vote_ratio": VoteRatio,
    "vote_posterior": VotePosterior,
    "vote_heuristic": VoteHeuristic,
    "vote_dirichlet": VoteDirichlet,
    "mr_thinking": MultiRoundThinking,
    "majority_over_rounds": MajorityOverRounds,
    "best_scored_round": BestScoredRound,
    "gate": Gate,
    "zero": Zero,
    "map": Map,
    "filter": Filter,
}


def make_policy(name: str, **settings: Any) -> Policy:
    """A policy by its name in the configuration.

    Raises:
        UserError: the name or a setting is not known, or a setting is missing; the message lists what there is.
    """
    if name not in POLICIES:
        raise UserError(f"there is no policy {name!r}: choose one of {', '.join(POLICIES)}.")
    known = [f.name for f in fields(POLICIES[name])]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise UserError(f"policy {name!r} has no setting {unknown[0]!r}: it takes {', '.join(known)}.")
    try:
        return POLICIES[name](**settings)
    except TypeError as error:
        raise UserError(f"policy {name!r}: {str(error).split('() ')[-1]}.") from None
