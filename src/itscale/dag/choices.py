"""What follows from a configuration: which models, which engine, which splits, and what contradicts itself."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath
from typing import Any

from itscale.errors import UserError
from itscale.models.scores import P_TRUE

SPLITS = ("test", "calibration", "shifted", "predictor_train", "predictor_validation")
_TRAINING = ("calibration", "predictor_train", "predictor_validation")
KINDS = ("parallel", "chain")
# Where the files of a kind of pool stand in an entry of `imported`, and keys that are options of `itscale import`.
_FILES = {"parallel": "samples", "chain": "chains"}
_IMPORT = ("format", "problems", "score", "steps", "size", "gold_list")
# What the verifier of scores that were imported is called in tables.
OWN = "own"
# How the toy task's model draws where nothing is said; other models draw as they are, and a server is sent nothing.
_TOY_SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 96}
# And what is put behind its completions in budget forcing: it knows line breaks and no words.
_TOY_WAIT = "\n"
# Keys of a dataset that the planner reads, and the loader does not.
_STATED = ("questions", "answer_tokens")


@dataclass(frozen=True, slots=True)
class Choices:
    """A configuration, merged and valid by its schema, and what it says when it is read as a whole."""

    config: Mapping[str, Any]

    @property
    def toy(self) -> bool:
        """Without datasets and imported samples, problems and models are those of the toy task."""
        return not self.config["datasets"] and not self.config["imported"]

    @property
    def draws(self) -> bool:
        """Whether there is a model: of imported samples nothing is drawn, predicted, trained or run live."""
        return self.toy or bool(self.config["datasets"])

    @property
    def generator(self) -> Mapping[str, Any]:
        """The entry of the model that draws; empty for the toy task and for imported samples."""
        return self.config["models"]["generators"][self.config["models"]["generator"]] if self.config["datasets"] else {}

    @property
    def served(self) -> bool:
        """Whether a server draws."""
        return "url" in self.generator

    @property
    def sampling(self) -> dict[str, Any]:
        """How samples are drawn, as far as it is said."""
        return {**(_TOY_SAMPLING if self.toy else {}), **self.config["sampling"]}

    @property
    def verifier(self) -> Mapping[str, Any]:
        """The entry of the model that scores."""
        return self.generator if self.asked else self.config["models"].get("verifier", {})

    @property
    def backbone(self) -> Mapping[str, Any]:
        """The entry of the model that the predictor begins with."""
        return self.config["models"].get("backbone", self.generator)

    @property
    def forced(self) -> bool:
        """Whether chains go on by budget forcing, beside a run that draws the same questions' samples and re-answers."""
        return self.config["engine"].get("prompt") == "forced"

    @property
    def beside(self) -> str:
        """The results of that run, where this one draws by budget forcing; else this run's own. Each generator has its own."""
        of = self.config["results"]
        return f"{of}/{self.config['models']['generator']}" if self.config["datasets"] else of

    @property
    def results(self) -> str:
        """Where this run's results lie."""
        return f"{self.beside}/budget_forcing" if self.forced else self.beside

    @property
    def gpus(self) -> int:
        """GPUs of a job that draws."""
        return 0 if self.config["engine"]["name"] == "transformers" or self.served else self.generator.get("gpus", 1)

    @property
    def scored(self) -> bool:
        """Whether samples have scores: of a verifier, or from the model's own confidence."""
        return self.config["verifier"] is not None

    @property
    def asked(self) -> bool:
        """Whether the model that draws is asked for the scores of its answers."""
        return (self.config["verifier"] or {}).get("confidence") == P_TRUE

    @property
    def confidence(self) -> str | None:
        """Which of the model's log-probabilities serve as the score; None where a verifier scores, or nobody does."""
        return None if self.asked else (self.config["verifier"] or {}).get("confidence")

    @property
    def predicts(self) -> bool:
        """Whether a predictor is trained."""
        return self.draws and self.config["predictor"] is not None and "parallel" in self.kinds

    @property
    def trains(self) -> bool:
        """Whether a model is here that votes can train, and whose samples a live run can stop: none of a server's."""
        return self.draws and not self.served and "parallel" in self.kinds

    @property
    def predicted(self) -> tuple[str, ...]:
        """Whose questions are predicted: what rules are tuned on, and what they are compared on."""
        sections = (self.config[section]["benchmarks"] for section in ("compare", "markovscale"))
        return tuple(dict.fromkeys(("calibration", *chain(*sections)))) if self.predicts else ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of pool that calibration and every compared benchmark have."""
        pools = [self.kinds_of(name) for name in ("calibration", *self.config["compare"]["benchmarks"])]
        return tuple(kind for kind in KINDS if all(kind in of for of in pools))

    def kinds_of(self, benchmark: str) -> tuple[str, ...]:
        """Kinds of pool that a benchmark has; budget forcing has chains alone, and the run beside it the parallel samples."""
        if benchmark in self.config["official"]:
            return KINDS
        if (source := source_of(self, benchmark)) is not None:
            return tuple(kind for kind in KINDS if source.get(_FILES[kind]))
        kinds = KINDS[1:] if self.forced else KINDS
        return tuple(kind for kind in kinds if self.config["pools"].get(benchmark, {}).get(kind))

    @property
    def engine(self) -> dict[str, Any]:
        """Engine settings, with what the generator says of itself."""
        own = {key: self.generator[key] for key in ("max_model_len", "price", "parameters") if key in self.generator}
        if self.served:
            own |= {"name": "openai"}
        toy = {"wait": _TOY_WAIT} if self.toy and self.forced else {}
        return {**toy, **self.config["engine"], **own, **({"tensor_parallel": self.gpus} if self.gpus > 1 else {})}

    @property
    def verifiers(self) -> tuple[str, ...]:
        """Names of what scores the samples: the first one's scores are the pools' own, others' lie beside them."""
        if not self.scored:
            return ()
        if self.asked or self.confidence is not None:
            return (self.config["verifier"]["confidence"],)
        if self.toy:
            return ("good", "weak")
        return (PurePath(self.verifier["path"]).name,) if self.draws and self.verifier else (OWN,)

    def shards(self, benchmark: str, kind: str) -> int:
        """In how many shards a pool is drawn; 0 for a released or imported one."""
        if benchmark in self.config["official"] or source_of(self, benchmark) is not None:
            return 0
        return self.config["pools"][benchmark][kind]["shards"]

    @property
    def evaluated(self) -> tuple[str, ...]:
        """What is evaluated; training splits keep clear of it."""
        return (*self.config["compare"]["benchmarks"], "calibration", *(("shifted",) if self.toy else ()))


