#!/bin/sh
# What the fence agents for IPMI call in place of ipmitool: they would give it the password as an
# argument, which every program on the machine can read. They get none, so they say -P ''; the
# password comes from the environment, which only root can read, and -E, being last, counts.
exec ipmitool "$@" -E
