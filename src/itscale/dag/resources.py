"""What jobs ask for: minutes and MB from the configuration's sizes, lengths and speeds, as `itscale plan` reckons with them.

Work at the stated speed is taken twice, since lengths and speeds are guesses, and half an hour is added in which a model is
loaded. Where a configuration states no lengths or speeds, jobs of a model ask for half a day.
"""

import math
from collections.abc import Mapping
from typing import Any

from itscale.dag.choices import Choices
from itscale.dag.planning import PROMPT_TOKENS, live_tokens, run_tokens, samples_of

# Four bytes a token; Arrow, pandas and Python each have a copy.
_BYTES_PER_TOKEN = 16
# Minutes: to load a model from a slow file system; where nothing is stated; of the toy task on a slow core.
_LOADING, _UNSTATED, _TOY = 30, 720, 60


def doubled(amount: int, times: int, limit: float = math.inf) -> int:
    """An amount doubled some times, to what a partition gives at most; never less than at first."""
    return int(max(amount, min(amount * 2**times, limit)))


def stated_samples(choices: Choices, benchmark: str, kind: str) -> int:
    """Samples of a pool as the configuration states them; 0 where it does not."""
    of, source = choices.config["pools"].get(benchmark, {}).get(kind), choices.config["datasets"].get(benchmark, {})
    return 0 if of is None else samples_of(of, source.get("questions", 0))


def stated_tokens(choices: Choices, benchmark: str, kind: str) -> int:
    """Completion tokens of a pool as the configuration states them; 0 where it does not."""
    source = choices.config["datasets"].get(benchmark, {})
    return stated_samples(choices, benchmark, kind) * source.get("answer_tokens", 0)


def minutes_at(tokens: float, model: Mapping[str, Any]) -> int:
    """Minutes that a model needs for tokens at its stated speed (tokens/s), twice over, and to be loaded."""
    speed = model.get("tokens_per_second")
    if not speed or not tokens:
        return _UNSTATED
    return _LOADING + math.ceil(2 * tokens / speed / 60)


def minutes_to_draw(choices: Choices, benchmark: str, kind: str) -> int:
    """Run time of a shard."""
    if choices.toy:
        return _TOY
    shards = choices.config["pools"][benchmark][kind]["shards"]
    return minutes_at(stated_tokens(choices, benchmark, kind) / shards, choices.generator)


def minutes_to_score(choices: Choices, benchmark: str, kind: str) -> int:
    """Run time of scoring a pool; the verifier reads each answer and its question."""
    if choices.toy:
        return _TOY
    read = stated_tokens(choices, benchmark, kind) + stated_samples(choices, benchmark, kind) * PROMPT_TOKENS
    return minutes_at(read, choices.verifier)


def mb_to_train_predictor(choices: Choices) -> int:
    """Memory of the predictor's training, and of its use: the backbone and, in training, as much again."""
    return 4000 if choices.toy else 2 * choices.backbone.get("mem_mb", 16000)


def mb_to_train(choices: Choices) -> int:
    """Memory of test-time training: the model that learns, and the engine's."""
    return 4000 if choices.toy else 2 * choices.generator.get("mem_mb", 4000)


def mb_to_run_live(choices: Choices) -> int:
    """Memory of the live study: generator and verifier together."""
    return 6000 if choices.toy else choices.generator.get("mem_mb", 4000) + choices.verifier.get("mem_mb", 4000)


def cpus_beside(gpus: int) -> int:
    """Cores of a job with GPUs: for the engine's processes, of which vLLM has two and one for each GPU."""
    return 2 + gpus


def minutes_to_grade(choices: Choices, benchmark: str, kind: str) -> int:
    """Run time of grading a pool: 2,000 answers a minute are graded by one core, hard ones included."""
    return _LOADING + stated_samples(choices, benchmark, kind) // 2000


def minutes_to_copy(choices: Choices, benchmark: str, kind: str) -> int:
    """Run time of a rule that reads and writes all texts of a pool once."""
    return 10 + stated_tokens(choices, benchmark, kind) // 10**7


def minutes_to_train_predictor(choices: Choices) -> int:
    """Run time of the predictor's training: in each epoch every question is read, and read again twice for the gradients."""
    if choices.toy:
        return _TOY
    questions = choices.config["datasets"].get("predictor_train", {}).get("questions", 0)
    read = 3 * questions * PROMPT_TOKENS * (choices.config["predictor"] or {}).get("epochs", 0)
    return minutes_at(read, choices.backbone)


def minutes_to_run_live(choices: Choices) -> int:
    """Run time of the live study."""
    return _TOY if choices.toy else minutes_at(live_tokens(choices.config), choices.generator)


def text_mb(choices: Choices, benchmark: str, kind: str, least: int) -> int:
    """Memory of a rule that holds all texts of a pool, several times over."""
    return least + stated_tokens(choices, benchmark, kind) * _BYTES_PER_TOKEN // 1000**2


def minutes_to_train(choices: Choices, run: str | None = None) -> int:
    """Run time of test-time training, of the longest run without a name: votes and evaluations, and as long again for updates."""
    if choices.toy:
        return _TOY
    testtime = choices.config["testtime"]
    longest = max(run_tokens(choices.config, name) for name in ([run] if run else testtime["runs"]))
    return minutes_at(2 * longest, choices.generator)