def trained_runs(choices: Choices, full: bool) -> tuple[list[str], list[int]]:
    """Runs of test-time training and their seeds: all (`snakemake optpo_full`), or the default's with the first seed."""
    testtime = choices.config["testtime"]
    if full:
        return list(testtime["runs"]), list(testtime["seeds"])
    return list(testtime["default"]), list(testtime["seeds"][:1])


def said_of_shard(choices: Choices, benchmark: str, kind: str, shard: int) -> str:
    """What a job says that draws a shard, counted from 0: `test, shard 2 of 4: 64 samples a question`."""
    of, count = choices.config["pools"].get(benchmark, {}).get(kind, {}), choices.shards(benchmark, kind)
    part = f", shard {shard + 1} of {count}" if count > 1 else ""
    names = ("samples",) if kind == "parallel" else ("chains", "rounds")
    counts = [f"{of.get(name)} {name if of.get(name) != 1 else name[:-1]}" for name in names]
    return f"{benchmark}{part}: {' of '.join(counts)} a question"


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
    imported = [name for name in config["imported"] if source_of(choices, name) is not None]
    splits = [name for name in imported if "split" in config["imported"][name]]
    if len(splits) > 1 or (splits and "calibration" in config["imported"]):
        raise UserError("imported in the configuration has several calibration splits: split one pool, or name one calibration.")
    if "calibration" in splits:
        raise UserError("imported.calibration is split: give the pool another name, and its calibration part is called so.")
    if config["datasets"]:
        known = config["models"].get("generators", {})
        if (chosen := config["models"].get("generator")) not in known:
            raise UserError(f"models.generator is {chosen!r}: choose one of {', '.join(known) or 'models.generators'}.")
        if ("url" in known[chosen]) == ("path" in known[chosen]):
            raise UserError(f"models.generators.{chosen} needs a path (hub or folder), or the url of a server that runs it.")
        if choices.served and choices.predicts and "backbone" not in config["models"]:
            raise UserError(
                "a predictor needs weights and the generator is a server: give models.backbone, or set predictor to null."
            )
        training = ("predictor_train", "predictor_validation") if choices.predicts else ()
        for name in (*choices.evaluated, *training):
            if name not in config["datasets"] and name not in config["official"] and source_of(choices, name) is None:
                raise UserError(f"datasets in the configuration lacks {name!r}: say where its questions come from.")
    for name in choices.evaluated:
        if not choices.kinds_of(name):
            where = "pools" if choices.draws else "imported"
            raise UserError(f"{where} in the configuration lacks {name!r}: say which samples or chains it has.")
    if not choices.kinds:
        raise UserError(
            "calibration and what is compared have no kind of pool in common: give samples of both, or chains of both."
        )
    if choices.scored and choices.confidence is None and config["datasets"] and not choices.verifier:
        raise UserError(
            "models.verifier in the configuration is missing: name one, or set verifier to null or {confidence: logprob_mean}."
        )
    if choices.asked and (choices.served or not config["datasets"]):
        why = "a server draws" if choices.served else "the toy task's knows no words" if choices.toy else "nothing draws"
        raise UserError(f"verifier.confidence is p_true, for which a model in a folder is asked, and {why} here: choose another.")
    return choices


