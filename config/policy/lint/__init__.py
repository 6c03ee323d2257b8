"""Lint: policies that can be enforced as they stand, but do not do what they look like.

`view.py` is what lints look at, `covers.py` what provably includes what; the lints themselves are functions in
`shadows.py`, `requests.py`, `names.py` and `reach.py`, listed in `run.py`.
"""
