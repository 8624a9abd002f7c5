#!/usr/bin/env python3
"""Seven attackers at once against one mount in a memory cgroup, and two users who notice nothing.

Run as root:  tests/hostile/attack.py target/release/secretfs [--seconds 60] [--slowest-ms 100] [--quick]

The daemon runs in a control group of 512 MiB. A reader opens and reads one secret, a writer replaces
another one and reads it back, each as its own UID. Each attacker is a UID with a slug and without any right
on other users' secrets. As systemd does for its slices, every user has a fair share of the processors.
Fails if the reader or the writer gets an error or a wrong value, if one of their opens takes longer than
--slowest-ms, if the server is restarted, or if an attack did not reach its limit within ten times the seconds,
since it then shows nothing. With --quick the quotas are smaller, so that a debug build gets there.
"""

import argparse
import errno
import json
import mmap
import os
import random
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import traceback

MIB = 1 << 20
READER, WRITER = 2001, 2002
FIRST_ATTACKER = 3001
KEY = "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8"
# What an attacker may be told. Every other error is a defect.
EXPECTED = {errno.EDQUOT, errno.EACCES, errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.EBADF,
            errno.ECONNREFUSED, errno.EPERM, errno.ESTALE, errno.EAGAIN, errno.EINTR}
# Quotas that a debug build reaches in seconds.
QUICK = ["--memory-per-user", "32M", "--memory", "96M", "--bytes-per-slug", "1M"]


class Limits:
    """Counts what an attack did, and which errors it met."""

    def __init__(self, notice):
        self.done = 0
        self.refused = {}
        self.notice = notice

    def attempt(self, operation):
        """The result of the operation, or None if it was refused."""
        try:
            result = operation()
            self.done += 1
            return result
        except OSError as error:
            if error.errno not in EXPECTED:
                raise
            name = errno.errorcode[error.errno]
            self.refused[name] = self.refused.get(name, 0) + 1
            self.notice(name)
            return None


def create(path):
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def close_all(descriptors):
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError:
            pass  # An unfinished file that could not be stored.
    descriptors.clear()


def hold_texts(point, slug, limits, is_over):
    """Thousands of descriptors of one import report and of status files."""
    with open(f"{point}/.import/bad.yaml", "w") as file:
        file.write("key: [\n")
        try:
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            pass  # It is meant to be refused: what counts is the report.
    texts = [f"{point}/.import/bad.yaml.report", f"{point}/.status/metrics", f"{point}/.status/whoami"]
    while not is_over():
        held = []
        while len(held) < 8_000 and not is_over():
            opened = limits.attempt(lambda: os.open(random.choice(texts), os.O_RDONLY))
            if opened is None:
                break
            held.append(opened)
        close_all(held)


def ask_for_names(point, slug, limits, is_over):
    """Hundreds of thousands of names below .encrypt, and of names that do not exist."""
    number = 0
    while not is_over():
        number += 1
        limits.attempt(lambda: os.stat(f"{point}/.encrypt/.in:a/{slug}-{number}"))
        limits.attempt(lambda: os.stat(f"{point}/{slug}/{number}"))


def hold_removed_scratch_files(point, slug, limits, is_over):
    """Scratch files of 1 MiB that are removed and kept open."""
    content = os.urandom(MIB)
    while not is_over():
        held = []
        for number in range(400):
            path = f"{point}/{slug}/.K{number}.swp"
            file = limits.attempt(lambda: create(path))
            if file is None:
                break
            held.append(file)
            written = limits.attempt(lambda: os.write(file, content))
            limits.attempt(lambda: os.unlink(path))
            if written is None or is_over():
                break
        close_all(held)


def hold_unfinished_files(point, slug, limits, is_over):
    """Hundreds of unfinished files, and one that is opened again and again."""
    content = os.urandom(MIB)
    while not is_over():
        held = []
        for number in range(512):
            file = limits.attempt(lambda: create(f"{point}/{slug}/F{number}"))
            if file is None:
                break
            held.append(file)
            if limits.attempt(lambda: os.write(file, content)) is None or is_over():
                break
        for _ in range(800):
            if not held or is_over():
                break
            again = limits.attempt(lambda: os.open(f"/proc/self/fd/{held[0]}", os.O_RDWR))
            if again is None:
                break
            held.append(again)
        for number in range(len(held)):
            limits.attempt(lambda: os.unlink(f"{point}/{slug}/F{number}"))
        close_all(held)


