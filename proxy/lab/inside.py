"""Being inside a pod: its network namespace, its /etc/resolv.conf, hosts and name, its environment.

A pod shares the host's files. What must differ is bound over /etc in a mount namespace of the program's own, so
nothing of it is seen outside and nothing is left when the program ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from proxy.lab import linux

# A proxy of the host's environment cannot be reached from a pod, and would hide what is being tested.
_PROXY_VARIABLES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy"}
# Where a program runs: said to pods, never to the agent, to whom PENSTOCK_* are settings.
_PLACE_VARIABLES = ("PENSTOCK_LAB", "PENSTOCK_POD")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program runs. `etc` holds the files to bind over those of the same name in /etc.

    With None it is a program of the host, in another network: it has the host's mounts and is not told of the lab.
    """

    lab: str
    ref: str
    netns: Path
    etc: Path | None

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        left_out = {*_PROXY_VARIABLES, *map(str.lower, _PLACE_VARIABLES)}
        kept = {name: value for name, value in os.environ.items() if name.lower() not in left_out}
        # `python` and the programs installed with Penstock are the project's own.
        kept["PATH"] = f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}"
        if self.etc is not None:
            kept |= dict(zip(_PLACE_VARIABLES, (self.lab, self.ref), strict=True))
        return {**kept, **(extra or {})}


def enter(place: Place) -> None:
    """Move the calling thread inside, for good."""
    linux.setns(place.netns)
    if place.etc is None:
        return
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWUTS)
    linux.mount("none", Path("/"), flags=linux.MS_REC | linux.MS_SLAVE)
    for source in place.etc.iterdir():
        target = Path("/etc") / source.name
        if target.exists():  # a symbolic link is followed, as mount(2) does
            linux.mount(str(source), target, flags=linux.MS_BIND)
    linux.set_hostname(place.ref.rpartition("/")[2])


def run(
    place: Place, argv: Sequence[str], environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` inside."""

    def work() -> subprocess.CompletedProcess[Any]:
        enter(place)
        return subprocess.run(argv, env=place.environment(environment), **options)

    return linux.in_thread(work)


def popen(
    place: Place, argv: Sequence[str], environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[Any]:
    """`subprocess.Popen` inside."""

    def work() -> subprocess.Popen[Any]:
        enter(place)
        return subprocess.Popen(argv, env=place.environment(environment), **options)

    return linux.in_thread(work)


def spawn(
    place: Place, argv: Sequence[str], log: IO[bytes], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that outlives us: own session, no input, output to `log`."""
    return popen(
        place,
        argv,
        environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
    )


def become(place: Place, argv: Sequence[str]) -> NoReturn:
    """Turn this process into `argv`, inside: input, output, signals and exit code are then its own.

    Exit codes for programs that cannot start are a shell's: 127 not found, 126 not executable.
    """
    enter(place)
    try:
        os.execvpe(argv[0], list(argv), place.environment())
    except FileNotFoundError:
        print(f"{argv[0]}: not found", file=sys.stderr)
        os._exit(127)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
        os._exit(126)
