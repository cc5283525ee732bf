"""Tables of test-time training runs: the evaluations with intervals, what each step was like, and one row a run to compare.

Intervals hold the choice of questions and, of several seeds, that of the seeds (theory/intervals.py).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from itscale.data.records import read_json
from itscale.data.tables import interval_cells, read_csv
from itscale.testtime.evaluation import METRICS
from itscale.theory.intervals import SHARE, difference_over_seeds, mean_over_seeds

# What is compared with the baseline's last step: the gain, and what a reward may harm.
_AGAINST = {
    "against_baseline": ("trained", "mean"),
    "pass_against_baseline": ("trained", "pass"),
    "untouched_against_baseline": ("untouched", "mean"),
}
TOKENS = ("prompt_tokens", "completion_tokens", "unused_tokens", "training_tokens")


def read_runs(folders: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(steps, evaluations, runs) of run folders, each with columns run and seed."""
    steps, evaluations, runs = [], [], []
    for folder in folders:
        record = read_json(folder / "run.json")
        label = {"run": record["name"], "seed": record["seed"]}
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps.append(pd.DataFrame(rows).assign(**label))
        evaluations.append(read_csv(folder / "evaluation.csv").assign(**label))
        settings = record["settings"]
        limit = settings["vote"].get("n_max") or settings["vote"].get("n")
        votes = {"votes": limit, "trained": settings["group"] if settings["retain"] == "first" else limit}
        samples = {"samples": record["evaluation"]["samples"], "temperature": record["evaluation"]["temperature"]}
        ends = {"steps": record["steps"], "best": record["best"]}
        answering = record["answering_tokens"]
        runs.append({**label, "algorithm": settings["algorithm"], **ends, **votes, **samples, "answering_tokens": answering})
    return pd.concat(steps, ignore_index=True), pd.concat(evaluations, ignore_index=True), pd.DataFrame(runs)


def rollout_tokens(steps: pd.DataFrame) -> pd.Series:
    """Tokens that a step's rollouts cost: prompts but for cached ones, and every completion token that was drawn."""
    return steps["prompt_tokens"] - steps["cached_prompt_tokens"] + steps["completion_tokens"] + steps["unused_tokens"]


def curves(steps: pd.DataFrame, evaluations: pd.DataFrame) -> pd.DataFrame:
    """Every evaluation of the trained benchmark against the rollout tokens spent until then, averaged over seeds."""
    spent = steps.assign(tokens=rollout_tokens(steps)).sort_values(["run", "seed", "step"])
    spent["tokens"] = spent.groupby(["run", "seed"])["tokens"].cumsum()
    rows = []
    trained = evaluations[evaluations["benchmark"] == "trained"].sort_values("step", kind="stable")
    order = list(evaluations["run"].unique())
    untrained = {run: _values(part, "mean") for run, part in trained[trained["step"] == 0].groupby("run")}
    for (run, step), part in sorted(trained.groupby(["run", "step"]), key=lambda group: order.index(group[0][0])):
        at = spent[(spent["run"] == run) & (spent["step"] == step)]["tokens"]
        row: dict[str, Any] = {"run": run, "step": step, "seeds": part["seed"].nunique()}
        row["rollout_tokens"] = float(at.mean()) if len(at) else 0.0
        for metric in METRICS:
            row |= mean_over_seeds(_values(part, metric), SHARE).columns(metric)
        mean = untrained[run] if step == 0 else _values(part, "mean")
        row |= difference_over_seeds(mean, untrained[run], SHARE).columns("gain")
        rows.append(row)
    return pd.DataFrame(rows)


