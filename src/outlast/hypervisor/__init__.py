"""Hands for the hypervisor of one host: start, stop, watch and look into VMs.

driver          the port every caller programs against, its events and its errors   [pure]
domain_xml      a VM's definition as libvirt XML                                      [pure]
libvirt_driver  the real thing: libvirt_link keeps the connection, libvirt_ledger makes events
                of what changed, libvirt_words translates, libvirt_console is the serial port
fake_driver     VMs as small real processes that sign their disk (fake_vm)
accelerator     does KVM really work here? tried, not believed
qemu_process    pids, logs and SIGKILL of QEMU, without libvirt
leftovers       QEMU processes of the pool's VMs outside the guarded cgroup subtree

This room decides nothing: who may run a VM is the pool's business, and that none runs without a
live term is the guard's.
"""
