"""Where a VM fits. Pure: knows no network, no time, no leases."""
