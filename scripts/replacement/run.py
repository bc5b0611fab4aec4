"""Driver of test-replacement.sh; what it does is said there."""
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

import facts

ap = argparse.ArgumentParser(prog="test-replacement.sh")
ap.add_argument("--ntbak", required=True)
ap.add_argument("--work", required=True)
ap.add_argument("--quick", action="store_true")
ap.add_argument("--keep", action="store_true")
ap.add_argument("--random", type=int)
ap.add_argument("--sizes", type=int)
ap.add_argument("--seed", type=int, default=1)
ap.add_argument("--minutes", type=float)
ap.add_argument("volume", nargs="*")
args = ap.parse_args()


def default(value, quick, full):
    return value if value is not None else quick if args.quick else full


count_random, sizes = default(args.random, 2, 7), default(args.sizes, 1, 2)
end = time.time() + 60 * default(args.minutes, 5, 120)
QUICK = ("v05", "v06", "v09", "v10", "v13", "v15", "c05", "attrlist", "disk-gpt.", "disk-mbr", "links", "sparse",
         "mft-attrlist", "lznt1-4k", "quick", "cluster-64k", "disk-gpt-4kn", "vdl")
passed = failed = skipped = 0
said = set()


def ok(good, what, why=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {what}: {why}", flush=True)
    return good


def skip(what):
    global skipped
    skipped += 1
    if what not in said:
        said.add(what)
        print(f"skipped {what}", flush=True)


def run(*command, limit=300):
    command = [str(c) for c in command]
    try:
        p = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=limit)
        return p.returncode, p.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return -1, f"no end after {limit} s"


def ntbak(*command):
    code, text = run(args.ntbak, *command)
    if "panicked" in text or code in (-1, 101, 134, 139):
        ok(False, " ".join(map(str, command)), text[-600:])
    return code, text


def rows(text):
    out = []
    for line in text.splitlines():
        if line.startswith("{"):
            out.append(json.loads(line))
    return out


def row(text, kind):
    found = [r for r in rows(text) if r.get("type") == kind]
    return found[-1] if found else None


class Loop:
    """A read-only loop device over a partition."""

    def __init__(self, path, offset, size, sector):
        code, text = run("losetup", "--find", "--show", "--read-only", "--offset", offset, "--sizelimit", size,
                         "--sector-size", sector, path)
        if code:
            raise OSError(text)
        self.name = text.strip()

    def __enter__(self):
        return self.name

    def __exit__(self, *_):
        run("losetup", "--detach", self.name)


def through_ntfs3g(device, at):
    """Size and digest of every file and stream that ntfs-3g shows."""
    os.makedirs(at, exist_ok=True)
    code, text = run("ntfs-3g", "-o", "ro,streams_interface=windows,show_sys_files,norecover", device, at, limit=60)
    if code:
        return None, text
    found = {}
    try:
        for where, dirs, files in os.walk(os.fsencode(at)):
            for name in [b""] + files + [d for d in dirs if os.path.islink(os.path.join(where, d))]:
                path = os.path.join(where, name) if name else where
                short = os.fsdecode(path[len(at):]) or "/"
                if os.path.islink(path):
                    found[short] = ("link", os.readlink(path))
                    continue
                if name:
                    found[short] = digest(path)
                try:
                    streams = os.getxattr(path, "ntfs.streams.list").split(b"\0")
                except OSError:
                    streams = []
                for s in streams:
                    if s:
                        found[f"{short}:{os.fsdecode(s)}"] = digest(path + b":" + s)
                for x in ("system.ntfs_acl", "system.ntfs_times_be", "system.ntfs_object_id", "system.ntfs_reparse_data",
                          "system.ntfs_ea", "system.ntfs_attrib_be"):
                    try:
                        value = os.getxattr(path, x)
                        # the time of the last access is that of this reading
                        found[f"{short} {x}"] = ("x", value[:24] if "times" in x else value)
                    except OSError:
                        pass
    finally:
        for _ in range(100):
            if not run("umount", at)[0]:
                break
            time.sleep(0.1)
    return found, ""


