"""OCFS2 on a LUN that several hosts see: its cluster's file, and the commands, in order. Pure.

Rules:
1. A node keeps its number for ever: the file is merged with the one that is there. Another cluster,
   or a name or address that moved, is refused; nothing is guessed.
2. Every host has the same file, so every host is told the same nodes.
3. A file system is made only when that was asked for, and never over one that is mounted anywhere.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outlast.errors import Conflict, InvalidInput

CLUSTER, PORT = "outlast", 7777
NODES_MAX = 32
CONF, DEFAULTS = "etc/ocfs2/cluster.conf", "etc/default/o2cb"
# 60 s = 2 * (31 - 1): a node that cannot write for so long resets itself
SETTINGS: Mapping[str, str] = {
    "O2CB_ENABLED": "true",
    "O2CB_BOOTCLUSTER": CLUSTER,
    "O2CB_HEARTBEAT_THRESHOLD": "31",
    "O2CB_IDLE_TIMEOUT_MS": "30000",
}
# what makes both files count, on a host that is in the cluster already too
BEGIN = (
    ("systemctl", "enable", "o2cb"),
    ("systemctl", "start", "o2cb"),
    ("o2cb", "register-cluster", CLUSTER),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}\Z")
_IQN = re.compile(r"(iqn|eui|naa)\.[A-Za-z0-9.:_-]{1,220}\Z")


@dataclass(frozen=True, slots=True)
class Node:
    name: str  # of the machine, as uname -n says it
    address: str
    number: int = -1  # not given yet


def nodes_of(texts: Sequence[str]) -> list[Node]:
    """Nodes as people write them, NAME=ADDRESS. Raises InvalidInput."""
    nodes = []
    for text in texts:
        name, equals, address = text.partition("=")
        if not equals or not _NAME.match(name):
            raise InvalidInput(f"{text[:80]!r} is not like a=10.0.0.1",
                               hint="the name is what 'uname -n' says there")  # fmt: skip
        try:
            nodes.append(Node(name, str(ipaddress.IPv4Address(address))))
        except ValueError:
            raise InvalidInput(f"{address[:40]!r} is no IPv4 address") from None
    return nodes


def read(text: str) -> list[Node]:
    """The nodes of a cluster.conf; [] of an empty one. Raises Conflict when it is not ours."""
    nodes = []
    for stanza in re.split(r"\n(?=\S)", text):
        kind, _, rest = stanza.strip().partition(":")
        pairs = (line.split("=", 1) for line in rest.splitlines() if "=" in line)
        values = {name.strip(): value.strip() for name, value in pairs}
        if kind == "cluster" and values.get("name") != CLUSTER:
            raise Conflict(
                f"this machine is in the OCFS2 cluster '{values.get('name')}' already",
                hint="one machine can be in one cluster only: move /etc/ocfs2/cluster.conf away",
            )
        if kind == "node":
            nodes.append(Node(values["name"], values["ip_address"], int(values["number"])))
    return nodes


def merged(known: Sequence[Node], wished: Sequence[Node], own: str) -> list[Node]:
    """All nodes with their numbers. own: this machine's name. Raises InvalidInput, Conflict."""
    found = {node.name: node for node in known}
    for node in wished:
        before = found.get(node.name)
        if before is not None and before.address != node.address:
            raise Conflict(f"the node {node.name} has the address {before.address} in cluster.conf",
                           hint="unmount everywhere, then change it on every host")  # fmt: skip
        if before is None:
            taken = {other.number for other in found.values()}
            number = next(n for n in range(NODES_MAX + 1) if n not in taken)
            found[node.name] = Node(node.name, node.address, number)
    nodes = sorted(found.values(), key=lambda node: node.number)
    if len({node.address for node in nodes}) < len(nodes):
        raise InvalidInput("two nodes have the same address")
    if len(nodes) > NODES_MAX:
        raise InvalidInput(f"{len(nodes)} nodes are too many", hint=f"at most {NODES_MAX}")
    if own not in found:
        raise InvalidInput(f"this machine is called '{own}', and is none of the nodes",
                           hint=f"--node {own}=ADDRESS")  # fmt: skip
    return nodes


def cluster_conf(nodes: Sequence[Node]) -> str:
    parts = [f"cluster:\n\tnode_count = {len(nodes)}\n\tname = {CLUSTER}\n"]
    parts += [
        f"node:\n\tip_port = {PORT}\n\tip_address = {node.address}\n\tnumber = {node.number}\n"
        f"\tname = {node.name}\n\tcluster = {CLUSTER}\n"
        for node in nodes
    ]
    return "\n".join(parts)


def defaults(text: str) -> str:
    """/etc/default/o2cb with our settings; its other lines stay as they are."""
    lacking, lines = dict(SETTINGS), []
    for line in text.splitlines():
        name = line.partition("=")[0].strip()
        if name in SETTINGS:
            if name in lacking:
                lines.append(f"{name}={lacking.pop(name)}")
            continue
        lines.append(line)
    return "\n".join([*lines, *(f"{name}={value}" for name, value in lacking.items())]) + "\n"


def log_in(portal: str, target: str) -> list[tuple[str, ...]]:
    """Commands of open-iscsi by which the LUN comes, now and at each boot. Raises InvalidInput."""
    if not re.fullmatch(
        r"[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?|\[[0-9A-Fa-f:]+\](:\d{1,5})?", portal
    ):
        raise InvalidInput(f"{portal[:60]!r} is no portal", hint="like 10.0.0.9 or 10.0.0.9:3260")
    if not _IQN.match(target):
        raise InvalidInput(f"{target[:60]!r} is no iSCSI target", hint="like iqn.2026-01.nas:pool")
    node = ("iscsiadm", "-m", "node", "-T", target, "-p", portal)
    return [
        ("iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", portal),
        (*node, "--op", "update", "-n", "node.startup", "-v", "automatic"),
        (*node, "--login"),
    ]


def make(device: str, slots: int, label: str) -> tuple[str, ...]:
    """The command that makes the file system. slots: how many hosts may mount it at once."""
    return (
        "mkfs.ocfs2", "-q", "-F", "-T", "vmstore", "--fs-feature-level=max-features",
        "--cluster-stack=o2cb", f"--cluster-name={CLUSTER}", "-N", str(max(4, slots)),
        "-L", label, device,
    )  # fmt: skip
