#!/usr/bin/env bash
# A real Slurm on this machine, for tests only:  tests/slurm/start.sh FOLDER
# Debian's packages, no systemd, no accounting database; two emulated nodes, cpu1 (partition cpu) and gpu1 (partition gpu,
# two pretended GPUs), all on 127.0.0.1. State, logs and process ids go to FOLDER; tests/slurm/stop.sh FOLDER ends it. Needs root.
set -euo pipefail
state=$(realpath -m "${1:?usage: tests/slurm/start.sh FOLDER}")
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin"
host=$(hostname -s)
fail() { echo "slurm: $*" >&2; tail -n 5 "$state"/*.log >&2 2>/dev/null || true; exit 1; }
await() { # await WHAT COMMAND...: until it succeeds, at most 30 s
  local what=$1; shift
  for _ in $(seq 150); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
  fail "waited 30 s for $what"
}
[ "$(id -u)" = 0 ] || fail "needs root"
mkdir -p "$state"/{spool,ctld} /etc/slurm
for f in slurm.conf gres.conf; do
  [ ! -e "/etc/slurm/$f" ] && [ ! -L "/etc/slurm/$f" ] || fail "/etc/slurm/$f exists: this machine has a Slurm already"
done

install() { apt-get install -y -q --no-install-recommends munge slurmctld slurmd slurm-client >"$state/apt.log" 2>&1; }
if ! command -v munged slurmctld slurmd sbatch >/dev/null; then
  # Services must not start by themselves while packages are installed.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; trap 'rm -f "$policy"' EXIT; fi
  install || { apt-get update -q >"$state/apt-update.log" 2>&1 || true; install; } || fail "packages could not be installed"
fi

getent hosts "$host" >/dev/null || { echo "127.0.0.1 $host  # itscale slurm test" >>/etc/hosts; }
(umask 077; head -c 1024 /dev/urandom >"$state/munge.key")
# slurmd wants device files behind GPUs: any harmless ones serve.
printf 'AutoDetect=off\nNodeName=gpu1 Name=gpu File=/dev/null\nNodeName=gpu1 Name=gpu File=/dev/zero\n' >"$state/gres.conf"
cat >"$state/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$state/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$state/ctld
SlurmctldPidFile=$state/slurmctld.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdPidFile=$state/slurmd-%n.pid
SlurmdSpoolDir=$state/spool/%n
SlurmdLogFile=$state/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
ReturnToService=2
SchedulerParameters=bf_interval=2,sched_interval=2
MinJobAge=3600
KillWait=2
AccountingStorageType=accounting_storage/none
# A job that holds more memory than it asked for is killed, as a cluster with control groups does.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
NodeName=cpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26850 CPUs=4 RealMemory=16000 State=UNKNOWN
NodeName=gpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26851 CPUs=4 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=gpu1 MaxTime=INFINITE State=UP
CONF
# Snakemake's job steps drop SLURM_CONF from their environment: the configuration must be where Slurm looks by itself.
ln -s "$state/slurm.conf" /etc/slurm/slurm.conf
ln -s "$state/gres.conf" /etc/slurm/gres.conf

munged --key-file="$state/munge.key" --socket="$state/munge.socket" --pid-file="$state/munged.pid" \
  --log-file="$state/munged.log" --seed-file="$state/munge.seed" --force </dev/null >"$state/munged.out" 2>&1 || fail "munged"
await "munge" munge -S "$state/munge.socket" -n
slurmctld -i </dev/null >"$state/slurmctld.out" 2>&1 || fail "slurmctld"
await "the controller" scontrol ping
for node in cpu1 gpu1; do
  mkdir -p "$state/spool/$node"
  slurmd -N "$node" </dev/null >"$state/slurmd-$node.out" 2>&1 || fail "slurmd of $node"
done
idle() { [ "$(sinfo -h -N -o %T | grep -cx idle)" = 2 ]; }
await "two idle nodes" idle