def source_of(choices: Choices, benchmark: str) -> Mapping[str, Any] | None:
    """The entry of `imported` that a benchmark's samples come from: its own, or for calibration the one that is split."""
    entries = choices.config["imported"]
    if benchmark in entries:
        return entries[benchmark]
    if benchmark == "calibration":
        return next((entry for entry in entries.values() if "split" in entry), None)
    return None


def import_options(choices: Choices, benchmark: str, kind: str) -> list[str]:
    """Files and options of `itscale import` for one of a benchmark's pools."""
    entry, grading = source_of(choices, benchmark), grading_of(choices, benchmark)
    named = [f"--column={ours}={theirs}" for ours, theirs in entry.get("columns", {}).items()]
    given = {key: entry[key] for key in _IMPORT if key in entry}
    if kind == "chain" and given.get("format") == "optscale":
        given["format"] = "optscale-rounds"  # the same file, but for what its completions are
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
    if "split" in entry:
        flags += [f"--split={entry['split']}", f"--part={'calibration' if benchmark == 'calibration' else 'test'}"]
    return [*map(str, entry[_FILES[kind]]), *named, *flags, *as_options(grading), "--allow-unanswered"]


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
    if benchmark in official or not choices.scored:
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
    sampling, grading = {**choices.sampling, **of.get("sampling", {})}, grading_of(choices, benchmark)
    if choices.confidence is not None:
        sampling["confidence"] = True
    carried = {key: grading[key] for key in ("answer", "read_cut_off") if key in grading}
    return json.dumps({**of[kind], "kind": kind, "seed": config["seed"], "sampling": sampling, **carried})


def grading_of(choices: Choices, benchmark: str) -> dict[str, Any]:
    """How the answers to a benchmark are found and compared: what its pool says, laid over what is said for all."""
    return {**choices.config["grading"], **choices.config["pools"].get(benchmark, {}).get("grading", {})}


def grading_options(choices: Choices, benchmark: str) -> list[str]:
    """The same as options of `itscale grade`."""
    return as_options(grading_of(choices, benchmark))


def as_options(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options of a command; what is false is left out."""
    options = []
    for key, value in settings.items():
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


def confidence_options(choices: Choices) -> list[str]:
    """Which confidence is the score, and by which map, for `itscale step score-confidence`."""
    return as_options({key: value for key, value in choices.config["verifier"].items() if key in ("confidence", "map")})


def asked_option(choices: Choices) -> list[str]:
    """Options of `itscale score` where the model that draws is asked, with the prompts that it draws with."""
    return ["--p-true", f"--engine={json.dumps(choices.engine)}"] if choices.asked else []


def served_model(choices: Choices) -> str | None:
    """Address and name of a generator that a server runs, as engines take them; None where a model lies here."""
    generator = choices.generator
    return "#".join(generator[key] for key in ("url", "model") if key in generator) if choices.served else None


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
    own = {key: value for key, value in testtime["runs"][run].items() if key != "evaluation"}
    return {**testtime["settings"], **choices.generator.get("training", {}), **own}


def run_evaluation(choices: Choices, run: str) -> dict[str, Any]:
    """How a run of test-time training is evaluated."""
    testtime = choices.config["testtime"]
    return {**testtime["evaluation"], **testtime["runs"][run].get("evaluation", {})}


def rate_settings(choices: Choices, rate: str) -> dict[str, Any]:
    """Settings of a run that tries a learning rate, on the calibration problems."""
    testtime = choices.config["testtime"]
    chosen = run_settings(choices, testtime["baseline"])
    return {**chosen, "learning_rate": float(rate), "steps": testtime["learning_rate_steps"]}