def store_long_lists(point, slug, limits, is_over):
    """Documents with six long, distinct lists each."""
    number = 0
    while not is_over():
        number += 1
        lists = ["readers", "writers", "deleters", "canChangeReaders", "canChangeWriters", "canChangeDeleters"]
        # As much as one record holds.
        document = {"key": f"{slug}/L{number}", "value": ""}
        for initial, name in enumerate(lists):
            document[name] = [f"{initial}{slug}.{number}.{position}" for position in range(200)]

        def drop():
            with open(f"{point}/.import/lists.yaml", "w") as file:
                file.write(json.dumps(document))

        limits.attempt(drop)


def be_denied(point, slug, limits, is_over):
    """Denied opens as fast as possible, from several processes, and large files held in the drop directory."""
    for _ in range(3):
        if os.fork() == 0:
            while not is_over():
                limits.attempt(lambda: os.open(f"{point}/shared/K", os.O_RDONLY))
            os._exit(0)
    content = b"#" * MIB
    while not is_over():
        held = [limits.attempt(lambda: create(f"{point}/.import/big{number}.yaml")) for number in range(4)]
        held = [file for file in held if file is not None]
        for file in held:
            for _ in range(63):
                if limits.attempt(lambda: os.write(file, content)) is None or is_over():
                    break
        for number in range(4):
            limits.attempt(lambda: os.unlink(f"{point}/.import/big{number}.yaml"))
        close_all(held)


def connect(point, slug, limits, is_over):
    """Connections to every socket of the daemon that can be found."""
    device = os.stat(point).st_dev
    names = [f"\0secretfs-holder-{os.major(device)}:{os.minor(device)}"]
    while not is_over():
        with open("/proc/net/unix") as table:
            paths = [line.split()[-1] for line in table if "secretfs" in line]
        for name in names + [path.replace("@", "\0", 1) if path[0] == "@" else path for path in paths]:
            for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
                with socket.socket(socket.AF_UNIX, kind) as end:
                    end.setblocking(False)
                    try:
                        limits.attempt(lambda: end.connect(name))
                    except OSError as error:
                        if error.errno not in {errno.EPROTOTYPE, errno.ENOENT, errno.ECONNRESET}:
                            raise
        limits.attempt(lambda: os.listdir(point))


# Each attack, and the refusal that shows that it reached a limit of the daemon.
ATTACKS = [
    (hold_texts, None),
    (ask_for_names, None),
    (hold_removed_scratch_files, "EDQUOT"),
    (hold_unfinished_files, "EDQUOT"),
    (store_long_lists, "EDQUOT"),
    (be_denied, "EDQUOT"),
    (connect, None),
]


def read_often(point, is_over, slowest):
    """Opens and reads one secret."""
    count = 0
    while not is_over():
        started = time.monotonic()
        file = os.open(f"{point}/shared/K", os.O_RDONLY)
        slowest.append(time.monotonic() - started)
        value = os.read(file, 100)
        os.close(file)
        assert value == b"value of K", value
        count += 1
        time.sleep(0.001)
    return count


