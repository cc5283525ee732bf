"""Which values of a rule's hyperparameters are worth trying; its limit is not among them.

A grid reaches until the accuracy of the rule no longer moves on pools of real models (docs/choosing.md).
"""

from typing import Any

from itscale.policies import make_policy

_ERROR = [0.2, 0.1, 0.05, 0.02, 0.01, 0.001, 0.0001]
_OPTSCALE = {"s_min": [0.7, 0.8, 0.9, 0.95, 0.98, 0.99], "alpha": [0.5, 0.8, 0.95, 0.99], "n0": [1.0, 4.0]}
_PUBLISHED = {"s_min": [0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99], "alpha": [0.9, 0.925, 0.95, 0.965, 0.98, 0.99]}
_COST = [0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05]

GRIDS: dict[str, dict[str, list[Any]]] = {
    "cisc": {"temperature": [0.03, 0.1, 0.3, 1.0]},
    "deepconf": {"keep": [0.1, 0.9]},
    "asc_conf": {"share": [0.6, 0.7, 0.8, 0.9, 0.95]},
    "esc": {"window": [2, 3, 4, 5, 8, 12]},
    "asc": {"threshold": [0.8, 0.9, 0.95, 0.98, 0.99, 0.999]},
    "dsc": {"threshold": [0.8, 0.9, 0.95, 0.98, 0.99, 0.999]},
    "score_threshold": {"s_min": [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999]},
    "pandora": {"cost": [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.02, 0.04, 0.08], "n0": [1.0, 4.0]},
    "pandora_by_data": {"cost": [0.001, 0.003, 0.01, 0.02, 0.04, 0.08], "bonus": [0.0, 1.0]},
    "optscale_paper": _PUBLISHED,
    "optscale_paper_predicted": _PUBLISHED,
    "optscale": _OPTSCALE,
    "optscale_fitted": _OPTSCALE,
    "optscale_predicted": _OPTSCALE,
    "vote_doubling": {"share": [0.6, 0.75, 0.9, 1.0]},
    "vote_lead": {"lead": [2, 3, 4, 5, 6, 8, 10, 12, 16]},
    "vote_posterior": {"eps": _ERROR},
    "vote_heuristic": {"eps": _ERROR},
    "vote_dirichlet": {"eps": [0.4, 0.3, *_ERROR[:-1]]},
    "vote_bayes": {"eps": [0.2, 0.1, 0.05, 0.02, 0.01, 0.001]},
    "vote_certified": {"delta": [0.4, 0.2, 0.1, 0.05, 0.02, 0.01]},
    "markovscale_zero": {"cost": _COST},
    "markovscale_map": {"cost": _COST, "strength": [10.0, 100.0, 1000.0]},
    "markovscale_filter": {"tau": [0.8, 0.9, 0.95, 0.98, 0.99, 1.0], "cost": [0.0, 0.001, 0.005, 0.01, 0.02]},
}

# What `itscale advise` tries of the rules that compute most, unless it is asked for all.
COARSE: dict[str, dict[str, list[Any]]] = {
    "pandora": {"cost": [0.01], "n0": [1.0]},
    "pandora_by_data": {"cost": [0.01, 0.02], "bonus": [0.0]},
    **{name: {"eps": [0.1, 0.05, 0.01]} for name in ("vote_posterior", "vote_heuristic", "vote_dirichlet")},
    **{
        name: {"s_min": [0.8, 0.9, 0.95], "alpha": [0.5, 0.95], "n0": [1.0]}
        for name in ("optscale", "optscale_fitted", "optscale_predicted")
    },
    **{name: {"s_min": [0.9, 0.95], "alpha": [0.9, 0.95]} for name in ("optscale_paper", "optscale_paper_predicted")},
    "vote_bayes": {"eps": [0.05, 0.01]},
    "vote_certified": {"delta": [0.2, 0.05]},
    "markovscale_zero": {"cost": [0.0, 0.01]},
    "markovscale_map": {"cost": [0.0, 0.01], "strength": [100.0]},
    "markovscale_filter": {"tau": [0.9, 0.99], "cost": [0.0, 0.01]},
}


def fixed_beforehand(slug: str) -> dict[str, Any]:
    """The usual values of what a rule's grid sweeps: published where they are, else ours, tuned on nothing."""
    policy = make_policy(slug)
    return {name: getattr(policy, name) for name in GRIDS.get(slug, {})}
