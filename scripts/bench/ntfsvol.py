#!/usr/bin/env python3
"""ntfsvol.py: a second, independent and small look at an NTFS volume image.

  ntfsvol.py info VOLUME            geometry, used clusters, records, as JSON
  ntfsvol.py read VOLUME            read the used clusters and drop them
  ntfsvol.py cat VOLUME [I/N]       used clusters (or the I-th of N parts) to stdout
  ntfsvol.py copy VOLUME TARGET     used clusters to their places in a sparse file
  ntfsvol.py mft VOLUME             read $MFT and drop it
  ntfsvol.py compare VOLUME COPY    used clusters of VOLUME against COPY; 1 = differ
  ntfsvol.py victim VOLUME [N]      N-th ordinary file with 16 clusters or more, as JSON
  ntfsvol.py content VOLUME RECORD  the unnamed stream of a record to stdout
  ntfsvol.py forget VOLUME LCN N    clear N bits of $Bitmap (damages VOLUME)
  ntfsvol.py flip FILE OFFSET       invert one byte (damages FILE)

`read`, `cat`, `copy` and `mft` are the floors of the benchmark: nothing a tool that
keeps used clusters does can be less work. It shares no code with ntbak, and it
knows only what sound volumes need.
"""
import fcntl
import json
import os
import re
import struct
import sys

STEP = 1 << 20
BITS = ["".join("1" if b >> i & 1 else "0" for i in range(8)) for b in range(256)]


class Volume:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)
        boot = os.pread(self.fd, 512, 0)
        if boot[3:7] != b"NTFS":
            raise SystemExit(path + ": no NTFS boot sector")
        sector, per = struct.unpack_from("<HB", boot, 11)
        self.cluster = sector * (per if per <= 128 else 1 << 256 - per)
        self.size = struct.unpack_from("<Q", boot, 40)[0] * sector
        self.clusters = self.size // self.cluster
        size = struct.unpack_from("<b", boot, 64)[0]
        self.record_size = size * self.cluster if size > 0 else 1 << -size
        # $MFT begins where the boot sector says; its own runs say where it goes on
        self.mft = [(struct.unpack_from("<Q", boot, 48)[0], 16)]
        self.mft, self.mft_size = self.data(0)

    def at(self, runs, offset, n):
        out = b""
        for lcn, count in runs:
            room = count * self.cluster
            if offset >= room:
                offset -= room
                continue
            k = min(n, room - offset)
            out += bytes(k) if lcn is None else os.pread(self.fd, k, lcn * self.cluster + offset)
            n, offset = n - k, 0
            if not n:
                break
        return out

    def record(self, number):
        rec = bytearray(self.at(self.mft, number * self.record_size, self.record_size))
        first, count = struct.unpack_from("<HH", rec, 4)
        for i in range(1, count):  # undo the update sequence
            rec[i * 512 - 2:i * 512] = rec[first + 2 * i:first + 2 * i + 2]
        return rec

    def attributes(self, rec):
        """(type, name, attribute) of one record."""
        at = struct.unpack_from("<H", rec, 20)[0]
        while at + 16 <= len(rec):
            kind, length = struct.unpack_from("<II", rec, at)
            if kind == 0xFFFFFFFF or length < 16:
                return
            a = rec[at:at + length]
            name = a[(o := struct.unpack_from("<H", a, 10)[0]):o + 2 * a[9]].decode("utf-16-le", "replace")
            yield kind, name, a
            at += length

    def runs(self, a):
        at, lcn, out = struct.unpack_from("<H", a, 32)[0], 0, []
        while at < len(a) and a[at]:
            low, high = a[at] & 15, a[at] >> 4
            count = int.from_bytes(a[at + 1:at + 1 + low], "little")
            lcn += int.from_bytes(a[at + 1 + low:at + 1 + low + high], "little", signed=True)
            out.append((lcn if high else None, count))
            at += 1 + low + high
        return out

    def value(self, a):
        if a[8]:
            return self.at(self.runs(a), 0, struct.unpack_from("<Q", a, 48)[0])
        n, o = struct.unpack_from("<IH", a, 16)
        return bytes(a[o:o + n])

    def data(self, number):
        """(runs, size) of the unnamed $DATA; runs are None where it is resident."""
        rec = self.record(number)
        pieces = [(0, a) for t, n, a in self.attributes(rec) if t == 0x80 and not n]
        for t, _, a in self.attributes(rec):
            if t != 0x20:
                continue
            entries, at, pieces = self.value(a), 0, []
            while at + 26 <= len(entries):  # pieces in other records, by first cluster
                kind, length, namelen = struct.unpack_from("<IHB", entries, at)
                vcn, where = struct.unpack_from("<QQ", entries, at + 8)
                if kind == 0x80 and not namelen:
                    home = self.record(where & (1 << 48) - 1)
                    pieces += [(vcn, b) for t, n, b in self.attributes(home)
                               if t == 0x80 and not n and (not b[8] or struct.unpack_from("<Q", b, 16)[0] == vcn)]
                at += length
        if not pieces or not pieces[0][1][8]:
            return None, len(self.value(pieces[0][1])) if pieces else 0
        pieces.sort(key=lambda p: p[0])
        return [r for _, a in pieces for r in self.runs(a)], struct.unpack_from("<Q", pieces[0][1], 48)[0]

    def bitmap(self):
        runs, size = self.data(6)
        return runs, self.at(runs, 0, size)

    def used(self):
        """(first cluster, count) of the runs of set bits."""
        bits = "".join([BITS[b] for b in self.bitmap()[1]])[:self.clusters]
        return [(m.start(), m.end() - m.start()) for m in re.finditer("1+", bits)]

    def chunks(self, part=0, parts=1):
        """(offset, length) of the used bytes, at most STEP each."""
        ranges = self.used()
        total = sum(n for _, n in ranges)
        skip, left = total * part // parts, total * (part + 1) // parts - total * part // parts
        for lcn, n in ranges:
            k = min(skip, n)
            skip, lcn, n = skip - k, lcn + k, min(n - k, left)
            left -= n
            at, end = lcn * self.cluster, (lcn + n) * self.cluster
            while at < end:
                yield at, min(STEP, end - at)
                at += STEP

    def records_in_use(self):
        used, at, size = 0, 0, self.record_size
        while at < self.mft_size:
            block = self.at(self.mft, at, min(8192 * size, self.mft_size - at))
            used += sum(s == 70 and f & 1 for s, f in zip(block[0::size], block[22::size]))
            at += len(block)
        return used

    def path(self, number):
        parts = []
        while number != 5:
            names = [a for t, _, a in self.attributes(self.record(number)) if t == 0x30]
            v = self.value(min(names, key=lambda a: self.value(a)[65] == 2))
            parts.append(v[66:66 + 2 * v[64]].decode("utf-16-le", "replace"))
            number = struct.unpack_from("<Q", v, 0)[0] & (1 << 48) - 1
        return "/" + "/".join(reversed(parts))


