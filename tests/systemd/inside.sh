# Run as the first process of new namespaces: mounts a root of its own, and becomes systemd in it. Everything written
# lies in memory and goes with the namespaces. The first word is the layout of the cgroup mounts, the others are
# systemd's.
layout=$1
shift

# This machine's own root below, so that its engines are there. Mounts of the machine are not.
mount -t tmpfs boot /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work root /mnt/root
cd /mnt/root

# Of what /proc/sys has, only net belongs to the namespaces: the rest would be set for the whole machine.
mount -t proc proc proc
mount --bind proc/sys/net mnt
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --move mnt proc/sys/net
mount -t sysfs -o nosuid,nodev,noexec sysfs sys

# Engines can't lay their file systems over one that is laid over another itself; and what they left on the machine
# is nobody's business here.
for dir in dev dev/shm dev/pts run tmp root srv var/tmp \
  var/lib/docker var/lib/containerd var/lib/containers var/lib/lxc var/lib/machines; do
  mkdir -p $dir
  mount -t tmpfs -o mode=755 tmpfs $dir
done
chmod 1777 dev/shm tmp var/tmp

for node in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 666 dev/${node%:*} c 1 ${node#*:}
done
mknod -m 666 dev/tty c 5 0
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

top=sys/fs/cgroup
if test $layout = v2; then
  mount -t cgroup2 cgroup2 $top
else
  mount -t tmpfs -o mode=755 cgroup $top
  # The machine's own sets of controllers: one that is mounted with others can't be mounted alone.
  while IFS=: read -r number controllers _; do
    test "$number" != 0 || continue
    dir=$top/${controllers#name=}
    mkdir $dir
    case $controllers in
      name=*) mount -t cgroup -o none,$controllers cgroup $dir ;;
      *) mount -t cgroup -o $controllers cgroup $dir ;;
    esac
  done < proc/self/cgroup
fi
if test $layout = hybrid; then
  mkdir $top/unified
  mount -t cgroup2 cgroup2 $top/unified
  # Where systemd mounted them, v1 has all the controllers. The machine may have left some to v2, with which crun
  # refuses to work.
  mount --bind dev/null $top/unified/cgroup.controllers
fi
mount -o remount,bind,ro sys

: > etc/fstab
units=etc/systemd/system
# Settings of the machine, and work at times of its own, are not for here.
for unit in systemd-sysctl.service systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
  systemd-udev-trigger.service timers.target podman.socket lxc-net.service; do
  ln -sf /dev/null $units/$unit
done
# Where the tests' commands run, as the ones that somebody types run in a session's cgroup.
cat > $units/operator.service <<END
[Unit]
Requires=basic.target dbus.service
After=basic.target dbus.service
[Service]
ExecStart=/bin/sleep infinity
END
mkdir -p etc/docker
echo '{"exec-opts": ["native.cgroupdriver=systemd"], "bridge": "none", "iptables": false}' > etc/docker/daemon.json

pivot_root . mnt
umount -l mnt
exec env -i container=iceaxe PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd systemd.unit=operator.service "$@"
