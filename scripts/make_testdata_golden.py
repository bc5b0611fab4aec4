#!/usr/bin/env python3
"""make_testdata_golden.py IMAGE OUT.tsv [--part N:OFFSET:LENGTH ...]

Writes the golden list of an NTFS volume (or of the NTFS partitions of a disk)
with dissect.ntfs, a reader that shares nothing with this project.  Used only
when test data is made; needs `pip install dissect.ntfs==3.16`.

Columns: path, size, sha256, flags, as described in testdata/README.md.
"""
import hashlib
import sys

from dissect.ntfs.attr import ATTRIBUTE_CLASS_MAP
from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE as T
from dissect.ntfs.ntfs import NTFS
from dissect.util.stream import RangeStream

COMPRESSED, ENCRYPTED, SPARSE = 0x0001, 0x4000, 0x8000
EXTRA = {T.REPARSE_POINT: "$REPARSE_POINT", T.EA: "$EA", T.OBJECT_ID: "$OBJECT_ID",
         T.LOGGED_UTILITY_STREAM: "$LOGGED_UTILITY_STREAM"}

# names are decoded here: dissect.ntfs refuses records whose name holds a lone surrogate
ATTRIBUTE_CLASS_MAP.pop(T.FILE_NAME, None)


def escape(name):
    """One name for a TSV line: backslash, colon, control characters and lone surrogates are escaped."""
    out = []
    for ch in name:
        code = ord(ch)
        if ch == "\\":
            out.append("\\\\")
        elif ch == "\n":
            out.append("\\n")
        elif ch == "\r":
            out.append("\\r")
        elif ch == "\t":
            out.append("\\t")
        elif code < 0x20 or ch in ":\x7f":
            out.append(f"\\x{code:02x}")
        elif 0xD800 <= code <= 0xDFFF:
            out.append(f"\\u{{{code:04x}}}")
        else:
            out.append(ch)
    return "".join(out)


def file_name(attr):
    """(parent record, parent sequence, namespace, name) from a $FILE_NAME attribute."""
    raw = attr.header.data()
    ref = int.from_bytes(raw[0:8], "little")
    count, space = raw[0x40], raw[0x41]
    name = raw[0x42:0x42 + 2 * count].decode("utf-16-le", "surrogatepass")
    return ref & (1 << 48) - 1, ref >> 48, space, name


class Volume:
    def __init__(self, fh):
        self.ntfs = NTFS(fh)
        self.mft = self.ntfs.mft
        self.names = {}          # record -> path components cache
        self.count = self.mft.get(0).size() // self.ntfs._record_size

    def record(self, number):
        return self.mft.get(number)

    def path_of(self, number, seen=()):
        """Path of a directory record, without the leading '/'; None when it has none."""
        if number == 5:
            return ""
        if number in self.names:
            return self.names[number]
        if number in seen or number >= self.count:
            return None
        try:
            rec = self.record(number)
            names = [file_name(a) for a in rec.attributes[T.FILE_NAME]]
        except Exception:
            return None
        names = [n for n in names if n[2] != 2]
        if not names:
            return None
        parent, _, _, name = names[0]
        above = self.path_of(parent, (*seen, number))
        path = None if above is None else f"{above}/{escape(name)}"
        self.names[number] = path
        return path

    def rows(self):
        for number in range(self.count):
            try:
                rec = self.record(number)
            except Exception:
                continue
            if not rec.header.Flags & 1:
                continue
            if rec.header.BaseFileRecordSegment.SegmentNumberLowPart:
                continue
            try:
                yield from self.record_rows(number, rec)
            except Exception as error:
                yield f"/<mft {number}>", "-", "-", f"mft={number},unreadable:{type(error).__name__}"

    def paths(self, number, rec):
        if number == 5:
            return ["/"]
        out = []
        for attr in rec.attributes[T.FILE_NAME]:
            parent, _, space, name = file_name(attr)
            if space == 2:
                continue
            above = self.path_of(parent, (number,))
            out.append(f"/<no name mft {number}>" if above is None else f"{above}/{escape(name)}")
        return out or [f"/<no name mft {number}>"]

    def record_rows(self, number, rec):
        attrs = rec.attributes
        paths = self.paths(number, rec)
        base = [f"mft={number}"]
        if number < 24:
            base.append("system")
        if T.ATTRIBUTE_LIST in attrs:
            base.append("attrlist")
        if len(paths) > 1:
            base.append(f"links={len(paths)}")
        if T.REPARSE_POINT in attrs:
            tag = int.from_bytes(attrs[T.REPARSE_POINT][0].header.data()[:4], "little")
            base.append(f"reparse=0x{tag:08x}")
        if T.EA in attrs:
            base.append("ea")
        streams = {}
        for attr in attrs[T.DATA]:
            streams.setdefault(attr.header.name, []).append(attr)
        for path in paths:
            if "" not in streams:
                kind = "dir" if rec.is_dir() else "nodata"
                yield path, "-", "-", ",".join([kind, *base])
        for name, pieces in streams.items():
            size, digest, flags = self.stream(number, rec, name, pieces)
            for path in paths:
                yield (path if not name else f"{path}:{escape(name)}"), size, digest, ",".join([*base, *flags])
        for code, label in EXTRA.items():
            for attr in attrs[code]:
                data = attr.header.data()
                for path in paths:
                    yield (f"{path}:{escape(attr.header.name)}:{label}", str(len(data)),
                           hashlib.sha256(data).hexdigest(), ",".join([*base, "attr"]))

    def stream(self, number, rec, name, pieces):
        flags = []
        first = min(pieces, key=lambda a: a.header.lowest_vcn or 0)
        size = first.header.size
        valid = size
        if first.resident:
            flags.append("resident")
        else:
            valid = first.header.header.Form.Nonresident.ValidDataLength
            if valid < size:
                flags.append(f"vdl={valid}")
            runs = len(rec.dataruns(name))
            if runs > 1:
                flags.append(f"runs={runs}")
        for bit, word in ((COMPRESSED, "compressed"), (SPARSE, "sparse"), (ENCRYPTED, "encrypted")):
            if first.header.flags & bit:
                flags.append(word)
        if name:
            flags.append("ads")
        if number == 8 and name == "$Bad":
            return str(size), "-", [*flags, "nohash"]
        digest = hashlib.sha256()
        done = 0
        fh = rec.open(name)
        # the valid data length of a compressed stream is not a cut in the expanded content
        cut = size if first.header.flags & COMPRESSED else min(valid, size)
        while done < cut:
            block = fh.read(min(1 << 22, cut - done))
            if not block:
                return str(size), "-", [*flags, "unreadable:short"]
            digest.update(block)
            done += len(block)
        zero = bytes(1 << 20)
        while done < size:
            step = min(len(zero), size - done)
            digest.update(zero[:step])
            done += step
        return str(size), digest.hexdigest(), flags


def main():
    image, out, *rest = sys.argv[1:]
    parts = []
    while rest:
        assert rest.pop(0) == "--part"
        number, offset, length = map(int, rest.pop(0).split(":"))
        parts.append((f"p{number}:", offset, length))
    rows = []
    with open(image, "rb") as fh:
        for prefix, offset, length in parts or [("", 0, None)]:
            view = fh if length is None else RangeStream(fh, offset, length)
            rows += [(prefix + p, s, d, f) for p, s, d, f in Volume(view).rows()]
    rows.sort()
    with open(out, "w", encoding="utf-8", errors="surrogatepass", newline="\n") as fh:
        fh.write("path\tsize\tsha256\tflags\n")
        for row in rows:
            fh.write("\t".join(row) + "\n")


if __name__ == "__main__":
    main()