def pour(fd, view):
    while view:
        view = view[os.write(fd, view):]


def victim(vol, nth):
    for number in range(64, vol.mft_size // vol.record_size):
        rec = vol.record(number)
        if rec[:4] != b"FILE" or rec[22] & 3 != 1 or struct.unpack_from("<Q", rec, 32)[0]:
            continue
        if any(t == 0x20 or t == 0x80 and struct.unpack_from("<H", a, 12)[0] for t, _, a in vol.attributes(rec)):
            continue  # spread over records, compressed or sparse
        runs, size = vol.data(number)
        if runs and runs[0][1] >= 16 and size >= 16 * vol.cluster:
            nth -= 1
            if nth < 0:
                return {"record": number, "path": vol.path(number), "lcn": runs[0][0], "clusters": runs[0][1], "size": size}
    raise SystemExit("no such file")


def main(verb, path, *rest):
    if verb == "flip":
        with open(path, "r+b") as f:
            f.seek(int(rest[0]))
            byte = f.read(1)[0]
            f.seek(-1, 1)
            f.write(bytes([byte ^ 0xFF]))
        return 0
    vol = Volume(path)
    buf = memoryview(bytearray(STEP))
    if verb == "info":
        ranges = vol.used()
        print(json.dumps({"cluster": vol.cluster, "clusters": vol.clusters, "bytes": vol.size,
                          "used": sum(n for _, n in ranges), "used_bytes": sum(n for _, n in ranges) * vol.cluster,
                          "used_ranges": len(ranges), "records_in_use": vol.records_in_use(),
                          "mft_bytes": vol.mft_size, "mft_runs": len(vol.mft)}))
    elif verb == "read":
        for at, n in vol.chunks():
            os.preadv(vol.fd, [buf[:n]], at)
    elif verb == "cat":
        try:
            fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, STEP)
        except OSError:
            pass  # a file
        part = [int(x) for x in rest[0].split("/")] if rest else [1, 1]
        for at, n in vol.chunks(part[0] - 1, part[1]):
            os.preadv(vol.fd, [buf[:n]], at)
            pour(1, buf[:n])
    elif verb == "copy":
        to = os.open(rest[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.ftruncate(to, os.fstat(vol.fd).st_size)
        for at, n in vol.chunks():
            os.preadv(vol.fd, [buf[:n]], at)
            if os.pwrite(to, buf[:n], at) != n:
                raise SystemExit("short write")
    elif verb == "mft":
        for lcn, n in vol.mft:
            for at in range(lcn * vol.cluster, (lcn + n) * vol.cluster, STEP):
                os.preadv(vol.fd, [buf[:min(STEP, (lcn + n) * vol.cluster - at)]], at)
    elif verb == "compare":
        other, wrong = os.open(rest[0], os.O_RDONLY), []
        for at, n in vol.chunks():
            a, b = os.pread(vol.fd, n, at), os.pread(other, n, at)
            if a != b:
                c = vol.cluster
                wrong += [(at + i) // c for i in range(0, n, c) if a[i:i + c] != b[i:i + c]]
        print("%d used clusters differ%s" % (len(wrong), ": " + ", ".join(map(str, wrong[:8])) if wrong else ""))
        return 1 if wrong else 0
    elif verb == "victim":
        print(json.dumps(victim(vol, int(rest[0]) if rest else 0)))
    elif verb == "content":
        runs, size = vol.data(int(rest[0]))
        pour(1, memoryview(vol.at(runs, 0, size)))
    elif verb == "forget":
        runs, bm = vol.bitmap()
        with open(path, "r+b") as f:
            for bit in range(int(rest[0]), int(rest[0]) + int(rest[1])):
                byte, place = bit >> 3, bit >> 3
                for lcn, n in runs:
                    if place < n * vol.cluster:
                        break
                    place -= n * vol.cluster
                f.seek(lcn * vol.cluster + place)
                now = f.read(1)[0]
                f.seek(-1, 1)
                f.write(bytes([now & ~(1 << (bit & 7))]))
                assert now >> (bit & 7) & 1, "cluster was free already"
                f.flush()
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