def step_means(steps: pd.DataFrame) -> pd.DataFrame:
    """Figures of every step, averaged over seeds: what a figure of the training shows."""
    table = steps.assign(
        rollout_tokens=rollout_tokens(steps),
        votes=[float(np.mean(v)) for v in steps["votes"]],
        other=steps["seconds"] - steps["seconds_sampling"] - steps["seconds_update"] - steps["seconds_reload"],
    )
    wanted = ["votes", "stopped", "label_accuracy", "reward_accuracy", "majority_ratio", "rollout_accuracy", "vote_entropy"]
    wanted += ["unanswered", "cut_off"]
    wanted += ["entropy", "rollout_tokens", "training_tokens", "seconds_sampling", "seconds_update", "seconds_reload", "other"]
    return table.groupby(["run", "step"], sort=False)[wanted].mean().reset_index()


def summary(steps: pd.DataFrame, evaluations: pd.DataFrame, runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """One row a run: mean@k before, last, best; differences to the untrained model and to `baseline`; tokens, labels, forgetting.

    `best` is chosen per seed by the evaluation itself, which reads the answers: it bounds, it does not compare.
    """
    last = _at(evaluations, runs.assign(at=runs["steps"]))
    best = _at(evaluations, runs.assign(at=runs["best"]))
    before = evaluations[evaluations["step"] == 0]
    tokens = steps.assign(tokens=rollout_tokens(steps)).groupby(["run", "seed"])[["tokens", "training_tokens", "rollouts"]].sum()
    rows = []
    for run, part in runs.groupby("run", sort=False):
        row: dict[str, Any] = {
            "run": run,
            "algorithm": part["algorithm"].iloc[0],
            "seeds": len(part),
            "steps": part["steps"].iloc[0],
        }
        ends = {"before": before, "last": last, "best": best}
        for benchmark in ("trained", "untouched"):
            own = {name: frame[(frame["run"] == run) & (frame["benchmark"] == benchmark)] for name, frame in ends.items()}
            for name, frame in own.items():
                for metric in METRICS:
                    row |= mean_over_seeds(_values(frame, metric), SHARE).columns(f"{benchmark}_{name}_{metric}")
            untrained = _values(own["before"], "mean")
            for name in ("last", "best"):
                mean = _values(own[name], "mean") if (own[name]["step"] > 0).any() else untrained
                row |= difference_over_seeds(mean, untrained, SHARE).columns(f"{benchmark}_{name}_gain")
            for metric in ("majority", "pass"):
                first = _values(own["before"], metric)
                after = _values(own["last"], metric) if (own["last"]["step"] > 0).any() else first
                row |= difference_over_seeds(after, first, SHARE).columns(f"{benchmark}_last_{metric}_change")
        mine, other = (last[last["run"] == name] for name in (run, baseline))
        shared = sorted(set(mine["seed"]) & set(other["seed"]))
        if shared and run != baseline:
            for name, (benchmark, metric) in _AGAINST.items():
                pair = (f[f["seed"].isin(shared) & (f["benchmark"] == benchmark)] for f in (mine, other))
                ours, theirs = (_values(frame, metric) for frame in pair)
                if ours.size:
                    row |= difference_over_seeds(ours, theirs, SHARE).columns(name)
            # A run without steps has drawn nothing.
            pairs = ([(name, s) for s in shared] for name in (run, baseline))
            ours, theirs = (tokens.reindex(pair, fill_value=0).sum() for pair in pairs)
            row["token_share"] = float(ours["tokens"] / theirs["tokens"])
            row["rollout_share"] = float(ours["rollouts"] / theirs["rollouts"])
        if run in tokens.index.get_level_values(0):
            row |= {name: float(tokens.loc[run][name].mean()) for name in ("tokens", "training_tokens", "rollouts")}
        own_steps = steps[steps["run"] == run]
        asked = sum(len(v) for v in own_steps["votes"])
        counted, right = own_steps["rewarded"].sum(), own_steps["rewarded_right"].sum()
        row["rewarded_share"] = float(counted / asked) if asked else np.nan
        row["rewarded_label_accuracy"] = float(right / counted) if counted else np.nan
        for name, window in (("first", own_steps["step"] <= 5), ("final", own_steps["step"] > own_steps["step"].max() - 5)):
            for figure in ("label_accuracy", "reward_accuracy", "vote_entropy", "stopped"):
                row[f"{figure}_{name}"] = float(own_steps[window][figure].mean()) if len(own_steps) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def comparison(steps: pd.DataFrame, evaluations: pd.DataFrame, runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """What a user may do with the questions that are trained on, a row each: answer without training, or train.

    `tokens` are those of the rollouts, or without training those of its samples; `token_share` is their share of the rollouts of
    `baseline`. The best step is chosen by its evaluation, which reads the answers. `gain` is of mean@k, `majority_gain` of
    majority@k, against the first run without steps: one sample of the model as it is, and a vote of k of them.
    """
    rollouts = steps.assign(tokens=rollout_tokens(steps)).groupby(["run", "seed"])["tokens"].sum().groupby("run").mean()
    trained = evaluations[evaluations["benchmark"] == "trained"]
    plain = runs.loc[runs["steps"] == 0, "run"].head(1)
    before = trained[trained["run"].isin(plain) & (trained["step"] == 0)]
    rows = []
    for run, part in runs.groupby("run", sort=False):
        first, untrained = part.iloc[0], not part["steps"].any()
        for end in ("last",) if untrained else ("last", "best"):
            found = _at(trained[trained["run"] == run], part.assign(at=part["steps" if end == "last" else "best"]))
            tokens = float(part["answering_tokens"].mean() if untrained else rollouts[run])
            row = {"run": run, "step": "no training" if untrained else end, "seeds": len(part), "samples": first["samples"]}
            row |= {"temperature": first["temperature"], "tokens": tokens}
            row |= {name: np.nan if untrained else first[name] for name in ("votes", "trained")}
            row["token_share"] = tokens / rollouts[baseline] if baseline in rollouts else np.nan
            for metric in METRICS:
                row |= mean_over_seeds(_values(found, metric), SHARE).columns(metric)
            shared = sorted(set(found["seed"]) & set(before["seed"]))
            for name, metric in (("gain", "mean"), ("majority_gain", "majority")):
                if shared and run not in set(plain):
                    ours, theirs = (_values(frame[frame["seed"].isin(shared)], metric) for frame in (found, before))
                    row |= difference_over_seeds(ours, theirs, SHARE).columns(name)
            rows.append(row)
    return pd.DataFrame(rows)


def comparison_markdown(table: pd.DataFrame) -> str:
    """The comparison for people, with what each of its rows is."""

    def what(row: pd.Series) -> str:
        if row["step"] == "no training":
            return f"no training, temperature {row['temperature']:g}, k = {row['samples']}"
        return f"{row['votes']:.0f} votes, {row['trained']:.0f} trained; {row['step']} step, k = {row['samples']}"

    cells = {name: interval_cells(table, name, 100, 1) for name in METRICS}
    gains = {name: interval_cells(table, name, 100, 1) if name in table else "" for name in ("gain", "majority_gain")}
    shown = {"run": table["run"], "what it is": [what(row) for _, row in table.iterrows()]}
    shown |= {f"{name}@k": cells[name] for name in METRICS}
    shown |= {"mean@k: change (points)": gains["gain"], "majority@k: change (points)": gains["majority_gain"]}
    shown["tokens"] = [f"{100 * share:.0f} %" for share in table["token_share"]]
    return f"""{pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True)}

mean@k: one sample's accuracy; majority@k: of a vote of k samples; pass@k: any of k is right. Changes are against the model as it
is: one sample, and a vote of as many samples as the first row without training has. Tokens: of all rollouts of the training
(what its updates read is not among them), or of the k samples without it, as a share of the baseline's. The best step is chosen
by the answers: a bound, which a run without labels cannot know. Intervals of 95 % hold the choice of questions and of seeds.
"""


def per_seed(evaluations: pd.DataFrame, runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """mean@k of every run and seed, before, last and best, on both benchmarks, with the difference to `baseline`."""
    frames = {"before": runs.assign(at=0), "last": runs.assign(at=runs["steps"]), "best": runs.assign(at=runs["best"])}
    rows = []
    for name, wanted in frames.items():
        found = _at(evaluations, wanted)
        means = found.groupby(["run", "seed", "benchmark"], sort=False)[list(METRICS)].mean().reset_index()
        rows.append(means.assign(at=name))
    table = pd.concat(rows, ignore_index=True)
    other = table[table["run"] == baseline].set_index(["seed", "benchmark", "at"])["mean"]
    keys = pd.MultiIndex.from_frame(table[["seed", "benchmark", "at"]])
    return table.assign(against_baseline=table["mean"].to_numpy() - other.reindex(keys).to_numpy())


def learning_rates(folders: Sequence[Path], used: float) -> pd.DataFrame:
    """Mean accuracy on the trained benchmark by learning rate and step, over all seeds.

    `chosen` has the highest at the end; `used` is the one that the configuration trains with.
    """
    _, evaluations, runs = read_runs(folders)
    rates = runs.assign(learning_rate=[read_json(folder / "run.json")["settings"]["learning_rate"] for folder in folders])
    trained = evaluations[evaluations["benchmark"] == "trained"].merge(rates, on=["run", "seed"])
    means = trained.groupby(["learning_rate", "step"])["mean"].mean().unstack()
    last = means.iloc[:, -1]
    means.columns = [f"step {step}" for step in means.columns]
    return means.assign(chosen=last == last.max(), used=np.isclose(means.index, used)).reset_index()


def markdown(table: pd.DataFrame) -> str:
    """The summary for people."""

    def cell(name: str) -> pd.Series | str:
        return interval_cells(table, name, 100, 1) if name in table else ""

    def percent(name: str) -> pd.Series:
        return table[name].map(lambda v: "" if np.isnan(v) else f"{100 * v:.0f} %") if name in table else ""

    def first_and_final(name: str, unit: Callable[[float], str]) -> list[str]:
        pairs = zip(table[f"{name}_first"], table[f"{name}_final"], strict=True)
        return ["" if np.isnan(first) else f"{unit(first)}, {unit(final)}" for first, final in pairs]

    return (
        pd.DataFrame(
            {
                "run": table["run"],
                "seeds": table["seeds"],
                "mean@k before": cell("trained_before_mean"),
                "last step": cell("trained_last_mean"),
                "gain (points)": cell("trained_last_gain"),
                "against baseline (points)": cell("against_baseline"),
                "best step": cell("trained_best_mean"),
                "majority@k last": cell("trained_last_majority"),
                "majority@k: change (points)": cell("trained_last_majority_change"),
                "pass@k last": cell("trained_last_pass"),
                "pass@k: change (points)": cell("trained_last_pass_change"),
                "pass@k against baseline": cell("pass_against_baseline"),
                "untouched: change (points)": cell("untouched_last_gain"),
                "untouched majority@k: change (points)": cell("untouched_last_majority_change"),
                "untouched against baseline": cell("untouched_against_baseline"),
                "questions rewarded": percent("rewarded_share"),
                "labels right among them": percent("rewarded_label_accuracy"),
                "rollout tokens of baseline": percent("token_share"),
                "label accuracy first, final": first_and_final("label_accuracy", lambda v: f"{100 * v:.0f} %"),
                "vote entropy first, final": first_and_final("vote_entropy", "{:.2f}".format),
                "votes that stop before their limit first, final": first_and_final("stopped", lambda v: f"{100 * v:.0f} %"),
            }
        ).to_markdown(index=False, disable_numparse=True)
        + "\n"
    )


def _at(evaluations: pd.DataFrame, wanted: pd.DataFrame) -> pd.DataFrame:
    """Evaluations at each run's and seed's step `at`."""
    return evaluations.merge(wanted[["run", "seed", "at"]], left_on=["run", "seed", "step"], right_on=["run", "seed", "at"])


def _values(evaluations: pd.DataFrame, metric: str) -> np.ndarray:
    """Values [S, Q] of a run, by seed and question, both in order."""
    return evaluations.pivot(index="seed", columns="problem_id", values=metric).to_numpy(float)
