"""The model's own confidence in the place of verifier scores: mapped to [0, 1] by what the calibration split says of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.optimize import isotonic_regression

from itscale.data.records import CONFIDENCE, POOL, Pool, Unit, read_table
from itscale.drivers.assess import OwnScore
from itscale.errors import UserError
from itscale.models.scores import P_TRUE
from itscale.policies.calibration import ScoreMap
from itscale.policies.frozen import known_from_json
from itscale.policies.markovscale import fit_score_map
from itscale.studies.calibrate import of_verifier


def fit_score(values: np.ndarray, how: str, correct: np.ndarray | None = None) -> ScoreMap:
    """The rising map from a confidence to a score in [0, 1] that calibration samples decide; NaN stays NaN.

    `rank`: the share of the calibration samples below, ties shared, never 0 or 1. `isotonic`: how often such samples are correct,
    the rising fit of least squares (ours).

    Args:
        values: confidence [n] of the calibration samples; NaN where there is none.
        how: `rank` or `isotonic`.
        correct: [n] bool, which `isotonic` reads.

    Raises:
        UserError: another map, or no value.
    """
    known = ~np.isnan(values)
    if not known.any():
        raise UserError("the calibration samples have no confidence: draw with sampling: {confidence: true}, or import it.")
    knots, place, count = np.unique(values[known], return_inverse=True, return_counts=True)
    if how == "rank":
        return ScoreMap(knots, (np.cumsum(count) - count / 2) / count.sum())
    if how == "isotonic":
        return ScoreMap(knots, isotonic_regression(np.bincount(place, correct[known]) / count, weights=count).x)
    raise UserError(f"there is no map {how!r} from confidence to score: choose rank or isotonic.")


def map_of(pools: Mapping[Unit, Pool]) -> ScoreMap:
    """How often answers of such a confidence are right on the calibration split: of its samples, else of its rounds."""
    return fit_score_map(pools.get(Unit.SAMPLE) or pools[Unit.ROUND])


def map_within(pool: Path, column: str) -> ScoreMap | None:
    """The map that made the scores of a calibration pool out of a confidence beside them; None where it holds none."""
    table = read_table(pool, pa.schema([POOL.field(name) for name in (column, "score_mean")])).dropna()
    knots, first = np.unique(table[column], return_index=True)
    return ScoreMap(knots, table["score_mean"].to_numpy()[first]) if len(knots) else None


def mapped(pools: Mapping[Unit, Pool], score_map: ScoreMap | None) -> dict[Unit, Pool]:
    """The pools with their scores mapped; as they are without a map."""
    if score_map is None:
        return dict(pools)
    return {unit: replace(pool, score=score_map.of(pool.score)) for unit, pool in pools.items()}


def made_with(record: dict[str, Any] | None, column: str | None) -> dict[str, Any] | None:
    """The part of a calibration file that was made with a confidence; all of it where none is named, or it is the first."""
    return record if None in (record, column) or record.get("verifier") == column else of_verifier(record, column)


def live_score(record: Mapping[str, Any] | None, column: str | None) -> OwnScore | None:
    """What scores samples while they are drawn: a confidence, by the map of a calibration file where there is one.

    Args:
        record: content of what `itscale calibrate` wrote, that part of it which was made with the confidence.
        column: which confidence; without it the one that stands in the place of the calibration's verifier, if one does. Nothing
            of it is in the log-probabilities where it is `p_true`, which a model is asked for.

    Raises:
        UserError: the calibration has no map of it.
    """
    if column is None and record is not None and record.get("verifier") in CONFIDENCE:
        column = record["verifier"]
    if column in (None, P_TRUE):
        return None
    if record is None:
        return OwnScore(column)
    if (found := known_from_json(record["known"]).score_map) is None:
        raise UserError(
            f"the calibration has no map from {column} to scores: run `itscale calibrate` anew on samples that keep it."
        )
    return OwnScore(column, found)
