"""What follows from a configuration: which models, which engine, which splits, and what contradicts itself."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from itscale.errors import UserError

SPLITS = ("test", "calibration", "shifted", "predictor_train", "predictor_validation")
_TRAINING = ("calibration", "predictor_train", "predictor_validation")
# Keys of a dataset that the planner reads, and the loader does not.
_STATED = ("questions", "answer_tokens")


@dataclass(frozen=True, slots=True)
class Choices:
    """A configuration, merged and valid by its schema, and what it says when it is read as a whole."""

    config: Mapping[str, Any]

    @property
    def toy(self) -> bool:
        """Without datasets, problems and models are those of the toy task."""
        return not self.config["datasets"]

    @property
    def generator(self) -> Mapping[str, Any]:
        """The entry of the model that draws; empty for the toy task."""
        return {} if self.toy else self.config["models"]["generators"][self.config["models"]["generator"]]

    @property
    def verifier(self) -> Mapping[str, Any]:
        return self.config["models"].get("verifier", {})

    @property
    def results(self) -> str:
        """Each generator has results of its own."""
        return self.config["results"] if self.toy else f"{self.config['results']}/{self.config['models']['generator']}"

    @property
    def gpus(self) -> int:
        """GPUs of a job that draws."""
        return 0 if self.config["engine"]["name"] == "transformers" else self.generator.get("gpus", 1)

    @property
    def engine(self) -> dict[str, Any]:
        """Engine settings, with what the generator says of itself."""
        own = {key: self.generator[key] for key in ("max_model_len", "price") if key in self.generator}
        return {**self.config["engine"], **own, **({"tensor_parallel": self.gpus} if self.gpus > 1 else {})}

    @property
    def verifiers(self) -> tuple[str, ...]:
        """Names of what scores the samples: the first one's scores are the pools' own, others' lie beside them."""
        return ("good", "weak") if self.toy else (PurePath(self.verifier["path"]).name,)

    def shards(self, benchmark: str, kind: str) -> int:
        """In how many shards a pool is drawn; 0 for a released one."""
        if benchmark in self.config["official"]:
            return 0
        return self.config["pools"][benchmark][kind]["shards"]

    @property
    def evaluated(self) -> tuple[str, ...]:
        """What is evaluated; training splits keep clear of it."""
        return (*self.config["compare"]["benchmarks"], "calibration", *(("shifted",) if self.toy else ()))


def read_choices(config: Mapping[str, Any]) -> Choices:
    """Check what the schema cannot.

    Raises:
        UserError: parts of the configuration contradict each other, or one that is needed is missing.
    """
    choices = Choices(config)
    if "calibration" in (*config["compare"]["benchmarks"], *config["markovscale"]["benchmarks"]):
        raise UserError(
            "calibration is among the benchmarks of compare or markovscale, and the hyperparameters are chosen on it: compare on "
            "others."
        )
    if config["testtime"]["trained"] == config["testtime"]["untouched"]:
        raise UserError(
            f"testtime.untouched is {config['testtime']['untouched']!r}, which is trained on: name another benchmark."
        )
    if not choices.toy:
        known = config["models"].get("generators", {})
        if (chosen := config["models"].get("generator")) not in known:
            raise UserError(f"models.generator is {chosen!r}: choose one of {', '.join(known) or 'models.generators'}.")
        for name in (*choices.evaluated, "predictor_train", "predictor_validation"):
            if name not in config["datasets"]:
                raise UserError(f"datasets in the configuration lacks {name!r}: say where its questions come from.")
    for name in choices.evaluated:
        if name not in config["pools"] and name not in config["official"]:
            raise UserError(f"pools in the configuration lacks {name!r}: say how many samples and rounds it has.")
    return choices


def kept_out(choices: Choices, benchmark: str) -> list[str]:
    """Splits whose questions a training split must not have: all that are evaluated, and the training splits before it.

    Raises:
        UserError: the benchmark is neither compared nor a training split.
    """
    compared = choices.config["compare"]["benchmarks"]
    if benchmark in compared:
        return []
    if benchmark not in _TRAINING:
        raise UserError(
            f"{benchmark!r} is named in markovscale.benchmarks or testtime, and not in compare.benchmarks, whose "
            "questions alone are kept out of what is trained on: compare it, or name another."
        )
    return [*compared, *_TRAINING[: _TRAINING.index(benchmark)]]


