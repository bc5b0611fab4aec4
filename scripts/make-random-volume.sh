#!/usr/bin/env bash
# Makes a nearly full, fragmented NTFS volume of many shapes with mkntfs and
# ntfs-3g: make-random-volume.sh SEED MIB OUT. The same seed makes the same
# files. Needs root, mkntfs, ntfs-3g and python3.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: $0 SEED MIB OUT" >&2; exit 2; }
seed=$1 mib=$2 out=$3
clusters=(512 1024 2048 4096 4096 8192 65536)
cluster=${clusters[$((seed % ${#clusters[@]}))]}
rm -f "$out"
truncate -s "${mib}M" "$out"
mkntfs --quick --force --quiet --cluster-size "$cluster" --label "random $seed" "$out" >/dev/null 2>&1
at=$(mktemp -d)
ntfs-3g -o streams_interface=windows,compression "$out" "$at" </dev/null >/dev/null 2>&1
end() { for _ in $(seq 100); do umount "$at" 2>/dev/null && break; sleep 0.1; done; rmdir "$at"; }
trap end EXIT
python3 - "$seed" "$mib" "$at" <<'PY'
import os, random, struct, sys
seed, mib, root = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
r = random.Random(seed)
dirs, files, n = [root], [], 0

def data(size):
    kind = r.random()
    if kind < 0.6:
        return r.randbytes(size)
    if kind < 0.9:
        return (b"%d words and more words " % r.randrange(1000) * (size // 20 + 1))[:size]
    return bytes(size)

def size():
    return r.choice([r.randrange(700), r.randrange(9000), r.randrange(60000), r.randrange(mib * 4000)])

def make():
    global n
    n += 1
    where = r.choice(dirs)
    name = f"{where}/{'n' * r.randrange(40)}{n}"
    what = r.random()
    if what < 0.08 and len(dirs) < 60:
        os.mkdir(name)
        if r.random() < 0.3:
            # Compressed from now on.
            os.setxattr(name, "system.ntfs_attrib_be", struct.pack(">I", 0x810))
        dirs.append(name)
        return
    if what < 0.14 and files:
        os.link(r.choice(files), name)
    elif what < 0.2:
        with open(name, "wb") as f:
            for _ in range(r.randrange(1, 9)):
                f.seek(r.randrange(mib * 20000))
                f.write(data(r.randrange(9000)))
    elif what < 0.26:
        with open(name, "wb") as f:
            f.write(data(size()))
        with open(f"{name}:s{n}", "wb") as f:
            f.write(data(size()))
    else:
        with open(name, "wb") as f:
            f.write(data(size()))
    files.append(name)

def until_full(left):
    tries = 0
    while tries < 30:
        try:
            s = os.statvfs(root)
            if s.f_bavail * s.f_frsize <= left:
                return
            make()
            if r.random() < 0.25 and files:
                with open(r.choice(files), "ab") as f:
                    f.write(data(r.randrange(20000)))
        except OSError:
            tries += 1

for left in (0.3, 0.1, r.choice([0.0, 0.02, 0.05, 0.2])):
    until_full(int(left * mib * 1048576))
    if left == 0.1 or left == 0.3:
        r.shuffle(files)
        for name in files[: len(files) * 2 // 5]:
            try:
                os.unlink(name)
            except OSError:
                pass
        del files[: len(files) * 2 // 5]
PY
