"""Snakemake, which asks for the state of its jobs every two seconds.

The plug-in for SLURM waits ten seconds longer after each time that no job had ended, which is kind to a cluster and long for a
test. Nothing else differs.
"""

import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 2, lambda self, value: None)

main(sys.argv[1:])
