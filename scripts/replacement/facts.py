"""A small reader of NTFS for the proof: independent of ntbak, raw clusters only.

Tables, file records and attributes of two volumes are compared: everything but
the places of clusters must be as before.
"""
import hashlib
import os
import struct

# $MFT, $MFTMirr, $LogFile, $Volume, the root (sizes beside names), $Bitmap,
# $Boot, $BadClus: their content says where clusters are, or how many there are.
LOOSE = {0, 1, 2, 3, 5, 6, 7, 8}
SHADOW = "{3808876b-c176-4e48-b7ae-04046e6cc752}"
KINDS = {0x10: "times and security id", 0x30: "name", 0x40: "object id", 0xC0: "reparse point",
         0xD0: "EA information", 0xE0: "EA"}


def u(b, at, n):
    return int.from_bytes(b[at:at + n], "little")


class Image:
    def __init__(self, path):
        self.f = open(path, "rb")
        self.size = os.fstat(self.f.fileno()).st_size

    def read(self, at, n):
        b = os.pread(self.f.fileno(), n, at)
        return b + bytes(n - len(b))


def partitions(path):
    """Sector size, kind of table, and (number, offset, bytes) of each NTFS partition."""
    im = Image(path)
    first = im.read(0, 512)
    if first[3:11] in (b"NTFS    ", b"-FVE-FS-"):
        return u(first, 11, 2), "none", [(0, 0, im.size)]
    found, kind, sector = [], "none", 512
    for s in (512, 4096):
        h = im.read(s, 512)
        if h[:8] == b"EFI PART":
            kind, sector = "gpt", s
            at, n, each = u(h, 72, 8) * s, u(h, 80, 4), u(h, 84, 4)
            for i in range(min(n, 1024)):
                e = im.read(at + i * each, 128)
                if any(e[:16]):
                    a, z = u(e, 32, 8), u(e, 40, 8)
                    found.append((i + 1, a * s, (z - a + 1) * s))
            break
    if kind == "none" and first[510:] == b"\x55\xaa":
        kind = "dos"
        ext = None
        for i in range(4):
            e = first[446 + 16 * i:462 + 16 * i]
            if e[4] in (5, 15, 0x85):
                ext = u(e, 8, 4)
            elif e[4]:
                found.append((i + 1, u(e, 8, 4) * 512, u(e, 12, 4) * 512))
        here, n = ext, 5
        while here is not None and n < 60:
            b = im.read(here * 512, 512)
            e, following = b[446:462], b[462:478]
            if e[4]:
                found.append((n, (here + u(e, 8, 4)) * 512, u(e, 12, 4) * 512))
            here = ext + u(following, 8, 4) if following[4] else None
            n += 1
    found = [p for p in found if im.read(p[1], 11)[3:] == b"NTFS    "]
    return sector, kind, found


def runs_of(b):
    out, lcn, at = [], 0, 0
    while at < len(b) and b[at]:
        a, z = b[at] & 15, b[at] >> 4
        n = u(b, at + 1, a)
        if z:
            lcn += int.from_bytes(b[at + 1 + a:at + 1 + a + z], "little", signed=True)
            out.append((lcn, n))
        else:
            out.append((None, n))
        at += 1 + a + z
    return out


