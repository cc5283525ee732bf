"""Settings of all tests."""

import os

from hypothesis import settings

# One thread each, as the rules have it; numpy and torch, which no test has imported yet, read it when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is slow now and then; time is measured in benchmarks/.
settings.register_profile("itscale", deadline=None)
settings.load_profile("itscale")
