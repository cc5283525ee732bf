"""What a SLURM cluster will do with the workflow's jobs, before any is queued: where each goes, and what cannot run.

Partitions are chosen by the executor plug-in's own code, so the table says what it will do. What a cluster allows is read from
`scontrol`, `sinfo`, `sacctmgr` and `squeue`, where they answer.
"""

import getpass
import logging
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, isinf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from itscale.dag.planning import call_snakemake
from itscale.errors import UserError

if TYPE_CHECKING:
    from snakemake_executor_plugin_slurm.partitions import Partition

# The executor asks for the state of its jobs at the latest after so many seconds; a finished job that the controller has
# forgotten by then is waited for without end.
_LONGEST_PAUSE = 180


@dataclass(frozen=True, slots=True)
class Request:
    """One job, as the executor plug-in looks at it (`name`, `threads`, `resources`)."""

    name: str
    resources: Mapping[str, Any]
    threads: int = 1

    def number(self, key: str) -> float:
        """A resource as a number; 0 where the job does not ask for it."""
        try:
            return float(self.resources.get(key) or 0)
        except (TypeError, ValueError):
            return 0.0

    @property
    def gpus(self) -> int:
        from snakemake_executor_plugin_slurm.partitions import parse_gpu_requirements

        return parse_gpu_requirements(self)[0]

    @property
    def cpus(self) -> int:
        return int(self.number("cpus_per_task")) or self.threads

    @property
    def account(self) -> str | None:
        return self.resources.get("slurm_account") or None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a profile says of submission."""

    partitions: Path
    jobs: int
    retries: int = 0
    status_command: str = "squeue"
    first_check: int = 40
    default_resources: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offer:
    """A partition as the cluster describes it: minutes, and MB, CPUs and GPUs of its largest nodes."""

    minutes: float
    memory: float
    cpus: float
    gpus: int
    models: frozenset[str]
    up: bool
    default: bool
    accounts: frozenset[str]  # empty: all
    cancels: bool  # a preempted job is cancelled


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a cluster says of itself; None or empty where it does not answer."""

    offers: Mapping[str, Offer]
    accounts: frozenset[str] = frozenset()
    default_account: str | None = None
    submit_limits: Mapping[str, int] = field(default_factory=dict)  # by account
    queued: Mapping[str, int] = field(default_factory=dict)  # the user's own jobs, by account
    job_age: int | None = None  # seconds for which the controller remembers a finished job
    accounting: bool = False


def requests_in(said: str) -> list[Request]:
    """The jobs of a dry run that would be submitted, from what Snakemake prints of them; others have neither tasks nor GPUs."""
    found = []
    for block in said.split("\n\n"):
        rule = re.search(r"^rule (\w+):$", block, re.MULTILINE)
        asked = re.search(r"^    resources: (.*)$", block, re.MULTILINE)
        if rule is None or asked is None:
            continue
        threads = re.search(r"^    threads: (\d+)$", block, re.MULTILINE)
        resources = dict(pair.partition("=")[::2] for pair in asked[1].split(", "))
        request = Request(rule[1], resources, int(threads[1]) if threads else 1)
        if request.number("tasks") or request.gpus:
            found.append(request)
    return found


def planned(files: list[Path], folder: Path, profile: Path, targets: list[str] | None, generator: str | None) -> list[Request]:
    """The jobs that a profile would submit, from a dry run of the workflow in `folder`.

    Raises:
        UserError: the dry run fails; the message is its last line.
    """
    chosen = [] if generator is None else ["--config", f"models={{generator: {generator}}}"]
    options = ["--dry-run", "--workflow-profile", str(profile), *chosen]
    environment = {"SNAKEMAKE_SLURM_PARTITIONS": str(read_settings(folder / profile).partitions)}
    return requests_in(call_snakemake(files, folder, *options, targets=targets, environment=environment).stdout)


def partitions_file(cluster: Cluster) -> str:
    """What `partitions.yaml` of a profile says of a cluster: every partition that is up, and cancels no job that is preempted."""
    found = {}
    for name, offer in cluster.offers.items():
        if not offer.up or offer.cancels:
            continue
        limits = {"max_runtime": offer.minutes, "max_mem_mb": offer.memory, "max_cpus_per_task": offer.cpus}
        found[name] = {key: int(value) for key, value in limits.items() if not isinf(value)}
        if offer.gpus:
            found[name] |= {"max_gpu": offer.gpus, "max_tasks": 0}
        if offer.models:
            found[name]["available_gpu_models"] = sorted(offer.models)
    return yaml.safe_dump({"partitions": found}, sort_keys=False)


