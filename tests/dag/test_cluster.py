"""What a cluster would do with jobs: a table, and a sentence for each thing that cannot run."""

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

pytest.importorskip("snakemake_executor_plugin_slurm")

from itscale.dag.cluster import (
    Cluster,
    Request,
    Settings,
    largest,
    longest,
    offers_of,
    partitions_file,
    place,
    problems,
    read_partitions,
    read_settings,
    requests_in,
    submitted_at_once,
    table,
)
from itscale.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
# Limits of the GPU partition are tighter than those of the other: by how well a job fills it, every job would go there.
FILE = """
partitions:
  long: {max_runtime: 7-00:00:00, max_mem_mb: 512000}
  gpus: {max_runtime: 1440, max_mem_mb: 64000, max_gpu: 2, max_tasks: 0}
"""
SETTINGS = Settings(Path("partitions.yaml"), jobs=50, retries=2)
# What `scontrol show partition -o`, `sinfo -h -e -o %R|%c|%m|%G` and `scontrol show config` print, shortened.
PARTITIONS = """\
PartitionName=long AllowAccounts=ALL MaxTime=7-00:00:00 PriorityTier=10 PreemptMode=OFF State=UP MaxMemPerNode=UNLIMITED
PartitionName=gpus AllowAccounts=ml,bio MaxTime=1-12:00:00 PriorityTier=10 PreemptMode=OFF State=UP MaxMemPerNode=UNLIMITED
PartitionName=spare AllowAccounts=ALL MaxTime=UNLIMITED PriorityTier=1 PreemptMode=CANCEL State=UP MaxMemPerNode=4000
"""
NODES = "long|64|257000|(null)\nlong|32|512000|(null)\ngpus|48|128000|gpu:a100:4(S:0-1),gpu:v100:2\nspare|64|257000|(null)\n"
CONFIG = {"PreemptType": "preempt/partition_prio", "MinJobAge": "300 sec"}


def job(name="replay", threads=1, **resources):
    return Request(name, {"mem_mb": 1000, "runtime": 30, "gpu": 0, "tasks": 1, "nodes": 1, **resources}, threads)


def gpu_job(count=1, **resources):
    return job(**{"name": "samples", "gpu": count, "tasks": 0, "cpus_per_task": 2 + count, **resources})


@pytest.fixture
def partitions(tmp_path):
    (tmp_path / "partitions.yaml").write_text(FILE)
    return read_partitions(tmp_path / "partitions.yaml")


@pytest.fixture
def cluster():
    return Cluster(offers_of(PARTITIONS, NODES, CONFIG), frozenset({"ml", "bio"}), "ml", {"bio": 10}, {"bio": 4}, 300, True)


def test_jobs_without_gpus_never_go_to_a_partition_with_gpus(partitions):
    for memory in (100, 1000, 63_000, 64_000):
        for minutes in (1, 1000, 1440):
            assert place(job(mem_mb=memory, runtime=minutes), partitions) == "long"
    assert place(gpu_job(), partitions) == "gpus"
    assert (longest(partitions, 0), longest(partitions, 2), longest(partitions, 4)) == (7 * 1440, 1440, inf)
    assert (largest(partitions, 0), largest(partitions, 1)) == (512_000, 64_000)


def test_a_file_that_lets_them_go_there_is_refused(tmp_path):
    (tmp_path / "p.yaml").write_text(FILE.replace(", max_tasks: 0", ""))
    wrong = job(mem_mb=64_000, runtime=1440)
    assert place(wrong, read_partitions(tmp_path / "p.yaml")) == "gpus"
    (found,) = problems([wrong, wrong], SETTINGS, read_partitions(tmp_path / "p.yaml"), None)
    assert "replay uses no GPU and would go to gpus" in found and "max_tasks: 0" in found


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (gpu_job(runtime=5340), "5340 minutes, and gpus, the largest partition with so many GPUs in partitions.yaml, allows 14"),
        (job(mem_mb=600_000), "asks for 600000 MB, and long, the largest partition without GPUs"),
        (gpu_job(4), "asks for 4 GPUs, and no partition of partitions.yaml is for that"),
        (gpu_job(runtime=1440, work_minutes=5340), "as 4 jobs after each other; say `--retries 4` (the profile has 2)"),
    ],
)  # fmt: skip
def test_what_no_partition_takes_is_refused_with_need_and_limit(partitions, request_, words):
    (found,) = problems([request_], SETTINGS, partitions, None)
    assert words in found


def test_what_fits_is_refused_by_nothing(partitions, cluster):
    fine = [job(), gpu_job(2, runtime=1440, work_minutes=4000)]
    assert problems(fine, SETTINGS, partitions, cluster) == problems(fine, SETTINGS, partitions, None) == []