def verifiers_of(choices: Choices, benchmark: str) -> tuple[str, ...]:
    """Verifiers that a benchmark is compared with; released pools have scores of their own, and no others."""
    official = choices.config["official"]
    if benchmark in official:
        return ()
    return choices.verifiers[:1] if "calibration" in official else choices.verifiers


def compared_scores(choices: Choices, benchmark: str) -> tuple[str, ...]:
    """Names of all that samples are compared by: verifiers, and the model's confidences in `compare.confidence`.

    Raises:
        UserError: confidences are compared and not kept with the samples.
    """
    confidences = tuple(choices.config["compare"].get("confidence", ()))
    if confidences and not choices.config["sampling"].get("confidence", False):
        raise UserError("compare.confidence names confidences that sampling.confidence does not keep: set it to true.")
    if benchmark in choices.config["official"]:
        return ()
    return (*verifiers_of(choices, benchmark), *confidences)


def drawing_plan(choices: Choices, benchmark: str, kind: str) -> str:
    """The plan of a pool for `itscale generate`, as JSON."""
    config, of = choices.config, choices.config["pools"][benchmark]
    sampling, grading = {**config["sampling"], **of.get("sampling", {})}, grading_of(choices, benchmark)
    carried = {key: grading[key] for key in ("answer", "read_cut_off") if key in grading}
    return json.dumps({**of[kind], "kind": kind, "seed": config["seed"], "sampling": sampling, **carried})


def grading_of(choices: Choices, benchmark: str) -> dict[str, Any]:
    """How the answers to a benchmark are found and compared: what its pool says, laid over what is said for all."""
    return {**choices.config["grading"], **choices.config["pools"].get(benchmark, {}).get("grading", {})}


def grading_options(choices: Choices, benchmark: str) -> list[str]:
    """The same as options of `itscale grade`."""
    options = []
    for key, value in grading_of(choices, benchmark).items():
        flag = f"--{key.replace('_', '-')}"
        options += [] if value is False else [flag] if value is True else [f"{flag}={value}"]
    return options


def dataset_source(choices: Choices, benchmark: str) -> str:
    """Where a benchmark's questions come from, for `itscale dataset`, as JSON."""
    source = choices.config["datasets"][benchmark]
    return json.dumps({key: value for key, value in source.items() if key not in _STATED})


def options_of(choices: Choices, benchmark: str) -> list[str]:
    """The option that says how many answers a multiple-choice question has; open answers have no such number."""
    wrong = choices.config["datasets"].get(benchmark, {}).get("choices", [])
    return [f"--choices={len(wrong) + 1}"] if wrong else []


def price_option(choices: Choices) -> list[str]:
    """The option that says what the generator's tokens cost; none where that is not stated."""
    return [f"--price={json.dumps(choices.generator['price'])}"] if "price" in choices.generator else []


def published_on(choices: Choices, benchmark: str) -> list[str]:
    """Options that name the published benchmark to show beside ours, and say whether the two differ by the method alone."""
    official = benchmark in choices.config["official"]
    own = "MATH500" if choices.toy and not official else None
    found = choices.config["compare"]["published"].get(benchmark, own)
    if found is None:
        return []
    same = official or choices.generator.get("published", False)
    return [f"--published-on={found}", *(["--same"] if same else [])]


def repeated(option: str, paths: Iterable[str]) -> list[str]:
    """An option once for each path, as words of a command line."""
    return [f"{option}={path}" for path in paths]


def run_settings(choices: Choices, run: str) -> dict[str, Any]:
    """Settings of a run of test-time training."""
    testtime = choices.config["testtime"]
    return {**testtime["settings"], **choices.generator.get("training", {}), **testtime["runs"][run]}


def rate_settings(choices: Choices, rate: str) -> dict[str, Any]:
    """Settings of a run that tries a learning rate, on the calibration problems."""
    testtime = choices.config["testtime"]
    chosen = run_settings(choices, testtime["baseline"])
    return {**chosen, "learning_rate": float(rate), "steps": testtime["learning_rate_steps"]}
