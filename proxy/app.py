"""The agent: the only module that makes components, in the order in which they depend on each other.

    lock ─▶ policy ─▶ datapath ─▶ workers ─▶ listeners in the kernel ─▶ snapshot in the kernel ─▶ API ─▶ ready

A snapshot reaches the workers before the kernel, at start and at every change: whatever the kernel redirects, a worker
can judge. On SIGTERM the kernel forgets the listeners first (new connections to ports with L7 rules are refused), then
workers finish what is under way. What is pinned stays and keeps enforcing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path

import uvloop

from config.findings import Severity
from config.policy.name_groups import name_selectors
from config.policy.resolve import Selection
from config.policy.resolved import Snapshot
from config.policy.rules import Document
from config.settings import Limits, Settings
from config.store import PolicyStore, Refresh
from config.watch import changes
from parsers.dns.message import NXDOMAIN, REFUSED
from parsers.http.judging import Denial
from proxy.api import socket_path
from proxy.api.listen import ListenError
from proxy.api.models import AgentStatus, Component, FindingView, PolicyState, State, WorkerView
from proxy.api.server import ApiServer
from proxy.datapath import READ_EVERY_S, BpfError, Datapath, DatapathStatus, NamesMap, Options, make_lock
from proxy.flows.enrich import Enricher
from proxy.flows.from_events import EventFlows
from proxy.flows.from_workers import WorkerFlows
from proxy.flows.ring import FlowRing
from proxy.flows.wire import Learnt
from proxy.kernel_events import to_flow_events
from proxy.lock import AlreadyRunningError, acquire
from proxy.logs import configure_logging
from proxy.metrics import MetricsServer
from proxy.names.keeper import NameKeeper, make_keeper
from proxy.readiness import Readiness
from proxy.supervise import Supervisor
from proxy.worker.options import NameOptions, Refusals, WorkerLimits, WorkerOptions
from proxy.workers import WorkerMaps, WorkerPool

log = logging.getLogger("penstock")

_LEVELS = {Severity.ERROR: logging.ERROR, Severity.WARNING: logging.WARNING, Severity.INFO: logging.INFO}

PRESSURE_PERCENT = 90.0
PRESSURE_EVERY_S = 30.0
INTERFACE_POLL_S = 1.0
"""How often interfaces of endpoints that were not found are looked for again."""


class Agent:
    """One running agent; also what the API looks at (`AgentView`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started_ns = time.time_ns()
        self._node_name = settings.node_name or socket.gethostname()
        self._supervisor = Supervisor()
        self._readiness = Readiness()
        self._readiness.register("policy", "datapath", "workers", "API")
        self._changing = asyncio.Lock()
        self._store = PolicyStore(settings)
        self._refresh: Refresh | None = None
        self._wanted = Snapshot(0)
        self._in_force = Snapshot(0)
        self._documents: tuple[Document, ...] = ()
        self._datapath: Datapath | None = None
        self._datapath_error = ""
        self._pool: WorkerPool | None = None
        self.flows = FlowRing(settings.hubble_event_buffer_capacity, self._node_name)
        self._enricher = Enricher(self._node_name)
        self._worker_flows = WorkerFlows(self.flows, self._enricher, self._learn)
        self._event_flows = EventFlows(self.flows, self._enricher)
        self._events_lost = 0
        self._names_lock = make_lock()
        self._keeper: NameKeeper | None = None
        self._api = ApiServer(self, socket_path(settings.state_dir))
        self._metrics = MetricsServer(
            settings.hubble_metrics_server,
            self._worker_flows,
            self.flows,
            lambda: self.names.counts(),
            lambda: len(name_selectors(self._in_force)),
        )

    # -- start and stop --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring everything up. Raises BpfError when the kernel will not have it."""
        await self._read_policy()
        self._readiness.done("policy")
        settings = self._settings
        self._datapath = await asyncio.to_thread(
            Datapath.open, settings.bpf_root, datapath_options(settings), settings.service_cidrs
        )
        log.info("datapath %s", "adopted" if self._datapath.adopted else "loaded")
        asyncio.get_running_loop().add_reader(self._datapath.events.fileno(), self._read_events)
        self._keeper = make_keeper(self._datapath, settings, NamesMap(self._datapath.names_fd, self._names_lock))
        self._enricher.names_of = self._keeper.names_of
        await self._keeper.prepare(self._wanted)
        count = self._settings.workers or os.cpu_count() or 1
        self._pool = WorkerPool(
            count,
            worker_options(self._settings),
            WorkerMaps(self._datapath.connections_fd, self._datapath.names_fd, self._names_lock),
            self._supervisor,
            self._worker_flows.add,
            self._worker_flows.forget,
        )
        await self._pool.start(self._wanted)
        self._readiness.done("workers")
        await asyncio.to_thread(self._datapath.set_listeners, self._pool.listeners())
        await self._sync()
        self._readiness.done("datapath")
        await self._api.start()
        await self._metrics.start()
        self._readiness.done("API")
        self._supervisor.keep("policy watch", self._watch)
        self._supervisor.keep("interfaces", self._follow_interfaces)
        self._supervisor.keep("events", self._follow_events)
        self._supervisor.keep("map pressure", self._measure_maps)
        self._supervisor.keep("names", self._keeper.run)

    async def stop(self) -> None:
        """Refuse new connections, let those under way finish, leave the kernel enforcing."""
        log.info("stopping: connections have %g s to finish", self._settings.limits.drain_timeout_s)
        if self._datapath is not None:
            await asyncio.to_thread(self._datapath.set_listeners, [])
        if self._pool is not None:
            await self._pool.stop(self._settings.limits.drain_timeout_s + 1)
        await self._api.stop()
        await self._metrics.stop()
        await self._supervisor.stop()
        if self._keeper is not None:
            await self._keeper.stop()
        if self._pool is not None:
            self._pool.close()
        if self._datapath is not None:
            asyncio.get_running_loop().remove_reader(self._datapath.events.fileno())
            self._datapath.close()

    # -- policy ----------------------------------------------------------------------------------------------------

    @property
    def _denial(self) -> bytes:
        return self._settings.http_403_msg.encode()

    async def reload(self, only: Collection[Path] | None = None) -> None:
        """Read policies and endpoints again and put what changed in force, workers first.

        `only`: nothing but these files changed, as far as is known.
        """
        async with self._changing:
            if not await self._read_policy(only):
                return
            assert self._pool is not None
            await self.names.prepare(self._wanted)
            await self._pool.apply(self._wanted)
            await self._sync()
            log.info("revision %d in force", self._in_force.revision)

    async def _read_policy(self, only: Collection[Path] | None = None) -> bool:
        """True if there is a new snapshot."""
        refresh = await asyncio.to_thread(self._store.refresh, only)
        for finding in refresh.news:
            log.log(_LEVELS[finding.severity], "%s", finding)
        self._refresh = refresh
        if refresh.snapshot is None:
            return False
        self._wanted = refresh.snapshot
        self._enricher.publish(refresh.snapshot)
        return True

    async def _watch(self) -> None:
        settings = self._settings
        wanted = (settings.policy_dir, settings.endpoints_file, settings.secrets_dir)
        paths = [path for path in wanted if path is not None]
        async for burst in changes(paths, self._settings.rescan_interval_s):
            await self.reload(burst)

    # -- datapath --------------------------------------------------------------------------------------------------

    async def _sync(self) -> None:
        assert self._datapath is not None
        wanted = self._wanted
        if wanted.revision == 0:
            # Which endpoints there are is not known yet: what an earlier agent left pinned must not be let go.
            self._datapath_error = "the endpoints file was never read: nothing new is enforced"
            return
        try:
            report = await asyncio.to_thread(self._datapath.sync, wanted)
        except BpfError as error:
            # What was in force stays; the next change or the interface poll tries again.
            self._datapath_error = str(error)
            log.error("the kernel did not take revision %d: %s", wanted.revision, error)
            return
        self._datapath_error = ""
        self._in_force, self._documents = wanted, self._store.documents()
        await self.names.withdraw(wanted)
        for endpoint, why in report.pending.items():
            known = wanted.endpoints[endpoint]
            log.warning("endpoint %s/%s is not attached: %s", known.namespace, known.name, why)
        for endpoint, rows in report.oversized.items():
            known, most = wanted.endpoints[endpoint], self._settings.bpf_policy_map_max
            message = "the policy of endpoint %s/%s has %d rows, more than bpf-policy-map-max (%d): what it had stays"
            log.error(message, known.namespace, known.name, rows, most)

    async def _follow_interfaces(self) -> None:
        """Attach to interfaces that appear later, or again; retry a sync that failed."""
        while True:
            await asyncio.sleep(INTERFACE_POLL_S)
            assert self._datapath is not None
            self._report_lost_events()
            async with self._changing:
                changed = await asyncio.to_thread(self._datapath.interfaces_changed, self._wanted)
                if changed or self._datapath_error:
                    await self._sync()

    async def _follow_events(self) -> None:
        """The kernel wakes nobody up for a few events."""
        while True:
            await asyncio.sleep(READ_EVERY_S)
            self._read_events()

    async def _measure_maps(self) -> None:
        """Say so before a map is full; what happens then says the map's own error."""
        told: set[str] = set()
        while True:
            assert self._datapath is not None
            pressure = await asyncio.to_thread(self._datapath.measure)
            full = {name for name, percent in pressure.items() if percent >= PRESSURE_PERCENT}
            for name in sorted(full - told):
                log.warning("the map %s is %.0f %% full", name, pressure[name])
            told = full
            await asyncio.sleep(PRESSURE_EVERY_S)

    def _report_lost_events(self) -> None:
        assert self._datapath is not None
        lost = sum(self._datapath.events_lost())
        if lost > self._events_lost:
            self._event_flows.lost(lost - self._events_lost)
        self._events_lost = lost

    def _read_events(self) -> None:
        assert self._datapath is not None
        events = self._datapath.events.read()
        if events:
            self._event_flows.add(to_flow_events(events))

    # -- names -----------------------------------------------------------------------------------------------------

    def _learn(self, learnt: list[Learnt]) -> None:
        """What answers have told pods."""
        self.names.on_batch(learnt)

    @property
    def names(self) -> NameKeeper:
        assert self._keeper is not None
        return self._keeper

    # -- AgentView -------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        return self._in_force

    def documents(self) -> tuple[Document, ...]:
        return self._documents

    async def selections(self) -> list[Selection]:
        async with self._changing:
            return await asyncio.to_thread(self._store.selections)

    def config(self) -> Mapping[str, object]:
        return self._settings.model_dump(mode="json")

    def config_sources(self) -> Mapping[str, str]:
        return self._settings.sources

    def status(self) -> AgentStatus:
        datapath = self._datapath.status() if self._datapath is not None else None
        return AgentStatus(
            version=version("penstock"),
            node_name=self._node_name,
            started_ns=self._started_ns,
            policy=self._policy_state(),
            datapath=self._datapath_state(datapath),
            workers=self._worker_views(),
            datapath_details=dataclasses.asdict(datapath) if datapath is not None else {},
            pending=self._readiness.pending,
            counters=dict(self._worker_flows.totals),
        )

    def _policy_state(self) -> PolicyState:
        refresh = self._refresh
        findings = refresh.findings if refresh else ()
        origins = self._in_force.origins.values()
        return PolicyState(
            revision=self._in_force.revision,
            enforcement=self._settings.enable_policy,
            audit=self._settings.policy_audit_mode,
            policies=len({(o.kind, o.namespace, o.name) for o in origins if o.file}),
            stale_files=tuple(refresh.stale_files) if refresh else (),
            denying_files=tuple(refresh.denying_files) if refresh else (),
            findings=tuple(
                FindingView(f.code, f.severity, f.file, f.line, f.column, f.message, f.hint, f.path) for f in findings
            ),
        )

    def _datapath_state(self, datapath: DatapathStatus | None) -> Component:
        if datapath is None:
            return Component(State.FAILURE, "not loaded")
        if self._datapath_error:
            return Component(State.FAILURE, self._datapath_error)
        if datapath.oversized:
            return Component(State.DEGRADED, f"{len(datapath.oversized)} endpoints have policies with too many rows")
        if datapath.pending:
            return Component(State.DEGRADED, f"{len(datapath.pending)} endpoints have no interface")
        return Component(State.OK)

    def _worker_views(self) -> tuple[WorkerView, ...]:
        if self._pool is None:
            return ()
        return tuple(
            WorkerView(
                w.index,
                w.pid,
                w.revision != 0,
                w.revision,
                w.restarts,
                self._worker_flows.connections(w.index),
            )
            for w in self._pool.workers
        )


def datapath_options(settings: Settings) -> Options:
    return Options(
        flows=settings.bpf_ct_global_max,
        fragments=settings.bpf_fragments_map_max,
        policy_entries=settings.bpf_policy_map_max,
        ipcache_entries=settings.bpf_ipcache_max,
        names_entries=settings.bpf_names_map_max,
        silent=settings.deny_established == "drop",
    )


def refusals(settings: Settings) -> Refusals:
    denial = Denial(settings.http_deny_response)
    return Refusals(denial, settings.http_403_msg.encode(), settings.http_denied_by_header)


def worker_options(settings: Settings) -> WorkerOptions:
    """What all workers are told; each gets its own index."""
    cap = settings.kafka_topic_ids == "cap"
    names = name_options(settings)
    return WorkerOptions(0, worker_limits(settings.limits), refusals(settings), names, cap_kafka_versions=cap)


def name_options(settings: Settings) -> NameOptions:
    return NameOptions(
        refuse_rcode=NXDOMAIN if settings.tofqdns_dns_reject_response_code == "nameError" else REFUSED,
        min_ttl=settings.tofqdns_min_ttl,
        max_delay_s=settings.tofqdns_proxy_response_max_delay,
        addresses_per_name=settings.tofqdns_endpoint_max_ip_per_hostname,
        addresses_per_endpoint=settings.limits.dns_max_addresses,
        protected=settings.tofqdns_protected_cidrs,
        bind_tls=settings.tofqdns_bind_names != "off",
        bind_host=settings.tofqdns_bind_names == "all",
    )


def worker_limits(limits: Limits) -> WorkerLimits:
    return WorkerLimits(**{field.name: getattr(limits, field.name) for field in dataclasses.fields(WorkerLimits)})


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    agent = Agent(settings)
    stopping = asyncio.Event()
    reloads = Supervisor()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: reloads.start("reload", agent.reload()))
    try:
        await agent.start()
    except BpfError as error:
        log.error("the datapath can not be set up: %s (`penstock check` tells what this kernel lacks)", error)
        await agent.stop()
        return 1
    except ListenError as error:
        log.error("%s", error)
        await agent.stop()
        return 1
    await stopping.wait()
    await reloads.stop()
    await agent.stop()
    return 0


def run(settings: Settings) -> int:
    """Run the agent until SIGTERM. Returns the exit code."""
    configure_logging(settings.log_format, debug=settings.debug)
    # A large policy is many small objects that live long: looking through them again and again only costs time.
    gc.set_threshold(50_000, 20, 100)
    try:
        lock = acquire(settings.state_dir / "lock")
    except (AlreadyRunningError, OSError) as error:
        log.error("%s", error)
        return 1
    try:
        return uvloop.run(_serve(settings))
    finally:
        os.close(lock)
