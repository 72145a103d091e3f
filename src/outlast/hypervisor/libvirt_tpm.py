"""The state of a VM's TPM, on the pool's storage although libvirt knows one place on each host.

Rules:
1. libvirt 9.0 keeps the state of all TPMs in TPM_PLACE/<uuid>. For a VM whose record names a folder
   of the pool, that is a link to this folder, made before each start; so the next host finds what
   the last one left. Only one host at a time runs the VM, as with its disks.
2. A state that lies there already, in a folder of the host's own, is left alone, and the VM does
   not start: it may be the only copy.
3. Such a VM does not move while it runs (libvirt_move.py): libvirt would take the two folders for
   two copies, and remove the one that the VM was moved away from, which is the same.
"""

from __future__ import annotations

from pathlib import Path

from outlast.errors import HypervisorTrouble
from outlast.hypervisor.hardware_xml import TPM_PLACE
from outlast.model import VmSpec


def link_tpm(root: Path, spec: VmSpec) -> None:
    """Have libvirt find the TPM's state; root: of the file system that libvirt sees.

    Raises HypervisorTrouble.
    """
    if not spec.tpm_state:
        return
    link = root / TPM_PLACE.lstrip("/") / spec.uuid.lower()
    target = Path(spec.tpm_state)
    try:
        (root / spec.tpm_state.lstrip("/")).mkdir(mode=0o700, parents=True, exist_ok=True)
        link.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        if link.is_symlink():
            if link.readlink() == target:
                return
            link.unlink()
        link.symlink_to(target)
    except FileExistsError:
        raise HypervisorTrouble(
            f"'{spec.name}' cannot start: its TPM has a state of this host's own in {link}",
            hint=f"move its content to {target}, or remove it if it is an old one",
        ) from None
    except OSError as error:
        raise HypervisorTrouble(
            f"'{spec.name}' cannot start: no place for the state of its TPM: {error.strerror}"
        ) from error
