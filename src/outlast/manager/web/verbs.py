"""Wishes on their way as sentences, never as calls."""

from __future__ import annotations

from outlast.manager.ports import Task

VERBS = {
    "start": "Starting", "stop": "Shutting down", "kill": "Ending", "migrate": "Migrating",
    "stay": "Keeping", "delete": "Deleting", "create": "Creating", "ha": "Switching HA of",
    "pool-ha": "Switching HA of", "set": "Changing", "pool-set": "Changing",
    "maintain": "Emptying", "resume": "Taking back", "power-off": "Powering off",
    "power-on": "Waking", "confirm-off": "Taking as off", "host-leave": "Taking out of the members",
    "host-remove": "Removing",
    "drill": "Drilling", "network-create": "Making the network",
    "network-change": "Changing the network", "network-remove": "Removing the network",
    "storage-add": "Adding the storage", "storage-remove": "Taking away the storage",
    "image-import": "Importing the image", "give-up": "Breaking off the work on",
    "orphan-remove": "Deleting the disk", "image-remove": "Deleting the image",
    "template-create": "Making the template",
    "template-of-vm": "Making the template",
    "template-remove": "Deleting the template",
    "snapshot": "Taking a snapshot of", "snapshot-revert": "Taking back the disks of",
    "snapshot-remove": "Forgetting a snapshot of",
    "disk-move": "Moving a disk of", "backup": "Backing up", "restore": "Restoring",
    "adopt": "Adopting", "schedule-set": "Changing when there are backups of",
    "schedule-remove": "Ending the backups of", "upgrade": "Upgrading the protocol of",
}  # fmt: skip


def words(task: Task) -> str:
    return f"{VERBS.get(task.verb, task.verb)} {task.object or 'the pool'}"
