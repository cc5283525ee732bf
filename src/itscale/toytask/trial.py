"""A whole toy task from one seed, without the workflow: made, sampled, graded and measured, to see what a seed decides."""

from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from itscale.data.journal import fingerprint, scratch_folder
from itscale.data.records import SAMPLES, Pool, Unit, join_by_key, make_pool, manifest_path, read_table
from itscale.drivers.generate import Plan, generate_shard
from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Sampling
from itscale.grading.clusters import grade_table
from itscale.models.verifier import score_table
from itscale.toytask import language_model, reward_model
from itscale.toytask.sanity import measure
from itscale.toytask.splits import SplitSettings, build_splits


def trial(
    seed: int,
    folder: Path,
    benchmarks: SplitSettings,
    language: language_model.LanguageModelSettings,
    reward: reward_model.RewardModelSettings,
    plans: dict[tuple[str, str], Plan],
    engine: EngineSettings,
) -> pd.DataFrame:
    """Train a toy task's two models, draw its pools, and measure it against its sanity checks.

    A killed trial goes on from what is complete in `folder`, which is removed at the end.

    Args:
        plans: what to draw, by (split, kind): test parallel and chain, shifted parallel, predictor_train parallel.
        engine: the engine, its model aside.

    Returns:
        The table of `sanity.measure` with the seed in front.

    Raises:
        UserError: the folder belongs to a trial with other settings, or to one that is under way.
    """
    settings = [seed, *(asdict(s) for s in (benchmarks, language, reward, engine)), [asdict(plan) for plan in plans.values()]]
    with scratch_folder(folder, fingerprint(settings)):
        splits = build_splits(seed, benchmarks)
        models = {"language": folder / "language_model", "reward": folder / "reward_model"}
        exclude = {p.question for split in splits.values() for p in split}
        if not models["language"].exists():
            language_model.train(models["language"], seed, language, exclude)
        with open_engine(replace(engine, model=str(models["language"]))) as opened:
            for (split, kind), plan in plans.items():
                path = folder / f"{split}_{kind}.parquet"
                if not manifest_path(path).exists():  # written last
                    generate_shard(splits[split], opened, plan, path, {})

        def samples(split: str, kind: str) -> pd.DataFrame:
            return read_table(folder / f"{split}_{kind}.parquet", SAMPLES)

        if not models["reward"].exists():
            drawn, problems = samples("predictor_train", "parallel"), splits["predictor_train"]
            reward_model.train(models["reward"], models["language"], drawn, problems, seed, reward, exclude)

        def pool(split: str, kind: str, unit: Unit) -> Pool:
            table, problems = samples(split, kind), splits[split]
            graded = join_by_key(table, grade_table(table, problems), "grades")
            return make_pool(join_by_key(graded, score_table(table, problems, models["reward"], 256)[0], "scores"), unit)

        measured = measure(
            pool("test", "parallel", Unit.SAMPLE), pool("test", "chain", Unit.ROUND), pool("shifted", "parallel", Unit.SAMPLE)
        )
        return measured.assign(seed=seed)[["seed", *measured.columns]]


def plans_of(pools: dict[str, dict[str, dict[str, int]]], sampling: Sampling, seed: int) -> dict[tuple[str, str], Plan]:
    """The configuration's section `pools` as plans, each in one shard, of what a trial needs."""
    needed = (("test", "parallel"), ("test", "chain"), ("shifted", "parallel"), ("predictor_train", "parallel"))
    return {
        (split, kind): Plan(kind, sampling=sampling, seed=seed, **{k: v for k, v in pools[split][kind].items() if k != "shards"})
        for split, kind in needed
    }
