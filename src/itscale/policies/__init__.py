"""The registry: every rule by its slug and its display name.

Both are accepted wherever a rule is named: in the configuration, on the command line, in `make_policy`. Tables show both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from itscale.data.records import Unit
from itscale.errors import UserError
from itscale.policies.confidence import Cisc, ConfidentShare, DeepConf
from itscale.policies.consistency import DifficultyAdaptive, DifficultyOracle, EarlyStopping
from itscale.policies.fixed import BestOfN, MultiRoundThinking, SelfConsistency, WeightedBestOfN
from itscale.policies.markovscale import Gate, Map, Zero
from itscale.policies.optpo import VoteDirichlet, VoteHeuristic, VoteLead, VotePosterior, VoteRatio
from itscale.policies.optscale import OptScale, Pandora, PandoraByData, ScoreThreshold
from itscale.policies.protocol import Policy
from itscale.policies.rounds import BestScoredRound, Filter, MajorityOverRounds
from itscale.policies.votes import Adaptive, Bayes, Certified, Doubling


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as people name it: `slug` in files and commands, `name` in tables and figures; `settings` make it this rule.

    `usual` are the settings that it takes where nobody gives others: fixed beforehand, tuned on nothing. `about` says in a line
    what it does, `source` where it comes from, `calibrated` whether it needs statistics of a calibration split. `measured`: of a
    rule that promises an error, how often its stops missed the consensus of held-out samples at a promise of 5 % (docs/optpo.md).
    """

    slug: str
    name: str
    policy: type
    about: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    calibrated: bool = False
    measured: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """What it cannot do without: `verifier`, `predictor`, `calibration`, `rounds` (of re-answering)."""
        policy = make_policy(self.slug)
        replay_only = getattr(policy, "replay_only", False)
        has = {
            "rounds": policy.unit is Unit.ROUND,
            "verifier": policy.needs_scores or replay_only,
            "predictor": bool(policy.needs_features) and not replay_only,
            "calibration": self.calibrated,
        }
        return tuple(need for need, needed in has.items() if needed)


_PAPER, _PREDICTED = {"variant": "paper"}, {"predicted": True}
_N, _MOST, _ROUNDS = {"n": 16}, {"n_max": 16}, {"rounds": 4}
_TARGET = {"s_min": 0.9, "alpha": 0.95, **_MOST}
_OPTSCALE, _OPTPO, _MARKOVSCALE = "arXiv 2506.22376", "arXiv 2512.02882", "arXiv 2602.01120"