def test_what_the_cluster_says_is_read(cluster):
    long, gpus, spare = cluster.offers.values()
    assert (long.minutes, long.memory, long.cpus, long.gpus, long.cancels) == (7 * 1440, 512_000, 64, 0, False)
    assert (gpus.minutes, gpus.gpus, gpus.models, gpus.accounts) == (36 * 60, 6, {"a100", "v100"}, {"ml", "bio"})
    assert (spare.minutes, spare.memory, spare.cancels) == (inf, 4000, True)
    assert not offers_of(PARTITIONS, NODES, {"PreemptType": "preempt/none"})["spare"].cancels


@pytest.mark.parametrize(
    ("request_", "change", "words"),
    [
        (job(slurm_account="mll"), {}, "slurm_account is 'mll', and the accounts that you have are bio, ml"),
        (job(), {"default_account": None}, "no slurm_account is given"),
        (job(slurm_partition="shrot"), {}, "would go to partition shrot, which the cluster lacks: it has long, gpus, spare"),
        (job(slurm_partition="spare"), {}, "partition spare cancels jobs that others preempt"),
        (gpu_job(gpu_model="h100"), {}, "asks for GPUs of type 'h100', and partition gpus has a100, v100"),
        (job(), {"job_age": 60}, "forgets a finished job after 60 s (MinJobAge)"),
        (job(), {"job_age": 60, "accounting": False}, "no accounting remembers it longer"),
    ],
)  # fmt: skip
def test_what_the_cluster_would_not_run_is_refused(partitions, cluster, request_, change, words):
    (found,) = problems([request_], SETTINGS, partitions, replace(cluster, **change))
    assert words in found


def test_limits_that_the_cluster_does_not_give_are_refused(tmp_path, cluster):
    (tmp_path / "p.yaml").write_text(FILE.replace("7-0", "8-0"))
    (found,) = problems([job()], SETTINGS, read_partitions(tmp_path / "p.yaml"), cluster)
    assert "partitions.yaml gives long max_runtime: 11520, and the cluster allows 10080 minutes" in found


def test_no_more_jobs_are_submitted_than_the_cluster_takes(cluster):
    assert submitted_at_once([job()], SETTINGS, cluster) == submitted_at_once([job()], SETTINGS, None) == 50
    assert submitted_at_once([job(), job(slurm_account="bio")], SETTINGS, cluster) == 6  # ten, and four are there
    assert submitted_at_once([job(slurm_account="bio")], SETTINGS, replace(cluster, queued={"bio": 12})) == 1


def test_the_table_has_a_row_for_each_rule_and_partition(partitions):
    jobs = [job(), job(mem_mb=2500, threads=3), gpu_job(2), gpu_job(4)]
    columns = ["rule", "jobs", "partition", "GPUs", "CPUs", "memory, GB", "time, minutes"]
    rows = [list(row.values()) for row in table(jobs, partitions)]
    assert list(table(jobs, partitions)[0]) == columns
    assert rows == [
        ["replay", 2, "long", 0, 3, 2.5, 30],
        ["samples", 1, "gpus", 2, 4, 1.0, 30],
        ["samples", 1, "none", 4, 6, 1.0, 30],
    ]


def test_partitions_are_written_as_the_plug_in_reads_them(tmp_path, cluster):
    (tmp_path / "p.yaml").write_text(partitions_file(cluster))
    written = read_partitions(tmp_path / "p.yaml")
    assert [p.name for p in written] == ["long", "gpus"]  # the other cancels
    assert problems([job(), gpu_job(4, gpu_model="v100")], SETTINGS, written, cluster) == []
    assert place(job(runtime=2160, mem_mb=128_000), written) == "long"


def test_a_dry_run_is_read():
    said = """\
[Thu Nov 26 19:11:02 2026]
rule samples:
    output: a.parquet
    wildcards: benchmark=test
    threads: 3
    resources: tmpdir=/tmp, mem_mb=64000, runtime=157, gpu=2, tasks=0, nodes=1

[Thu Nov 26 19:11:02 2026]
rule figure_a:
    resources: tmpdir=/tmp, mem_mb=1000, runtime=10, gpu=0, tasks=0, nodes=1
"""
    (request,) = requests_in(said)
    assert (request.name, request.threads, request.gpus, request.number("runtime")) == ("samples", 3, 2, 157)


@pytest.mark.parametrize(
    ("content", "words"),
    [("partitions: {a: {max_runtim: 5}}", "max_runtim"), ("partitions: [a]", "cannot be read"), ("{", "cannot be read")],
)
def test_a_wrong_file_of_partitions_is_one_sentence(tmp_path, content, words):
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(UserError, match=words):
        read_partitions(tmp_path / "p.yaml")


def test_the_shipped_profile_is_read(tmp_path):
    shipped = read_settings(ROOT / "profiles/slurm")
    assert (shipped.jobs, shipped.status_command) == (50, "squeue")
    assert [p.name for p in read_partitions(ROOT / shipped.partitions)] == ["cpu", "gpu"]
    with pytest.raises(UserError, match="give the folder of a profile"):
        read_settings(tmp_path)
