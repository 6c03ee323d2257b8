"""A real API server on a real socket, in a thread of its own, over real rings and snapshots."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from config.policy.resolve import Selection
from config.policy.resolved import PolicyName, Snapshot
from config.policy.rules import Document
from proxy.api import socket_path
from proxy.api.client import Client
from proxy.api.models import AgentStatus, Component, FindingView, LearntName, PolicyState, State, WorkerView
from proxy.api.server import ApiServer
from proxy.flows.ring import FlowRing
from tests.proxy.flows.samples import Node, snapshot

FINDING = FindingView(
    "CNP002", "error", "policies/web.yaml", 7, 5, "unknown field 'fromEndpoint'", "did you mean 'fromEndpoints'?"
)


class Names:
    """A `NameCache` that a test may fill. `cleaned`: what was asked for."""

    def __init__(self) -> None:
        self.known: list[LearntName] = []
        self.cleaned: list[tuple[str | None, int | None]] = []

    async def learnt(self) -> list[LearntName]:
        return self.known

    async def clean(self, pattern: str | None, endpoint: int | None) -> int:
        self.cleaned.append((pattern, endpoint))
        return len(self.known)


class View:
    """An `AgentView` whose answers a test may change."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.current = snapshot()
        self.names = Names()
        self.sources: tuple[Document, ...] = ()
        self.answer = AgentStatus(
            version="0.1.0",
            node_name="node-1",
            started_ns=1,
            policy=PolicyState(3, policies=2),
            datapath=Component(State.OK, "4 programs on 2 interfaces"),
            workers=(WorkerView(0, 4242, True, 3, connections=1),),
            datapath_details={
                "interfaces": {5: 11, 7: 12},
                "forwarded": (10, 20),
                "pending": {12: "no interface veth12"},
                "drops": [{"reason": 133, "direction": 0, "packets": 4, "bytes": 240}],
                "events_lost": (),
            },
            counters={"requests": 3},
        )

    @property
    def flows(self) -> FlowRing:
        return self._node.ring

    def status(self) -> AgentStatus:
        return self.answer

    def snapshot(self) -> Snapshot:
        return self.current

    def documents(self) -> tuple[Document, ...]:
        return self.sources

    async def selections(self) -> list[Selection]:
        return [Selection("app=web", (PolicyName("CiliumNetworkPolicy", "shop", "web"),), 2, (300, 301))]

    def config(self) -> Mapping[str, object]:
        return {"enable-policy": "default", "state-dir": Path("/run/penstock")}

    def config_sources(self) -> Mapping[str, str]:
        return {"enable-policy": "default", "state-dir": "flag"}

    def break_policy(self) -> None:
        policy = PolicyState(3, policies=2, stale_files=("policies/web.yaml",), findings=(FINDING,))
        self.answer = replace(self.answer, policy=policy)


class Agent:
    def __init__(self, state_dir: Path, node: Node) -> None:
        self.socket = socket_path(state_dir)
        self.node = node
        self.view = View(node)
        self.server = ApiServer(self.view, self.socket)
        self.loop = asyncio.new_event_loop()

    def do(self, work: Callable[[], object]) -> None:
        """Runs `work` in the agent's loop, as producers do, and waits for it."""
        done = threading.Event()

        def run() -> None:
            work()
            done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(30)

    def stop(self) -> None:
        """Ends the server as the agent does."""
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(30)


@contextmanager
def running_agent(state_dir: Path, node: Node) -> Iterator[Agent]:
    agent = Agent(state_dir, node)
    thread = threading.Thread(target=agent.loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(agent.server.start(), agent.loop).result(30)
        yield agent
        if agent.socket.exists():
            # Connections are accepted in order: with this answer, none is half accepted. asyncio of Python 3.11 leaks
            # the socket of one that is when the server closes.
            Client(agent.socket).get("/v1/healthz", accept=(200, 503))
        agent.stop()
    finally:
        agent.loop.call_soon_threadsafe(agent.loop.stop)
        thread.join(30)
        agent.loop.run_until_complete(_settle())
        agent.loop.close()


async def _settle() -> None:
    """Lets transports whose peers have gone close: a loop that stops first would leave them open."""
    for _ in range(20):
        await asyncio.sleep(0.001)
