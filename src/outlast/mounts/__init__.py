"""Shared file systems of a pool: how they are mounted, and whether they are there.

options (which ones and why), unit (systemd's file for one), table (what the kernel says is mounted)
are pure; systemd carries out, answer asks a mount whether it still answers; registry keeps the
pool's storage repositories: the registers `repository/<name>`.
"""
