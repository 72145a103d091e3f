"""Disk images: the pool's library, templates, clones, seeds for cloud-init, copies of disks.

Rules of this room:
1. Nothing half-made is ever visible: work is done in a hidden folder beside its target, synced, and
   then given its name in one step. What a killed process left is found and cleaned (work.py).
2. What comes from outside is not trusted: it is looked at in Python before any program opens it,
   its format is always said and never guessed by QEMU, and what refers to other files is refused
   (look.py).
3. Copies are slow on purpose: lowest priority, at most one at a time on each host, a limit of bytes
   a second, past the page cache, so that the heartbeat never waits for them (qemu_img.py, pace.py).
4. It touches no disk of a VM that exists: who may, is decided by leases (agent/disk_work.py).
"""
