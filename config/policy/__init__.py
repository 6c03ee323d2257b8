"""The policy language: Cilium's, as files mean it; see `resolved.py` for what it becomes."""
