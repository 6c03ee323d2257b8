"""The one error that a benchmark reports instead of figures."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A sentence for the user: what is missing, or which subject did not do what it was asked."""
