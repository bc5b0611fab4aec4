#!/usr/bin/env python3
"""run.py: measures ntbak, its peers and the floors in interleaved rounds.

Called by bench.sh. Every measured run becomes one line of JSON in --results, after
a first line that says where and with what it was measured; table.py reads them.

A round takes each case once, in order, so that what else happens on the machine hits
all alike. Before each run the volume and the archive are read into the page cache
and what earlier runs wrote is flushed. `others` is how many cores other programs
kept busy during the run: the figure to look at before believing a wall time.
"""
import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time

import ntfsvol

HERE = os.path.dirname(os.path.abspath(__file__))
PY = sys.executable or "python3"
VOL = os.path.join(HERE, "ntfsvol.py")

opt = argparse.ArgumentParser()
for name in ("tools", "work", "ntbak", "mft-dump", "only", "results"):
    opt.add_argument("--" + name, required=True)
for name in ("level", "rounds", "slow-rounds", "sync"):
    opt.add_argument("--" + name, type=int, required=True)
opt.add_argument("volumes", nargs="+")
O = opt.parse_args()
W = O.work


def w(name):
    return os.path.join(W, name)


class Case:
    """One line of the table.

    kind     image, restore, verify or scan: what it is compared with
    who      floor, ntbak or a peer: what it is
    stages   arguments for gauge
    out      the file whose size counts, and which is removed before the run
    needs    programs; without them the case is skipped
    given    archives it reads: made untimed when an earlier case did not leave them
    prepare  called before each run, not timed
    check    called after the last run; returns a word for the table, False = lost
    """

    def __init__(self, kind, who, name, stages, out=None, needs=(), given=(), prepare=None, check=None, slow=False, drop=()):
        self.kind, self.who, self.name, self.stages, self.out = kind, who, name, stages, out
        self.needs, self.given, self.prepare, self.check, self.slow, self.drop = needs, given, prepare, check, slow, drop


def sh(*argv, **k):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **k)


def lines(path):
    n = 0
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            n += block.count(b"\n")
    return n


def warm(path):
    buf = memoryview(bytearray(1 << 20))
    try:
        with open(path, "rb", buffering=0) as f:
            while f.readinto(buf):
                pass
    except FileNotFoundError:
        pass


