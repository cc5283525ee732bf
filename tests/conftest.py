"""Settings of all tests."""

from hypothesis import settings

# A busy machine is slow now and then; time is measured in benchmarks/.
settings.register_profile("itscale", deadline=None)
settings.load_profile("itscale")
