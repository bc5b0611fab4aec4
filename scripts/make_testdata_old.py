"""What today's systems no longer make, or never did: NTFS 1.2, index blocks of every size."""
import hashlib
import os
import struct

import make_testdata_ntfs as nt
from make_testdata_tools import (
    KIB, MIB, Mounted, OUT, finish, mkntfs, noise, prose, recipe, rows_of, run, scratch, stamped, unescape)

SECURITY_DESCRIPTOR = 0x50


# ---- NTFS 1.2 --------------------------------------------------------------------------

def descriptor(mask):
    """Self-relative: owner and group Administrators, Everyone has `mask`."""
    admins = bytes.fromhex("01020000000000052000000020020000")
    everyone = bytes.fromhex("010100000000000100000000")
    ace = struct.pack("<BBHI", 0, 0, 8 + len(everyone), mask) + everyone
    acl = struct.pack("<BBHHH", 2, 0, 8 + len(ace), 1, 0) + ace
    at = 20 + len(acl)
    return struct.pack("<BBHIIII", 1, 0, 0x8004, at, at + 16, 0, 20) + acl + admins * 2


def old_record(v, number, keep, mask):
    """Rewrites a record in the form of NTFS 1.2.

    The update sequence array begins at 0x2a, no number follows it, $STANDARD_INFORMATION has its first
    48 bytes, and a descriptor of its own stands in for $Secure. `keep` says which attributes stay.
    """
    rec = v.record(number)
    attrs = []
    for attr in rec.attrs() if rec.in_use else ():
        raw = bytes(rec.data[attr.off:attr.off + attr.length])
        if attr.type == nt.STANDARD_INFORMATION:
            raw = nt.resident_attr(attr.type, rec.value(attr)[:48])
        if attr.type != SECURITY_DESCRIPTOR and keep(attr):
            attrs.append((attr.type, len(attrs), raw))
        elif not attr.resident:
            for lcn, count in rec.runs(attr):
                v.mark(lcn, count, used=False)
                v.map[lcn * v.cluster:(lcn + count) * v.cluster] = bytes(count * v.cluster)
    if rec.in_use:
        attrs.append((SECURITY_DESCRIPTOR, len(attrs), nt.resident_attr(SECURITY_DESCRIPTOR, descriptor(mask))))
    body = b""
    for instance, (_, _, raw) in enumerate(sorted(attrs)):
        body += raw[:14] + struct.pack("<H", instance) + raw[16:]
    used = 0x30 + len(body) + 8
    old = rec.data
    rec.data = bytearray(v.record_size)
    words = v.record_size // nt.STRIDE + 1
    assert 0x2A + 2 * words <= 0x30
    rec.data[:0x2A] = old[:0x2A]
    struct.pack_into("<HH", rec.data, 4, 0x2A, words)
    struct.pack_into("<H", rec.data, 0x14, 0x30)
    struct.pack_into("<II", rec.data, 0x18, used, v.record_size)
    struct.pack_into("<H", rec.data, 0x28, len(attrs))
    rec.data[0x30:used] = body + struct.pack("<II", nt.END, 0)
    assert used <= v.record_size - 2
    rec.save()


def renamed(key, name, attributes):
    """A $FILE_NAME value with another name and other attributes."""
    key = bytearray(key[:66] + name.encode("utf-16-le"))
    struct.pack_into("<I", key, 56, attributes)
    key[64] = len(name)
    return bytes(key)