def cases(profile, v, info, made):
    zst = ["zstd", "-q", "-T2", "-%d" % O.level, "-c"]
    ntbak, level = [O.ntbak], "-%d" % O.level
    target = w("target.img")
    py = [PY, VOL]
    out = []

    def add(*a, **k):
        out.append(Case(*a, **k))

    def same():
        r = sh(*py, "compare", v, target)
        return "equal" if r.returncode == 0 else False

    def named():
        count = lambda p: len(set(sh("fls", "-r", "-u", "-F", "-p", "-f", "ntfs", p).stdout.splitlines()))
        if not shutil.which("fls"):
            return "not checked"
        a, b = count(v), count(target)
        return "%d of %d names" % (b, a) if a else False

    def blank():
        with open(target, "wb") as f:
            f.truncate(info["bytes"] + 512)

    def formatted():
        with open(target, "wb") as f:
            f.truncate(os.path.getsize(v))
        sh("mkntfs", "-Q", "-F", "-q", "-c", "4096", "-s", "512", "-p", "2048", "-H", "255", "-S", "63", target)

    def rows(at_least, path, names=False):
        def check():
            n = lines(path)
            if names:  # the names of a hundred records all over $MFT are in the list
                text = open(path, "rb").read()
                if any(name.encode() not in text for name in samples()):
                    return False
            return "%d lines" % n if n >= at_least else False
        return check

    def samples():
        vol = ntfsvol.Volume(v)
        total = vol.mft_size // vol.record_size
        for number in range(64, total, max(1, (total - 64) // 100)):
            rec = vol.record(number)
            if rec[:4] == b"FILE" and rec[22] & 1 and not any(rec[32:38]):
                name = vol.path(number).rsplit("/", 1)[1]
                if name.isascii():
                    yield name

    image = ntbak + ["image", v, w("a.ntbak"), "--level", str(O.level), "--threads", "2", "--quiet"]
    if profile != "scan":
        add("image", "floor", "floor: used clusters, read", py + ["read", v])
        add("image", "floor", "floor: used clusters | zstd %s -T2" % level, py + ["cat", v, ":|"] + zst + [":>", w("floor.zst")], out=w("floor.zst"))
        add("image", "ntbak", "ntbak image", image, out=w("a.ntbak"), needs=[O.ntbak])
        add("image", "peer", "ntfsclone | zstd %s -T2" % level, ["ntfsclone", "-q", "-f", "-s", "-o", "-", v, ":|"] + zst + [":>", w("a.nc.zst")],
            out=w("a.nc.zst"), needs=["ntfsclone"])
        add("image", "peer", "partclone.ntfs | zstd %s -T2" % level,
            ["partclone.ntfs", "-q", "-c", "-s", v, "-o", "-", "-L", w("pc.log"), ":|"] + zst + [":>", w("a.pc.zst")],
            out=w("a.pc.zst"), needs=["partclone.ntfs"])
        add("image", "peer", "wimlib-imagex capture XPRESS", ["wimlib-imagex", "capture", v, w("a.wim"), "--quiet", "--threads=2", "--compress=XPRESS"],
            out=w("a.wim"), needs=["wimlib-imagex"], slow=True)

        add("restore", "floor", "floor: used clusters to a sparse file", py + ["copy", v, target], out=target, check=same)
        add("restore", "ntbak", "ntbak restore", ntbak + ["restore", w("a.ntbak"), target], out=target, needs=[O.ntbak], given=["ntbak image"], check=same)
        add("restore", "peer", "zstd -d | ntfsclone", ["zstd", "-q", "-dc", w("a.nc.zst"), ":|", "ntfsclone", "-q", "-r", "-O", target, "-"],
            out=target, needs=["ntfsclone"], given=["ntfsclone | zstd %s -T2" % level], check=same)
        add("restore", "peer", "zstd -d | partclone.restore",
            ["zstd", "-q", "-dc", w("a.pc.zst"), ":|", "partclone.restore", "-q", "-C", "-s", "-", "-O", target, "-L", w("pc.log")],
            out=target, needs=["partclone.restore"], given=["partclone.ntfs | zstd %s -T2" % level], prepare=blank, check=same)
        add("restore", "peer", "wimlib-imagex apply", ["wimlib-imagex", "apply", w("a.wim"), "1", target, "--quiet"], out=target,
            needs=["wimlib-imagex"], given=["wimlib-imagex capture XPRESS"], prepare=formatted, check=named, slow=True, drop=[w("a.wim")])

        halves = [w("half1.zst"), w("half2.zst")]

        def halve():
            for i, h in enumerate(halves):
                if not os.path.exists(h):
                    gauge(py + ["cat", v, "%d/2" % (i + 1), ":|"] + zst + [":>", h])
        add("verify", "floor", "floor: zstd -d, two halves at once", ["zstd", "-q", "-dc", halves[0], ":&", "zstd", "-q", "-dc", halves[1]], prepare=halve)
        add("verify", "ntbak", "ntbak verify", ntbak + ["verify", w("a.ntbak")], needs=[O.ntbak], given=["ntbak image"])
        add("verify", "ntbak", "ntbak verify --against", ntbak + ["verify", w("a.ntbak"), "--against", v], needs=[O.ntbak], given=["ntbak image"])
        add("verify", "peer", "zstd -d, one stream", ["zstd", "-q", "-dc", w("floor.zst")], given=["floor: used clusters | zstd %s -T2" % level])
        add("scan", "ntbak", "ntbak ls -R -l (volume)", ntbak + ["ls", "-R", "-l", v, ":>", w("list")], out=w("list"), needs=[O.ntbak],
            check=rows(made["files"] + made["dirs"] - made["deleted"], w("list"), names=True))
        return out

    dump, names = O.mft_dump, made["files"] + made["dirs"]
    extract = ["icat", "-f", "ntfs", v, "0", ":>", w("mft"), ":+"]
    add("scan", "floor", "floor: $MFT, read", py + ["mft", v])
    add("scan", "ntbak", "ntbak ls -R -l (volume)", ntbak + ["ls", "-R", "-l", v, ":>", w("list")], out=w("list"), needs=[O.ntbak],
        check=rows(names, w("list"), names=True))
    for form in ("csv", "bodyfile"):
        add("scan", "peer", "icat, mft_dump %s" % form, extract + [dump, "-o", form, w("mft"), ":>", w("list")], out=w("list"),
            needs=["icat", dump], check=rows(names, w("list")))
    add("scan", "peer", "fls -r -p", ["fls", "-f", "ntfs", "-r", "-p", v, ":>", w("list")], out=w("list"), needs=["fls"],
        check=rows(names, w("list"), names=True))
    add("scan", "peer", "fls -r -p -l", ["fls", "-f", "ntfs", "-r", "-p", "-l", v, ":>", w("list")], out=w("list"), needs=["fls"],
        check=rows(names, w("list")), slow=True)
    add("image", "floor", "floor: used clusters | zstd %s -T2" % level, py + ["cat", v, ":|"] + zst + [":>", w("floor.zst")], out=w("floor.zst"), slow=True)
    add("image", "ntbak", "ntbak image", image, out=w("a.ntbak"), needs=[O.ntbak], slow=True)
    add("scan", "ntbak", "ntbak ls -R -l (archive)", ntbak + ["ls", "-R", "-l", w("a.ntbak"), ":>", w("list")], out=w("list"),
        needs=[O.ntbak], given=["ntbak image"], check=rows(names, w("list"), names=True), slow=True)
    add("restore", "floor", "floor: used clusters to a sparse file", py + ["copy", v, target], out=target, check=same, slow=True)
    add("restore", "ntbak", "ntbak restore", ntbak + ["restore", w("a.ntbak"), target], out=target, needs=[O.ntbak], given=["ntbak image"], check=same, slow=True)
    return out


def busy():
    with open("/proc/stat") as f:
        t = [int(x) for x in f.readline().split()[1:9]]
    return (sum(t) - t[3] - t[4]) / os.sysconf("SC_CLK_TCK")


def gauge(stages):
    env = dict(os.environ)
    if not O.sync:
        env["GAUGE_PRELOAD"] = os.path.join(O.tools, "nosync.so")
    before = busy()
    r = subprocess.run([os.path.join(O.tools, "gauge")] + stages, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=LOG, env=env)
    m = json.loads(r.stdout) if r.stdout else {"wall": 0, "user": 0, "sys": 0, "rss_kib": 0, "anon_kib": 0, "codes": [r.returncode]}
    m["others"] = max(0.0, (busy() - before - m["user"] - m["sys"]) / max(m["wall"], 0.01))
    return m


def remove(path):
    if path and os.path.exists(path):
        os.unlink(path)


def missing(case):
    return [os.path.basename(n) for n in case.needs if not shutil.which(n)]


def version(argv, pattern=r"\d+\.\d+[\w.]*"):
    try:
        m = re.search(pattern, sh(*argv).stdout)
        return m.group(0) if m else "?"
    except (FileNotFoundError, PermissionError):
        return None


def surroundings(volumes):
    cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    mem = re.search(r"MemTotal:\s*(\d+)", open("/proc/meminfo").read())
    df = sh("df", "-T", W).stdout.splitlines()[-1].split()
    tools = {
        "ntbak": version([O.ntbak, "--version"]), "zstd": version(["zstd", "--version"]), "ntfsclone": version(["ntfsclone", "--version"]),
        "partclone": version(["partclone.ntfs", "--version"]), "wimlib": version(["wimlib-imagex", "--version"]),
        "sleuthkit": version(["fls", "-V"]), "mft_dump": version([O.mft_dump, "--version"]), "python": platform.python_version()}
    commit = sh("git", "-C", HERE, "describe", "--always", "--dirty").stdout.strip()
    return {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count(),
            "memory_mib": int(mem.group(1)) // 1024, "kernel": platform.release(), "filesystem": df[1], "load": os.getloadavg()[0],
            "tools": {k: t for k, t in tools.items() if t}, "commit": commit, "level": O.level, "rounds": O.rounds, "sync": bool(O.sync),
            "volumes": volumes}


LOG = open(w("stderr.log"), "a+b")
volumes = {}
for spec in O.volumes:
    profile, path = spec.split("=", 1)
    volumes[profile] = {"file": os.path.basename(path), "info": json.load(open(path + ".info")), "made": json.load(open(path + ".made")), "path": path}
lost = False
with open(O.results, "w") as results:
    def say(**row):
        results.write(json.dumps(row) + "\n")
        results.flush()

    say(about=surroundings(volumes))
    for profile, vol in volumes.items():
        every = cases(profile, vol["path"], vol["info"], vol["made"])
        chosen = []
        for c in every:
            if not re.search(O.only, c.name):
                continue
            if gone := missing(c):
                word = "not built" if gone == [os.path.basename(O.ntbak)] else "not installed"
                print("skipped: %s: %s %s" % (c.name, ", ".join(gone), word), file=sys.stderr)
                say(profile=profile, skipped=c.name, missing=gone)
                continue
            chosen.append(c)
        last = {c.name: min(O.rounds, O.slow_rounds) - 1 if c.slow else O.rounds - 1 for c in chosen}
        for r in range(O.rounds):
            for c in chosen:
                if r > last[c.name]:
                    continue
                for g in c.given:  # an archive that a case left out by --only would have made
                    maker = next(x for x in every if x.name == g)
                    if not os.path.exists(maker.out):
                        gauge(maker.stages)
                    warm(maker.out)
                remove(c.out)
                if c.prepare:
                    c.prepare()
                sh("sync", "-f", W)
                warm(vol["path"])
                mark = LOG.seek(0, 2)
                m = gauge(c.stages)
                m["out"] = os.path.getsize(c.out) if c.out and os.path.exists(c.out) else 0
                failed = any(m["codes"])
                if failed:
                    LOG.seek(mark)
                    print("%s ended with %s: %s" % (c.name, m["codes"], LOG.read()[-400:].decode(errors="replace").strip()), file=sys.stderr)
                if r == last[c.name] and c.check:
                    word = c.check() if not failed else False
                    m["check"] = word or "LOST"
                if c.who == "ntbak" and (failed or m.get("check") == "LOST"):
                    lost = True
                if c.kind == "restore":
                    remove(c.out)
                if r == last[c.name]:
                    for path in c.drop:
                        remove(path)
                say(profile=profile, kind=c.kind, who=c.who, case=c.name, round=r, **m)
                print("%-6s %d  %-42s wall %7.2f  cpu %7.2f  peak %6.0f MiB  out %7.1f MiB  others %.1f  %s" % (
                    profile, r, c.name, m["wall"], m["user"] + m["sys"], m["rss_kib"] / 1024, m["out"] / 2**20, m["others"],
                    "FAILED" if failed else m.get("check", "")), file=sys.stderr, flush=True)
        for c in every:  # the next profile makes its own
            remove(c.out)
        for name in ("half1.zst", "half2.zst", "mft"):
            remove(w(name))
    say(end={"load": os.getloadavg()[0]})
sys.exit(1 if lost else 0)
