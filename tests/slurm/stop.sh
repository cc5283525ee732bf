#!/usr/bin/env bash
# Ends what tests/slurm/start.sh FOLDER started, by process id, and takes its links out of /etc/slurm. Safe to call twice.
set -uo pipefail
state=$(realpath -m "${1:?usage: tests/slurm/stop.sh FOLDER}")
export PATH="$PATH:/usr/sbin:/sbin"
[ "$(readlink /etc/slurm/slurm.conf 2>/dev/null)" = "$state/slurm.conf" ] && mine=1 || mine=
if [ "$mine" ] && [ -s "$state/slurmctld.pid" ]; then
  # Jobs first: their step daemons would outlive slurmd.
  timeout 10 scancel --user="$(id -un)" 2>/dev/null
  for _ in $(seq 50); do [ -z "$(timeout 10 squeue -h -t R,CG 2>/dev/null)" ] && break; sleep 0.2; done
fi
runs() { tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -q "$2"; } # a zombie's command line is empty
for file in "$state"/slurmd-*.pid "$state"/slurmctld.pid "$state"/slurmdbd.pid "$state"/mariadbd.pid "$state"/munged.pid; do
  pid=$(cat "$file" 2>/dev/null) || continue
  name=$(basename "${file%.pid}"); name=${name%%-*}
  runs "$pid" "$name" && kill -TERM "$pid"
  for _ in $(seq 100); do runs "$pid" "$name" || break; sleep 0.1; done
  runs "$pid" "$name" && kill -KILL "$pid"
  rm -f "$file"
done
# A configuration without a controller would slow down every later Slurm command and Snakemake's plug-in.
for f in slurm.conf gres.conf slurmdbd.conf; do
  [ "$(readlink "/etc/slurm/$f" 2>/dev/null)" = "$state/$f" ] && rm -f "/etc/slurm/$f"
done
[ -w /etc/hosts ] && grep -q '# itscale slurm test$' /etc/hosts && { kept=$(grep -v '# itscale slurm test$' /etc/hosts); echo "$kept" >/etc/hosts; }
exit 0
