#!/usr/bin/env python3
"""table.py RESULTS.jsonl...: the measurements of run.py as a Markdown report.

Several files are one measurement when they were made on the same machine with the
same volumes (their rounds are numbered on). Ratios are medians of the ratios within
each round, where both ran in it; what changes from round to round cancels out.
"""
import json
import sys
from statistics import median

MB = 1e6
KINDS = {"image": "backing up", "restore": "restoring", "verify": "checking the archive", "scan": "listing every file"}


def load(paths):
    about, end, rows, skipped, base = None, None, [], [], 0
    for p in paths:
        rounds = 0
        for line in open(p):
            d = json.loads(line)
            if "about" in d:
                about = about or d["about"]
            elif "end" in d:
                end = d["end"]
            elif "skipped" in d:
                skipped.append((d["profile"], d["skipped"], d["missing"]))
            else:
                rounds = max(rounds, d["round"] + 1)
                d["round"] += base
                rows.append(d)
        base += rounds
    return about, end, rows, skipped


class Case:
    def __init__(self, row):
        self.kind, self.who, self.name, self.profile, self.runs = row["kind"], row["who"], row["case"], row["profile"], {}

    def all(self, key):
        return [r[key] for r in self.runs.values()]

    def wall(self):
        return median(self.all("wall"))

    def cpu(self):
        return median(r["user"] + r["sys"] for r in self.runs.values())

    def peak(self, key="rss_kib"):
        return max(self.all(key)) * 1024

    def size(self):
        return median(self.all("out"))

    def checks(self):
        words = [r["check"] for r in self.runs.values() if "check" in r]
        failed = sorted({c for r in self.runs.values() for c in r["codes"] if c})
        if failed:
            words.append("exit " + ", ".join(map(str, failed)))
        return "; ".join(dict.fromkeys(words)) or "-"


def over(a, b, key="wall"):
    """a / b, round by round; None where they never ran in one round."""
    if a is None or b is None:
        return None
    both = [r for r in a.runs if r in b.runs and b.runs[r][key] > 0]
    return median(a.runs[r][key] / b.runs[r][key] for r in both) if both else None


def num(x, form="%.2f"):
    return form % x if x is not None else "-"


def group(rows):
    out = {}
    for r in rows:
        out.setdefault((r["profile"], r["kind"], r["case"]), Case(r)).runs[r["round"]] = r
    return out


