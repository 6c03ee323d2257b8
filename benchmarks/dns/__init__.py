"""DNS questions through one worker: direct, Debian's dnsdist, Penstock with 1 to 10,000 rules, answers that open.

run.py        subjects in turn, case by case; the report
subjects.py   the ways to the server, and Penstock's policy
names.py      the zone, and what is asked for
server.py     Knot DNS with that zone
dnsdist.py    the peer and its configuration
dnsperf.py    the load generator and how to read what it prints
"""
