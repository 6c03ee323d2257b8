"""Serves the agent's API on its Unix socket. Whoever may open the socket may read, and make DNS names be forgotten;
nothing else can be changed.

Nothing a client does costs the agent more than a bounded queue: request lines and bodies have limits, observers are
counted, and one that reads slowly loses records instead of holding them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from config.policy.explain import World
from proxy.api import explain, listen, names, views
from proxy.api.models import AgentView, ApiError, State
from proxy.api.parameters import parse
from proxy.flows.jsonpb import encode_line
from proxy.flows.query import Observer
from proxy.flows.ring import TooManyFollowersError

log = logging.getLogger(__name__)

_MAX_BODY: Final = 64 * 1024
_SHUTDOWN_S: Final = 1.0
_KEEPALIVE_S: Final = 15.0
_PEERCRED: Final = struct.Struct("3i")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiServer:
    """`await start()` listens and returns; `await stop()` ends observers and removes the socket."""

    def __init__(self, view: AgentView, path: Path, group: int | None = None) -> None:
        self._view = view
        self._path = path
        self._group = group
        self._runner: web.AppRunner | None = None
        self._inode = 0

    async def start(self) -> None:
        """ListenError when the socket cannot be had."""
        listener = listen.bind(self._path, self._group)
        self._inode = os.lstat(self._path).st_ino
        app = web.Application(middlewares=[_errors], client_max_size=_MAX_BODY)
        app.router.add_get("/v1/healthz", self._healthz)
        app.router.add_get("/v1/policy", self._policy)
        app.router.add_get("/v1/policy/explain", self._explain)
        app.router.add_get("/v1/policy/selectors", self._selectors)
        app.router.add_get("/v1/flows", self._flows)
        app.router.add_get("/v1/endpoint", self._endpoints)
        app.router.add_get("/v1/endpoint/{id}", self._endpoint)
        app.router.add_get("/v1/identity", self._identities)
        app.router.add_get("/v1/fqdn/cache", self._names)
        app.router.add_delete("/v1/fqdn/cache", self._clean_names)
        app.router.add_get("/v1/fqdn/names", self._selected_names)
        app.router.add_get("/v1/config", self._config)
        # Without handler_cancellation an observer that hangs up is noticed only when there is something to send it.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_S,
            keepalive_timeout=_KEEPALIVE_S,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        if self._runner is None:
            return
        self._view.flows.close()
        await self._runner.cleanup()
        self._runner = None
        listen.remove(self._path, self._inode)

    async def _healthz(self, request: web.Request) -> web.Response:
        """200 while traffic is judged as it should be, also with a broken policy file; 503 otherwise."""
        status = self._view.status()
        body = views.status(status, self._view.snapshot(), self._view.flows.status())
        if request.headers.get("brief", "").lower() == "true":
            body = {"cilium": body["cilium"]}
        return _json(body, 503 if status.overall.state is State.FAILURE else 200)

    async def _policy(self, _: web.Request) -> web.Response:
        return _json(views.policy(self._view.status(), self._view.snapshot()))

    async def _selectors(self, _: web.Request) -> web.Response:
        return _json(views.selectors(await self._view.selections()))

    async def _explain(self, request: web.Request) -> web.Response:
        asked, everything = explain.parse(request.query.items())
        bind_names = str(self._view.config().get("tofqdns_bind_names", "tls"))
        world = World(self._view.snapshot(), self._view.documents(), bind_names)
        # Nothing in a world changes, so that the agent can go on while ten thousand rules are looked through.
        return _json(await asyncio.to_thread(explain.answer, world, asked, everything=everything))

    async def _endpoints(self, _: web.Request) -> web.Response:
        return _json(views.endpoints(self._view.snapshot()))

    async def _endpoint(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        for endpoint in views.endpoints(self._view.snapshot()):
            names = endpoint["status"]["external-identifiers"]
            if wanted in (str(endpoint["id"]), f"pod-name:{names['k8s-namespace']}:{names['k8s-pod-name']}"):
                return _json(endpoint)
        hint = "see /v1/endpoint; names are written pod-name:NAMESPACE:NAME"
        raise ApiError(404, "no-such-endpoint", f"there is no endpoint {wanted!r}", hint)

    async def _identities(self, _: web.Request) -> web.Response:
        return _json(views.identities(self._view.snapshot()))

    async def _config(self, _: web.Request) -> web.Response:
        return _json({"settings": dict(self._view.config()), "sources": dict(self._view.config_sources())})

    async def _names(self, request: web.Request) -> web.Response:
        asked = names.parse(request.query.items(), names.LIST)
        learnt = await self._view.names.learnt()
        return _json(await asyncio.to_thread(names.cache, learnt, asked))

    async def _clean_names(self, request: web.Request) -> web.Response:
        asked = names.parse(request.query.items(), names.CLEAN)
        return _json({"forgotten": await self._view.names.clean(asked.pattern, asked.endpoint)})

    async def _selected_names(self, request: web.Request) -> web.Response:
        asked = names.parse(request.query.items(), names.SELECTED)
        learnt = await self._view.names.learnt()
        return _json(await asyncio.to_thread(names.selected, self._view.snapshot(), learnt, asked))

    async def _flows(self, request: web.Request) -> web.StreamResponse:
        query = parse(request.query.items(), time.time_ns())
        try:
            observer = Observer(self._view.flows, query)
        except TooManyFollowersError as error:
            raise ApiError(503, "too-many-observers", str(error)) from None
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        try:
            await response.prepare(request)
            async for part in observer.parts():
                if part:
                    await response.write("".join(f"{encode_line(item)}\n" for item in part).encode())
            await response.write_eof()
        except ConnectionError:
            log.debug("an observer of flows has gone")
        finally:
            observer.close()
        return response


def _json(body: object, status: int = 200) -> web.Response:
    text = json.dumps(body, ensure_ascii=False, default=str)
    return web.Response(text=text, status=status, content_type="application/json")


@web.middleware
async def _errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every error is JSON and says what to do."""
    _log_peer(request)
    try:
        return await handler(request)
    except ApiError as error:
        return _json(error.to_json(), error.status)
    except web.HTTPNotFound:
        policy = "/v1/policy /v1/policy/explain /v1/policy/selectors"
        others = "/v1/flows /v1/endpoint /v1/identity /v1/fqdn/cache /v1/fqdn/names /v1/config"
        hint = f"routes: /v1/healthz {policy} {others}"
        return _json(ApiError(404, "no-such-route", f"there is no {request.path}", hint).to_json(), 404)
    except web.HTTPMethodNotAllowed as error:
        message = f"{request.method} is not possible here"
        answer = _json(ApiError(405, "read-only", message).to_json(), 405)
        answer.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return answer
    except web.HTTPException as error:
        return _json(ApiError(error.status, "bad-request", error.reason).to_json(), error.status)


def _log_peer(request: web.Request) -> None:
    if not log.isEnabledFor(logging.DEBUG):
        return
    peer = request.get_extra_info("socket")
    if peer is not None:
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        pid, uid, _ = _PEERCRED.unpack(raw)
        log.debug("%s %s from pid %d, uid %d", request.method, request.path_qs, pid, uid)
