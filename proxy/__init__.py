"""The running node: agent, workers, flow records, API, command line, lab.

    policy files ─▶ config/store ─▶ Snapshot(revision) ─▶ app.py ─┬─▶ workers.py ─▶ worker/ (processes: judge requests)
    endpoints    ─▶                                               └─▶ datapath.py ─▶ bpf/ (kernel: identity, port)

    kernel events ─▶ flows/from_events  ┐
    worker batches ─▶ flows/from_workers ┴▶ flows/ring ─▶ api/ ─▶ cli/ (observe, status, …)

A change reaches the workers before it reaches the kernel: whatever the kernel redirects, a worker can judge.

Sockets, each with the reason why it is one of its own:

* listeners: 127.0.0.1 and ::1, any free port, one each per worker. Transparent: the kernel hands connections to them
  by socket, nobody reaches them by address.
* upstream: from the client's address to the original destination, one per connection. The server sees who asks.
* control: a socket pair between agent and worker. Snapshots go down, reports come up; its end is the worker's end.
* API: STATE_DIR/penstock.sock. Observing never shares a socket with traffic.
* metrics: where hubble-metrics-server says, over TCP; none by default. Prometheus asks from elsewhere, for numbers.

`app.py` is the only module that makes components; `datapath.py` is the only one that talks to `bpf`.
"""
