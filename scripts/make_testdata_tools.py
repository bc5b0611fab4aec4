"""What the makers of test volumes share: tools under a frozen clock, mounts, golden lists and their checks."""
import hashlib
import os
import random
import struct
import subprocess
import sys

import make_testdata_ntfs as nt

FROZEN = "2024-05-01 12:00:00"
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
OUT, SCRATCH = sys.argv[1:3]
RECIPES = {}


# ---- small tools -------------------------------------------------------------

def run(*argv, frozen=False, check=True, quiet=True, **kw):
    env = dict(os.environ)
    if frozen:
        lib = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
        for base, _, files in os.walk("/usr/lib") if not os.path.exists(lib) else ():
            if "libfaketime.so.1" in files:
                lib = os.path.join(base, "libfaketime.so.1")
        env.update(LD_PRELOAD=lib, FAKETIME=FROZEN, TZ="UTC")
    done = subprocess.run([str(a) for a in argv], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    if check and done.returncode:
        sys.exit(f"{' '.join(map(str, argv))}: {done.returncode}\n{done.stdout.decode(errors='replace')}")
    return done


def noise(seed, size):
    """Seeded bytes that do not compress."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def prose(seed, size):
    """Seeded numbered lines, no two the same, drawn from forty sentences: compress well in any window."""
    words = ("record cluster volume stream index parent sector mirror backup extent hole run list name size "
             "offset length header table directory journal bitmap checksum archive chunk").split()
    rng, out, length, line = random.Random(str(seed)), [], 0, 0
    lines = [" ".join(rng.choice(words) for _ in range(9)) for _ in range(40)]
    while length < size:
        text = f"{line:05d} {lines[line * 7 % 40 if line % 40 else rng.randrange(40)]}\n"
        line += 1
        out.append(text)
        length += len(text)
    return "".join(out).encode()[:size]


def stamped(seed, size, unit=512):
    """Every unit is different and says which one it is; compresses to almost nothing."""
    out = bytearray()
    for n in range((size + unit - 1) // unit):
        mark = b"%s %08d " % (str(seed).encode(), n)
        out += (mark * (unit // len(mark) + 1))[:unit]
    return bytes(out[:size])


def mkntfs(image, size, *, cluster=4096, sector=512, label="", start=0, extra=()):
    with open(image, "wb") as fh:
        fh.truncate(size)
    run("mkntfs", "-F", "-q", "-Q", "-T", "-s", sector, "-c", cluster, "-p", start, "-H", 255, "-S", 63,
        *(("-L", label) if label else ()), *extra, image, frozen=True)


class Mounted:
    """An image under ntfs-3g; paths are relative to the volume root."""

    def __init__(self, image, options="streams_interface=windows", read_only=False):
        self.image, self.read_only = image, read_only
        self.options = options + ",noatime" + (",ro" if read_only else "")
        self.dir = os.path.join(SCRATCH, "mnt")

    def __enter__(self):
        os.makedirs(self.dir, exist_ok=True)
        run("ntfs-3g", "-o", self.options, self.image, self.dir, frozen=True)
        return self

    def __exit__(self, *_):
        run("umount", self.dir)
        # the driver writes its last blocks after umount returned
        for _ in range(200):
            if run("fuser", self.image, check=False).returncode:
                return
            subprocess.run(["sleep", "0.05"])
        sys.exit(f"{self.image}: still open")

    def at(self, path):
        if isinstance(path, str):
            path = path.encode("utf-8", "surrogatepass")
        return self.dir.encode() + b"/" + path.lstrip(b"/")

    def write(self, path, data, block=None):
        os.makedirs(os.path.dirname(self.at(path)), exist_ok=True)
        with open(self.at(path), "wb", buffering=0) as fh:
            for i in range(0, len(data), block or len(data) or 1):
                fh.write(data[i:i + (block or len(data))])

    def read(self, path):
        with open(self.at(path), "rb") as fh:
            return fh.read()

    def pieces(self, path, size, *pieces):
        """Writes (offset, data) pieces in the order given, then sets the size."""
        os.makedirs(os.path.dirname(self.at(path)), exist_ok=True)
        with open(self.at(path), "w+b", buffering=0) as fh:
            for off, data in pieces:
                fh.seek(off)
                fh.write(data)
            fh.truncate(size)

    def mkdir(self, path):
        os.makedirs(self.at(path), exist_ok=True)

    def attribs(self, path, value):
        os.setxattr(self.at(path), "system.ntfs_attrib_be", struct.pack(">I", value), follow_symlinks=False)

    def number(self, path):
        return os.lstat(self.at(path)).st_ino


def whole(size, *pieces):
    data = bytearray(size)
    for off, piece in pieces:
        data[off:off + len(piece)] = piece
    return bytes(data)


# ---- finishing: golden list, comparisons, compression ------------------------

def unescape(text):
    out, i = bytearray(), 0
    while i < len(text):
        if text[i] != "\\":
            out += text[i].encode()
            i += 1
        elif text[i + 1] == "x":
            out.append(int(text[i + 2:i + 4], 16))
            i += 4
        elif text[i + 1] == "u":
            end = text.index("}", i)
            out += chr(int(text[i + 3:end], 16)).encode("utf-8", "surrogatepass")
            i = end + 1
        else:
            out += {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\"}[text[i + 1]]
            i += 2
    return bytes(out)


def rows_of(tsv):
    with open(tsv, encoding="utf-8", newline="\n") as fh:
        return [line.rstrip("\n").split("\t") for line in fh][1:]


def sha_file(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as fh:
        while block := fh.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def compare_with_driver(image, rows, skip=()):
    """Every user stream of the golden rows again through ntfs-3g."""
    todo = {"none": [], "windows": []}
    for path, size, sha, flags in rows:
        words = flags.split(",")
        if sha == "-" or "system" in words or "attr" in words or "encrypted" in words or path in skip:
            continue
        if any(w.startswith("reparse=") for w in words) or "/<no name" in path or path.startswith("/$Extend/"):
            continue
        todo["windows" if "ads" in words else "none"].append((path, size, sha))
    for interface, items in todo.items():
        if not items:
            continue
        with Mounted(image, f"streams_interface={interface}", read_only=True) as m:
            for path, size, sha in items:
                at = m.at(unescape(path))
                if sha_file(at) != sha:
                    sys.exit(f"{image}: {path}: ntfs-3g reads something else than dissect.ntfs")
    return sum(map(len, todo.values()))


def finish(name, image, parts=(), expect=None, mountable=True, fsstat=True, skip=(), store=True, plain=False):
    """Golden list, checks against the driver and against what was written, and the compressed image.

    parts: (number, offset, length) of the NTFS partitions of a disk.
    expect: path -> bytes, or (size, pieces) for what the recipe wrote.
    """
    tsv = os.path.join(OUT, f"{name}.tsv")
    args = [x for p in parts for x in ("--part", ":".join(map(str, p)))]
    run(sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "make_testdata_golden.py"),
        image, tsv, *args)
    rows = rows_of(tsv)
    compared = 0
    for number, offset, length in parts or [(0, 0, None)]:
        prefix, volume = "", image
        if length is not None:
            prefix = f"p{number}:"
            volume = os.path.join(SCRATCH, f"{name}.part")
            with open(image, "rb") as src, open(volume, "wb") as dst:
                src.seek(offset)
                dst.write(src.read(length))
        mine = [(r[0][len(prefix):], *r[1:]) for r in rows if r[0].startswith(prefix)]
        if mountable:
            compared += compare_with_driver(volume, mine, skip)
        checked = run("ntfsresize", "-i", "-f", "-P", volume, check=False)      # counts clusters against $Bitmap
        if mountable and checked.returncode:
            sys.exit(f"{name}{prefix}: ntfsresize finds fault\n{checked.stdout.decode()}")
        if fsstat and run("fsstat", "-f", "ntfs", volume, check=False).returncode:
            print(f"    {name}{prefix}: fsstat (The Sleuth Kit) does not open this volume")
    found = {r[0]: r for r in rows}
    for path, data in (expect or {}).items():
        row = found.get(path)
        if row is None:
            sys.exit(f"{name}: {path} was written but is not in the golden list")
        if (row[1], row[2]) != (str(len(data)), hashlib.sha256(data).hexdigest()):
            sys.exit(f"{name}: {path}: the golden list has {row}, written were {len(data)} other bytes")
    if store:
        pack(image, f"{name}.img.zst", not plain)
    size = os.path.getsize(os.path.join(OUT, f"{name}.img.zst")) if store else 0
    print(f"{name}: {len(rows)} rows, {compared} streams equal in ntfs-3g, {len(expect or {})} as written, "
          f"{size} bytes compressed", flush=True)
    return found


def dictionary():
    """The case table that mkntfs writes into every volume, as a zstd dictionary.

    Its 128 KiB of counting numbers do not compress; as a dictionary they are stored once for all volumes.
    """
    path = os.path.join(OUT, "upcase.dict")
    if not os.path.exists(path):
        image = scratch("upcase")
        mkntfs(image, 2 * MIB)
        with nt.Volume(image) as v:
            table = v.read_runs(v.all_runs(10), 0, 128 * KIB)
        with open(path, "wb") as fh:
            fh.write(table)
    return path


def pack(image, out, use_dictionary=True):
    wlog = max(20, min(27, (os.path.getsize(image) + 128 * KIB).bit_length()))
    run("zstd", "--ultra", "-19", f"--zstd=wlog={wlog}", "-q", "-f", "--no-progress", "-T1",
        *(("-D", dictionary()) if use_dictionary else ()), image, "-o", os.path.join(OUT, out))
    if use_dictionary and sha_pipe("zstd", "-d", "-q", "-c", "-D", dictionary(), os.path.join(OUT, out)) != sha_file(image):
        sys.exit(f"{out}: does not expand to what was packed")


def sha_pipe(*argv):
    digest = hashlib.sha256()
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as p:
        while block := p.stdout.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def flags_of(found, path):
    return found[path][3].split(",")


def need(found, path, *words):
    """Stops when a stream did not get the shape that the volume is there for."""
    have = flags_of(found, path)
    for word in words:
        ok = word in have or (word.endswith("=") and any(w.startswith(word) for w in have))
        if not ok:
            sys.exit(f"{path}: {word} is missing in {have}")


def recipe(fn):
    RECIPES[fn.__name__.replace("_", "-")] = fn
    return fn


def scratch(name):
    return os.path.join(SCRATCH, name)


# ---- sparse descriptions ------------------------------------------------------------------

MAGIC = b"NTBKSPRS"


def pack_sparse(image, out, total=None):
    """Every 4 KiB block that is not zero, neighbours joined: see testdata/README.md."""
    raw = scratch("pieces")
    size = os.path.getsize(image)
    zero = bytes(4096)
    pieces = 0
    with open(image, "rb", buffering=0) as src, open(raw, "wb") as dst:
        dst.write(MAGIC + struct.pack("<Q", total or size))
        pos, start, held = 0, 0, bytearray()

        def flush():
            nonlocal pieces
            if held:
                body = bytes(held).rstrip(b"\0")
                dst.write(struct.pack("<QQ", start, len(body)) + body)
                pieces += 1
                held.clear()
        while pos < size:
            try:
                data = os.lseek(src.fileno(), pos, os.SEEK_DATA)
            except OSError:
                break
            hole = os.lseek(src.fileno(), data, os.SEEK_HOLE)
            if data > pos:
                flush()
            pos = data // 4096 * 4096
            while pos < hole:
                src.seek(pos)
                chunk = src.read(min(1 << 20, hole - pos))
                for i in range(0, len(chunk), 4096):
                    block = chunk[i:i + 4096]
                    if block == zero[:len(block)]:
                        flush()
                    else:
                        if not held:
                            start = pos + i
                        held += block
                pos += len(chunk)
        flush()
    run("zstd", "--ultra", "-19", "-q", "-f", "--no-progress", "-T1", "-D", dictionary(), raw, "-o", os.path.join(OUT, out))
    return pieces
