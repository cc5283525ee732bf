"""A whole toy task from one seed, without the workflow: made, sampled, graded and measured, to see what a seed decides."""

import os
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from itscale.data.journal import fingerprint, scratch_folder
from itscale.data.records import SAMPLES, Pool, Unit, join_by_key, make_pool, manifest_path, read_table, refuse_full_folder
from itscale.drivers.generate import Plan, generate_shard
from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Sampling
from itscale.grading.clusters import grade_table
from itscale.models.verifier import score_table
from itscale.toytask import language_model, reward_model
from itscale.toytask.sanity import measure
from itscale.toytask.shipped import MODELS, pack
from itscale.toytask.splits import SplitSettings, build_splits


def trial(
    seed: int,
    folder: Path,
    out: Path,
    split: SplitSettings,
    language: language_model.LanguageModelSettings,
    reward: reward_model.RewardModelSettings,
    plans: dict[tuple[str, str], Plan],
    engine: EngineSettings,
) -> pd.DataFrame:
    """Train a toy task's models, draw its pools, and measure it against its sanity checks.

    The weak reward model is the other one trained for a quarter of its steps. A killed trial goes on from what is complete in
    `folder`, which is removed at the end.

    Args:
        out: folder for the three models, in the form of the shipped ones.
        plans: what to draw, by (split, kind): test parallel and chain, shifted parallel, predictor_train parallel.
        engine: the engine, its model aside.

    Returns:
        The table of `sanity.measure` with the seed in front.

    Raises:
        UserError: `out` is there already, or `folder` belongs to a trial with other settings or to one that is under way.
    """
    refuse_full_folder(out)
    settings = [seed, *(asdict(s) for s in (split, language, reward, engine)), [asdict(plan) for plan in plans.values()]]
    with scratch_folder(folder, fingerprint(settings)):
        splits = build_splits(seed, split)
        trained = {name: folder / "trained" / name for name in MODELS}
        models = {name: folder / "models" / name for name in MODELS}
        exclude = {p.question for split in splits.values() for p in split}
        if not trained["language_model"].exists():
            language_model.train(trained["language_model"], seed, language, exclude)
        if not models["language_model"].exists():
            pack(trained["language_model"], models["language_model"])
        with open_engine(replace(engine, model=str(models["language_model"]))) as opened:
            for (split, kind), plan in plans.items():
                path = folder / f"{split}_{kind}.parquet"
                if not manifest_path(path).exists():  # written last
                    generate_shard(splits[split], opened, plan, path, {})

        def samples(split: str, kind: str) -> pd.DataFrame:
            return read_table(folder / f"{split}_{kind}.parquet", SAMPLES)

        for name, steps in (("reward_model", reward.steps), ("weak_reward_model", weak_steps(reward.steps))):
            if not trained[name].exists():
                drawn, problems = samples("predictor_train", "parallel"), splits["predictor_train"]
                chosen = replace(reward, steps=steps)
                reward_model.train(trained[name], trained["language_model"], drawn, problems, seed, chosen, exclude)
            if not models[name].exists():
                pack(trained[name], models[name])

        def pool(split: str, kind: str, unit: Unit, verifier: str = "reward_model") -> Pool:
            table, problems = samples(split, kind), splits[split]
            graded = join_by_key(table, grade_table(table, problems), "grades")
            return make_pool(join_by_key(graded, score_table(table, problems, models[verifier], 256)[0], "scores"), unit)

        measured = measure(
            pool("test", "parallel", Unit.SAMPLE),
            pool("test", "parallel", Unit.SAMPLE, "weak_reward_model"),
            pool("test", "chain", Unit.ROUND),
            pool("shifted", "parallel", Unit.SAMPLE),
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists():
            out.rmdir()
        os.replace(folder / "models", out)
        return measured.assign(seed=seed)[["seed", *measured.columns]]


def weak_steps(steps: int) -> int:
    """Steps of the weak reward model: a quarter of the other's."""
    return max(1, steps // 4)


def plans_of(pools: dict[str, dict[str, dict[str, int]]], sampling: Sampling, seed: int) -> dict[tuple[str, str], Plan]:
    """The configuration's section `pools` as plans, each in one shard, of what a trial needs."""
    needed = (("test", "parallel"), ("test", "chain"), ("shifted", "parallel"), ("predictor_train", "parallel"))
    return {
        (split, kind): Plan(kind, sampling=sampling, seed=seed, **{k: v for k, v in pools[split][kind].items() if k != "shards"})
        for split, kind in needed
    }