POLICIES: dict[str, Rule] = {
    rule.slug: rule
    for rule in (
        Rule(
            "best_of_n",
            "best-of-N",
            BestOfN,
            "N samples, the highest verifier score.",
            "Cobbe et al. 2021, arXiv 2110.14168",
            usual=_N,
        ),
        Rule(
            "weighted_best_of_n",
            "weighted best-of-N",
            WeightedBestOfN,
            "N samples, the answer with the highest summed verifier score.",
            "Li et al. 2023, arXiv 2206.02336",
            usual=_N,
        ),
        Rule(
            "cisc",
            "CISC",
            Cisc,
            "N samples, votes weighted by a softmax of the scores within the question.",
            "Taubenfeld et al. 2025, arXiv 2502.06233",
            usual=_N,
        ),
        Rule(
            "deepconf",
            "DeepConf",
            DeepConf,
            "N samples, of which the tenth with the highest scores votes, by scores.",
            "Fu et al. 2025, arXiv 2508.15260",
            usual={"keep": 0.1, **_N},
        ),
        Rule(
            "asc_conf",
            "ASC by confidence",
            ConfidentShare,
            "Stop when one answer has a given share of the summed scores.",
            "Huang et al. 2025, arXiv 2503.00031",
            usual=_MOST,
        ),
        Rule(
            "self_consistency",
            "self-consistency",
            SelfConsistency,
            "N samples, the most frequent answer.",
            "Wang et al. 2023, arXiv 2203.11171",
            usual=_N,
        ),
        Rule(
            "esc",
            "ESC",
            EarlyStopping,
            "Stop at the first window of samples whose answers all agree.",
            "Li et al. 2024, arXiv 2401.10480",
            usual=_MOST,
        ),
        Rule(
            "asc",
            "ASC",
            Adaptive,
            "Stop when the leading answer beats the runner-up with a given probability.",
            "Aggarwal et al. 2023, arXiv 2305.11860",
            usual=_MOST,
        ),
        Rule(
            "dsc",
            "DSC",
            DifficultyAdaptive,
            "One sample for easy questions, all for hard ones, ASC between.",
            "Wang et al. 2025, arXiv 2408.13457",
            usual=_MOST,
            calibrated=True,
        ),
        Rule(
            "dsc_oracle",
            "DSC (oracle, replay only)",
            DifficultyOracle,
            "DSC as released: it reads the scores of the question under test.",
            "Wang et al. 2025, arXiv 2408.13457",
            usual=_MOST,
            calibrated=True,
        ),
        Rule(
            "score_threshold",
            "score threshold",
            ScoreThreshold,
            "Stop at the first sample whose score reaches a threshold.",
            "baseline",
            usual={"s_min": 0.9, **_MOST},
        ),
        Rule(
            "pandora",
            "Pandora",
            Pandora,
            "Go on while another sample is worth more than its price.",
            "Weitzman 1979, doi 10.2307/1910412",
            usual={"cost": 0.01, **_MOST},
            calibrated=True,
        ),
        Rule(
            "pandora_by_data",
            "Pandora by data",
            PandoraByData,
            "The same with the worth of another sample read off scores, of any scale.",
            "ours",
            usual={"cost": 0.02, **_MOST},
            calibrated=True,
        ),
        Rule(
            "optscale",
            "OptScale^0 (ours)",
            OptScale,
            "Draw until the best score reaches a target with a given probability; refitted as scores arrive.",
            _OPTSCALE,
            settings={"variant": "ours"},
            usual=_TARGET,
            calibrated=True,
        ),
        Rule(
            "optscale_fitted",
            "OptScale^0 (fitted)",
            OptScale,
            "OptScale under the density that fits calibration scores best.",
            "ours",
            settings={"variant": "fitted"},
            usual=_TARGET,
            calibrated=True,
        ),
        Rule(
            "optscale_predicted",
            "OptScale^t (ours)",
            OptScale,
            "The same, beginning with what a predictor says of the question.",
            _OPTSCALE,
            settings={"variant": "ours", **_PREDICTED},
            usual=_TARGET,
            calibrated=True,
        ),
        Rule(
            "optscale_paper",
            "OptScale^0 (paper)",
            OptScale,
            "As published: one fit of the first scores, then its N*.",
            _OPTSCALE,
            settings=_PAPER,
            usual=_TARGET,
        ),
        Rule(
            "optscale_paper_predicted",
            "OptScale^t (paper)",
            OptScale,
            "As published, with priors around predicted parameters.",
            _OPTSCALE,
            settings={**_PAPER, **_PREDICTED},
            usual=_TARGET,
            calibrated=True,
        ),
        Rule(
            "vote_lead",
            "OptPO vote lead",
            VoteLead,
            "Stop when the leading answer is some votes ahead.",
            _OPTPO,
            usual={"lead": 3, **_MOST},
        ),
        Rule(
            "vote_ratio",
            "OptPO ratio",
            VoteRatio,
            "Stop when the leader is so many times as probable as the runner-up.",
            _OPTPO,
            usual={"ratio": 19.0, **_MOST},
            calibrated=True,
        ),
        Rule(
            "vote_posterior",
            "OptPO posterior",
            VotePosterior,
            "Stop when the leader is the consensus with a given probability.",
            _OPTPO,
            usual={"eps": 0.05, **_MOST},
            calibrated=True,
            measured="3.2 to 20 % on seven pools",
        ),
        Rule(
            "vote_heuristic",
            "OptPO heuristic",
            VoteHeuristic,
            "The same with the number of answers counted as it goes; no guarantee.",
            _OPTPO,
            usual={"eps": 0.05, **_MOST},
            calibrated=True,
        ),
        Rule(
            "vote_dirichlet",
            "Dirichlet vote",
            VoteDirichlet,
            "Stop when the leader is probably the most frequent answer, under a Dirichlet prior.",
            "ours",
            usual={"eps": 0.05, **_MOST},
            calibrated=True,
            measured="0.2 to 2.2 % on the four pools where it stopped",
        ),
        Rule(
            "vote_bayes",
            "Bayes vote",
            Bayes,
            "Stop when the leader is probably the most frequent answer, the calibration questions' answers being the prior.",
            "ours; idea of arXiv 2602.05395",
            usual={"eps": 0.05, **_MOST},
            calibrated=True,
            measured="1.5 to 6.2 % on seven pools",
        ),
        Rule(
            "vote_certified",
            "certified vote",
            Certified,
            "Stop when the leader is proven the most frequent answer, whatever the question.",
            "ours; ideas of arXiv 2510.17472 and 2605.05873",
            usual={"delta": 0.05, **_MOST},
            measured="0 to 0.1 % on the four pools where it stopped",
        ),
        Rule(
            "vote_doubling",
            "doubling vote",
            Doubling,
            "Draw twice as many until the leader has a given share of the votes.",
            "its_hub, pull request 262",
            usual=_MOST,
        ),
        Rule("first_answer", "first answer", MultiRoundThinking, "One round, no scaling.", "baseline", settings={"rounds": 1}),
        Rule(
            "mr_thinking",
            "MR-Thinking",
            MultiRoundThinking,
            "A fixed number of rounds, the last answer.",
            "arXiv 2503.19855",
            usual=_ROUNDS,
        ),
        Rule(
            "majority_over_rounds",
            "majority over rounds",
            MajorityOverRounds,
            "A fixed number of rounds, the most frequent answer.",
            "baseline",
            usual={"n": 4},
        ),
        Rule(
            "best_scored_round",
            "best-scored round",
            BestScoredRound,
            "A fixed number of rounds, the highest verifier score.",
            "baseline",
            usual={"n": 4},
        ),
        Rule(
            "markovscale_gate",
            "MarkovScale gate",
            Gate,
            "All rounds where re-answering should help, else the first answer.",
            _MARKOVSCALE,
            usual=_ROUNDS,
            calibrated=True,
        ),
        Rule(
            "markovscale_zero",
            "MarkovScale^0",
            Zero,
            "As many rounds as pay, by the rates of the first score's stratum.",
            _MARKOVSCALE,
            usual=_ROUNDS,
            calibrated=True,
        ),
        Rule(
            "markovscale_map",
            "MarkovScale^t",
            Map,
            "As many rounds as pay, by rates predicted from the question.",
            _MARKOVSCALE,
            usual=_ROUNDS,
            calibrated=True,
        ),
        Rule(
            "markovscale_filter",
            "MarkovScale filter (ours)",
            Filter,
            "After each round: how likely is each answer, and is another round worth it.",
            "ours",
            usual=_ROUNDS,
            calibrated=True,
        ),
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
    """A policy by its slug or display name; `settings` win over the usual ones, and over those that make the rule what it is.

    Raises:
        UserError: the name or a setting is not known; the message lists what there is.
    """
    rule = named_rule(name)
    known = [f.name for f in fields(rule.policy)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise UserError(f"policy {name!r} has no setting {unknown[0]!r}: it takes {', '.join(known)}.")
    try:
        return rule.policy(**{**rule.usual, **rule.settings, **settings})
    except TypeError as error:
        raise UserError(f"policy {name!r} cannot be made ({error}): correct its settings.") from None
