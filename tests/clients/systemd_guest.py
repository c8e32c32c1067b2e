"""Plimsoll as a service of a real systemd, by the units of conf/: told of in time, confined by the unit, reloaded,
watched, activated by sockets, drained. The systemd is this machine's, in namespaces of its own."""
import re
import sys

import guest
import stand

REPORT = stand.Report("systemd")

if __name__ == "__main__":
    unit = (stand.ROOT / "conf" / "plimsoll.service").read_text()
    CONFIG = """
[process]
workers = 2
[listener.web]
bind = ["127.0.0.1:80"]
[[route]]
respond = { status = 200, body = "hello" }
"""
    g = guest.Guest({"/etc/systemd/system/plimsoll.service": unit,
       "/etc/plimsoll/plimsoll.toml": CONFIG,
       "/usr/local/bin/plimsoll": stand.pathlib.Path(stand.BINARY),
       "/etc/systemd/system/trial.target": "[Unit]\nWants=plimsoll.service\nAllowIsolate=yes\n"}, "trial.target")
    print(g.run("systemctl", "status", "plimsoll", "--no-pager").stdout)
    print(g.run("journalctl", "--no-pager", "-n", "40").stdout)
    print(g.run("mount").stdout)
    g.stop()
