"""replacement.py NTBAK DIR ROUNDS: restores DIR/a.ntbak in several ways, interleaved."""
import json
import os
import resource
import statistics
import subprocess
import sys
import time

ntbak, area, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
archive, out = f"{area}/a.ntbak", f"{area}/out.img"
env = dict(os.environ)
if "BENCH_PRELOAD" in env:
    env["LD_PRELOAD"] = env["BENCH_PRELOAD"]
plan = subprocess.run([ntbak, "restore", archive, out, "--dry-run", "--json"], check=True, capture_output=True).stdout
plan = next(r for r in map(json.loads, plan.splitlines()) if r["type"] == "plan")
least, size = plan["smallest"]["relocated"], plan["bytes"]
half = (least + size) // 2 // 512 * 512
cases = {"plain": [], "--defragment": ["--defragment"], "--size min": ["--size", "min"], f"--size {half}": ["--size", str(half)]}


def once(wishes):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([ntbak, "restore", archive, out, *wishes], check=True, env=env, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    os.unlink(out)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


once([])  # the archive is in the page cache from now on
load = os.getloadavg()[0]
taken = {c: [] for c in cases}
for n in range(rounds):
    order = list(cases)
    for c in order[n % len(order):] + order[:n % len(order)]:
        taken[c].append(once(cases[c]))
print(f"Volume of {size / 1e9:.2f} GB, smallest {least / 1e9:.2f} GB; {rounds} interleaved rounds,"
      f" {os.cpu_count()} processors, load before {load:.1f}, after {os.getloadavg()[0]:.1f}."
      " Ratios to the plain restore within a round: median (least to most).\n")
print("| restore | seconds | ratio | processor seconds | ratio |\n|---|---|---|---|---|")
for c, all_ in taken.items():
    line = [c]
    for i in (0, 1):
        ratios = sorted(a[i] / p[i] for a, p in zip(all_, taken["plain"]))
        line += [f"{statistics.median(a[i] for a in all_):.2f}",
                 f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"]
    print("| " + " | ".join(line) + " |")