class Volume:
    def __init__(self, path, offset):
        self.im, self.off = Image(path), offset
        b = self.boot = self.im.read(offset, 512)
        if b[3:11] != b"NTFS    ":
            raise ValueError("no NTFS boot sector")
        self.sector = u(b, 11, 2)
        spc = b[13]
        self.cluster = self.sector * (spc if spc < 0xF0 else 1 << (256 - spc))
        rec = struct.unpack("b", b[64:65])[0]
        self.record = rec * self.cluster if rec > 0 else 1 << -rec
        self.sectors = u(b, 40, 8)
        self.hidden = u(b, 28, 4)
        self.serial = b[72:80]
        first = self.fixed(self.im.read(offset + u(b, 48, 8) * self.cluster, self.record))
        if first is None:
            first = self.fixed(self.im.read(offset + u(b, 56, 8) * self.cluster, self.record))
        if first is None:
            raise ValueError("record 0 is damaged")
        self.mft = []
        more = set()
        self.count = 0
        for a in self.attributes(first):
            if a["type"] == 0x80:
                self.mft += a["runs"]
                self.count = a["sizes"][3] // self.record
            if a["type"] == 0x20:
                raw = a["value"] if a["resident"] else self.clusters(a["runs"])[:a["sizes"][3]]
                at = 0
                while at + 26 <= len(raw) and u(raw, at + 4, 2):
                    if u(raw, at, 4) == 0x80 and u(raw, at + 8, 8):
                        more.add((u(raw, at + 8, 8), u(raw, at + 16, 6)))
                    at += u(raw, at + 4, 2)
        for _, n in sorted(more):
            for a in self.attributes(self.get(n)):
                if a["type"] == 0x80:
                    self.mft += a["runs"]

    def clusters(self, runs):
        return b"".join(bytes(n * self.cluster) if lcn is None
                        else self.im.read(self.off + lcn * self.cluster, n * self.cluster) for lcn, n in runs)

    def fixed(self, b):
        b = bytearray(b)
        at, n = u(b, 4, 2), u(b, 6, 2)
        if b[:4] != b"FILE" or n - 1 != len(b) // 512 or at + 2 * n > len(b):
            return None
        for i in range(1, n):
            if b[i * 512 - 2:i * 512] != b[at:at + 2]:
                return None
            b[i * 512 - 2:i * 512] = b[at + 2 * i:at + 2 * i + 2]
        return bytes(b)

    def get(self, number):
        at, parts = number * self.record, []
        left = self.record
        for lcn, n in self.mft:
            size = n * self.cluster
            if at < size:
                take = min(left, size - at)
                parts.append(self.im.read(self.off + lcn * self.cluster + at, take))
                left -= take
                at = 0
                if not left:
                    return self.fixed(b"".join(parts))
            else:
                at -= size
        return None

    def attributes(self, rec):
        at, out = u(rec, 20, 2), []
        while at + 16 <= len(rec) and u(rec, at, 4) != 0xFFFFFFFF:
            size = u(rec, at + 4, 4)
            if size < 24 or at + size > len(rec):
                out.append({"type": -1, "name": "", "rest": rec[at:at + 16]})
                break
            a = rec[at:at + size]
            d = {"type": u(a, 0, 4), "name": a[u(a, 10, 2):u(a, 10, 2) + 2 * a[9]].decode("utf-16-le", "replace"),
                 "flags": u(a, 12, 2), "id": u(a, 14, 2), "resident": not a[8]}
            if d["resident"]:
                d["value"] = a[u(a, 20, 2):u(a, 20, 2) + u(a, 16, 4)]
            else:
                low, high = u(a, 16, 8), u(a, 24, 8)
                # lowest, highest VCN, allocated, size, valid length, compression unit
                d["sizes"] = (low, high, u(a, 40, 8), u(a, 48, 8), u(a, 56, 8), u(a, 34, 2))
                d["runs"] = runs_of(a[u(a, 32, 2):])
            out.append(d)
            at += size
        return out


def names(attributes):
    return [(a["value"][66:].decode("utf-16-le", "replace"), u(a["value"], 0, 6))
            for a in attributes if a["type"] == 0x30 and a["resident"] and len(a["value"]) > 66]


