"""What runs inside emulated hosts for bench.migrate; the bench hands this file's text to python -c.

watch                              every event of every domain as a line: host-neutral, JSON
plain MODE XML PEER ADDRESS        one move of a domain of its own by libvirt alone, as virsh does
                                   it; MODE is plain or tls. Prints {"wall_s", "pause_s"}.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import libvirt

STARTED, SUSPENDED, RESUMED = 2, 3, 4
UP_S = 1.5  # the guest has booted and writes


def say(told: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(told)}\n")
    sys.stdout.flush()


def loop() -> None:
    """libvirt's events in a thread of this process."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, daemon=True).start()


def watch() -> None:
    conn = libvirt.open("qemu:///system")

    def heard(_: Any, dom: Any, event: int, detail: int, __: Any) -> None:
        at_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        say({"at_s": at_s, "vm": dom.name(), "event": event})

    conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, heard, None)
    say({})
    threading.Event().wait()


def plain(mode: str, xml: str, peer: str, address: str) -> None:
    here, there = libvirt.open("qemu:///system"), libvirt.open(f"qemu+tls://{peer}/system")
    seen: dict[tuple[str, int], float] = {}

    def listen(conn: Any, where: str) -> None:
        def heard(_: Any, __: Any, event: int, detail: int, ___: Any) -> None:
            seen[where, event] = time.monotonic()

        conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, heard, None)

    dom = here.createXML(xml, 0)
    try:
        time.sleep(UP_S)
        listen(here, "here")
        listen(there, "there")
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
        flags |= libvirt.VIR_MIGRATE_TLS if mode == "tls" else 0
        flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
        begun = time.monotonic()
        to = {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{address}"}
        dom.migrateToURI3(f"qemu+tls://{peer}/system", to, flags)
        wall_s = time.monotonic() - begun
        time.sleep(0.2)
        pause_s = seen["there", RESUMED] - seen["here", SUSPENDED]
        say({"wall_s": wall_s, "pause_s": pause_s})
    finally:
        for conn in (here, there):
            try:
                conn.lookupByName(dom.name()).destroy()
            except libvirt.libvirtError:
                continue


if __name__ == "__main__":
    loop()
    {"watch": watch, "plain": plain}[sys.argv[1]](*sys.argv[2:])
