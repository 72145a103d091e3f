"""A pretend pool, deterministic from one seed, around the production decisions.

The guard's core, the pulse's core, the pool core and the formats are the real ones; only time,
disk, network, hypervisor and the shells around the cores are pretended. Read in this order: world
(clock, disk, links), host (one pretend server), checks (what must always hold), scenario (stories
as text), seeds (random faults).
"""