@recipe
def ntfs_1_2(name):
    """A volume of Windows NT 4: mkntfs's system files rewritten, the rest then by ntfs-3g, which knows that version."""
    image = scratch(name)
    mkntfs(image, 4 * MIB, cluster=1024, label=name)
    read_only, full = 0x120089, 0x1F01FF
    with nt.Volume(image) as v:
        gone = {ref & (1 << 48) - 1 for ref, _ in nt.index_entries(v, 11)} | {11}
        for number in sorted(gone):
            rec = v.record(number)
            for attr in rec.attrs():
                if not attr.resident:
                    for lcn, count in rec.runs(attr):
                        v.mark(lcn, count, used=False)
            if number == 11:        # reserved, like 12 to 15
                spare = v.record(12)
                rec.data = bytearray(spare.data)
                struct.pack_into("<H", rec.data, 0x10, 11)
            else:
                struct.pack_into("<H", rec.data, 0x16, 0)
                bits = v.record(0)
                at, _ = v.spans(bits.runs(bits.find(nt.BITMAP)), number // 8, 1)[0]
                v.map[at] &= ~(1 << number % 8)
            rec.save()
        # record 9 is $Quota, an empty file; the name sorts where $Secure did
        rec = v.record(9)
        attr = rec.find(nt.FILE_NAME)
        quota = renamed(rec.value(attr), "$Quota", 6)
        rec.replace(attr, nt.resident_attr(nt.FILE_NAME, quota, indexed=1))
        struct.pack_into("<H", rec.data, 0x16, 1)
        std = rec.find(nt.STANDARD_INFORMATION)
        struct.pack_into("<I", rec.data, std.value_off + 32, 6)
        rec.save()
        rec = v.record(3)
        info = rec.find(nt.VOLUME_INFORMATION)
        rec.data[info.value_off + 8:info.value_off + 10] = bytes([1, 2])
        rec.save()
        entries = []
        for ref, key in nt.index_entries(v, 5):
            number = ref & (1 << 48) - 1
            if number not in gone:
                entries.append((ref, quota if number == 9 else key))
        nt.set_index(v, 5, entries, each=8)
        later = ("$SDS", "$SDH", "$SII", "$Info")       # streams and indexes that came with 3.0 and after
        for number in range(v.records):
            old_record(v, number, lambda a: a.name not in later, full if number == 5 else read_only)
        rec = v.record(9)
        rec.insert(nt.resident_attr(nt.DATA, b""))
        rec.save()
    files = {"resident.txt": prose("old", 300), "empty.txt": b"", "one.bin": noise("one", 1025),
             "large.bin": stamped("large", 150_001), "with stream.txt": b"main\n",
             "with stream.txt:small": b"resident stream", "with stream.txt:large": stamped("stream", 9000),
             "a/b/c/deep.txt": b"deep\n"}
    files |= {f"many/old file number {n:03d}.txt": b"%03d\n" % n * (n % 7) for n in range(70)}
    with Mounted(image) as m:
        for path, data in files.items():
            m.write(path, data)
        m.write("gone.txt", b"deleted")
        os.unlink(m.at("gone.txt"))
    with nt.Volume(image) as v:
        for number in range(v.records):
            rec = v.record(number)
            assert struct.unpack_from("<H", rec.data, 4)[0] == 0x2A, number
            if not rec.in_use or number in range(11, 16):
                continue
            assert rec.find(nt.STANDARD_INFORMATION).size == 48, number
            rec.find(SECURITY_DESCRIPTOR)
    finish(name, image, expect={"/" + p: d for p, d in files.items()})
    sleuth(name, image)


def sleuth(name, image):
    """The Sleuth Kit lists the same files and reads the same bytes."""
    listed = {line.split(":\t", 1)[1] for line in run("fls", "-r", "-p", "-u", image).stdout.decode().splitlines()}
    compared = 0
    for path, _, sha, flags in rows_of(os.path.join(OUT, f"{name}.tsv")):
        words = dict(w.partition("=")[::2] for w in flags.split(","))
        if "system" in words or "dir" in words or sha == "-":
            continue
        plain = unescape(path).decode()[1:]
        assert plain in listed, f"fls does not list {path}"
        if "ads" not in words:
            data = run("icat", image, words["mft"]).stdout
            assert hashlib.sha256(data).hexdigest() == sha, f"icat reads {path} otherwise"
            compared += 1
    print(f"    {compared} files the same in The Sleuth Kit")


# ---- index blocks of every size ---------------------------------------------------------

SIZES = [512 << n for n in range(8)]


def index_sizes(name, cluster):
    """One directory for each size of index blocks: the size stands in each index root, the boot sector's is for new ones."""
    image = scratch(name)
    mkntfs(image, 10 * MIB, cluster=cluster, label=name)
    files = {f"{size}/entry {n:02d}.txt": b"%d in %d\n" % (n, size) for size in SIZES for n in range(40)}
    with Mounted(image) as m:
        for path, data in files.items():
            m.write(path, data)
        numbers = {size: m.number(str(size)) for size in SIZES}
    with nt.Volume(image) as v:
        for size, number in numbers.items():
            entries = nt.index_entries(v, number)
            assert len(entries) == 40
            levels = nt.set_index(v, number, entries, size)
            assert levels == 3 and nt.index_entries(v, number) == entries
    finish(name, image, expect={"/" + p: d for p, d in files.items()})
    sleuth(name, image)


@recipe
def index_512(name):
    index_sizes(name, 512)


@recipe
def index_4k(name):
    index_sizes(name, 4 * KIB)


@recipe
def index_64k(name):
    index_sizes(name, 64 * KIB)
