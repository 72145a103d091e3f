"""With which options a shared file system is mounted, and why. Pure.

Rules:
1. Each option has its reason in words: what goes wrong without it.
2. The pool's own storage carries registers and heartbeats, so what other hosts wrote must be seen
   at once (`register`). A repository for disks needs less: a file of a new VM must be found.
3. A person's own options replace ours of the same name, except those that would let a write be
   lost, done twice, or seen late: they are refused, with the reason.
4. What the server or the volume must have, and no mount option can bring, is said as advice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outlast.errors import InvalidInput

KINDS = ("nfs", "nfs3", "ocfs2", "gfs2", "glusterfs", "cephfs", "dir")
_TYPES = {"nfs": "nfs", "nfs3": "nfs", "cephfs": "ceph"}  # the others are called as they are
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)"
_SOURCES: Mapping[str, tuple[str, str]] = {
    "nfs": (rf"{_HOST}:/\S*", "server:/export/pool"),
    "nfs3": (rf"{_HOST}:/\S*", "server:/export/pool"),
    "ocfs2": (r"(/dev/\S+|(UUID|LABEL)=\S+)", "/dev/disk/by-id/..."),
    "gfs2": (r"(/dev/\S+|(UUID|LABEL)=\S+)", "/dev/disk/by-id/..."),
    "glusterfs": (rf"{_HOST}(,{_HOST})*:/\S+", "a,b,c:/volume"),
    "cephfs": (r"\S*:/\S*", "mon1,mon2,mon3:/volumes/pool, or client@.fs=/"),
    "dir": (r"", "nothing: the directory is its path"),
}
_CEPH_NEW = re.compile(r"[\w-]+@[\w.-]*=/\S*")
_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,60}(=[A-Za-z0-9_.:/@+-]{1,200})?")


@dataclass(frozen=True, slots=True)
class Option:
    text: str  # as mount takes it
    why: str

    @property
    def name(self) -> str:
        return self.text.partition("=")[0]


@dataclass(frozen=True, slots=True)
class Choice:
    """How one file system is mounted."""

    kind: str
    source: str
    options: tuple[Option, ...]
    advice: tuple[str, ...] = ()

    @property
    def fs_type(self) -> str:
        return _TYPES.get(self.kind, self.kind)

    @property
    def text(self) -> str:
        return ",".join(option.text for option in self.options)


_SAFE = (
    Option("nodev", "a device file on shared storage is nobody's disk"),
    Option("nosuid", "nobody becomes root by a file that another host put there"),
    Option("noatime", "reading a register writes nothing"),
)
_NFS = (
    Option("proto=tcp", "UDP mixes up the parts of large writes when packets are lost"),
    Option("hard", "soft gives a write up that the server may still carry out: a VM would take for "
           "lost what is on its disk. How long is waited, the guard bounds, not NFS"),
    Option("timeo=50", "after 5 s without an answer it asks again on a new connection, so that the "
           "end of an outage is noticed well within the fence window"),
)  # fmt: skip
_NFS4 = (Option("vers=4.2", "locks of a dead host lapse by themselves; holes are kept"),)
_NFS3 = (
    Option("vers=3", "as it was wished"),
    Option("mountproto=tcp", "the same for the mount itself"),
    Option("nolock", "the pool's leases keep hosts apart; a lock of a dead host would stay until "
           "that very host is back"),
)  # fmt: skip
_NAMES = (
    Option("lookupcache=none", "a register's newest version is a name: each look asks the server"),
    Option("acdirmin=0", "a list of names is what the server has now"),
    Option("acdirmax=0", "the same"),
)
_FOUND = (
    Option("lookupcache=positive", "a disk that another host has just made is found at once"),
)
_OCFS2 = (
    Option("_netdev", "it waits for the network, by which its nodes agree"),
    Option("coherency=full", "a direct read shows what another host has written"),
    Option("errors=remount-ro", "a host that finds damage stops writing; the guard does the rest"),
)
_GFS2 = (
    Option("_netdev", "it waits for the network, by which its nodes agree"),
    Option("errors=withdraw", "a host that finds damage lets go of it; the guard does the rest"),
)
_GLUSTER = (
    Option("_netdev", "it waits for the network"),
    Option("direct-io-mode=enable", "reads of beats and disks pass the page cache of FUSE"),
    Option("attribute-timeout=0", "a file's size is what the bricks say now"),
    Option("entry-timeout=0", "a register's newest version is a name: each look asks the bricks"),
    Option("negative-timeout=0", "a name that was not there is looked for again"),
)
_CEPH = (
    Option("_netdev", "it waits for the network"),
    Option("recover_session=no", "a host that the cluster shut out does not come back by itself, "
           "having forgotten what it was to write"),
    Option("mount_timeout=30", "a mount that cannot come about says so within 30 s"),
)  # fmt: skip
_ADVICE: Mapping[str, tuple[str, ...]] = {
    "nfs": ("the export has sync and no_root_squash; async acknowledges what a power cut loses",),
    "nfs3": ("the export has sync and no_root_squash; async acknowledges what a power cut loses",),
    "ocfs2": ("every host is a node in /etc/ocfs2/cluster.conf; its o2cb resets a host that cannot "
              "write for 60 s, and while it waits for a host that died the writes of all others "
              "stand still: take the timing 'tolerant' or longer",),
    "gfs2": ("corosync and dlm run on every host, with fencing of their own",),
    "glusterfs": ("gluster volume set VOLUME network.ping-timeout 10: the 42 s it has are longer "
                  "than the fence window of 'standard'",
                  "gluster volume set VOLUME server.tcp-user-timeout 10: for the 42 s it has, "
                  "bricks keep the locks of a host that has died, and all others wait for them",
                  "gluster volume set VOLUME cluster.quorum-type auto, on a volume with replica 3: "
                  "without it two halves write apart",
                  "gluster volume set VOLUME performance.strict-o-direct on"),
    "cephfs": ("a client that is gone is waited for up to 60 s: take the timing 'tolerant'",),
}  # fmt: skip

_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("soft", "softerr", "softreval"),
        "a write would be given up that the server may still carry out",
    ),
    "async": "it lets a write be acknowledged before it is on the storage",
    "ro": "a pool cannot live on storage that is read-only",
    "coherency=buffered": "a host would read what another one has overwritten",
    "data=writeback": "after a crash a file may hold what was never written to it",
    "direct-io-mode=disable": "beats would be read from this host's own cache",
    "recover_session=clean": "a host that was shut out would go on as if nothing was lost",
    "nobarrier": "a power cut would lose what was acknowledged",
    "barrier=0": "a power cut would lose what was acknowledged",
    "fsc": "beats would be read from this host's own cache",
}
_LATE = {
    "lookupcache": ("none",), "acdirmin": ("0",), "acdirmax": ("0",), "actimeo": ("0",),
    "attribute-timeout": ("0",), "entry-timeout": ("0",), "negative-timeout": ("0",),
}  # fmt: skip


def choose(kind: str, source: str, own: Sequence[str] = (), *, register: bool = True) -> Choice:
    """register: the pool itself lives there, not disks alone. Raises InvalidInput."""
    check_source(kind, source)
    if kind == "dir":
        if own:
            raise InvalidInput("a plain directory is not mounted, so it has no options")
        return Choice(kind, source, ())
    for text in own:
        _check_own(text, register)
    replaced = {text.partition("=")[0] for text in own}
    kept = [option for option in needed(kind, register=register) if option.name not in replaced]
    mine = [Option(text, "as it was wished") for text in own]
    return Choice(kind, source, (*kept, *mine), _ADVICE.get(kind, ()))


def check_source(kind: str, source: str) -> None:
    """Raises InvalidInput."""
    if kind not in KINDS:
        raise InvalidInput(f"there is no kind of storage {kind[:40]!r}", hint=", ".join(KINDS))
    pattern, example = _SOURCES[kind]
    good = re.fullmatch(pattern, source) or (kind == "cephfs" and _CEPH_NEW.fullmatch(source))
    if not good or any(ord(c) < 33 or ord(c) == 127 for c in source):
        raise InvalidInput(f"{source[:80]!r} is no source of {kind}", hint=f"like {example}")


def needed(kind: str, *, register: bool = True) -> tuple[Option, ...]:
    """What is chosen for a kind that is mounted."""
    names = _NAMES if register else _FOUND
    table: Mapping[str, tuple[Option, ...]] = {
        "nfs": (*_NFS4, *_NFS, *names),
        "nfs3": (*_NFS3, *_NFS, *names),
        "ocfs2": _OCFS2,
        "gfs2": _GFS2,
        "glusterfs": _GLUSTER,
        "cephfs": _CEPH,
    }
    return (*table[kind], *_SAFE)


def _check_own(text: str, register: bool) -> None:
    name, _, value = text.partition("=")
    if not _OPTION.fullmatch(text):
        raise InvalidInput(f"{text[:80]!r} is no mount option", hint="like timeo=100, one each")
    why = _REFUSED.get(text) or _REFUSED.get(name)
    if not why and register and name in _LATE and value not in _LATE[name]:
        why = "this host would see late what others wrote; only for a repository of disks"
    if why:
        raise InvalidInput(f"the option {text} is refused: {why}")
