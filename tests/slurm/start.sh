#!/usr/bin/env bash
# A real Slurm on this machine, for tests only:  tests/slurm/start.sh FOLDER
# Debian's packages, no systemd, with an accounting database. Three emulated nodes, all on 127.0.0.1: cpu1 (partitions cpu, and
# scavenge, whose jobs those of cpu cancel), gpu1 and gpu2 (partition gpu, two pretended GPUs each; those of gpu2 are of type a100,
# and the node has the feature nvlink). Accounts: ci, and few, which may have four jobs in the queue. State, logs and process ids go
# to FOLDER; tests/slurm/stop.sh FOLDER ends it. Needs root.
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
echo $$ >"$state/start.pid" # whoever finds the links knows that somebody is at work
for f in slurm.conf gres.conf slurmdbd.conf; do
  [ ! -e "/etc/slurm/$f" ] && [ ! -L "/etc/slurm/$f" ] || fail "/etc/slurm/$f exists: this machine has a Slurm already"
done

packages="munge slurmctld slurmd slurm-client slurmdbd mariadb-server-core mariadb-client-core"
install() { apt-get install -y -q --no-install-recommends $packages >"$state/apt.log" 2>&1; }
if ! dpkg-query -W $packages >/dev/null 2>&1; then
  # Services must not start by themselves while packages are installed.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; trap 'rm -f "$policy"' EXIT; fi
  install || { apt-get update -q >"$state/apt-update.log" 2>&1 || true; install; } || fail "packages could not be installed"
fi

getent hosts "$host" >/dev/null || { echo "127.0.0.1 $host  # itscale slurm test" >>/etc/hosts; }
(umask 077; head -c 1024 /dev/urandom >"$state/munge.key")
# slurmd wants device files behind GPUs: any harmless ones serve.
{ echo AutoDetect=off; for node in gpu1 "gpu2 Type=a100"; do for f in null zero; do echo "NodeName=$node Name=gpu File=/dev/$f"; done; done; } >"$state/gres.conf"
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
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=26819
AccountingStoragePass=$state/munge.socket
AccountingStorageEnforce=associations,limits
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
# A job that holds more memory than it asked for is killed, as a cluster with control groups does.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
NodeName=cpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26850 CPUs=4 RealMemory=16000 State=UNKNOWN
NodeName=gpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26851 CPUs=4 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
NodeName=gpu2 NodeHostname=$host NodeAddr=127.0.0.1 Port=26852 CPUs=4 RealMemory=16000 Gres=gpu:a100:2 Feature=nvlink State=UNKNOWN
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=7-0 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=gpu Nodes=gpu1,gpu2 MaxTime=1-0 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=scavenge Nodes=cpu1 MaxTime=1-0 PriorityTier=1 PreemptMode=CANCEL State=UP
CONF
(umask 077; cat >"$state/slurmdbd.conf" <<CONF
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=26819
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$state/munge.socket
PidFile=$state/slurmdbd.pid
LogFile=$state/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=26833
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
CONF
)
# Snakemake's job steps drop SLURM_CONF from their environment: the configuration must be where Slurm looks by itself.
for f in slurm.conf gres.conf slurmdbd.conf; do ln -s "$state/$f" "/etc/slurm/$f"; done

munged --key-file="$state/munge.key" --socket="$state/munge.socket" --pid-file="$state/munged.pid" \
  --log-file="$state/munged.log" --seed-file="$state/munge.seed" --force </dev/null >"$state/munged.out" 2>&1 || fail "munged"
await "munge" munge -S "$state/munge.socket" -n
database="--no-defaults --user=root --datadir=$state/database --innodb-log-file-size=16M --innodb-buffer-pool-size=64M
  --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0"
mariadb-install-db $database --skip-test-db --auth-root-authentication-method=normal >"$state/install-db.log" 2>&1 || fail "the database"
setsid mariadbd $database --socket="$state/mariadb.socket" --pid-file="$state/mariadbd.pid" --bind-address=127.0.0.1 --port=26833 \
  --skip-log-bin --log-error="$state/mariadbd.log" </dev/null >/dev/null 2>&1 &
sql() { mariadb --no-defaults -uroot -S "$state/mariadb.socket" -e "$1"; }
await "the database" sql "select 1"
sql "create database slurm; create user slurm@'127.0.0.1' identified by 'slurm'; create user slurm@localhost identified by 'slurm';
  grant all on slurm.* to slurm@'127.0.0.1', slurm@localhost"
slurmdbd </dev/null >"$state/slurmdbd.out" 2>&1 || fail "slurmdbd"
await "the accounting" sacctmgr -n show cluster
manage() { sacctmgr -iQ "$@" >>"$state/sacctmgr.out" 2>&1 || fail "sacctmgr $*"; }
manage add cluster test
manage add account ci,few cluster=test
manage add user root account=ci,few defaultaccount=ci
manage modify user root where account=few set maxsubmitjobs=4
slurmctld -i </dev/null >"$state/slurmctld.out" 2>&1 || fail "slurmctld"
await "the controller" scontrol ping
for node in cpu1 gpu1 gpu2; do
  mkdir -p "$state/spool/$node"
  slurmd -N "$node" </dev/null >"$state/slurmd-$node.out" 2>&1 || fail "slurmd of $node"
done
idle() { [ "$(sinfo -h -N -o %T | grep -cx idle)" = 4 ]; }
await "idle nodes" idle