def digest(path):
    if os.path.basename(path) == b"$BadClus:$Bad":
        return ("-", "-")
    try:
        # A pipe or a device of Interix must not be opened.
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        if b":" not in os.path.basename(path) and kind != stat.S_IFREG:
            return ("kind", str(kind))
        h, n = hashlib.sha256(), 0
        with open(path, "rb", buffering=0) as f:
            while True:
                b = f.read(1 << 20)
                if not b:
                    return (str(n), h.hexdigest())
                n += len(b)
                h.update(b)
    except OSError as e:
        return ("error", str(e.errno))


SYSTEM = ("$MFT", "$MFTMirr", "$LogFile", "$Volume", "$Bitmap", "$Boot", "$BadClus", "$BadClus:$Bad")


def may_differ(path, dropped):
    name = path.rsplit("/", 1)[-1].split(" system.")[0]
    return (path.lstrip("/").split(" system.")[0] in SYSTEM or (dropped and facts.SHADOW in path.lower())
            or name.lower() == "hiberfil.sys")


FULL = "ERROR: Volume is full. To shrink it, delete unused files."
TOOLS = [("ntfsresize", "--info", "--force", "--no-progress-bar"), ("ntfsfix", "--no-action"), ("ntfsinfo", "-m")]


def verify_table(path, kind, sector):
    if kind == "none":
        return None
    if kind == "gpt" and sector == 512 and shutil.which("sgdisk"):
        code, text = run("sgdisk", "--verify", path)
        return code == 0 and "No problems found" in text, text
    if shutil.which("sfdisk"):
        with Loop(path, 0, os.path.getsize(path), sector) as device:
            code, text = run("sfdisk", "--verify", device)
        return code == 0 and "No errors" in text, text
    return None


class Source:
    """A volume or disk, what its tools and readers say of it, and its archive."""

    def __init__(self, name, path, golden, work):
        self.name, self.path, self.work = name, path, work
        self.size = os.path.getsize(path)
        self.sector, self.table, self.parts = facts.partitions(path)
        self.archive = f"{work}/a.ntbak"
        self.golden = {}
        if golden and os.path.exists(golden):
            for line in open(golden, encoding="utf-8", errors="surrogateescape").read().split("\n")[1:]:
                f = line.split("\t")
                if len(f) == 4 and re.fullmatch("[0-9a-f]{64}", f[2]) and "attr" not in f[3].split(",") \
                        and "unreadable" not in f[3] and "tsk-differs" not in f[3]:
                    self.golden[f[0]] = (f[1], f[2])
        self.before = {}
        for n, offset, size in self.parts:
            self.before[n] = self.look(path, offset, size, n)
        self.checked = self.check(path)

    def look(self, path, offset, size, n):
        out = {}
        with Loop(path, offset, size - size % self.sector, self.sector) as device:
            for tool in TOOLS:
                if shutil.which(tool[0]):
                    out[tool[0]] = run(*tool, device)
                else:
                    skip(f"{tool[0]}: not installed")
            if shutil.which("ntfs-3g") and os.geteuid() == 0 and os.path.exists("/dev/fuse"):
                out["read"], out["why"] = through_ntfs3g(device, f"{self.work}/mnt")
            else:
                skip("reading through ntfs-3g: it needs root, FUSE and ntfs-3g")
        return out

    def check(self, path):
        """Issues by partition and code, as `verify --volume` counts them."""
        code, text = ntbak("verify", "--volume", "--json", path)
        counts = {r["partition"]: r["counts"] for r in rows(text) if r.get("type") == "check"}
        notes = set()
        for r in rows(text):
            if r.get("type") == "issue" and r.get("severity") == "note":
                notes.add(r["code"])
        return code, counts, notes, text

    def prefix(self, n):
        return f"p{n}:" if self.table != "none" else ""