def write_often(point, is_over, slowest):
    """Replaces one secret and reads it back."""
    count = 0
    while not is_over():
        value = os.urandom(random.randrange(1, 4_000))
        started = time.monotonic()
        file = os.open(f"{point}/writer/K", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        slowest.append(time.monotonic() - started)
        os.write(file, value)
        os.close(file)
        started = time.monotonic()
        file = os.open(f"{point}/writer/K", os.O_RDONLY)
        slowest.append(time.monotonic() - started)
        assert os.read(file, 5_000) == value, "another value came back"
        os.close(file)
        count += 1
        time.sleep(0.005)
    return count


def enter_group(controller, name, settings):
    """A control group of version 1 or 2 that this process joins."""
    for root in (f"/sys/fs/cgroup/{controller}", "/sys/fs/cgroup"):
        group = f"{root}/secretfs-hostile-{name}"
        try:
            os.makedirs(group, exist_ok=True)
            for setting, value in settings.get(root, []):
                with open(f"{group}/{setting}", "w") as file:
                    file.write(value)
            with open(f"{group}/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))
            return group
        except OSError:
            continue
    sys.exit(f"needs a control group for {controller}")


def limit_memory(mib):
    size = str(mib * MIB)
    v1, v2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"
    enter_group("memory", "daemon", {v1: [("memory.limit_in_bytes", size)], v2: [("memory.max", size)]})


def become(uid, share):
    enter_group("cpu", share, {})
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def start(uid, share, work):
    """A process of a user; its result comes as JSON through a pipe."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, os.fdopen(reading)
    try:
        become(uid, share)
        answer = work()
    except BaseException:
        answer = {"failed": traceback.format_exc()}
    with os.fdopen(writing, "w") as end:
        json.dump(answer, end)
    os._exit(0)


def serving(daemon):
    """The processes of the daemon, to see whether one is another one afterwards."""
    found = subprocess.run(["pgrep", "-P", str(daemon.pid)], capture_output=True, text=True)
    return sorted(found.stdout.split())


def run(arguments, folder):
    point, key = f"{folder}/secrets", f"{folder}/key"
    os.makedirs(f"{folder}/state", mode=0o700)
    identities = ["admins: [root]", "identities:", f"- {{slug: reader, uid: {READER}}}",
                  f"- {{slug: writer, uid: {WRITER}}}"]
    for number in range(len(ATTACKS)):
        identities.append(f"- {{slug: mallory{number}, uid: {FIRST_ATTACKER + number}}}")
    for path, text in [(f"{folder}/identities.yaml", "\n".join(identities)), (key, KEY)]:
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o600)
    log = open(f"{folder}/log", "w")
    daemon = subprocess.Popen(
        [arguments.program, "mount", point, "--state-dir", f"{folder}/state", "--identities",
         f"{folder}/identities.yaml", "--encryption-key-file", key] + (QUICK if arguments.quick else []),
        stderr=log, preexec_fn=lambda: (enter_group("cpu", "daemon", {}), limit_memory(arguments.memory)))
    try:
        while not os.path.ismount(point):
            if daemon.poll() is not None:
                sys.exit(open(f"{folder}/log").read())
            time.sleep(0.05)
        os.makedirs(f"{point}/shared", exist_ok=True)
        with open(f"{point}/shared/K", "w") as file:
            file.write("value of K")
        with open(f"{point}/shared/K.acl", "w") as file:
            file.write("readers: [reader]\n")
        return attack(arguments, point, daemon)
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            subprocess.run(["umount", "-l", point], check=False)
            print("the daemon did not end", file=sys.stderr)
        print("\n".join(open(f"{folder}/log").read().splitlines()[-20:]), file=sys.stderr)


def attack(arguments, point, daemon):
    before = serving(daemon)
    started = time.monotonic()
    # One byte for each attack that has not met its limit, shared with all processes.
    waiting = mmap.mmap(-1, len(ATTACKS))
    for number, (_, limit) in enumerate(ATTACKS):
        waiting[number] = limit is not None

    def is_over():
        elapsed = time.monotonic() - started
        return elapsed >= arguments.seconds and (not any(waiting[:]) or elapsed >= 10 * arguments.seconds)

    def victim(work):
        slowest = []
        count = work(point, is_over, slowest)
        slowest.sort()
        return {"count": count, "slowest_ms": slowest[-1] * 1000,
                "p99_ms": slowest[len(slowest) * 99 // 100] * 1000}

    def attacker(number, work):
        def notice(refusal):
            if refusal == ATTACKS[number][1]:
                waiting[number] = 0

        limits = Limits(notice)
        work(point, f"mallory{number}", limits, is_over)
        return {"done": limits.done, "refused": limits.refused}

    users = [("reader", None, start(READER, "reader", lambda: victim(read_often))),
             ("writer", None, start(WRITER, "writer", lambda: victim(write_often)))]
    for number, (work, limit) in enumerate(ATTACKS):
        uid = FIRST_ATTACKER + number
        users.append((work.__name__, limit, start(uid, f"attacker{number}", lambda: attacker(number, work))))
    faults = []
    for name, limit, (process, answer) in users:
        told = json.load(answer)
        os.waitpid(process, 0)
        print(f"{name:30} {json.dumps(told)}")
        if "failed" in told:
            faults.append(f"{name} failed")
        elif "slowest_ms" in told and told["slowest_ms"] > arguments.slowest_ms:
            faults.append(f"an open of {name} took {told['slowest_ms']:.0f} ms")
        elif limit and limit not in told["refused"]:
            faults.append(f"{name} met no limit")
    if serving(daemon) != before:
        faults.append("a process of the daemon was started again")
    probe = f"{point}/root-still-works"
    with open(probe, "w") as file:
        file.write("x")
    os.unlink(probe)
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--slowest-ms", type=float, default=100)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--memory", type=int, default=512, help="MiB of the daemon's control group")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="secretfs-hostile-")
    os.chmod(folder, stat.S_IRWXU | stat.S_IXGRP | stat.S_IXOTH | stat.S_IRGRP | stat.S_IROTH)
    try:
        faults = run(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shares = [("cpu", f"attacker{number}") for number in range(len(ATTACKS))]
        for controller, share in [("memory", "daemon"), ("cpu", "reader"), ("cpu", "writer"), *shares]:
            for root in (f"/sys/fs/cgroup/{controller}", "/sys/fs/cgroup"):
                try:
                    os.rmdir(f"{root}/secretfs-hostile-{share}")
                except OSError:
                    pass
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