def read_settings(profile: Path) -> Settings:
    """The profile of a cluster.

    Raises:
        UserError: there is no such profile, or it names no partitions.
    """
    file = profile / "config.yaml"
    try:
        said = yaml.safe_load(file.read_text()) or {}
    except FileNotFoundError:
        raise UserError(f"{file} does not exist: give the folder of a profile, as profiles/slurm.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not valid YAML ({str(error).splitlines()[0]}): correct it.") from None
    if "slurm-partition-config" not in said:
        raise UserError(f"{file} lacks slurm-partition-config: name the file that lists the partitions.")
    return Settings(
        Path(said["slurm-partition-config"]),
        int(said.get("jobs", 1)),
        int(said.get("retries", 0)),
        said.get("slurm-status-command", "sacct"),
        int(said.get("slurm-init-seconds-before-status-checks", 40)),
        said.get("default-resources") or {},
    )


def read_partitions(path: Path) -> list["Partition"]:
    """The partitions that jobs are spread over.

    Raises:
        UserError: the file is missing, or says what the plug-in does not know.
    """
    from snakemake_executor_plugin_slurm.partitions import read_partition_file
    from snakemake_interface_common.exceptions import WorkflowError

    try:
        return read_partition_file(path)
    except TypeError as error:
        raise UserError(f"{path}: {str(error).rpartition('__init__() ')[2]}: correct the name of that limit.") from None
    except (WorkflowError, AttributeError, KeyError) as error:
        raise UserError(f"the partitions cannot be read ({error}): correct {path}.") from None


def place(request: Request, partitions: Sequence["Partition"]) -> str | None:
    """The partition that a job goes to; None where none of the file takes it."""
    from snakemake_executor_plugin_slurm.partitions import get_best_partition

    silent = logging.getLogger(f"{__name__}.silent")
    silent.disabled = True
    return request.resources.get("slurm_partition") or get_best_partition(list(partitions), request, silent)


def longest(partitions: Iterable["Partition"], gpus: int) -> float:
    """Minutes of the longest partition with so many GPUs; infinite where there is none, which is refused elsewhere."""
    found = [p.limits.max_runtime for p in partitions if (p.limits.max_gpu >= gpus if gpus else p.limits.max_gpu == 0)]
    return max(found, default=inf)


def largest(partitions: Iterable["Partition"], gpus: int) -> float:
    """MB of the largest partition with so many GPUs; infinite where there is none."""
    found = [p.limits.max_mem_mb for p in partitions if (p.limits.max_gpu >= gpus if gpus else p.limits.max_gpu == 0)]
    return max(found, default=inf)


def table(requests: Iterable[Request], partitions: Sequence["Partition"]) -> list[dict[str, Any]]:
    """A row for each rule and partition: its jobs, and the most that one of them asks for."""
    rows: dict[tuple[str, str], list[Request]] = {}
    for request in requests:
        rows.setdefault((request.name, place(request, partitions) or "none"), []).append(request)
    return [
        {
            "rule": rule,
            "jobs": len(asked),
            "partition": partition,
            "GPUs": max(r.gpus for r in asked),
            "CPUs": max(r.cpus for r in asked),
            "memory, GB": round(max(r.number("mem_mb") for r in asked) / 1000, 1),
            "time, minutes": int(max(r.number("runtime") for r in asked)),
        }
        for (rule, partition), asked in rows.items()
    ]


def problems(
    requests: Sequence[Request], settings: Settings, partitions: Sequence["Partition"], cluster: Cluster | None
) -> list[str]:
    """A sentence for each thing that cannot run, none twice."""
    by_name = {p.name: p for p in partitions}
    found: list[str] = []
    used: dict[str, str] = {}
    for request in requests:
        partition = place(request, partitions)
        if partition is None:
            found.append(_too_large(request, settings, partitions))
            continue
        used.setdefault(partition, request.name)
        if request.gpus == 0 and partition in by_name and by_name[partition].limits.max_gpu > 0:
            found.append(
                f"{request.name} uses no GPU and would go to {partition}, which has GPUs: give {partition} `max_tasks: 0` in"
                f" {settings.partitions}, and a partition without GPUs enough minutes and memory."
            )
        found += _too_few_retries(request, settings)
    if cluster is not None:
        for partition, rule in used.items():
            found += _strange_partition(partition, rule, settings, by_name.get(partition), cluster)
        for request in requests:
            found += _strange_account(request, settings, cluster)
            found += _strange_gpu(request, place(request, partitions), cluster)
        found += _forgetful(settings, cluster)
    return list(dict.fromkeys(found))


def submitted_at_once(requests: Iterable[Request], settings: Settings, cluster: Cluster | None) -> int:
    """How many jobs may be in the queue: `jobs` of the profile, or fewer where the cluster refuses more."""
    limit = settings.jobs
    if cluster is not None:
        for account in {r.account or cluster.default_account for r in requests}:
            if account in cluster.submit_limits:
                limit = min(limit, cluster.submit_limits[account] - cluster.queued.get(account, 0))
    return max(1, limit)


