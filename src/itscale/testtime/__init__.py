"""Test-time training (OptPO, TTRL): the consensus of a vote is the label, and the rollouts that voted are trained on."""

import logging

# PEFT loads bitsandbytes where that is installed, which on a CPU warns of a kernel for 4-bit weights: there are none here.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
