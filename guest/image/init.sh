#!/bin/busybox sh
# First process of godwit's test guest. Loads the drivers, sets the network up, then runs what the
# kernel command line asks for; the words are explained in guest/image/README.md. Everything it says
# starts with "godwit-guest", so that tests can read the console.
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs tmp /tmp
busybox mkdir -p /run
busybox mount -t tmpfs run /run

# Words of the kernel command line: godwit.NAME=VALUE becomes $godwit_NAME, and NAME=VALUE for workloads.
options=
for word in $(busybox cat /proc/cmdline); do
  case $word in
    godwit.*=*)
      word=${word#godwit.}
      name=${word%%=*}
      case $name in *[!a-z0-9_]*) continue ;; esac
      eval "godwit_$name=\${word#*=}"
      options="$options $word"
      ;;
  esac
done

# Dependencies first. A bus whose devices are absent costs a few milliseconds only.
for module in $(busybox cat /modules/order); do
  busybox insmod "/modules/$module.ko" || echo "godwit-guest FAILED insmod $module"
done

# udev would make these: agents open their port by name.
busybox mkdir -p /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
  [ -e "$port/name" ] && busybox ln -sf "/dev/${port##*/}" "/dev/virtio-ports/$(busybox cat "$port/name")"
done

busybox ip link set lo up
if [ -n "$godwit_ip" ] && [ -e /sys/class/net/eth0 ]; then
  busybox ip addr add "$godwit_ip" dev eth0
  busybox ip link set eth0 up
  [ -n "$godwit_gateway" ] && busybox ip route add default via "$godwit_gateway"
fi

ports=$(busybox ls /dev/virtio-ports | busybox tr '\n' ' ')
disks=$(busybox ls /sys/block | busybox grep vd | busybox tr '\n' ' ')
address=$(busybox ip -o -4 addr show eth0 2>/dev/null | busybox awk '{print $4}')
balloon=$(busybox ls /sys/bus/virtio/drivers/virtio_balloon | busybox grep -c virtio)
echo "godwit-guest devices ports ${ports:-none }disks ${disks:-none }address ${address:-none} balloon $balloon"

# A root disk is found by its label ("godwit-root"), read only: it can be shared by all guests.
root_disk=
for disk in /sys/block/vd*; do
  [ -e "$disk" ] || continue
  label=$(busybox dd if="/dev/${disk##*/}" bs=1 skip=1144 count=11 2>/dev/null | busybox tr -d '\0')
  [ "$label" = godwit-root ] && root_disk=${disk##*/}
done
if [ -n "$root_disk" ]; then
  busybox mkdir -p /root
  busybox mount -t ext4 -o ro "/dev/$root_disk" /root
  for folder in proc sys dev run; do busybox mount -o bind "/$folder" "/root/$folder"; done
  busybox mount -t tmpfs tmp /root/tmp
fi

# The disk to write on: named, or the first one that is not the root disk.
if [ -n "$godwit_disk" ]; then
  [ "$godwit_disk" = 1 ] && for disk in /sys/block/vd*; do
    disk=${disk##*/}
    [ "$disk" != "$root_disk" ] && godwit_disk=$disk && break
  done
  /bin/godwit-disk "device=/dev/$godwit_disk" "tickms=${godwit_tickms:-250}" "sync=${godwit_sync:-0}" \
    "mb=${godwit_diskmb:-8}" &
fi
# Whenever it ends it is started again: it then thaws what the one before has left frozen.
[ -n "$godwit_agent" ] && while :; do
  /bin/godwit-agent
  busybox sleep 0.2
done &

# A second JVM, as in a container: its own processes and mounts, another /proc. Its lines say "second".
if [ -n "$godwit_second" ]; then
  # shellcheck disable=SC2016 # expanded by the inner shell
  second=$(echo "$godwit_second" | busybox tr , ' ') jvm=$(echo "${godwit_jvm2:--XX:TieredStopAtLevel=1}" | busybox tr , ' ') \
    busybox unshare -m -p -f /bin/busybox sh -c 'busybox mount -t proc proc /root/proc &&
      exec busybox env -i PATH=/usr/bin HOME=/tmp /bin/busybox chroot /root \
        /usr/bin/java $jvm -cp /opt/workload $second' 2>&1 |
    busybox awk '{ sub(/guest tick/, "guest second tick"); print; fflush() }' &
fi

echo "godwit-guest start ${godwit_run:-idle} uptime $(busybox cut -d ' ' -f 1 /proc/uptime)"
case ${godwit_run:-idle} in
  # shellcheck disable=SC2086 # words on purpose
  writer) /bin/godwit-writer $options ;;
  idle) /bin/godwit-writer mb=1 rate=0 "tickms=${godwit_tickms:-1000}" ;;
  # Commas stand for blanks in godwit.args: the kernel splits its command line at blanks.
  java) busybox env -i PATH=/usr/bin HOME=/tmp /bin/busybox chroot /root \
    /usr/bin/java $(echo "${godwit_jvm:--XX:TieredStopAtLevel=1}" | busybox tr , ' ') \
    -XX:ErrorFile=/tmp/hs_err.log -cp '/opt/workload:/usr/share/java/*' \
    $(echo "${godwit_args:-Ticks}" | busybox tr , ' ')
    status=$?
    busybox head -n 60 /root/tmp/hs_err.log 2>/dev/null
    ;;
  # shellcheck disable=SC2086 # words on purpose
  server) busybox env -i $options /bin/busybox chroot /root /bin/dash /opt/workload/run.sh ;;
  # shellcheck disable=SC2086 # words on purpose
  cache) /bin/godwit-cache --both seconds=0 $options ;;
  shell) busybox setsid busybox cttyhack busybox sh ;;
  *) echo "godwit-guest FAILED unknown godwit.run=$godwit_run" ;;
esac
echo "godwit-guest exit ${status:-$?}"
busybox reboot -f