def _too_large(request: Request, settings: Settings, partitions: Sequence["Partition"]) -> str:
    """Why no partition takes a job."""
    gpus, where = request.gpus, settings.partitions
    fitting = [p for p in partitions if (p.limits.max_gpu >= gpus if gpus else not p.limits.max_gpu)]
    if not fitting:
        what = f"{gpus} GPU{'s' * (gpus != 1)}" if gpus else "no GPU"
        return f"{request.name} asks for {what}, and no partition of {where} is for that: add one (`max_gpu`: of a node)."
    kind = "with so many GPUs" if gpus else "without GPUs"
    for key, limit, unit in (("runtime", "max_runtime", "minutes"), ("mem_mb", "max_mem_mb", "MB")):
        most = max(fitting, key=lambda p: getattr(p.limits, limit))
        if request.number(key) > getattr(most.limits, limit):
            return (
                f"{request.name} asks for {int(request.number(key))} {unit}, and {most.name}, the largest partition {kind} in "
                f"{where}, allows {int(getattr(most.limits, limit))}: raise {limit} there if the cluster allows more, or lower "
                f"the request (`--set-resources {request.name}:{key}={int(getattr(most.limits, limit))}`)."
            )
    return (
        f"{request.name} ({request.cpus} CPUs, {int(request.number('mem_mb'))} MB, {int(request.number('runtime'))} minutes) "
        f"fits no partition {kind} in {where}: compare it with the limits there."
    )


def _too_few_retries(request: Request, settings: Settings) -> list[str]:
    """A long job is cut where its partition's time ends, and goes on from what it wrote when it is submitted again."""
    work, minutes = request.number("work_minutes"), request.number("runtime")
    pieces = ceil(work / minutes) if minutes else 1
    if pieces <= settings.retries + 1:
        return []
    return [
        f"{request.name} needs about {int(work)} minutes, and its partition allows {int(minutes)}: it goes on where it stopped, "
        f"as {pieces} jobs after each other; say `--retries {pieces}` (the profile has {settings.retries})."
    ]


def _strange_partition(name: str, rule: str, settings: Settings, said: "Partition | None", cluster: Cluster) -> list[str]:
    """What the cluster says of a partition, against what the file says of it."""
    where = settings.partitions
    if name not in cluster.offers:
        return [
            f"{rule} would go to partition {name}, which the cluster lacks: it has {', '.join(cluster.offers)}; correct {where}."
        ]
    offer, found = cluster.offers[name], []
    if not offer.up:
        found.append(f"partition {name} of {where} is not up: wait, or take it out of the file.")
    if offer.cancels:
        found.append(
            f"partition {name} cancels jobs that others preempt (PreemptMode=CANCEL), and nothing submits them again: take it "
            f"out of {where}, or ask for one that requeues."
        )
    if said is None:
        return found
    for limit, most, unit in (
        ("max_runtime", offer.minutes, "minutes"),
        ("max_mem_mb", offer.memory, "MB"),
        ("max_cpus_per_task", offer.cpus, "CPUs"),
        ("max_gpu", offer.gpus, "GPUs of a node"),
    ):
        given = getattr(said.limits, limit)
        if not isinf(given) and given > most:
            found.append(f"{where} gives {name} {limit}: {given:g}, and the cluster allows {most:g} {unit}: lower it.")
    return found


def _strange_account(request: Request, settings: Settings, cluster: Cluster) -> list[str]:
    if not cluster.accounts:
        return []
    there = f"the accounts that you have are {', '.join(sorted(cluster.accounts))}"
    account = request.account
    if account is None and cluster.default_account is None:
        return [f"no slurm_account is given, and you have no default: {there}; name one in the profile's default-resources."]
    if account is not None and account.casefold() not in cluster.accounts:
        return [f"slurm_account is {account!r}, and {there}: correct it in the profile's default-resources."]
    return []


def _strange_gpu(request: Request, partition: str | None, cluster: Cluster) -> list[str]:
    model = request.resources.get("gpu_model")
    if not model or partition not in cluster.offers or model in cluster.offers[partition].models:
        return []
    known = ", ".join(sorted(cluster.offers[partition].models)) or "no types"
    return [f"{request.name} asks for GPUs of type {model!r}, and partition {partition} has {known}: correct gpu_model."]


