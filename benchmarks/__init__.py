"""Benchmarks: Penstock beside its peers, in one run, in the same place. `python -m benchmarks --help`.

__main__.py     the command line
catalog.py      which benchmarks there are
report.py       rows and ratios: the table and out/NAME.json
machine.py      what the machine is, and which processors do what
processes.py    CPU time and memory of a process and everything it started
topology.py     client, node and server in namespaces of their own, with the origin behind
origin.c        the server: answers faster than any proxy can ask
load.py         what load generators have in common
wrk.py          the one for HTTP/1.1 (wrk.lua makes it print its figures as JSON)
h2load.py       the one for HTTP/2 and gRPC
rules.py        the policies under test, which every subject says in its own language
subjects/       one file per subject: no proxy, Penstock, Envoy, HAProxy
side_by_side.py subjects in turn, case by case: the method of the next three
http1.py        HTTP/1.1
http2.py        HTTP/2 in clear text
grpc.py         unary gRPC calls
datapath.py     the kernel part beside nftables (dial.c is its load)
kafka/          producers and consumers of Kafka (kafka_decisions.py: its parser alone)
policy.py       policies by the thousand (policies.py makes them up, compiling.py measures one folder)
"""
