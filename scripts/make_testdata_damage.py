"""Faults, as byte patches of a sound volume, and what is not NTFS."""
import os
import shutil
import struct
import sys
import uuid

import make_testdata_ntfs as nt
from make_testdata_tools import (
    KIB, MIB, Mounted, OUT, finish, mkntfs, need, noise, pack_sparse, prose, recipe, rows_of, run, scratch,
    stamped)


# ---- damage ---------------------------------------------------------------------------

class Damage:
    """Collects what the editor changes in a copy of the base image as byte patches."""

    def __init__(self, base):
        self.base, self.rows = base, []
        with open(base, "rb") as fh:
            self.before = fh.read()

    def __call__(self, name, effect, change):
        copy = scratch("damage.copy")
        shutil.copyfile(self.base, copy)
        with nt.Volume(copy) as v:
            change(v)
        with open(copy, "rb") as fh:
            after = fh.read()
        assert len(after) == len(self.before)
        pieces, i = [], 0
        for at in range(0, len(after), 4096):
            if after[at:at + 4096] == self.before[at:at + 4096]:
                continue
            for i in range(at, at + 4096):
                if after[i] != self.before[i]:
                    if pieces and i - pieces[-1][1] < 8:
                        pieces[-1][1] = i + 1
                    else:
                        pieces.append([i, i + 1])
        assert pieces, f"{name} changes nothing"
        for start, end in pieces:
            self.rows.append((name, "damage-base", str(start), after[start:end].hex(), effect))
        done = run("timeout", "20", sys.executable,
                   os.path.join(os.path.dirname(os.path.abspath(__file__)), "make_testdata_golden.py"),
                   copy, scratch("damage.tsv"), check=False)
        seen = {0: "lists it", 124: "does not end"}.get(done.returncode, "refuses")
        if not done.returncode:
            bad = [r for r in rows_of(scratch("damage.tsv")) if "unreadable" in r[3] or "no name mft" in r[0]]
            seen += f" ({len(bad) - 4} unreadable or nameless)"
        mount = run("timeout", "20", "ntfs-3g", "-o", "ro", copy, scratch("mnt"), check=False, frozen=True)
        if not mount.returncode:
            run("umount", scratch("mnt"))
        print(f"    {name}: {len(pieces)} patches; dissect.ntfs {seen}; ntfs-3g {'refuses' if mount.returncode else 'mounts'}")