def _forgetful(settings: Settings, cluster: Cluster) -> list[str]:
    """Whether a finished job may be forgotten before it is asked for."""
    if cluster.job_age is None or settings.status_command != "squeue" or cluster.job_age > _LONGEST_PAUSE:
        return []
    what = (
        f"the controller forgets a finished job after {cluster.job_age} s (MinJobAge), and Snakemake asks squeue for it up to "
        f"{_LONGEST_PAUSE} s later and would wait without end"
    )
    if cluster.accounting:
        return [
            f"{what}: say `slurm-status-command: sacct` in the profile (a job that somebody cancels by hand is then waited for: "
            "press Ctrl-C and start again)."
        ]
    return [
        f"{what}; no accounting remembers it longer: ask for a MinJobAge of 300 s, or run all of it in one job, by "
        "`sbatch ... --wrap 'snakemake --workflow-profile profiles/default ...'`."
    ]


def read_cluster() -> Cluster | None:
    """What the cluster says of itself; None on a machine without SLURM, or where its controller does not answer."""
    if shutil.which("sinfo") is None:
        return None
    partitions, nodes = _ask("scontrol", "show", "partition", "-o"), _ask("sinfo", "-h", "-e", "-o", "%R|%c|%m|%G")
    if partitions is None or nodes is None:
        return None
    config = _pairs_by_line(_ask("scontrol", "show", "config") or "")
    user = getpass.getuser()
    associations = _ask("sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=account,maxsubmit")
    default = _ask("sacctmgr", "-nP", "show", "user", user, "format=defaultaccount")
    rows = [line.split("|") for line in (associations or "").splitlines() if line]
    queue = (_ask("squeue", "-h", "--user", user, "-o", "%a") or "").split()
    age = config.get("MinJobAge", "").split()
    return Cluster(
        offers_of(partitions, nodes, config),
        frozenset(row[0].casefold() for row in rows),
        (default or "").strip() or None,
        {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()},
        {account: queue.count(account) for account in queue},
        int(age[0]) if age and age[0].isdigit() else None,
        associations is not None,
    )


def cancel(name: str) -> None:
    """Cancel all jobs of one's own that have this name: those of a run."""
    _ask("scancel", f"--user={getpass.getuser()}", f"--name={name}")


def offers_of(partitions: str, nodes: str, config: Mapping[str, str]) -> dict[str, Offer]:
    """The partitions, from `scontrol show partition -o`, `sinfo -o %R|%c|%m|%G` and `scontrol show config`."""
    sizes: dict[str, list[list[str]]] = {}
    for line in nodes.splitlines():
        name, *rest = line.split("|", 3)
        sizes.setdefault(name, []).append(rest)
    lines = [dict(word.partition("=")[::2] for word in line.split()) for line in partitions.splitlines() if line]
    tiers = [int(said.get("PriorityTier", 1)) for said in lines]
    by_partition = config.get("PreemptType", "").endswith("partition_prio")
    offers = {}
    for said in lines:
        there = sizes.get(said["PartitionName"], [])
        gpus = [_gpus(row[2]) for row in there]
        own = said.get("MaxMemPerNode", "UNLIMITED")
        offers[said["PartitionName"]] = Offer(
            _minutes(said.get("MaxTime", "UNLIMITED")),
            min(max((_number(row[1]) for row in there), default=inf), float(own) if own.isdigit() else inf),
            max((_number(row[0]) for row in there), default=inf),
            max((sum(count for _, count in found) for found in gpus), default=0),
            frozenset(model for found in gpus for model, _ in found if model),
            said.get("State", "UP") == "UP",
            said.get("Default") == "YES",
            frozenset() if said.get("AllowAccounts", "ALL") == "ALL" else frozenset(said["AllowAccounts"].split(",")),
            by_partition and "CANCEL" in said.get("PreemptMode", "") and int(said.get("PriorityTier", 1)) < max(tiers),
        )
    return offers


def _number(text: str) -> float:
    """A number that may be followed by a sign for more."""
    return float(text.rstrip("+") or 0)


def _gpus(gres: str) -> list[tuple[str, int]]:
    """(type, count) of each kind of GPU in a GRES such as gpu:a100:4(S:0-1),gpu:2; a type that is not named is empty."""
    found = []
    for part in gres.replace("(null)", "").split(","):
        words = part.partition("(")[0].split(":")
        if words[0] == "gpu" and words[-1].isdigit():
            found.append((words[1] if len(words) == 3 else "", int(words[-1])))
    return found


def _minutes(text: str) -> float:
    """D-HH:MM:SS as minutes."""
    if text in ("UNLIMITED", "INFINITE"):
        return inf
    days, _, clock = text.rpartition("-")
    hours, minutes, *_ = (int(part) for part in clock.split(":"))
    return int(days or 0) * 1440 + hours * 60 + minutes


def _pairs_by_line(text: str) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in text.splitlines())}


def _ask(*command: str) -> str | None:
    """What a command of the cluster prints; None where it fails or does not answer within 20 s."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
