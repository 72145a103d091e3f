"""How a pool on etcd is born, and how a host gets its own directory of it.

    /outlast/<pool>/reg/<class>/<id>   registers (etcd_register.py)
    /outlast/<pool>/hb/<slot>          heartbeat area (etcd_heartbeat.py)
    /outlast/<pool>/file/<path>        small files that all hosts share (etcd_folder.py)

Rules:
1. A pool is born by one transaction, which fails where there is one: killed at any point, there is
   no pool or a complete one, and of two that try at once one has it.
2. A host's directory is of this host alone: etcd.json, copies of the shared files, and the folders
   a pool's directory has. pool.json comes last. It can be made again at any time.
3. No disk of a VM belongs there: other hosts would not find it.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid as uuids
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from outlast.errors import Conflict, InvalidInput, NotFound
from outlast.settings import PoolSettings, S, Timing
from outlast.storage.etcd import Etcd, pools
from outlast.storage.etcd_access import ACCESS, ANSWER_S, Access, access_text, read_access
from outlast.storage.etcd_folder import FILES, LAST, EtcdFolder
from outlast.storage.etcd_heartbeat import header_of
from outlast.storage.etcd_register import FOLDER, EtcdRegister
from outlast.storage.files import Files, trouble_of
from outlast.storage.format import pool_from, pool_to, record_bytes
from outlast.storage.layout import FOLDERS, PoolDir, description, new_secret, open_pool
from outlast.storage.temporaries import make_dir

TRIES_IN_WINDOW = 4  # so many addresses may stay silent within the fence window


def create_on_etcd(
    root: Path, access: Access, settings: PoolSettings, furnish: Callable[[Path], None]
) -> PoolDir:
    """Make a pool on etcd, and this host's directory of it.

    `settings`: checked by the caller. `furnish` makes the certificates in a folder it is given.
    Raises Conflict (there is one of this name), InvalidInput, StorageTrouble.
    """
    _check_free(root)
    _check_tls(access, settings.timing)
    access = replace(access, pool=settings.name, answer_s=answer_s_of(settings.timing))
    etcd = Etcd(access)
    with tempfile.TemporaryDirectory(prefix="outlast-pool-") as temporary:
        build = Path(temporary)
        try:
            furnish(build)
            (build / "secret").write_bytes(new_secret())
            (build / LAST).write_bytes(description(settings))
            put = {
                FILES + path.relative_to(build).as_posix(): path.read_bytes()
                for path in build.rglob("*") if path.is_file()
            }  # fmt: skip
        except OSError as error:
            raise trouble_of(error, build) from error
    put |= header_of(settings.uuid)
    put[f"{FOLDER}pool"] = record_bytes(
        "pool", 1, uuids.uuid4().hex, "init", pool_to(settings), ""
    )  # fmt: skip
    born = etcd.transaction([(FILES + LAST, 0), (f"{FOLDER}pool", 0)], put)
    if not born and etcd.get(FILES + LAST).data != put[FILES + LAST]:
        raise Conflict(
            f"this etcd already holds a pool '{settings.name}'",
            hint="join it, or choose another name",
        )
    return attach(root, access)


def attach(root: Path, access: Access) -> PoolDir:
    """Make this host's directory of a pool that is there; without a name: of the only one there.

    Raises Conflict, InvalidInput, NotFound, StorageTrouble; then nothing is left of it.
    """
    _check_free(root)
    access = replace(access, pool=access.pool or _only_pool(Etcd(access)))
    _, value = EtcdRegister(Etcd(access), "join").read("pool")
    if value is None:
        raise NotFound(
            f"there is no pool '{access.pool}' on this etcd",
            hint="outlast pool init DIR --etcd URL",
        )
    timing = pool_from(value).timing
    _check_tls(access, timing)
    access = replace(access, answer_s=answer_s_of(timing))
    existed = root.is_dir()
    files = Files()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)
        (root / ACCESS).unlink(missing_ok=True)
        files.create(root / ACCESS, access_text(access))
        for name, mode in FOLDERS.items():
            make_dir(files, root / name, mode)
        folder = EtcdFolder(root, Etcd(access))
        with folder.locked():
            folder.pull()
        return open_pool(root)
    except BaseException as error:
        if not existed:
            shutil.rmtree(root, ignore_errors=True)
        if isinstance(error, OSError):
            raise trouble_of(error, root) from error
        raise


def answer_s_of(timing: Timing) -> float:
    """How long one address is waited for: several may stay silent before a guard would close."""
    return min(ANSWER_S, timing.fence_ns / S / TRIES_IN_WINDOW)


def _check_free(root: Path) -> None:
    if (root / LAST).exists() and read_access(root) is None:
        raise Conflict(
            f"{root} holds a pool on a shared file system", hint="take another directory"
        )
    if root.exists() and not root.is_dir():
        raise InvalidInput(f"{root} is not a directory", hint="it is made when it is missing")


def _check_tls(access: Access, timing: Timing) -> None:
    if timing.preset != "lab" and any(url.startswith("http:") for url in access.urls):
        raise InvalidInput(
            "etcd without TLS would let anybody on the network run the pool",
            hint="give it certificates and say https://; see docs/operating/etcd.md",
        )


def _only_pool(etcd: Etcd) -> str:
    found = pools(etcd)
    if not found:
        raise NotFound(
            "there is no pool on this etcd", hint="a new one: outlast pool init DIR --etcd URL"
        )
    if len(found) > 1:
        raise InvalidInput(
            f"this etcd holds several pools: {', '.join(found)}", hint="name one with --pool"
        )
    return found[0]
