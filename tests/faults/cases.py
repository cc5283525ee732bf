"""The table of faults: what happens, what the user sees, what is kept. It drives the tests here and stands in docs/faults.md.

`python tests/faults/cases.py` prints the page's tables.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One fault. In `seen`, … stands for anything; `test` names the test where it is not one of this folder."""

    fault: str
    seen: str
    kept: str
    test: str = ""

    def matches(self, said: str) -> bool:
        """Was what the user sees said?"""
        return re.search(".*".join(map(re.escape, self.seen.split("…"))), said, re.S) is not None


ANEW = "All else; this step begins anew."
NOTHING_BEGUN = "Nothing was begun."
GOES_ON = "Every finished row; the same command goes on and ends with the same table."
LOCKED = "is being written by another process: wait for it, or end it and run the same command again."

KILLS = {
    "generation": Case(
        "SIGKILL of generation, parallel or chains",
        "(the same command goes on)",
        GOES_ON,
        "test_engines.py::test_a_killed_job_resumes_to_the_same_samples",
    ),
    "scoring": Case("SIGKILL of scoring", "(the same command goes on)", GOES_ON),
    "language model": Case(
        "SIGKILL of the language model's training",
        "(the same command goes on)",
        "The last of ten checkpoints; the same command ends with the same weights. No half-written model folder.",
    ),
    "reward model": Case(
        "SIGKILL of the reward model's training",
        "(the same command goes on)",
        "The last of ten checkpoints; the same command ends with the same weights. No half-written model folder.",
    ),
    "predictor": Case(
        "SIGKILL of the predictor's training",
        "(the same command goes on)",
        "Every finished epoch; the same command ends with the same weights.",
        "test_predictor.py::test_a_killed_run_continues_to_the_same_end",
    ),
    "test-time training": Case(
        "SIGKILL of test-time training",
        "(the same command goes on)",
        "The last checkpoint; the same command ends with the same curve and the same weights.",
        "test_testtime.py::test_a_killed_run_ends_with_the_same_curve",
    ),
    "live run": Case(
        "A live run is cut off",
        "(the same command goes on)",
        "Every finished sample and verdict; nothing is drawn twice.",
        "test_live.py::test_a_killed_run_resumes_to_the_same_decisions_and_draws_nothing_twice",
    ),
    "Ctrl-C": Case(
        "Ctrl-C in `itscale solve`",
        "stopped after … of … problems; what had finished is in …: the same command continues.",
        "Every finished sample.",
        "test_solving.py::test_ctrl_c_ends_cleanly_and_the_same_command_continues",
    ),
    "Snakemake": Case(
        "SIGKILL of Snakemake and all its jobs",
        "Error: Directory cannot be locked.…--unlock",
        "Every finished file; after `snakemake --unlock` the same command does what is left, and killed jobs go on.",
    ),
    "two at once": Case(
        "A job outlives its killed Snakemake and is started again",
        f"…partial {LOCKED}",
        "What the first job writes; they never write at once.",
    ),
    "controller": Case(
        "SIGKILL of the SLURM controller, or a job is cancelled",
        "(the job is submitted again)",
        "Every finished file.",
        "test_slurm.py::test_the_queue_loses_nothing_when_a_job_is_cancelled_and_the_controller_killed",
    ),
    "job's memory": Case(
        "SLURM ends a job that is over its memory",
        "(the job is submitted again with more)",
        "Every finished file.",
        "test_slurm.py::test_limits_are_kept_and_a_retry_raises_what_was_too_little",
    ),
}

DISK = {
    "full disk": Case(
        "The disk is full while samples are drawn",
        "itscale: …samples.parquet…: no space left on device: free some space and run the same command again, "
        "what has finished is kept.",
        "Every finished row; no table that looks complete. With space the same command ends with the same table.",
    ),
    "full disk, model": Case(
        "The disk is full while a model is saved",
        "itscale: weights cannot be written, the disk seems to be full: free some space and run the same command again, what has "
        "finished is kept.",
        "No model folder that looks complete.",
    ),
    "read-only": Case(
        "The results lie on a read-only disk",
        "itscale: …: read-only file system: correct its permissions, or choose another place.",
        "What is there is not touched.",
    ),
}

