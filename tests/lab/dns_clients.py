"""Resolvers that programs have, each as a program that looks names up and connects to the first address at once.

    python -m tests.lab.dns_clients libc|threaded|cares[,...] FAMILY PORT NAME...
    (MUSL, built with musl-gcc; GO, built with go) FAMILY PORT NAME...

FAMILY is 4, 6, or 0 for both. Each prints one JSON object a name: {"name", "addresses", "error", "reached"},
the first one also "by", the resolver.
`reached`: something came back from the first address, a server's answer or a reset; false without an address.
"""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Callable

FAMILIES = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}
WAIT_MS = 900
"""Shorter than it takes the kernel to send the first packet again: that must not heal the loss of one."""

MUSL = r"""
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int reaches(const struct addrinfo *to)
{
	int error = 0, fd = socket(to->ai_family, SOCK_STREAM, 0);
	socklen_t size = sizeof error;
	struct pollfd wanted = { fd, POLLOUT, 0 };
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (connect(fd, to->ai_addr, to->ai_addrlen) && errno != EINPROGRESS)
		error = errno;
	else if (poll(&wanted, 1, WAIT_MS) != 1)
		error = ETIMEDOUT;
	else
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	close(fd);
	return !error || error == ECONNREFUSED;
}

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found, *each;
	char text[64];
	hints.ai_family = *argv[1] == '4' ? AF_INET : *argv[1] == '6' ? AF_INET6 : AF_UNSPEC;
	for (int i = 3; i < argc; i++) {
		int error = getaddrinfo(argv[i], argv[2], &hints, &found);
		int reached = !error && reaches(found);
		printf("{\"name\": \"%s\", \"error\": \"%s\", \"reached\": %s, \"addresses\": [", argv[i],
			error ? gai_strerror(error) : "", reached ? "true" : "false");
		for (each = error ? NULL : found; each; each = each->ai_next) {
			getnameinfo(each->ai_addr, each->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
			printf("\"%s\"%s", text, each->ai_next ? ", " : "");
		}
		puts("]}");
	}
	return 0;
}
""".replace("WAIT_MS", str(WAIT_MS))

GO = r"""
package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

func main() {
	network := map[string]string{"0": "ip", "4": "ip4", "6": "ip6"}[os.Args[1]]
	resolver := net.Resolver{PreferGo: true}
	for _, name := range os.Args[3:] {
		found, err := resolver.LookupIP(context.Background(), network, name)
		told := map[string]any{"name": name, "error": "", "reached": false}
		addresses := []string{}
		for _, address := range found {
			addresses = append(addresses, address.String())
		}
		told["addresses"] = addresses
		if err != nil {
			told["error"] = err.Error()
		} else {
			to := net.JoinHostPort(addresses[0], os.Args[2])
			_, err := net.DialTimeout("tcp", to, WAIT_MS*time.Millisecond)
			told["reached"] = err == nil || errors.Is(err, syscall.ECONNREFUSED)
		}
		json.NewEncoder(os.Stdout).Encode(told)
	}
}
""".replace("WAIT_MS", str(WAIT_MS))

Resolve = Callable[[str, int, socket.AddressFamily], list[str]]


def reaches(address: str, port: int) -> bool:
    """Something comes back, a server's answer or a reset, to the first packet."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(WAIT_MS / 1000)
        try:
            connection.connect((address, port))
        except TimeoutError:
            return False
        except ConnectionRefusedError:
            pass
        return True


def _libc(name: str, port: int, family: socket.AddressFamily) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)]


def _aiohttp(kind: str) -> Resolve:
    # Imported here: the other one need not wait for it.
    import asyncio

    from aiohttp.resolver import AsyncResolver, ThreadedResolver

    async def ask(name: str, port: int, family: socket.AddressFamily) -> list[str]:
        resolver = AsyncResolver() if kind == "cares" else ThreadedResolver()
        try:
            return [found["host"] for found in await resolver.resolve(name, port, family)]
        finally:
            await resolver.close()

    def resolve(name: str, port: int, family: socket.AddressFamily) -> list[str]:
        return asyncio.run(ask(name, port, family))

    return resolve


def _look_up(resolve: Resolve, name: str, port: int, family: socket.AddressFamily) -> dict[str, object]:
    error, addresses = "", []
    try:
        addresses = resolve(name, port, family)
    except OSError as failure:
        error = failure.strerror or str(failure)
    reached = bool(addresses) and reaches(addresses[0], port)
    return {"name": name, "addresses": addresses, "error": error, "reached": reached}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("resolvers")
    parser.add_argument("family", type=int, choices=FAMILIES)
    parser.add_argument("port", type=int)
    parser.add_argument("names", nargs="+")
    options = parser.parse_args()
    for by in options.resolvers.split(","):
        resolve = _libc if by == "libc" else _aiohttp(by)
        for name in options.names:
            print(json.dumps({"by": by, **_look_up(resolve, name, options.port, FAMILIES[options.family])}))


if __name__ == "__main__":
    main()