@recipe
def damage_base(name):
    image = scratch(name)
    mkntfs(image, 5 * MIB, cluster=1024, label=name)
    files = {"alpha.bin": stamped("alpha", 20_000), "beta.bin": stamped("beta", 20_000), "gamma.txt": b"resident gamma",
             "p/q/r/deep.txt": b"deep", "packed/text.txt": prose("packed", 100_000)}
    files |= {f"tree/entry {n:03d} of the tree.txt": b"%03d" % n * 50 for n in range(120)}
    with Mounted(image, "streams_interface=windows,compression") as m:
        m.mkdir("packed")
        m.attribs("packed", 0x810)
        for path, data in files.items():
            m.write(path, data)
        m.write("fragmented.bin", b"")
    with nt.Volume(image) as v:
        mask = nt.masked(v, lambda lcn: lcn % 3 == 0)
    files["fragmented.bin"] = stamped("fragmented", 500_000)
    with Mounted(image) as m:
        m.write("fragmented.bin", files["fragmented.bin"], 1024)
        at = {p: m.number(p) for p in (*files, "tree", "p", "p/q", "p/q/r")}
    with nt.Volume(image) as v:
        nt.unmask(v, mask)
    found = finish(name, image, expect={"/" + p: d for p, d in files.items()})
    need(found, "/fragmented.bin", "attrlist")
    need(found, "/packed/text.txt", "compressed")

    d = Damage(image)
    size = os.path.getsize(image)

    def raw(v, number, off, data):
        where, n = v.spans(v.mft_runs, number * v.record_size + off, len(data))[0]
        assert n == len(data)
        v.map[where:where + n] = data

    def put(off, data):
        def change(v):
            v.map[off:off + len(data)] = data
        return change

    def edit(path, fn, code=nt.DATA, label=""):
        def change(v):
            rec = v.record(at[path])
            attr = rec.find(code, label)
            fn(v, rec, attr)
            rec.save()
        return change

    def poke(path, off, fmt, value, code=nt.DATA, label=""):
        """Writes a field of an attribute header."""
        return edit(path, lambda v, rec, attr: struct.pack_into(fmt, rec.data, attr.off + off, value), code, label)

    d("boot-zeroed", "the backup boot sector in the last sector is used; every stream as in damage-base", put(0, bytes(512)))
    d("boot-both-zeroed", "not recognised as NTFS, or rebuilt from a scan for records; never a panic",
      lambda v: (put(0, bytes(512))(v), put(size - 512, bytes(512))(v)))
    d("boot-backup-zeroed", "a finding; every stream as in damage-base", put(size - 512, bytes(512)))
    d("boot-cluster-zero", "sectors per cluster 0 in the boot sector; the backup is used", put(13, b"\0"))
    d("boot-record-size-huge", "file record size 2^127 in the boot sector; the backup is used", put(64, b"\x81"))
    d("boot-sectors-too-many", "the boot sector counts more sectors than the image has; the backup is used, or a finding",
      put(40, struct.pack("<Q", 1 << 60)))
    d("boot-mft-outside", "$MFT beyond the end in the boot sector; $MFTMirr or the backup boot sector is used",
      put(48, struct.pack("<Q", 1 << 40)))
    d("mft0-garbled", "record 0 is noise; its copy in $MFTMirr is used; every stream but $MFT as in damage-base",
      lambda v: raw(v, 0, 0, noise("garbled", 1024)))
    d("mft0-torn", "record 0 fails its fixup; its copy in $MFTMirr is used", lambda v: raw(v, 0, 1022, b"\xaa\x55"))
    d("mirror-garbled", "$MFTMirr is noise; a finding; every stream but $MFTMirr as in damage-base",
      lambda v: put(v.mirror_lcn * v.cluster, noise("mirror", 1024))(v))
    entry = "tree/entry 050 of the tree.txt"
    d("record-torn", f"the record of /{entry} fails its fixup: that name is lost, its neighbours are not",
      lambda v: raw(v, at[entry], 510, b"\x5a\xa5"))
    d("record-baad", "a record with the signature BAAD", lambda v: raw(v, at[entry], 0, b"BAAD"))
    d("record-zeroed", "an in-use record ($MFT:$BITMAP) that is all zero", lambda v: raw(v, at[entry], 0, bytes(1024)))
    d("record-used-size-huge", "bytes in use beyond the record", lambda v: (
        lambda rec: (struct.pack_into("<I", rec.data, 0x18, 0xFFFFFFF0), rec.save()))(v.record(at["gamma.txt"])))
    d("record-attrs-outside", "first attribute beyond the record", lambda v: (
        lambda rec: (struct.pack_into("<H", rec.data, 0x14, 0xFFF8), rec.save()))(v.record(at["gamma.txt"])))
    d("fixup-array-outside", "update sequence array beyond the record", lambda v: raw(v, at["gamma.txt"], 4, b"\xf0\xff\x03\0"))

    def index_block(v, number, nth):
        rec = v.record(number)
        return v.spans(rec.runs(rec.find(nt.INDEX_ALLOCATION, "$I30")), nth * v.index_size, 512)[0][0]
    d("index-block-garbled", "an index block of /tree is noise; every name of it is still found by the parent links",
      lambda v: put(index_block(v, at["tree"], 1), noise("index", 512))(v))
    d("index-block-torn", "an index block of /tree fails its fixup; names are found by the parent links",
      lambda v: put(index_block(v, at["tree"], 0) + 510, b"\x11\x22")(v))
    d("index-entry-length-zero", "an index entry of length 0; no endless loop", lambda v: (
        lambda off: put(off + 24 + struct.unpack_from("<I", v.map, off + 24)[0] + 8, b"\0\0")(v))(index_block(v, at["tree"], 0)))
    d("index-child-loop", "/tree: every index block and the root point down to block 0; no endless loop",
      lambda v: index_loop(v, at["tree"]))
    d("runs-outside", "/alpha.bin lies beyond the volume: reported, its $Bitmap clusters are still kept",
      edit("alpha.bin", lambda v, rec, attr: rec.set_runs(attr, [(v.clusters + 1000, 20)])))
    d("runs-end-outside", "/alpha.bin begins inside and ends beyond the volume",
      edit("alpha.bin", lambda v, rec, attr: rec.set_runs(attr, [(v.clusters - 5, 20)])))
    d("runs-negative", "/alpha.bin has a run below cluster 0",
      edit("alpha.bin", lambda v, rec, attr: rec.set_runs(attr, [(100, 10), (-50, 10)])))
    d("runs-zero-length", "mapping pairs with a run of length 0",
      edit("alpha.bin", lambda v, rec, attr: rec.set_runs(attr, [(100, 0), (100, 20)])))
    d("runs-huge", "one run of 2^62 clusters", edit("alpha.bin", lambda v, rec, attr: rec.set_runs(attr, [(100, 1 << 62)])))
    d("runs-bad-header", "mapping pairs with 15-byte fields", edit("alpha.bin", lambda v, rec, attr: rec.data.__setitem__(
        attr.off + attr.pairs_off, 0xFF)))
    d("runs-unterminated", "mapping pairs without an end that run into the next attribute", edit("alpha.bin", lambda v, rec, attr:
      rec.data.__setitem__(slice(attr.off + attr.pairs_off, attr.off + attr.length),
                           (b"\x11\x01\x01" * 8)[:attr.length - attr.pairs_off])))
    d("runs-too-short", "fewer clusters in the mapping pairs than the size needs", edit("alpha.bin", lambda v, rec, attr:
      rec.set_runs(attr, [(rec.runs(attr)[0][0], 5)])))
    d("extent-shared", "/beta.bin names the clusters of /alpha.bin too: reported; both read the same bytes",
      edit("beta.bin", lambda v, rec, attr: rec.set_runs(
          attr, (lambda other: other.runs(other.find(nt.DATA)))(v.record(at["alpha.bin"])))))
    d("bitmap-used-as-free", "$Bitmap calls the clusters of /alpha.bin free: reported, and they are kept",
      lambda v: (lambda rec: [v.mark(lcn, n, used=False) for lcn, n in rec.runs(rec.find(nt.DATA))])(v.record(at["alpha.bin"])))
    d("bitmap-free-as-used", "$Bitmap calls 64 clusters used that nobody owns: reported, and they are kept",
      lambda v: (lambda lcn: v.mark(lcn, 64))(v.free_span(64)))
    d("attr-length-zero", "an attribute of length 0 in /gamma.txt; no endless loop", poke("gamma.txt", 4, "<I", 0))
    d("attr-length-huge", "an attribute of 4 GiB in /gamma.txt", poke("gamma.txt", 4, "<I", 0xFFFFFFF8))
    d("attr-length-odd", "an attribute whose length is no multiple of 8", poke("gamma.txt", 4, "<I", 33))
    d("attr-value-outside", "a resident value that ends beyond its attribute", poke("gamma.txt", 16, "<I", 5000))
    d("attr-name-outside", "an attribute name beyond the record", edit("gamma.txt", lambda v, rec, attr: struct.pack_into("<BH", rec.data, attr.off + 9, 255, 0xFF00)))
    d("size-above-allocated", "/alpha.bin: size 2^60 with 20 clusters", poke("alpha.bin", 48, "<Q", 1 << 60))
    d("size-negative", "/alpha.bin: size -1", poke("alpha.bin", 48, "<q", -1))
    d("valid-above-size", "/alpha.bin: valid data length above the size", poke("alpha.bin", 56, "<Q", 1 << 40))
    d("vcn-backwards", "/alpha.bin: lowest VCN above the highest", poke("alpha.bin", 16, "<Q", 500))
    d("compression-unit-huge", "/packed/text.txt: compression unit 2^255 clusters", poke("packed/text.txt", 34, "<B", 255))

    def lznt1_damage(v):
        rec = v.record(at["packed/text.txt"])
        lcn, n = rec.runs(rec.find(nt.DATA))[0]
        v.map[lcn * v.cluster:lcn * v.cluster + 200] = noise("lznt1", 200)
    d("lznt1-garbled", "the first compressed unit of /packed/text.txt is noise: that unit is unreadable, not the program",
      lznt1_damage)

    def list_entries(fn):
        def change(v):
            rec = v.record(at["fragmented.bin"])
            al = rec.find(nt.ATTRIBUTE_LIST)
            entries = v.attr_list(rec, al)
            for e in entries:
                patch = fn(rec, e, entries)
                if patch:
                    off, data = patch
                    if al.resident:
                        rec.data[al.value_off + e["off"] + off:al.value_off + e["off"] + off + len(data)] = data
                    else:
                        v.write_runs(rec.runs(al), e["off"] + off, data)
            if al.resident:
                rec.save()
        return change
    d("attrlist-self", "every later $DATA entry of the list of /fragmented.bin points at the base record; no endless loop",
      list_entries(lambda rec, e, all_: (16, struct.pack("<Q", rec.ref)) if e["type"] == nt.DATA and e["lowest"] else None))
    d("attrlist-names-itself", "the list of /fragmented.bin has an entry for an $ATTRIBUTE_LIST in the base record; no endless loop",
      list_entries(lambda rec, e, all_: (0, struct.pack("<I", nt.ATTRIBUTE_LIST)) if e is all_[1] else None))
    d("attrlist-wrong-sequence", "an entry with another sequence number than the extension record has",
      list_entries(lambda rec, e, all_: (22, b"\x77\x77") if e is all_[-1] else None))
    d("attrlist-outside", "an entry that points beyond $MFT",
      list_entries(lambda rec, e, all_: (16, struct.pack("<Q", 1 << 40 | 1 << 48)) if e is all_[-1] else None))
    d("attrlist-length-zero", "an entry of length 0; no endless loop",
      list_entries(lambda rec, e, all_: (4, b"\0\0") if e is all_[1] else None))

    def extension_loop(v):
        rec = v.record(at["fragmented.bin"])
        last = [e for e in v.attr_list(rec, rec.find(nt.ATTRIBUTE_LIST)) if e["type"] == nt.DATA][-1]
        ext = v.record(last["ref"] & (1 << 48) - 1)
        struct.pack_into("<Q", ext.data, 0x20, ext.ref)
        ext.save()
    d("extension-of-itself", "an extension record that names itself as its base", extension_loop)

    def reparent(child, parent):
        def change(v):
            rec = v.record(at[child])
            attr = rec.find(nt.FILE_NAME)
            struct.pack_into("<Q", rec.data, attr.value_off, v.record(at[parent]).ref)
            rec.save()
        return change
    d("parent-loop", "/p says that /p/q/r is its parent: a circle of parent links; no endless loop, the files keep a name",
      reparent("p", "p/q/r"))
    d("parent-itself", "/p says that it is its own parent", reparent("p", "p"))
    d("parent-is-file", "/gamma.txt says that its parent is the file /alpha.bin", reparent("gamma.txt", "alpha.bin"))
    d("parent-stale", "/gamma.txt names a parent with another sequence number: an orphan", edit(
        "gamma.txt", lambda v, rec, attr: struct.pack_into("<H", rec.data, attr.value_off + 6, 0x7777), nt.FILE_NAME))
    d("name-length-zero", "a $FILE_NAME of no characters", edit(
        "gamma.txt", lambda v, rec, attr: rec.data.__setitem__(attr.value_off + 64, 0), nt.FILE_NAME))
    d("name-too-long", "a $FILE_NAME of 255 characters in an attribute that holds 9", edit(
        "gamma.txt", lambda v, rec, attr: rec.data.__setitem__(attr.value_off + 64, 255), nt.FILE_NAME))
    d("name-with-slash", "a file named '../../x' in the record: an extract must not leave its directory", edit(
        "gamma.txt", lambda v, rec, attr: rec.data.__setitem__(
            slice(attr.value_off + 65, attr.value_off + 84), b"\0" + "../../xyz".encode("utf-16-le")), nt.FILE_NAME))
    d("mft-bitmap-cleared", "$MFT:$BITMAP calls in-use records free: reported; the records say what counts", mft_bitmap_zero)
    d("mft-size-huge", "$MFT claims 2^50 bytes; its runs say how many records there are", lambda v: (lambda rec: (
        rec.set_sizes(rec.find(nt.DATA), 1 << 50, 1 << 50, 1 << 50), rec.save()))(v.record(0)))
    with open(os.path.join(OUT, "damaged.tsv"), "w") as fh:
        fh.write("name\tbase\toffset\thex\teffect\n")
        for row in d.rows:
            fh.write("\t".join(row) + "\n")
    print(f"    {len({r[0] for r in d.rows})} faults, {len(d.rows)} patches")


