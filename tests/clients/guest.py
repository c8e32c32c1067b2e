"""A systemd of its own as process 1 of new namespaces, on a copy-on-write view of this machine's root or of another one:
nothing of either is changed, and all of it ends with the suite. The units are those that the suite writes; no other service runs."""
import os
import pathlib
import re
import subprocess

import stand

# Runs inside the new namespaces with the folder for the view, the files to add, the target to start and
# the root that is looked at. What the kernel gives every container is mounted by hand, and nothing else.
BOOT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=$4,upperdir=$1/upper,workdir=$1/work" "$1/root"
root=$1/root
mount -t proc proc "$root/proc"
# Settings of the kernel are the machine's own.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
  touch "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/shm" "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/etc/systemd/system"
mount -t tmpfs -o mode=755 tmpfs "$root/var/log"
cp -r "$2/." "$root/"
hostname guest
ip link set lo up
exec env -i container=plimsoll PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  unshare --root="$root" /lib/systemd/systemd --log-target=journal --show-status=0 --unit="$3"
"""


class Guest:
    """A running systemd; `files` is what its root has beside the machine's, or beside that of `root`, by path."""

    def __init__(self, files, target, root="/"):
        seed, view = stand.directory(), stand.directory()
        for path, content in files.items():
            place = seed / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pathlib.Path):
                place.write_bytes(content.read_bytes())
                place.chmod(0o755)
            else:
                place.write_text(content)
        for folder in [seed, *(path for path in seed.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)
        self.group = control_group()
        unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net", "--cgroup"]
        join = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        command = [*unshare, "bash", "-c", BOOT, "boot", view, seed, target, root]
        self.process = stand.Process(["bash", "-c", join, self.group, *command])
        stand.until("systemd", self.is_up)

    def is_up(self):
        if self.process.child.poll() is not None:
            raise RuntimeError(f"no systemd here: {self.process.errors()}")
        child = pathlib.Path(f"/proc/{self.process.child.pid}/task/{self.process.child.pid}/children").read_text()
        self.first = child.split()[0] if child.split() else None
        return self.first and self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def inside(self, *command):
        enter = ["nsenter", "-t", self.first, "-m", "-p", "-n", "-u", "-i", "-C", "--root", "--wd=/"]
        return [*enter, *map(str, command)]

    def near(self, *command):
        """A program of this machine on the guest's network."""
        return ["nsenter", "-t", self.first, "-n", *map(str, command)]

    def run(self, *command, timeout=40, **more):
        """Runs a program in there; its end and its words."""
        return subprocess.run(
            self.inside(*command), capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL, **more
        )

    def start(self, *command):
        """The same, at work until the suite ends it."""
        return stand.Process(self.inside(*command))

    def must(self, *command, **more):
        done = self.run(*command, **more)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
        return done.stdout

    def show(self, unit, what):
        """A property of a unit."""
        return self.must("systemctl", "show", unit, f"--property={what}", "--value").strip()

    def write(self, path, text):
        root = pathlib.Path(f"/proc/{self.first}/root")
        (root / path.lstrip("/")).write_text(text)

    def journal(self, unit):
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def stop(self):
        self.process.stop(9)
        stand.until("the end of the guest", self.remove_group)

    def remove_group(self):
        """The control groups that are left; a process that is on its way out still holds its own for a moment."""
        for folder, _, _ in os.walk(self.group, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                return False
        return True


def control_group():
    """A control group of version 2 for the guest, beside all others."""
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    place = re.search(r"^\S+ (\S+) cgroup2 ", mounts, re.MULTILINE)
    if not place:
        raise RuntimeError("no control groups of version 2 are mounted")
    group = pathlib.Path(place[1]) / f"plimsoll-test-{os.getpid()}"
    group.mkdir()
    return group