TABLES = {
    "truncated table": Case(
        "A table of the results is truncated",
        "samples.parquet is not the file that its manifest describes (SHA-256 differs): restore both, or make them anew.",
        ANEW,
    ),
    "flipped bit": Case(
        "A bit of a table is flipped",
        "… is not the file that its manifest describes (SHA-256 differs): restore both, or make them anew.",
        ANEW,
        "test_records.py::test_changed_data_is_refused",
    ),
    "no manifest": Case(
        "A table has no manifest",
        "….json does not exist: run the rule that makes it first.",
        ANEW,
        "test_records.py::test_data_without_a_manifest_is_not_complete",
    ),
    "torn manifest": Case(
        "A manifest is cut short",
        "samples.json is not valid JSON (line …): restore it, or make it anew.",
        ANEW,
    ),
    "no hash": Case(
        "A manifest is another JSON file",
        "samples.json is no manifest (it has no sha256): restore it, or make it anew.",
        ANEW,
    ),
    "torn partial": Case(
        "A line in the middle of a `.partial` file is damaged",
        "…partial, line 3 is not a row of JSON: restore it, or move …partial away to begin anew.",
        "All else; with it out of the way this step begins anew.",
    ),
    "other partial": Case(
        "A `.partial` file belongs to other settings",
        "…partial was begun with other settings, model or problems: go on with those, or move it away to begin anew.",
        "The file is not touched.",
    ),
    "other weights": Case(
        "A model was trained anew after its scoring was killed",
        "scores.parquet.partial was begun with other settings, model or problems: go on with those, or move it away to begin "
        "anew.",
        "The file is not touched; scores of two models never mix.",
    ),
    "own Parquet": Case(
        "A Parquet file of one's own is truncated",
        "mine.parquet cannot be read as Parquet (…): write or download it anew.",
        NOTHING_BEGUN,
    ),
    "missing column": Case(
        "A file of one's own lacks a column",
        "mine.parquet has no column 'gold': name yours with --column gold=NAME, or that of verdicts with --column correct=NAME "
        "(it has …).",
        NOTHING_BEGUN,
    ),
    "torn line": Case(
        "A row of a JSONL file is broken, or holds an impossible value",
        "…, line 4 is not JSON (…): correct or remove it.",
        NOTHING_BEGUN,
        "test_inputs.py::test_a_torn_line_is_named",
    ),
    "not UTF-8": Case(
        "A JSONL file is not UTF-8",
        "mine.jsonl is not UTF-8 (byte …): convert it.",
        NOTHING_BEGUN,
    ),
    "a folder": Case(
        "A folder stands where a file is expected",
        "… is a folder: give a file (.jsonl, .json, .csv, .parquet, each also as .gz).",
        NOTHING_BEGUN,
    ),
    "a file": Case(
        "A text file stands where a folder is expected",
        "itscale: …file exists: give a path whose folders are folders.",
        NOTHING_BEGUN,
    ),
    "no calibration": Case(
        "Another JSON file stands for the calibration",
        "samples.json is no calibration: give the file that `itscale calibrate` wrote.",
        NOTHING_BEGUN,
    ),
    "empty CSV": Case(
        "A figure's table is empty",
        "main.csv is no CSV table (No columns to parse from file): restore it, or make it anew.",
        ANEW,
    ),
}

