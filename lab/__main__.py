"""Real kernels, real file systems: `make lab`, or `python -m lab [TRIAL ...] [--json FILE]`.

Machines of QEMU without KVM run a distribution's own kernel, so that what this machine's kernel
lacks (NFS, OCFS2, iSCSI, CephFS, GFS2) is tried as it is in the world; `cloudinit` boots Debian in
VMs of a rack. Needs root, 9 GiB of memory, and the first time a mirror; twenty to thirty minutes
for each trial, fifty for `nfs`. Exit codes: 0 all was as it must be, 1 something was not, else
those of errors.py. What was seen: docs/operating/file-systems.md, and images.md of `cloudinit`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

from lab.findings import Findings
from lab.root import cache
from lab.site import Site
from outlast.errors import OutlastError

TRIALS = ("nfs", "install", "ocfs2", "glusterfs", "cephfs", "gfs2", "cloudinit")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=", ".join(TRIALS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was found, for programs")
    chosen = parser.parse_args()
    if unknown := set(chosen.trials) - set(TRIALS):
        parser.error(f"there is no trial {', '.join(sorted(unknown))}; there are {TRIALS}")
    found, code = Findings(), 0
    for name in chosen.trials or TRIALS:
        found.trial = name
        folder = Path(tempfile.mkdtemp(prefix=f"run-{name}-", dir=cache()))
        found.say(f"consoles are in {folder}")
        try:
            module = importlib.import_module(f"lab.{name}")
            with _ground(module, folder) as ground:
                module.trial(ground, found)
        except OutlastError as trouble:
            found.add("ended early", f"{trouble.sentence} {trouble.hint or ''}", False)
            code = trouble.exit_code
        if chosen.json:
            found.write(chosen.json)
    return code or (0 if found.good else 1)


def _ground(module: ModuleType, folder: Path) -> AbstractContextManager[object]:
    """Three machines, unless the trial brings its own ground."""
    if hasattr(module, "ground"):
        own: AbstractContextManager[object] = module.ground(folder)
        return own
    return Site(folder, module.MEMORY_MIB)


if __name__ == "__main__":
    sys.exit(main())
