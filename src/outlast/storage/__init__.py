"""The shared file system, or etcd: registers, heartbeat area, layout of a pool's directory.

register (port), format (bytes and values, the specification) and names are pure; posix is the
register on files, memory the one in memory; heartbeat reads and writes the area of blocks; layout
makes and opens a pool's directory; probe asks whether a mount keeps its promises; dump shows all.
etcd is its client, etcd_* what stands on it; access opens what a directory is or names.
"""
