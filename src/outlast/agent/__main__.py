"""The agent of a host: `python -m outlast.agent`, a service that starts after guard and pulse.

It reads the host file, waits for the pool's storage, then ticks until SIGTERM. Ending it ends no
VM: guard and pulse go on, and the next agent adopts what runs.

Exit codes: 0 asked to stop, 1 a bug or a broken invariant, else those of errors.py.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from outlast.agent.engine import Engine, Parts
from outlast.agent.etcd_keeper import EtcdKeeper
from outlast.agent.farewell import switch_off
from outlast.agent.findings import Findings
from outlast.agent.hostfile import HostFile, etc_dir, load, run_dir, var_dir
from outlast.agent.server import Server
from outlast.agent.trust import Trust, endings
from outlast.errors import HypervisorTrouble, OutlastError, StorageTrouble
from outlast.guard import emulator
from outlast.guard.client import GuardClient
from outlast.guard.pulse_client import PulseClient
from outlast.hypervisor import accelerator
from outlast.hypervisor.domain_xml import DomainOptions
from outlast.hypervisor.libvirt_driver import LibvirtDriver, LibvirtOptions
from outlast.mounts.systemd import UNTIL_BOOT, Mounts
from outlast.network.links import Links
from outlast.pool.facts import Me
from outlast.power.fencing import FencePower
from outlast.settings import PoolSettings, check_protocol
from outlast.storage.access import open_register
from outlast.storage.etcd import Etcd
from outlast.storage.etcd_access import read_access
from outlast.storage.format import pool_from
from outlast.storage.register import Register
from outlast.wire.seal import CA_CERT, QEMU_CA, client_context, qemu_folder

log = logging.getLogger("outlast.agent")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
RETRY_S = 1.0
REMOUNT_EVERY = 10  # tries
CONNECT_S = 1.0  # a libvirt that is not there yet keeps the agent from its other work no longer


def wait_for_settings(
    register: Register, stopped: threading.Event, remount: Callable[[], bool],
    pause_s: float = RETRY_S,
) -> PoolSettings | None:  # fmt: skip
    """The pool's settings, as soon as its storage answers; None when asked to stop before.

    remount: has the storage mounted if it is not. A boot tries that once, when the server may not
    be there yet. Raises Conflict when this version does not speak the pool's protocol.
    """
    told = ""
    for count in itertools.count():
        try:
            version, value = register.read("pool")
            if value is not None:
                settings = pool_from(value)
                check_protocol(settings)
                return settings
            trouble = f"the pool's settings are not there (version {version})"
        except StorageTrouble as error:
            trouble = error.sentence
        if trouble != told:
            told = trouble
            log.warning("waiting for the pool's storage: %s", trouble)
        if count % REMOUNT_EVERY == 0:
            _mounted(remount)
        if stopped.wait(pause_s):
            break
    return None


def _mounted(remount: Callable[[], bool]) -> None:
    try:
        if remount():
            log.info("the pool's storage is not mounted; systemd is asked to mount it")
    except StorageTrouble as trouble:
        log.warning("the pool's storage is not mounted: %s", trouble.sentence)


def make_driver(host: HostFile) -> LibvirtDriver:
    """libvirt, with the guard's wrapper as the only emulator."""
    wrapper = var_dir() / "qemu"  # survives boots, so that libvirt need not learn it anew
    chosen = accelerator.choose(host.accelerator, host.qemu, var_dir() / "accelerator.json")
    log.info("VMs run with %s: %s", chosen.name, chosen.why)
    try:
        emulator.install(
            wrapper, socket=str(run_dir() / "guard.sock"), qemu=host.qemu,
            tcg_pad=chosen.name == "tcg", pool_ca=str(etc_dir() / "pki" / CA_CERT),
            qemu_ca=str(qemu_folder() / QEMU_CA),
        )  # fmt: skip
    except OSError as error:
        raise HypervisorTrouble(
            f"{wrapper}, without which no VM can start: {error.strerror}",
            hint=f"make room in {var_dir()}",
        ) from error
    domain = DomainOptions(
        accelerator=chosen.name,
        emulator=str(wrapper),
        vnc_socket="auto",
        pool=host.pool_uuid,
    )
    options = LibvirtOptions(
        domain=domain, memory_mib=host.memory_mib, vcpus=host.vcpus, connect_s=CONNECT_S,
        marks=run_dir() / "frozen",
    )  # fmt: skip
    driver = LibvirtDriver(host.libvirt_uri, options)
    threading.Thread(target=driver.warm, name="warm", daemon=True).start()
    return driver


def serve(engine: Engine, host: HostFile, ready: threading.Event) -> threading.Thread:
    """The API in a thread of its own, with its own event loop."""
    server = Server(
        engine, run_dir() / "agent.sock", address=host.api_address, pki=etc_dir() / "pki"
    )

    async def run() -> None:
        await server.start()
        Trust(
            etc_dir() / "pki", Path(host.pool_dir) / "pki", Path(host.qemu_pki), server.contexts
        ).start()
        ready.set()
        await asyncio.Event().wait()

    def main() -> None:
        try:
            asyncio.run(run())
        except OutlastError as trouble:
            log.error("the API does not run: %s", trouble.sentence)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="api", daemon=True)
    thread.start()
    return thread


def _end(args: threading.ExceptHookArgs) -> None:
    """A thread died of a bug: end the whole agent, the next one adopts what runs."""
    threading.__excepthook__(args)
    sys.stderr.flush()
    os._exit(1)


def main() -> int:
    threading.excepthook = _end
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    stopped = threading.Event()
    try:
        host = load()
        for folder in (run_dir(), var_dir()):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        register = open_register(Path(host.pool_dir), str(host.slot))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        settings = wait_for_settings(register, stopped, lambda: Mounts().again(host.pool_dir))
        if settings is None:
            return 0
        driver = make_driver(host)
        access = read_access(Path(host.pool_dir))
        etcd_pki = Path(access.pki) if access is not None and access.pki else None
        parts = Parts(
            me=Me(host.slot, host.host, host.uuid),
            settings=settings,
            pool_dir=Path(host.pool_dir),
            notes_path=var_dir() / "journal.jsonl",
            register=register,
            open_guard=lambda: GuardClient(run_dir() / "guard.sock"),
            pulse=PulseClient(run_dir() / "pulse.sock"),
            driver=driver,
            processors=driver.processors,
            links=Links(),
            mounts=Mounts(UNTIL_BOOT),
            power=FencePower(register, Path(host.pool_dir)),
            disks=driver.disks,
            foreigners=driver.foreigners,
            findings=Findings(driver.guests, Links(), Path(host.pool_dir)),
            run_dir=run_dir(),
            context=lambda: client_context(etc_dir() / "pki"),
            endings=lambda: endings(etc_dir() / "pki", etcd_pki),
            boot_id=BOOT_ID.read_text().strip(),
            power_off=lambda: switch_off(load().power_off_command),
        )
    except OutlastError as trouble:
        log.error("%s%s", trouble.sentence, f" ({trouble.hint})" if trouble.hint else "")
        return trouble.exit_code
    engine = Engine(parts)
    if access is not None:
        EtcdKeeper(parts.pool_dir, host.slot, Etcd(access)).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: engine.stop())
    ready = threading.Event()
    serve(engine, host, ready)
    engine.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
