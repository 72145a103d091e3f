"""Power switches: how a host is switched off from outside, and what may be believed about that.

port.py says what the pool may ask, fencing.py answers it with the fence agents of the distribution
(agents.py runs one), switches.py keeps the settings on the pool's storage. Nobody here
decides to switch a host off.
"""
