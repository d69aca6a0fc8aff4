"""Settings of all tests by Hypothesis."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No property says how fast anything is, and a busy machine draws and runs the same cases slowly:
# the first text of a process alone sorts all characters of Unicode, which takes seconds.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")
