#!/usr/bin/env python3
"""serverless.py: the measurements of bench-serverless.sh, as a Markdown report.

A round takes each case once, in order. Before each run the volume is read into the
page cache, what the run will overwrite is removed, and as much memory as it will dirty is
touched: on a virtual machine the first touch of a page costs more than copying it, and would hit
whoever comes first. Processor seconds are those of the program and of the target together.
"""
import argparse
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time

opt = argparse.ArgumentParser()
for name in ("ntbak", "volume", "work", "shim"):
    opt.add_argument("--" + name, required=True)
for name in ("rounds", "seconds"):
    opt.add_argument("--" + name, type=int, required=True)
O = opt.parse_args()
VOLUME, WORK, NTBAK = os.path.realpath(O.volume), O.work, os.path.realpath(O.ntbak)
SIZE = os.path.getsize(VOLUME)
ENV = dict(os.environ, **({"LD_PRELOAD": O.shim} if O.shim else {}))
TICK = os.sysconf("SC_CLK_TCK")
HALF = 1 << 19
IQN = "iqn.2026-11.org.ntbak:target"
servers = []


def w(name):
    return os.path.join(WORK, name)


def say(text):
    print(text, file=sys.stderr, flush=True)


def spent(pid):
    """Processor seconds of a running process."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def start(argv, **k):
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **k)
    servers.append(p)
    return p


def stop_all():
    while servers:
        p = servers.pop()
        if p.poll() is None:
            p.send_signal(signal.SIGINT)
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()


def target():
    """Our target: LUN 0 the volume, LUN 1 a replacement disk, LUN 2 a tape."""
    with open(w("replacement.img"), "wb") as f:
        f.truncate(SIZE)
    p = start([NTBAK, "target", "--disk", "volume=%s,ro" % VOLUME, "--disk", "replacement=" + w("replacement.img"),
               "--tape", "tape=%s,size=%d" % (w("tape.tap"), 2 * SIZE + (1 << 30)), "--listen", "127.0.0.1:0"],
              stdout=subprocess.PIPE, text=True, env=ENV)
    urls = [p.stdout.readline().split(" ")[0] for _ in range(3)]
    if not all(urls):
        sys.exit("ntbak target did not start")
    return p.pid, urls


def tgt():
    """tgt with the same file, or why not."""
    missing = [t for t in ("tgtd", "tgtadm") if not shutil.which(t)]
    if missing:
        return None, "no " + " and no ".join(missing)
    if os.geteuid() != 0:
        return None, "tgtadm wants root"
    os.environ["TGT_IPC_SOCKET"] = w("ipc")
    port, control = 20000 + os.getpid() % 10000, str(os.getpid() % 30000 + 1)
    log = open(w("tgtd.log"), "w")
    p = start(["tgtd", "-f", "-C", control, "--iscsi", "portal=127.0.0.1:%d" % port], stdout=log, stderr=log)
    adm = lambda *a: subprocess.run(["tgtadm", "-C", control, "--lld", "iscsi", *a], stdout=log, stderr=log, timeout=10).returncode
    for _ in range(50):
        if adm("--op", "show", "--mode", "sys") == 0 or p.poll() is not None:
            break
        time.sleep(0.1)
    name = "iqn.2026-11.org.example:peer"
    done = [adm("--op", "new", "--mode", "target", "--tid", "1", "-T", name),
            adm("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", VOLUME),
            adm("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")]
    if any(done):
        return None, "tgt did not take the volume"
    return (p.pid, "iscsi://127.0.0.1:%d/%s/1" % (port, name)), ""


def warm(path):
    buf = bytearray(HALF)
    with open(path, "rb", buffering=0) as f:
        while f.readinto(buf):
            pass


def touch(size):
    buf = bytes(HALF)
    with open(w("touch"), "wb", buffering=0) as f:
        for _ in range(0, size, HALF):
            f.write(buf)
    os.unlink(w("touch"))


class Run:
    """What one run cost."""

    def __init__(self, argv, pid, size, remove=(), moved=None):
        for path in remove:
            if os.path.exists(path):
                os.unlink(path)
        warm(VOLUME)
        touch(size)
        before = spent(pid) if pid else 0
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.monotonic()
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENV)
        self.wall = time.monotonic() - begin
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.host = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        self.cpu = self.host + (spent(pid) - before if pid else 0)
        self.text = p.stdout
        if p.returncode:
            stop_all()
            sys.exit("%s ended with %d:\n%s" % (" ".join(argv), p.returncode, p.stdout[-2000:]))
        self.bytes = moved(p.stdout) if moved else size


def kept(text):
    """The bytes of the volume that a backup or a restore is about."""
    line = "".join(re.findall(r"^(?:Written|Restored): .*", text, re.M)[-1:])
    found = re.findall(r"\((\d+) bytes\) kept", line) or re.findall(r"\((\d+) bytes\)", line)
    if not found:
        stop_all()
        sys.exit("no amount in:\n" + text[-2000:])
    return int(found[-1])


def perf(pid, url, options):
    """MB/s (of 2^20) and processor seconds of the target per GB, by iscsi-perf."""
    blocks = int(options[options.index("-b") + 1])
    before = spent(pid)
    p = subprocess.run(["timeout", "-k", "2", str(O.seconds + 15), "iscsi-perf", *options, "-t", str(O.seconds), url],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    cpu = spent(pid) - before
    found = re.findall(rb"iops average (\d+) \(", p.stdout)
    if not found:
        return None
    rate = int(found[-1]) * blocks * 512
    return rate, cpu / (rate * O.seconds / 1e9) if rate else 0


def spread(values, form="%.2f"):
    return "%s (%s to %s)" % tuple(form % v for v in (statistics.median(values), min(values), max(values)))


def ratio(ours, theirs):
    return spread([a / b for a, b in zip(ours, theirs) if b])


def main():
    load = os.getloadavg()[0]
    pid, (disk, replacement, tape) = target()
    image = [NTBAK, "image", disk, tape, "--label", "BENCH1", "--progress", "never"]
    restore = [NTBAK, "restore", tape, replacement, "--yes", "--progress", "never"]
    copy, host = ["--mover", "copy-manager"], ["--mover", "host"]
    out = w("copy.img")
    cases = {
        "cp --reflink=never": lambda: Run(["cp", "--reflink=never", VOLUME, out], None, SIZE, [out]),
        "EXTENDED COPY, every sector": lambda: Run(image + copy + ["--raw"], pid, SIZE, [out]),
        "EXTENDED COPY, used clusters": lambda: Run(image + copy, pid, SIZE, moved=kept),
        "restore by EXTENDED COPY": lambda: Run(restore + copy, pid, SIZE, moved=kept),
        "host mover, used clusters": lambda: Run(image + host, pid, SIZE, moved=kept),
        "restore by host mover": lambda: Run(restore + host, pid, SIZE, moved=kept),
    }
    runs = {name: [] for name in cases}
    for n in range(O.rounds):
        for name, case in cases.items():
            run = case()
            runs[name].append(run)
            say("round %d: %s: %.2f s, %.2f s of processors" % (n + 1, name, run.wall, run.cpu))
    rate = lambda name: [r.bytes / r.wall / 1e6 for r in runs[name]]

    reads, why, beside = {}, "", None
    if not shutil.which("iscsi-perf"):
        why = "no iscsi-perf"
    else:
        peer, why = tgt()
        kinds = {"sequential, 1 MiB": ["-b", "2048"], "sequential, 64 KiB": ["-b", "128"], "random, 4 KiB": ["-r", "-b", "8"]}
        for n in range(O.rounds):
            for kind, options in kinds.items():
                got = [perf(pid, disk, options), perf(*peer, options) if peer else None]
                if all(got) or got[0] and not peer:
                    reads.setdefault(kind, []).append(got)
                say("round %d: %s: %s" % (n + 1, kind, got))
    after = os.getloadavg()[0]

    print("Measured %s by `scripts/bench-serverless.sh`, %d interleaved rounds, %d processors, load before %.1f, after %.1f; "
          "page cache warm, flushing %s. Volume of %.2f GB, %.2f GB in use. Median (least to most); ratios within a round. "
          "Processor time is of both sides, per GB moved; in brackets that of the host alone.\n"
          % (time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), O.rounds, os.cpu_count(), load, after,
             "free for all" if O.shim else "on", SIZE / 1e9, runs["EXTENDED COPY, used clusters"][0].bytes / 1e9))
    print("| case | MB/s | processor s/GB | x cp |\n|---|---|---|---|")
    for name, all_ in runs.items():
        cpu, own = ([getattr(r, k) / r.bytes * 1e9 for r in all_] for k in ("cpu", "host"))
        print("| %s | %s | %.2f (%.2f) | %s |" % (name, spread(rate(name), "%.0f"), statistics.median(cpu), statistics.median(own),
                                                ratio(rate(name), rate("cp --reflink=never"))))
    print("\nEXTENDED COPY beside the host mover: backup %s x as fast, restore %s x as fast."
          % (ratio(rate("EXTENDED COPY, used clusters"), rate("host mover, used clusters")),
             ratio(rate("restore by EXTENDED COPY"), rate("restore by host mover"))))
    if reads:
        print("\n| iscsi-perf, reads | ntbak target MB/s | tgt MB/s | ntbak / tgt | s/GB ntbak | s/GB tgt |\n|---|---|---|---|---|---|")
    for kind, pairs in reads.items():
        ours = [a[0] / 1e6 for a, _ in pairs]
        theirs = [b[0] / 1e6 for _, b in pairs if b]
        print("| %s | %s | %s | %s | %.2f | %s |" % (
            kind, spread(ours, "%.0f"), spread(theirs, "%.0f") if theirs else "-", ratio(ours, theirs) if theirs else "-",
            statistics.median(a[1] for a, _ in pairs), "%.2f" % statistics.median(b[1] for _, b in pairs) if theirs else "-"))
        if theirs and kind == "sequential, 1 MiB":
            beside = ratio(rate("EXTENDED COPY, used clusters"), theirs)
    if beside:
        print("\nEXTENDED COPY of the used clusters beside tgt's plain reads of 1 MiB: %s x." % beside)
    if why:
        print("\nSkipped: beside tgt (%s)." % why)


try:
    main()
finally:
    stop_all()
