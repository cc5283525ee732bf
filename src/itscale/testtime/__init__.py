"""Test-time training (OptPO, TTRL): the consensus of a vote is the label, and the rollouts that voted are trained on."""
