#!/bin/sh
# What the fence agents for IPMI call in place of ipmitool: they would give it the password and the Kg
# key as arguments, which every program on the machine can read. They get neither, so they say -P '';
# both come from the environment, which only root can read, and -E, being last, counts.
exec ipmitool "$@" -E ${IPMI_KGKEY:+-K}
