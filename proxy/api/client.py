"""Asks the agent over its Unix socket. Standard library only: the CLI starts quickly and needs no event loop."""

from __future__ import annotations

import errno
import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

_TIMEOUT_S: Final = 10.0

Parameters = Sequence[tuple[str, str]]


class AgentError(Exception):
    """No answer, or one that says no. `message` and `hint` are for people; `status` 0 means there was no answer."""

    def __init__(self, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    def __init__(self, path: Path, timeout_s: float = _TIMEOUT_S) -> None:
        self.path = path
        self._timeout_s = timeout_s

    def get(self, route: str, parameters: Parameters = (), accept: Sequence[int] = (200,)) -> Any:
        """The JSON that `route` answers with one of the statuses `accept`."""
        return self._answer("GET", route, parameters, accept)

    def delete(self, route: str, parameters: Parameters = ()) -> Any:
        return self._answer("DELETE", route, parameters, (200,))

    def _answer(self, method: str, route: str, parameters: Parameters, accept: Sequence[int]) -> Any:
        connection, response = self._request(method, route, parameters)
        try:
            body = response.read()
            if response.status not in accept:
                raise _refused(response.status, body)
            return json.loads(body)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error) from None
        except ValueError:
            raise AgentError(f"{self.path} answered {route} with something that is no JSON") from None
        finally:
            connection.close()

    def lines(self, route: str, parameters: Parameters = (), *, endless: bool = False) -> Iterator[bytes]:
        """The lines of an answer as they come. `endless`: silence between them is no failure."""
        connection, response = self._request("GET", route, parameters)
        try:
            if response.status != 200:
                raise _refused(response.status, response.read())
            if endless and connection.sock is not None:
                connection.sock.settimeout(None)
            yield from response
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error) from None
        finally:
            connection.close()

    def _request(
        self, method: str, route: str, parameters: Parameters
    ) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        connection = _UnixConnection(self.path, self._timeout_s)
        query = f"?{urlencode(parameters)}" if parameters else ""
        try:
            connection.request(method, f"{route}{query}")
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> AgentError:
        where = "say where it listens with --socket PATH or PENSTOCK_SOCK"
        start = "start it with `penstock run --policy-dir DIR --endpoints-file FILE` as root"
        if isinstance(error, FileNotFoundError):
            return AgentError(f"no agent at {self.path}: there is no such socket", f"{start}, or {where}")
        if isinstance(error, ConnectionRefusedError):
            return AgentError(f"no agent at {self.path}: the socket is there, but nobody serves it", start)
        if isinstance(error, PermissionError):
            return AgentError(f"not permitted to talk to the agent at {self.path}", "be root, or in the socket's group")
        if isinstance(error, TimeoutError):
            return AgentError(f"the agent at {self.path} did not answer within {self._timeout_s:g} s")
        if isinstance(error, OSError) and error.errno == errno.ENOTSOCK:
            return AgentError(f"{self.path} is no socket", where)
        return AgentError(f"the agent at {self.path} broke off: {error or type(error).__name__}", "see the agent's log")


def _refused(status: int, body: bytes) -> AgentError:
    try:
        error = json.loads(body)["error"]
        return AgentError(str(error["message"]), str(error.get("hint", "")), status)
    except (ValueError, KeyError, TypeError):
        return AgentError(f"the agent answered HTTP {status}", "is it of the same version?", status)
