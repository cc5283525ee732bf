"""The model's own confidence in the place of verifier scores: mapped to [0, 1] by what the calibration split says of it."""

from collections.abc import Mapping
from dataclasses import replace

from itscale.data.records import Pool, Unit
from itscale.policies.calibration import ScoreMap
from itscale.policies.markovscale import fit_score_map


def map_of(pools: Mapping[Unit, Pool]) -> ScoreMap:
    """How often answers of such a confidence are right on the calibration split: of its samples, else of its rounds."""
    return fit_score_map(pools.get(Unit.SAMPLE) or pools[Unit.ROUND])


def mapped(pools: Mapping[Unit, Pool], score_map: ScoreMap | None) -> dict[Unit, Pool]:
    """The pools with their scores mapped; as they are without a map."""
    if score_map is None:
        return dict(pools)
    return {unit: replace(pool, score=score_map.of(pool.score)) for unit, pool in pools.items()}
