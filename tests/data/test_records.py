"""Tables and pools: manifests, hashes, and errors that name the row."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from itscale.data.records import (
    CONFIDENCE,
    POOL,
    PROBLEMS,
    SAMPLES,
    Problem,
    Unit,
    fewer,
    join_by_key,
    make_pool,
    manifest_path,
    read_any_pool,
    read_blocks,
    read_json,
    read_pool,
    read_problems,
    read_table,
    well_formed,
    write_blocks,
    write_problems,
    write_table,
)
from itscale.errors import UserError


def pool_frame(problems: int = 2, chains: int = 1, rounds: int = 1, samples: int = 3) -> pd.DataFrame:
    index = pd.MultiIndex.from_product(
        [[f"p{i}" for i in range(problems)], range(chains), range(rounds), range(samples)],
        names=["problem_id", "chain", "round", "sample"],
    )
    frame = index.to_frame(index=False)
    n = len(frame)
    return frame.assign(
        seed=0,
        text="",
        finish_reason="stop",
        failure=None,
        tokens_estimated=False,
        prompt_tokens=5,
        cached_prompt_tokens=0,
        completion_tokens=np.arange(n),
        answer="1",
        cluster=0,
        verdict=["correct", "wrong"] * (n // 2) + ["unanswered"] * (n % 2),
        score_mean=0.5,
        score_last=0.5,
        verifier_tokens=7,
    )


def test_round_trip(tmp_path):
    problems = [Problem("a", "1+1", "2", "easy"), Problem("b", "2+2", "4")]
    write_problems(tmp_path / "p.parquet", problems)
    assert read_problems(tmp_path / "p.parquet") == problems


def test_changed_data_is_refused(tmp_path):
    write_problems(tmp_path / "p.parquet", [Problem("a", "1+1", "2")])
    data = bytearray((tmp_path / "p.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "p.parquet").write_bytes(bytes(data))
    with pytest.raises(UserError, match="SHA-256"):
        read_table(tmp_path / "p.parquet", PROBLEMS)


def test_data_without_a_manifest_is_not_complete(tmp_path):
    write_problems(tmp_path / "p.parquet", [Problem("a", "1+1", "2")])
    manifest_path(tmp_path / "p.parquet").unlink()
    with pytest.raises(UserError, match=r"p\.json does not exist"):
        read_problems(tmp_path / "p.parquet")


def test_missing_column_is_named(tmp_path):
    write_table(tmp_path / "t.parquet", pd.DataFrame({"problem_id": ["a"]}), PROBLEMS.remove(1).remove(1).remove(1).remove(1))
    with pytest.raises(UserError, match="question, answer, level"):
        read_table(tmp_path / "t.parquet", PROBLEMS)


def test_blocks_are_written_one_after_the_other_and_read_likewise(tmp_path):
    frame = pool_frame(problems=700)
    write_blocks(tmp_path / "t.parquet", (frame.iloc[i : i + 300] for i in range(0, len(frame), 300)), POOL, lambda: {"a": 1})
    assert read_table(tmp_path / "t.parquet", POOL)["completion_tokens"].tolist() == list(range(2100))
    blocks = list(read_blocks(tmp_path / "t.parquet", SAMPLES))
    assert [len(b) for b in blocks] == [256, 44] * 7 and list(blocks[0].columns) == SAMPLES.names
    assert read_json(manifest_path(tmp_path / "t.parquet"))["a"] == 1


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "t.parquet"
    write_problems(path, [Problem("a", "1+1", "2")])
    before = path.read_bytes()

    def blocks():
        yield pd.DataFrame([["b", "1+1", "2", "", []]], columns=PROBLEMS.names)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        write_blocks(path, blocks(), PROBLEMS)
    assert path.read_bytes() == before and read_problems(path)[0].problem_id == "a"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.json", "t.parquet"]


def test_a_pool_is_read_without_its_texts(tmp_path):
    """A table whose text and answer are missing altogether makes the same arrays."""
    frame = pool_frame()
    write_table(tmp_path / "whole.parquet", frame, POOL)
    bare = pa.schema([field for field in POOL if field.name not in ("text", "answer", "seed", "score_last", "finish_reason")])
    write_table(tmp_path / "bare.parquet", frame, bare)
    one, two = (read_pool(tmp_path / f"{name}.parquet", Unit.SAMPLE) for name in ("whole", "bare"))
    assert one.completion_tokens.tolist() == two.completion_tokens.tolist() and (one.correct == two.correct).all()


def test_any_pool_is_read_by_its_folder_too(tmp_path):
    write_table(tmp_path / "pool.parquet", pool_frame(chains=2, rounds=3, samples=1), POOL)
    assert read_any_pool(tmp_path).unit is read_any_pool(tmp_path / "pool.parquet").unit is Unit.ROUND
    write_table(tmp_path / "samples.parquet", pool_frame(), SAMPLES)
    with pytest.raises(UserError, match=r"is another table than the one wanted here: it has the columns .*Give the file"):
        read_any_pool(tmp_path / "samples.parquet")


def test_half_a_surrogate_pair_is_written_as_an_escape_and_a_torn_pair_is_joined(tmp_path):
    assert well_formed("a\ud83d\ude00b") == "a😀b" and well_formed("é\ud83d!") == "é\\ud83d!" and well_formed("aé") == "aé"
    frame = pool_frame().assign(text="x \ud83d y", answer="\ude00")
    write_table(tmp_path / "t.parquet", frame, POOL)
    found = read_table(tmp_path / "t.parquet", POOL)
    assert set(found["text"]) == {"x \\ud83d y"} and set(found["answer"]) == {"\\ude00"}


def test_a_table_from_before_a_column_was_there_is_read(tmp_path):
    old = POOL.remove(POOL.get_field_index("failure")).remove(POOL.get_field_index("tokens_estimated") - 1)
    write_table(tmp_path / "t.parquet", pool_frame(), old)
    assert read_table(tmp_path / "t.parquet", POOL)["failure"].isna().all()
    write_table(tmp_path / "u.parquet", pool_frame().drop(columns="failure"), POOL)
    assert read_table(tmp_path / "u.parquet", POOL)["failure"].isna().all()


def test_pool_is_dense_in_submission_order():
    frame = pool_frame()
    pool = make_pool(frame.sample(frac=1, random_state=1), Unit.SAMPLE)
    assert pool.completion_tokens.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert pool.correct.tolist() == [[True, False, True], [False, True, False]]
    assert pool.problem_ids == ("p0", "p1")


def test_chain_pool_has_a_row_per_chain():
    pool = make_pool(pool_frame(chains=2, rounds=3, samples=1), Unit.ROUND)
    assert pool.problem.tolist() == [0, 0, 1, 1] and pool.size == 3


def test_a_question_may_have_fewer_samples_and_a_chain_no_fewer_rounds():
    pool = make_pool(pool_frame().iloc[:-1], Unit.SAMPLE)
    assert pool.counts.tolist() == [3, 2] and pool.have.tolist() == [3, 2] and pool.size == 3
    assert pool.completion_tokens.tolist() == [[0, 1, 2], [3, 4, 0]] and pool.cluster[1, 2] == -1
    assert np.isnan(pool.score[1, 2]) and not pool.correct[1, 2] and pool.there.tolist() == [[True] * 3, [True, True, False]]
    assert fewer(pool).startswith("1 of 2 questions have fewer than 3 samples (2 at least): a rule that asks for more gets")
    assert pool.subset(np.array([0])).first(2).counts is None and fewer(make_pool(pool_frame(), Unit.SAMPLE)) == ""
    with pytest.raises(UserError, match="numbered from 0 on in every row"):
        make_pool(pool_frame().drop(index=[3]), Unit.SAMPLE)
    with pytest.raises(UserError, match="p1, chain 0 has 2 rounds where others have 3"):
        make_pool(pool_frame(rounds=3, samples=1).iloc[:-1], Unit.ROUND)


def test_join_names_what_is_missing_or_doubled():
    frame = pool_frame()[["problem_id", "chain", "round", "sample", "seed"]]
    other = pool_frame()[["problem_id", "chain", "round", "sample", "text"]]
    assert len(join_by_key(frame, other, "x")) == 6
    with pytest.raises(UserError, match="1 sample"):
        join_by_key(frame, other.iloc[1:], "x")
    with pytest.raises(UserError, match="comes twice"):
        join_by_key(pd.concat([frame, frame.iloc[:1]]), other, "x")
    assert set(POOL.names) - set(pool_frame().columns) == set(CONFIDENCE)