def content(v, a):
    """Digest of the raw bytes that the attribute names, as far as they are valid; holes stay holes."""
    h = hashlib.sha256()
    left = None
    if not a["flags"] & 0xFF and not a["sizes"][5] and a["sizes"][0] == 0:
        left = a["sizes"][4]
    for lcn, n in a["runs"]:
        if lcn is None or lcn < 0:
            h.update(b"hole" + (b"" if lcn is None else str(lcn).encode()))
        at, end = 0, n * v.cluster
        while lcn is not None and lcn >= 0 and at < end and (left is None or left > 0):
            take = min(1 << 20, end - at, left if left is not None else 1 << 20)
            h.update(v.im.read(v.off + lcn * v.cluster + at, take))
            at += take
            left = None if left is None else left - take
        if left is not None and lcn is None:
            left -= end
    return h.digest()


def holes(runs):
    out = []
    for lcn, n in runs:
        if out and out[-1][0] == (lcn is None):
            out[-1][1] += n
        else:
            out.append([lcn is None, n])
    return out


def compare(old, new, shadows, limit=20):
    """What differs between two volumes and must not. `shadows`: storage may be dropped."""
    wrong, parsed = [], {}
    if old.count != new.count:
        return [f"{old.count} file records became {new.count}"], 0
    loose = set(LOOSE)
    for n in range(old.count):
        r = old.get(n)
        if r is None or not u(r, 22, 2) & 1:
            continue
        parsed[n] = r
        for name, parent in names(old.attributes(r)):
            if shadows and SHADOW in name.lower():
                loose |= {n, parent}
            if name.lower() == "hiberfil.sys" and parent == 5:
                loose.add(n)
    streams = 0
    for n in range(old.count):
        if len(wrong) >= limit:
            break
        r, s = parsed.get(n), new.get(n)
        if r is None:
            o = old.get(n)
            if o is None and n < 4:
                continue  # made good from its copy in $MFTMirr
            if (o is None) != (s is None) or (s is not None and u(s, 22, 2) & 1):
                wrong.append(f"record {n}: free or damaged before, not so now")
            continue
        if s is None:
            wrong.append(f"record {n}: cannot be read any more")
            continue
        # log sequence number, sequence, links, flags, base, next attribute
        for what, at, size in (("LSN", 8, 8), ("sequence", 16, 2), ("links", 18, 2), ("flags", 22, 2),
                               ("base", 32, 8), ("next id", 40, 2)):
            if r[at:at + size] != s[at:at + size]:
                wrong.append(f"record {n}: {what} differs")
        base = u(r, 32, 6) if u(r, 32, 8) else n  # $MFT's own reference is 1 << 48
        free = base in loose
        a, b = old.attributes(r), new.attributes(s)
        if [(x["type"], x["name"], x.get("id"), x.get("flags"), x.get("resident")) for x in a] != \
           [(x["type"], x["name"], x.get("id"), x.get("flags"), x.get("resident")) for x in b]:
            wrong.append(f"record {n}: other attributes")
            continue
        for x, y in zip(a, b):
            what = f"record {n}: {KINDS.get(x['type'], hex(x['type']))} {x['name']}".rstrip()
            if x["type"] == -1:
                continue
            if x["resident"]:
                if x["value"] != y["value"] and (not free or x["type"] in (0x10, 0x40, 0xC0, 0xD0, 0xE0)):
                    wrong.append(f"{what} differs")
                continue
            streams += 1
            if free and x["type"] != 0x20:
                continue
            if x["sizes"] != y["sizes"]:
                wrong.append(f"{what}: sizes {x['sizes']} became {y['sizes']}")
            elif holes(x["runs"]) != holes(y["runs"]):
                wrong.append(f"{what}: holes lie elsewhere")
            elif content_joined(old, x) != content_joined(new, y):
                wrong.append(f"{what}: other bytes")
    return wrong, streams


def content_joined(v, a):
    """As content(), with runs that follow each other as one."""
    runs = []
    for lcn, n in a["runs"]:
        if runs and lcn is None and runs[-1][0] is None:
            runs[-1] = (None, runs[-1][1] + n)
        else:
            runs.append((lcn, n))
    return content(v, {**a, "runs": runs})
