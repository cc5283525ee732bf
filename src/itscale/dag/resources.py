"""What jobs ask for: minutes and MB from the configuration's sizes, lengths and speeds.

Amounts double with each attempt, so that a job which broke its limit comes back with more.
"""

import math
from collections.abc import Mapping
from typing import Any

from itscale.dag.choices import Choices
from itscale.dag.planning import samples_of

# Four bytes a token; Arrow, pandas and Python each have a copy.
_BYTES_PER_TOKEN = 16


def scaled(amount: int, attempt: int) -> int:
    """An amount of a resource at an attempt, the first being 1."""
    return amount * 2 ** (attempt - 1)


def stated_tokens(choices: Choices, benchmark: str, kind: str) -> int:
    """Completion tokens of a pool as the configuration states them; 0 where it does not."""
    of, source = choices.config["pools"].get(benchmark), choices.config["datasets"].get(benchmark, {})
    if of is None or not {"questions", "answer_tokens"} <= source.keys():
        return 0
    return samples_of(of[kind], source["questions"]) * source["answer_tokens"]


def minutes_at(tokens: float, model: Mapping[str, Any], least: int) -> int:
    """Minutes that a model needs for tokens at its stated speed (tokens/s), twice over for safety."""
    return max(least, int(2 * tokens / model.get("tokens_per_second", math.inf) / 60))


def minutes_to_draw(choices: Choices, benchmark: str, kind: str) -> int:
    """Run time of a shard, at least two hours."""
    shards = choices.config["pools"][benchmark][kind]["shards"]
    return minutes_at(stated_tokens(choices, benchmark, kind) / shards, choices.generator, 120)


def minutes_to_score(choices: Choices, benchmark: str, kind: str) -> int:
    """Run time of scoring a pool; the verifier reads each answer and its question."""
    return minutes_at(stated_tokens(choices, benchmark, kind), choices.verifier, 60 if choices.toy else 720)


def text_mb(choices: Choices, benchmark: str, kind: str, least: int) -> int:
    """Memory of a rule that holds all texts of a pool, several times over."""
    return least + stated_tokens(choices, benchmark, kind) * _BYTES_PER_TOKEN // 1000**2


def minutes_to_train(choices: Choices) -> int:
    """Run time of test-time training: votes and evaluations, and as long again for updates; at least four hours."""
    testtime = choices.config["testtime"]
    settings, evaluation = testtime["settings"], testtime["evaluation"]
    limits = [{"vote": {}, **settings, **run}["vote"] for run in testtime["runs"].values()]
    votes = max(vote.get("n_max", vote.get("n", 0)) for vote in limits)
    tokens = 0
    for name in ("trained", "untouched"):
        source = choices.config["datasets"].get(testtime[name], {})
        answers = source.get("questions", 0) * evaluation["samples"] * (2 + settings["steps"] // evaluation["every"])
        if name == "trained":
            answers += settings["steps"] * settings["prompts"] * votes
        tokens += answers * min(source.get("answer_tokens", 0), testtime["sampling"]["max_tokens"])
    return minutes_at(2 * tokens, choices.generator, 240)
