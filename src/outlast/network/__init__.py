"""Networks for VMs: what a pool wishes, and how each host gets it.

plan.py says what a host has to do, links.py does it with iproute2, registry.py keeps the wishes on
the pool's storage. Networks between the hosts themselves (heartbeat, migration) are not made here:
they must work before a pool does.
"""