MODELS = {
    "model sums": Case(
        "A file of a toy model is not the one that was shipped",
        "model folder …: model.safetensors is not the file of SHA256SUMS (SHA-256 differs): restore it.",
        ANEW,
        "test_toytask.py::test_packing_rounds_to_half_and_what_is_altered_is_refused",
    ),
    "model file": Case(
        "A model folder lacks a file, or the file is torn",
        "model folder … lacks model.safetensors: restore it, or make the folder anew.",
        ANEW,
        "test_verifier.py::test_a_missing_or_torn_file_is_named",
    ),
    "tokenizer": Case(
        "The model folder of a generation job lacks the tokenizer",
        "model folder … lacks tokenizer.json: restore it, or make the folder anew.",
        ANEW,
    ),
    "predictor": Case(
        "The predictor's folder lacks its backbone's weights",
        "model folder …backbone lacks model.safetensors: restore it, or make the folder anew.",
        ANEW,
    ),
    "not published": Case(
        "A downloaded file is not the one that the hub publishes",
        "…model.safetensors is not the file that the hub has (SHA-256 differs): delete it and run again.",
        NOTHING_BEGUN,
        "test_hub.py::test_a_file_that_is_not_the_published_one_is_refused",
    ),
    "NaN weights": Case(
        "The reward model's weights hold NaN",
        "the reward model gives NaN for a solution of …: its weights or their precision are broken, restore it.",
        "What was scored before; no NaN enters a table as a score.",
    ),
    "vLLM does not start": Case(
        "vLLM does not start: heads that the GPUs do not divide, a precision or a length that it refuses",
        "vLLM cannot serve … here (…): change that setting of the engine, or take engine.name transformers.",
        NOTHING_BEGUN,
        "test_engines.py::test_vllm_that_does_not_start_says_why",
    ),
    "out of memory": Case(
        "The engine runs out of memory",
        "out of memory with … requests at once: going on with …",
        "Everything: the batch is halved until it fits, and the samples are the same.",
    ),
    "one too large": Case(
        "Not even one request fits into memory",
        "there is not enough memory for one of the requests alone: give more, lower max_tokens, or take a smaller model.",
        "What was drawn before.",
    ),
}

QUESTIONS = {
    "no score": Case(
        "A solution has no step, so its score is NaN",
        "… of … solutions have no step, so they have no score (NaN) and are never chosen by it",
        "Everything: the sample keeps its row and its vote.",
    ),
    "empty benchmark": Case(
        "A table of problems holds none",
        "problems.parquet holds no problem: make the table anew with at least one.",
        NOTHING_BEGUN,
    ),
    "nothing left": Case(
        "Every question of a benchmark is in another split",
        "has no question that is not in another split: choose another split.",
        NOTHING_BEGUN,
    ),
    "twins": Case(
        "Two problems have one id",
        "problem 'p0' comes twice: give every problem an id of its own.",
        NOTHING_BEGUN,
    ),
    "a shard twice": Case(
        "A shard is gathered twice",
        "sample ('p0', 0, 0, 0) is in two of the shards: give every shard once.",
        "The shards.",
    ),
    "a shard missing": Case(
        "A shard of a pool is missing when they are gathered",
        "shard 1 of 2 is not among …samples.parquet: give all shards.",
        "The shards.",
    ),
    "shards of two pools": Case(
        "Shards that were drawn with different settings are gathered",
        "samples.parquet and …other.parquet differ in seed: give the shards of one pool, or draw them anew.",
        "The shards.",
    ),
    "strangers": Case(
        "Samples and problems are of different splits",
        "the samples name the problem p0, which is not among the problems: give the split they were drawn from.",
        NOTHING_BEGUN,
    ),
    "overlap": Case(
        "Test-time training's untouched benchmark shares a question with the trained one",
        "other.parquet and …problems.parquet share question x0 (the same text): make them disjoint.",
        NOTHING_BEGUN,
    ),
    "overlap, predictor": Case(
        "The predictor's splits share a question",
        "… and … share question … (the same text): make them disjoint.",
        NOTHING_BEGUN,
        "test_predictor.py::test_overlapping_splits_are_refused",
    ),
    "100 kB": Case(
        "A question of 100 kB",
        "1 of 1 requests failed, too many to go on: long: the prompt has … tokens, which leaves no room in the model's window of "
        "512. What was drawn is in …partial; the same command goes on and sends the failed requests again. What fails each time "
        "needs another window or max_tokens, or has to be left out of the questions, for a job of its own.",
        "What was drawn.",
    ),
    "bad request": Case(
        "Up to a tenth of the requests fail, or all of one question: too long for the window, refused or never answered by a "
        "server",
        "2 of 48 requests failed and count as unanswered: p1: …",
        "Everything: each is a row with `finish_reason` `failed` and the reason in `failure`.",
        "test_failures.py::test_one_bad_request_is_one_bad_row",
    ),
    "bad requests": Case(
        "More than a tenth of the requests fail, or more than a tenth of the questions are refused, or the first ten questions "
        "all are",
        "… of … requests failed, too many to go on: …. What was drawn is in …partial; the same command goes on and sends the "
        "failed requests again. What fails each time needs another window or max_tokens, or has to be left out of the questions, "
        "for a job of its own.",
        "What was drawn.",
        "test_failures.py::test_too_many_failures_stop_a_shard_and_are_sent_again",
    ),
    "runaway answer": Case(
        "A round's boxed answer has more than 200 tokens",
        "(the next round's prompt carries the answer before it)",
        "Everything: the sample keeps its text and its answer.",
        "test_failures.py::test_a_runaway_answer_ends_no_chain",
    ),
    "hostile answer": Case(
        "An answer hangs the grader",
        "(its verdict is `timeout`)",
        "Everything: the worker is killed, the other answers are graded.",
        "test_reader.py::test_an_answer_that_hangs_is_equal_to_its_own_text_alone",
    ),
}

