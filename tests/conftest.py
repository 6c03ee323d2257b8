"""What all tests have in common."""

from __future__ import annotations

from hypothesis import settings

# No test fails because the machine is busy. All else is as hypothesis has it, in CI as it has it for CI.
settings.register_profile("penstock", parent=settings(), deadline=None)
settings.load_profile("penstock")