def index_loop(v, number):
    rec = v.record(number)
    runs = rec.runs(rec.find(nt.INDEX_ALLOCATION, "$I30"))
    size = rec.find(nt.INDEX_ALLOCATION, "$I30").size
    for pos in range(0, size, v.index_size):
        raw = v.read_runs(runs, pos, v.index_size)
        if raw[:4] != b"INDX":
            continue
        plain = nt.unfix(raw)
        at = 24 + struct.unpack_from("<I", plain, 24)[0]
        plain[24 + 12] |= 1                                    # now an inner node
        while not plain[at + 12] & 2:
            at += struct.unpack_from("<H", plain, at + 8)[0]
        length, = struct.unpack_from("<H", plain, at + 8)
        if not plain[at + 12] & 1:
            struct.pack_into("<H", plain, at + 8, length + 8)
            used, = struct.unpack_from("<I", plain, 28)
            struct.pack_into("<I", plain, 28, used + 8)
            plain[at + 12] |= 1
            length += 8
        struct.pack_into("<Q", plain, at + length - 8, 0)      # the child of the last entry is block 0
        v.write_runs(runs, pos, nt.refix(plain))


def mft_bitmap_zero(v):
    rec = v.record(0)
    attr = rec.find(nt.BITMAP)
    v.write_runs(rec.runs(attr), 8, bytes(attr.size - 8))