def main(paths):
    about, end, rows, skipped = load(paths)
    cases = group(rows)
    names = about["tools"]
    level = "zstd -%d" % about["level"]

    def get(profile, kind, start, who=None):
        for (p, k, n), c in cases.items():
            if p == profile and k == kind and n.startswith(start) and (who is None or c.who == who):
                return c
        return None

    def floor(profile, kind):
        return get(profile, kind, "floor: used clusters |") if kind == "image" else get(profile, kind, "floor")

    print("Measured %s by `scripts/bench.sh` at commit %s, %d interleaved rounds, %s.\n" % (
        about["date"], about["commit"], about["rounds"], level))
    print("- Machine: %s, %d cores, %.0f GiB of memory, Linux %s, %s. Load before %.1f, after %s. It may be **shared**: `others` is how many "
          "cores other programs kept busy meanwhile; where it is not near 0, walls are too high, and with two threads wanted on %d cores the "
          "ratios lean against whoever uses both. user+sys drifts less." % (
              about["cpu"], about["cores"], about["memory_mib"] / 1024, about["kernel"], about["filesystem"], about["load"],
              "%.1f" % end["load"] if end else "?", about["cores"]))
    print("- Versions: %s." % ", ".join("%s %s" % kv for kv in names.items()))
    print("- Warm page cache: volume and archive are read before each run. %s" % (
        "The tools flush to disk as they please." if about["sync"] else
        "Flushing to disk is switched off for every case alike (ntfsclone and partclone flush after a restore), so these are costs of "
        "processor and page cache, not of a disk."))
    print("- wall: median (least to most). user+sys: median, of every process of the pipe. peak: the largest single process, most of all rounds; "
          "in brackets the part that is not mapped files. Ratios: medians of the ratios within one round.")
    print("- partclone waits for its progress thread, which sleeps in steps of whole seconds: up to about 2 s of its wall are idle.\n")
    for profile, v in about["volumes"].items():
        i, m = v["info"], v["made"]
        print("- **%s**: %d MiB volume, %d MiB used in %d ranges, %d records in use, $MFT %d MiB; %d files, %d directories, %d streams, "
              "%d LZNT1, %d sparse, %d fragmented by design, %d extra names, %d deleted; free space random. Seed %d." % (
                  profile, i["bytes"] >> 20, i["used_bytes"] >> 20, i["used_ranges"], i["records_in_use"], i["mft_bytes"] >> 20,
                  m["files"] - m["deleted"], m["dirs"], m["streams"], m["compressed"], m["sparse"], m["fragmented"], m["links"], m["deleted"], m["seed"]))

    for profile, v in about["volumes"].items():
        records = v["info"]["records_in_use"]
        for kind, title in KINDS.items():
            here = [c for (p, k, _), c in cases.items() if p == profile and k == kind]
            if not here:
                continue
            f, n = floor(profile, kind), next((c for c in here if c.who == "ntbak"), None)
            last = "records/s" if kind == "scan" else "output MiB"
            print("\n### %s: %s\n" % (profile, title))
            print("| case | n | wall s | user+sys s | peak MiB | %s | x floor | ntbak is faster by | others | check |" % last)
            print("|---|---|---|---|---|---|---|---|---|---|")
            for c in here:
                size = "{:,.0f}".format(records / c.wall()) if kind == "scan" else num(c.size() / 2**20, "%.1f") if c.size() and kind == "image" else "-"
                name = c.name.replace("|", "\\|")
                print("| %s | %d | %.2f (%.2f to %.2f) | %.2f | %.0f (%.0f) | %s | %s | %s | %.1f | %s |" % (
                    "**%s**" % name if c.who == "ntbak" else name, len(c.runs), c.wall(), min(c.all("wall")), max(c.all("wall")), c.cpu(),
                    c.peak() / 2**20, c.peak("anon_kib") / 2**20, size, num(over(c, f)) if c is not f else "1",
                    num(over(c, n)) if c.who == "peer" else "-", median(c.all("others")), c.checks()))

    aims = []

    def aim(text, value, ok, note=""):
        if value is not None:
            aims.append("| %s | %s | %s |" % (text, value + note, "yes" if ok else "**no**"))

    for p in about["volumes"]:
        n, f = get(p, "image", "ntbak"), floor(p, "image")
        if p != "scan":
            if (x := over(n, f)) is not None:
                aim("%s: image at most 1.1 x the %s floor" % (p, level), "%.2f x (cpu %.2f x, size %.3f x)" % (
                    x, n.cpu() / f.cpu(), n.size() / f.size()), x <= 1.1)
            for peer, least in (("ntfsclone", 1.3), ("partclone", 2.0)):
                if (x := over(get(p, "image", peer), n)) is not None:
                    aim("%s: image %.1f x faster than %s and zstd" % (p, least, peer), "%.2f x" % x, x >= least)
            n = get(p, "restore", "ntbak")
            for peer in ("zstd -d | ntfsclone", "zstd -d | partclone"):
                if (x := over(get(p, "restore", peer), n)) is not None:
                    aim("%s: restore 2 x faster than %s" % (p, peer.replace("|", "\\|")), "%.2f x" % x, x >= 2)
            if (x := over(get(p, "verify", "ntbak verify"), floor(p, "verify"))) is not None:
                aim("%s: verify as fast as zstd -d on two cores" % p, "%.2f x its time" % x, x <= 1.1)
        else:
            records, n = about["volumes"][p]["info"]["records_in_use"], get(p, "scan", "ntbak ls -R -l (volume)")
            if n:
                aim("scan: 3 million records/s on two cores", "{:,.0f}/s ({:,.0f}/s at best)".format(records / n.wall(), records / min(n.all("wall"))),
                    records / n.wall() >= 3e6)
            if (x := over(get(p, "scan", "icat, mft_dump csv"), n)) is not None:
                aim("scan: 10 x mft_dump with extraction", "%.1f x" % x, x >= 10)
            if (x := over(get(p, "scan", "fls -r -p"), n)) is not None:
                aims.append("| scan: beside fls -r -p | %.1f x | |" % x)
        mine = [c for (q, _, _), c in cases.items() if q == p and c.who == "ntbak"]
        limit, files = (300, about["volumes"][p]["made"]["files"]) if p == "scan" else (100, about["volumes"][p]["made"]["files"])
        if mine:
            top = max(mine, key=Case.peak)
            anon = max(c.peak("anon_kib") for c in mine)
            aim("%s: under %d MB at %s files" % (p, limit, "{:,}".format(files)), "%.0f MB resident (`%s`), %.0f MB not mapped files" % (
                top.peak() / MB, top.name, anon / MB), top.peak() < limit * MB)
    if aims:
        print("\n### The aims\n\n| aim | measured | reached |\n|---|---|---|")
        print("\n".join(aims))
    gone = {}
    for p, c, m in skipped:
        gone.setdefault(", ".join(m), {}).setdefault(c, []).append(p)
    for m, which in gone.items():
        print("\nSkipped, %s not there: %s." % (m, "; ".join("%s (%s)" % (c, ", ".join(p)) for c, p in which.items())))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
