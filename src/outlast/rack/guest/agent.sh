#!/bin/busybox sh
# Started by sentinel: a file system on /dev/vdb that is always being written to, and QEMU's guest
# agent, which brings it to rest when it is asked to. The agent calls this script too, as its hook;
# each call is a line on the serial console:
#
#     HOOK freeze|thaw UPTIME
#
# Words of the kernel's command line: hook=S the hook takes so many seconds before it freezes.
PORT=org.qemu.guest_agent.0
busybox=/bin/busybox

if [ $# -gt 0 ]; then
    read -r up _ < /proc/uptime
    echo "HOOK $1 $up" > /dev/ttyS0
    delay=$($busybox sed -n 's/.*\bhook=\([0-9]*\).*/\1/p' /proc/cmdline)
    [ "$1" = freeze ] && [ -n "$delay" ] && $busybox sleep "$delay"
    exit 0
fi

$busybox mount -t ext4 /dev/vdb /data && while :; do
    read -r up _ < /proc/uptime
    echo "$up" >> /data/diary
    $busybox sync
    $busybox usleep 50000
done &

for name in /sys/class/virtio-ports/*/name; do
    [ "$($busybox cat "$name")" = $PORT ] || continue
    port=${name%/name}
    exec /bin/qemu-ga -m virtio-serial -p "/dev/${port##*/}" -t /tmp -F/agent
done
