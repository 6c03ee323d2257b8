"""A genuine Apache Kafka broker (KRaft) in a pod: `python -m tests.acceptance.kafka.broker FOLDER [--acls] …`.

Writes its configuration, formats its storage and becomes the broker. Clients are told the pod's own IPv4 address.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

PORT, CONTROLLER_PORT = 9092, 9093
CLUSTER_ID = "cGVuc3RvY2sta2Fma2EtMQ"
LIBS = Path(sys.prefix) / "kafka/libs"
JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
QUIET = [f"-Dorg.slf4j.simpleLogger.{name}" for name in ("defaultLogLevel=warn", "showDateTime=true")]
ACLS = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""
CONFIGURATION = """
process.roles={roles}
node.id={number}
controller.quorum.voters=1@{controller}:{controller_port}
listeners={listeners}
advertised.listeners=PLAINTEXT://{own}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/data
auto.create.topics.enable=false
default.replication.factor={brokers}
min.insync.replicas={brokers}
offsets.topic.replication.factor={brokers}
offsets.topic.num.partitions=3
transaction.state.log.replication.factor={brokers}
transaction.state.log.min.isr={brokers}
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor={brokers}
share.coordinator.state.topic.min.isr={brokers}
share.coordinator.state.topic.num.partitions=3
group.initial.rebalance.delay.ms=0
log.cleaner.enable=false
"""


def configuration(folder: Path, number: int, brokers: int, controller: str, acls: bool) -> str:
    """The contents of server.properties. The first broker is the controller, too."""
    own = socket.gethostbyname(socket.gethostname())
    first = number == 1
    listeners = [f"PLAINTEXT://{own}:{PORT}", *([f"CONTROLLER://{own}:{CONTROLLER_PORT}"] if first else [])]
    text = CONFIGURATION.format(
        roles="broker,controller" if first else "broker",
        number=number,
        brokers=brokers,
        controller=own if first else socket.gethostbyname(controller),
        listeners=",".join(listeners),
        own=own,
        folder=folder,
        port=PORT,
        controller_port=CONTROLLER_PORT,
    )
    return text + ACLS if acls else text


def java(*arguments: str, heap: str = "256m") -> list[str]:
    """The command line of a Java program with Kafka's libraries."""
    return [*JAVA, f"-Xmx{heap}", *QUIET, "-cp", f"{LIBS}/*", *arguments]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--controller", default="", help="the host of the first broker")
    parser.add_argument("--acls", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    file = given.folder / "server.properties"
    text = configuration(given.folder, given.number, given.brokers, given.controller, given.acls)
    file.write_text(text, encoding="ascii")
    subprocess.run(java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(file)), check=True)
    command = java("kafka.Kafka", str(file), heap="512m")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