# ---- what is not NTFS --------------------------------------------------------------------

BITLOCKER = uuid.UUID("4967d63b-2e29-4ad8-8399-f6a339e3d001").bytes_le


@recipe
def foreign(_):
    def save(name, data, total):
        image = scratch(name)
        with open(image, "wb") as fh:
            fh.write(data)
            fh.truncate(total)
        pack_sparse(image, f"foreign-{name}.sparse.zst")
        print(f"foreign-{name}:", os.path.getsize(os.path.join(OUT, f"foreign-{name}.sparse.zst")), "bytes compressed")

    def formatted(name, size, *argv):
        image = scratch(name)
        with open(image, "wb") as fh:
            fh.truncate(size)
        run(*argv, image, frozen=True)
        with open(image, "rb") as fh:
            save(name, fh.read(64 * KIB), size)

    def boot(jump, oem, *fields):
        sector = bytearray(512)
        sector[0:3], sector[3:11], sector[510:] = jump, oem, b"\x55\xaa"
        for off, data in fields:
            sector[off:off + len(data)] = data
        return bytes(sector)

    bpb = (11, struct.pack("<HBH", 512, 8, 0))
    save("bitlocker", boot(b"\xeb\x58\x90", b"-FVE-FS-", bpb, (160, BITLOCKER),
                           (176, struct.pack("<QQQ", 0x2100000, 0x2110000, 0x2120000))), 64 * MIB)
    save("bitlocker-vista", boot(b"\xeb\x52\x90", b"-FVE-FS-", bpb, (56, struct.pack("<Q", 0x1000))), 64 * MIB)
    save("bitlocker-to-go", boot(b"\xeb\x58\x90", b"MSWIN4.1", bpb, (424, BITLOCKER),
                                 (440, struct.pack("<QQQ", 0x2100000, 0x2110000, 0x2120000))), 64 * MIB)
    save("refs", boot(b"\0\0\0", b"ReFS\0\0\0\0", (16, b"FSRS" + struct.pack("<HHQIIBB", 512, 0x1234, 131072, 512, 8, 3, 4)),
                      (510, b"\0\0")), 64 * MIB)
    formatted("exfat", 16 * MIB, "mkfs.exfat", "-L", "EXFAT")
    formatted("fat12", 1440 * KIB, "mkfs.fat", "-F", "12", "-i", "0badcafe", "-n", "TWELVE")
    formatted("fat16", 16 * MIB, "mkfs.fat", "-F", "16", "-i", "0badcafe", "-n", "SIXTEEN")
    formatted("fat32", 64 * MIB, "mkfs.fat", "-F", "32", "-i", "0badcafe", "-n", "THIRTYTWO")
    formatted("ext4", 8 * MIB, "mkfs.ext4", "-q", "-F", "-U", "01234567-89ab-cdef-0123-456789abcdef",
              "-E", "hash_seed=01234567-89ab-cdef-0123-456789abcdef")
    save("random", noise("random", 16 * KIB), 1 * MIB)
    save("zeros", b"", 1 * MIB)
    save("ntfs-name-only", boot(b"\xeb\x52\x90", b"NTFS    "), 1 * MIB)      # the name, but nothing behind it
    save("short", b"NTFS", 300)                                          # less than one sector