def hold(src, what, new, dropped, marked):
    """Everything about a restored file against its source."""
    sector, table, parts = facts.partitions(new)
    ok((sector, table, [p[0] for p in parts]) == (src.sector, src.table, [p[0] for p in src.parts]), what,
       f"{table} with {parts} of {src.parts}")
    t = verify_table(new, table, sector)
    if t is not None:
        ok(t[0], f"{what}, table", t[1])
    code, counts, notes, text = src.check(new)
    old_code, old, old_notes, _ = src.checked
    if not counts:
        ok(code == old_code, f"{what}, verify --volume", text[-500:])
    for n, c in counts.items():
        more = {k: v for k, v in c.items() if k not in notes and v > old.get(n, {}).get(k, 0)}
        ok(not more, f"{what}, verify --volume", f"partition {n}: {more} of {c}, before {old.get(n)}")
    for (n, o_at, _), (_, at, size) in zip(src.parts, parts):
        who = f"{what}, p{n}"
        before, after = src.before[n], src.look(new, at, size, n)
        if n in marked and "ntfsinfo" in after:
            # A volume that the plan says is marked to be checked is read by --force only.
            with Loop(new, at, size - size % sector, sector) as device:
                after["ntfsinfo"] = run("ntfsinfo", "-m", "--force", device)
        for tool in TOOLS:
            name = tool[0]
            if name in before:
                if before[name][0] and not before[name][1].rstrip().endswith(FULL):
                    skip(f"{src.name}: {name} refuses the source")
                else:
                    # ntfsresize checks first, and then has nothing to say of a volume without a free cluster.
                    full = name == "ntfsresize" and after[name][1].rstrip().endswith(FULL)
                    mended = any(src.checked[1].get(p, {}).get("owned-free") for p in src.checked[1])
                    if name == "ntfsresize" and mended and "accounting mismatches" in after[name][1]:
                        # The new $Bitmap has the clusters of records that ntfsresize passes over.
                        skip(f"{src.name}: ntfsresize: the source's $Bitmap lacks clusters that damaged records name")
                        continue
                    ok(after[name][0] == 0 or full, f"{who}, {name}", after[name][1][-700:])
        a, b = before.get("read"), after.get("read")
        if a is None:
            skip(f"{src.name}: ntfs-3g does not mount the source: {(before.get('why') or '').strip()[:80]}")
        elif ok(b is not None, f"{who}, ntfs-3g mounts", after.get("why")):
            wrong = [p for p in a.keys() | b.keys() if a.get(p) != b.get(p) and not may_differ(p, dropped)
                     and a.get(p, ("",))[0] != "error"]
            ok(not wrong, f"{who}, read through ntfs-3g", f"{len(wrong)} differ: " +
               "; ".join(f"{p}: {a.get(p)} {b.get(p)}" for p in sorted(wrong)[:4]))
            pre = src.prefix(n)
            both = {p for p in b if b[p][0] not in ("x", "link", "error") and pre + p in src.golden
                    and not may_differ(p, dropped)}
            # What ntfs-3g reads differently on the source too is its own reading.
            wrong = [p for p in both if b[p] != src.golden[pre + p] and a.get(p) == src.golden[pre + p]]
            ok(not wrong, f"{who}, golden list through ntfs-3g", str(wrong[:4]))
        try:
            old_v, new_v = facts.Volume(src.path, o_at), facts.Volume(new, at)
        except (ValueError, OverflowError, OSError) as e:
            skip(f"{src.name}: not read by facts.py: {e}")
        else:
            wrong, streams = facts.compare(old_v, new_v, dropped)
            ok(not wrong and streams, f"{who}, file records", f"{streams} streams; " + "; ".join(wrong[:6]))
            # In a logical partition they may count from its record, which stays as far in front.
            logical = table == "dos" and n > 4 and new_v.hidden == old_v.hidden
            ok(table == "none" or logical or new_v.hidden in (at // sector, old_v.hidden - o_at // sector + at // sector),
               f"{who}, hidden sectors", f"{new_v.hidden}, begins at {at // sector}")
            first = new_v.boot
            copy = new_v.im.read(at + new_v.sectors * sector, 512)
            if src.name[:3] not in ("c02",) and (new_v.sectors + 1) * sector <= size:
                same = first[11:84] == copy[11:84]
                o = old_v.im.read(o_at + old_v.sectors * sector, 512)[11:84] == old_v.boot[11:84]
                ok(same or not o, f"{who}, backup boot sector", "differs")
    code, text = ntbak("diff", "--accessed", "--json", src.path, new)
    unsaid = {"unreadable"}
    wrong = [r["path"] for r in rows(text) if r.get("type") == "difference"
             and {a for a, on in r["aspects"].items() if on} != unsaid
             and not (dropped and facts.SHADOW in r["path"].lower()) and "hiberfil" not in r["path"]
             and not (dropped and r["path"].endswith("System Volume Information"))]
    ok(code in (0, 3, 4) and not wrong, f"{what}, ntbak diff", f"exit {code} {wrong[:5]} {'' if wrong else text[-300:]}")
    keys = [p for p in src.golden if not may_differ(re.sub("^p[0-9]+:", "", p), dropped)
            and "<" not in p and p.isprintable() and "\\" not in p and int(src.golden[p][0]) < 64 << 20]
    for p in random.Random(what).sample(keys, min(len(keys), 4 if args.quick else 25)):
        m = re.match("p([0-9]+):(.*)", p)
        where = [new, m.group(2), "--partition", m.group(1)] if m and src.table != "none" else [new, p]
        h = subprocess.run([args.ntbak, "cat", *where], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        if src.golden[p][1] == hashlib.sha256(h.stdout).hexdigest():
            ok(True, p)
            continue
        # what cannot be read there cannot be read here
        where[0] = src.path
        o = subprocess.run([args.ntbak, "cat", *where], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        ok(o.returncode != 0 and o.stdout == h.stdout, f"{what}, {p} against the golden list",
           h.stderr.decode(errors="replace")[-200:] or "another digest")


def restore(src, what, *wishes, size=None):
    """Restores, and holds the result against the source."""
    new = f"{src.work}/new.img"
    for f in (new, new + ".partial", new + ".partial.journal"):
        if os.path.exists(f):
            os.unlink(f)
    what = f"{src.name}: {what}"
    code, text = ntbak("restore", src.archive, new, "--verify", "--json", *wishes)
    plan = row(text, "plan")
    e = row(text, "error") or {}
    if code == 1 and ("cannot change" in text or "not understood" in text or "laid out" in text or "cannot be" in text):
        skip(f"{what}: {e.get('message', text[-200:])}")
        return plan
    good = code in (0, 3) and (row(text, "summary") or {}).get("state") == "verified"
    if not ok(good, what, f"exit {code} {text[-600:]}"):
        return plan
    if size is not None:
        ok(os.path.getsize(new) == size, what, f"{os.path.getsize(new)} bytes, {size} expected")
    ok(not os.path.exists(new + ".partial") and not os.path.exists(new + ".partial.journal"), what, "something is left")
    codes = {d["code"] for d in plan["differences"]}
    before = failed
    marked = {d["partition"] if src.table != "none" else 0 for d in plan["differences"]
              if "marked to be checked" in d["message"]}
    hold(src, what, new, bool([c for c in codes if "shadow" in c]), marked)
    if failed > before and args.keep:
        kept = re.sub("[^a-zA-Z0-9.-]+", "_", what)
        at = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"replacement-{kept}.img")
        shutil.move(new, at)
        print(f"kept {at}", flush=True)
    if os.path.exists(new):
        os.unlink(new)
    return plan


def prove(name, path, golden, work):
    src = Source(name, path, golden, work)
    code, text = ntbak("image", path, src.archive, "--json")
    if code not in (0, 3):
        return skip(f"{name}: not imaged: {(row(text, 'error') or {}).get('message', text[-200:])}")
    new = f"{work}/new.img"
    code, text = ntbak("restore", src.archive, new, "--dry-run", "--json")
    plan = row(text, "plan")
    if not ok(code == 0 and plan is not None, f"{name}: dry run", text[-400:]):
        return None
    ok(not os.path.exists(new), f"{name}: dry run", "wrote something")
    if not src.parts:
        return skip(f"{name}: no NTFS volume")
    smallest = plan["smallest"]
    if not ok(smallest is not None, f"{name}: dry run", "says no smallest size"):
        return None
    least, place, sector = smallest["relocated"], smallest["in_place"], src.sector
    ok(least <= place <= max(src.size, place), f"{name}: smallest sizes", f"{least} {place} {src.size}")
    larger = src.size * 3 // 2 // sector * sector
    numbers = [v["partition"] for v in plan["volumes"]]
    rigid = [v for v in plan["volumes"] if v.get("rigid")]
    if rigid:
        skip(f"{name}: {rigid[0]['rigid']}")
    restore(src, "plain")
    restore(src, "+50 %", "--size", larger, size=larger)
    if not rigid:
        restore(src, "+50 %, --grow", "--size", larger, *[x for n in numbers for x in ("--grow", n)], size=larger)
        restore(src, "--defragment", "--defragment")
    restore(src, "--size min", "--size", "min", size=least)
    restore(src, "--size min --defragment", "--size", "min", "--defragment", size=least)
    code, text = ntbak("restore", src.archive, new, "--size", least - sector, "--json")
    e = row(text, "error") or {}
    words = f"{e.get('message', '')} {e.get('hint', '')} {e.get('cause', '')}"
    ok(code == 5 and str(least) in words, f"{name}: one sector less than the smallest", f"exit {code}, {words}, {least} is the smallest")
    ok(not os.path.exists(new), f"{name}: one sector less", "made a file")
    r = random.Random(f"{args.seed} {name}")
    for i in range(sizes):
        if src.size > least:
            size = r.randrange(least, src.size) // sector * sector
            restore(src, f"--size {size}", "--size", size, *(["--defragment"] if i % 3 == 2 else []), size=size)
    # Below any size: refused with the same number.
    size = r.randrange(1, least // sector) * sector
    code, text = ntbak("restore", src.archive, new, "--size", size, "--json")
    ok(code == 5 and str(least) in text, f"{name}: {size} bytes", f"exit {code} {text[-300:]}; {least} is the smallest")
    return None


def leave(*_):
    sys.exit(130)


def main():
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    volumes = list(args.volume)
    if not volumes:
        public = "../shared/volumes"
        if os.path.isdir(public):
            volumes += sorted(os.path.join(public, f) for f in os.listdir(public) if f.endswith(".img.zst"))
        else:
            skip("the public volumes: ../shared/volumes is not there")
        volumes += sorted(os.path.join("testdata", f) for f in os.listdir("testdata") if f.endswith(".img.zst"))
        if args.quick:
            volumes = [v for v in volumes if os.path.basename(v).startswith(QUICK)]
        volumes = [("random", args.seed + i) for i in range(count_random)] + volumes
    for v in volumes:
        if time.time() > end:
            skip(f"{v} and what follows: the time is up")
            break
        work = f"{args.work}/v"
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        image, golden, began = f"{work}/old.img", None, (passed, failed, skipped, time.time())
        if isinstance(v, tuple):
            seed = v[1]
            name, mib = f"random {seed}", 12 + seed * 7 % 30
            code, text = run("bash", "scripts/make-random-volume.sh", seed, mib, image)
            if code:
                skip(f"{name}: not made: {text[-200:]}")
                continue
        else:
            name = os.path.basename(v).split(".")[0]
            if v.endswith(".zst"):
                dictionary = os.path.join(os.path.dirname(v) or ".", "upcase.dict")
                words = ["-D", dictionary] if os.path.exists(dictionary) else []
                code, text = run("zstd", "-dqf", "--sparse", *words, v, "-o", image)
                if code:
                    code, text = run("zstd", "-dqf", "--sparse", v, "-o", image)
                if not ok(code == 0, name, text):
                    continue
            else:
                image = os.path.realpath(v)
            stem = re.sub(r"\.img(\.zst)?$", "", v)
            golden = next((g for g in (stem + ".golden.tsv", stem + ".tsv") if os.path.exists(g)), None)
        try:
            prove(name, image, golden, work)
        except Exception as e:  # one volume must not end the run
            ok(False, name, f"{type(e).__name__}: {e}, in line {e.__traceback__.tb_next.tb_lineno}")
        print(f"{name}: {passed - began[0]} passed, {failed - began[1]} failed, {skipped - began[2]} skipped,"
              f" {time.time() - began[3]:.0f} s", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


sys.exit(main())