CONFIGURATION = {
    "unknown key": Case(
        "A key of the configuration is misspelt",
        "samplign is no key of the configuration: did you mean 'sampling'?",
        NOTHING_BEGUN,
        "test_workflow.py::test_a_typo_in_the_configuration_is_named",
    ),
    "wrong type": Case(
        "A value of the configuration has another type",
        "compare.orders in the configuration is 'many': give a whole number.",
        NOTHING_BEGUN,
    ),
    "calibration compared": Case(
        "The calibration split is among the benchmarks that are compared",
        "calibration is among the benchmarks of compare or markovscale, and the hyperparameters are chosen on it: compare on "
        "others.",
        NOTHING_BEGUN,
    ),
    "unknown setting": Case(
        "A setting of the toy task is misspelt",
        "itscale: --settings has the unknown key 'tets': it takes test, calibration, …",
        NOTHING_BEGUN,
        "test_inputs.py::test_mistakes_on_the_command_line_get_one_sentence",
    ),
    "setting's type": Case(
        "A setting has another type",
        "itscale: --settings steps is 'many': give a whole number.",
        NOTHING_BEGUN,
    ),
    "negative": Case(
        "A setting is negative",
        "itscale: steps of LanguageModelSettings is -5: give at least 1.",
        NOTHING_BEGUN,
    ),
    "infinity": Case(
        "A setting is infinite",
        "itscale: --settings holds Infinity, which is no number of JSON: give a finite number.",
        NOTHING_BEGUN,
    ),
    "no object": Case(
        "A setting is no object",
        "itscale: --settings is 3, which is no JSON object: give one in braces",
        NOTHING_BEGUN,
    ),
    "share": Case(
        "top_p is 0",
        "itscale: top_p is 0: give a share above 0 and at most 1.",
        NOTHING_BEGUN,
    ),
    "option": Case(
        "An option of a command is out of range",
        "Invalid value for '--batch-size'…greater than or equal to 1",
        NOTHING_BEGUN,
    ),
}

PARTS = {
    "Killed": KILLS,
    "Disk": DISK,
    "Files": TABLES,
    "Models and memory": MODELS,
    "Problems and samples": QUESTIONS,
    "Configuration and command line": CONFIGURATION,
}


def page() -> str:
    """The tables of docs/faults.md."""
    lines: list[str] = []
    for title, cases in PARTS.items():
        lines += [f"## {title}", "", "| fault | what the user sees | what is kept | test |", "|---|---|---|---|"]
        for case in cases.values():
            file = case.test.partition("::")[0] or "faults/"
            quote = "``" if "`" in case.seen else "`"
            seen = case.seen if case.seen.startswith("(") else f"{quote}{case.seen}{quote}"
            lines.append(f"| {case.fault} | {seen} | {case.kept} | `{file}` |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page())
