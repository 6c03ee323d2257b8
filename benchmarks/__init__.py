"""Benchmarks: Penstock beside its peers, in one run, in the same place. `python -m benchmarks --help`.

__main__.py     the command line
catalog.py      which benchmarks there are
report.py       rows and ratios: the table and out/NAME.json
machine.py      what the machine is, and which processors do what
processes.py    CPU time and memory of a process and everything it started
topology.py     client, node and server in namespaces of their own, with the origin behind
origin.c        the server: answers faster than any proxy can ask
load.py         wrk and what it has measured (wrk.lua makes it print that as JSON)
rules.py        the policy under test, which every subject says in its own language
subjects/       one file per subject: no proxy, Penstock, Envoy, HAProxy
http1.py        the benchmark of HTTP/1.1
"""
