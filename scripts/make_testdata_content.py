"""What is on the volume: LZNT1, names, links, deleted files, encrypted files, page files."""
import hashlib
import os
import random
import struct
import subprocess

import make_testdata_golden as golden
import make_testdata_ntfs as nt
from make_testdata_tools import (
    MIB, Mounted, OUT, finish, mkntfs, need, noise, prose, recipe, scratch, stamped)


# ---- LZNT1 -------------------------------------------------------------------

def tough(seed, size):
    """Bytes that LZNT1 cannot shrink (each 4 KiB piece is noise) but zstd can (they repeat)."""
    block = noise(seed, 4096)
    return (block * (size // 4096 + 1))[:size]


def lznt1(name, cluster, size):
    image = scratch(name)
    unit = 16 * cluster
    mkntfs(image, size, cluster=cluster, label=name)
    pause = bytes(2 * unit)
    files = {
        "c/text.txt": prose("lznt1", 2 * unit + 1234),                       # partial last unit
        "c/exact.txt": prose("exact", unit),                             # ends with a unit
        "c/tough.bin": tough("tough", 2 * unit + cluster + 77),              # no unit shrinks
        "c/mixed.bin": stamped("m1", unit) + tough("m2", unit) + pause + stamped("m3", unit) + bytes(unit)
                       + tough("m4", unit // 2) + bytes(unit // 2) + prose("m5", 100),
        "c/zeros.bin": bytes(3 * unit + 5),                                  # nothing but holes
        "c/ends-in-hole.bin": stamped("e", unit) + bytes(2 * unit),
        "c/starts-in-hole.bin": bytes(unit) + stamped("s", unit),
        "c/runs.bin": b"".join(bytes([65 + n % 26]) * 4096 for n in range(unit // 2048)),   # long copies
        "c/tiny.txt": b"resident, the flag only",
        "c/source-of-stream.bin": prose("ads", unit) + bytes(unit) + tough("ads", unit) + prose("ads tail", 321),
        "plain.txt": prose("plain", 3000),
    }
    with Mounted(image, "streams_interface=windows,compression") as m:
        m.mkdir("c")
        m.attribs("c", 0x810)
        for path, data in files.items():
            m.write(path, data)
        number = m.number("c/source-of-stream.bin")
        plain = m.number("plain.txt")
    # ntfs-3g does not compress named streams: give the compressed $DATA of one file to another as a stream
    expect = {"/" + p: d for p, d in files.items()}
    with nt.Volume(image) as v:
        rec, host = v.record(number), v.record(plain)
        attr = rec.find(nt.DATA)
        assert attr.flags & 1 and not attr.resident
        raw = nt.nonresident_attr(nt.DATA, rec.runs(attr), v.cluster, attr.size, attr.valid, "squeezed", 1, attr.unit)
        host.insert(raw)
        host.save()
        rec.replace(attr, nt.resident_attr(nt.DATA, b"moved away", flags=1))
        rec.save()
    expect["/plain.txt:squeezed"] = files["c/source-of-stream.bin"]
    expect["/c/source-of-stream.bin"] = b"moved away"
    found = finish(name, image, expect=expect)
    for path in files:
        if path.startswith("c/"):
            need(found, "/" + path, "compressed")
    need(found, "/plain.txt:squeezed", "compressed", "ads")


@recipe
def lznt1_4k(name):
    lznt1(name, 4096, 6 * MIB)


@recipe
def lznt1_512(name):
    lznt1(name, 512, 3 * MIB)


# ---- names, directories, links, deleted files ---------------------------------------------

@recipe
def names(name):
    image = scratch(name)
    mkntfs(image, 3 * MIB, cluster=512, label="N\u00e4mes \U0001f4be")
    odd = ["plain.txt", "with space ", " leading", "trailing dot.", "...", "trailing many...", "new\nline", "tab\there",
           "carriage\rreturn", "back\\slash", 'quote"star*question?', "less<more>pipe|", "colon:in name", "bell\x07", "del\x7f",
           "CON", "nul.txt", "com1", "aux .txt", "Case", "case", "CASE", "cAsE", "\u00e9-nfc", "e\u0301-nfd",
           "\u0130stanbul \u0131", "\u00df and \u1e9e", "\u65e5\u672c\u8a9e", "\u05e9\u05dc\u05d5\u05dd",
           "right\u202eto left\u202c", "zero\u200bwidth", "\ufeffbom", "\U0001f600 pair", "\U0001d54f\U0010ffff",
           "lone \ud800 high", "lone \udc00 low", "\uffff last", "x" * 255, "\u00fc" * 255, "%41 percent", "-rf", "--help",
           "$dollar", "`backtick`", "'quote'", "~", "\u2028line separator", "\u0085next line", "Desktop.ini", "$MFT", "$Extend"]
    expect, refused = {}, []
    with Mounted(image, "streams_interface=none") as m:
        m.mkdir("odd")
        for n, text in enumerate(odd):
            data = b"name %02d\n" % n
            try:
                m.write("odd/" + text, data)
                expect["/odd/" + golden.escape(text)] = data
            except OSError as error:
                refused.append((text, error.strerror))
        deep = ""
        for n in range(60):
            deep += f"/{n:02d}-level"
        m.write(deep.lstrip("/") + "/bottom.txt", b"sixty directories down\n")
        expect[deep + "/bottom.txt"] = b"sixty directories down\n"
        m.mkdir("empty directory")
        m.write("Twins/Readme", b"upper")
        m.write("twins/readme", b"lower, in a directory that differs only in case")
    expect["/Twins/Readme"] = b"upper"
    expect["/twins/readme"] = b"lower, in a directory that differs only in case"
    with Mounted(image) as m:      # streams with odd names, on a directory too
        m.write("Twins/Readme:str\u00e9am \U0001f600", b"one")
        m.write("Twins:on a directory", b"two")
    expect["/Twins/Readme:str\u00e9am \U0001f600"] = b"one"
    expect["/Twins:on a directory"] = b"two"
    if refused:
        print("    refused by ntfs-3g:", refused)
    finish(name, image, expect=expect)


@recipe
def bigdir(name):
    image = scratch(name)
    mkntfs(image, 6 * MIB, cluster=1024, label=name)
    gone = []
    with Mounted(image) as m:
        m.mkdir("big")
        order = list(range(2600))
        random.Random("order").shuffle(order)
        for n in order:
            m.write(f"big/entry number {n:04d} of many.txt", b"")
        for n in range(0, 2600, 10):     # leaves old entries in the slack of index blocks, and free index blocks
            os.unlink(m.at(f"big/entry number {n:04d} of many.txt"))
            gone.append(n)
        for n in range(1300, 1420):
            if n % 10:
                os.unlink(m.at(f"big/entry number {n:04d} of many.txt"))
                gone.append(n)
        number = m.number("big")
    expect = {f"/big/entry number {n:04d} of many.txt": b"" for n in range(2600) if n not in set(gone)}
    with nt.Volume(image) as v:
        rec = v.record(number)
        alloc = rec.find(nt.INDEX_ALLOCATION, "$I30")
        raw = v.read_runs(rec.runs(alloc), 0, alloc.size)
        inner = sum(1 for i in range(0, len(raw), 4096) if raw[i:i + 4] == b"INDX" and raw[i + 36] & 1)
        print(f"    index of {alloc.size // 4096} blocks, {inner} of them inner nodes, bitmap",
              rec.value(rec.find(nt.BITMAP, "$I30")).hex())
        assert inner, "two levels only"
    finish(name, image, expect=expect)


def reparse(tag, data):
    return struct.pack("<IHH", tag, len(data), 0) + data


def third_party(tag, guid, data):
    """Tags without Microsoft's bit carry a GUID that the length does not count."""
    return struct.pack("<IHH", tag, len(data), 0) + guid + data


def mount_point(substitute, shown):
    a, b = substitute.encode("utf-16-le"), shown.encode("utf-16-le")
    return reparse(0xA0000003, struct.pack("<HHHH", 0, len(a), len(a) + 2, len(b)) + a + b"\0\0" + b + b"\0\0")


def symlink(substitute, shown, relative):
    a, b = substitute.encode("utf-16-le"), shown.encode("utf-16-le")
    return reparse(0xA000000C, struct.pack("<HHHHI", len(b), len(a), 0, len(b), relative) + b + a)


def ea_list(*pairs):
    """FILE_FULL_EA_INFORMATION entries."""
    out = b""
    for i, (key, value) in enumerate(pairs):
        body = struct.pack("<BBH", 0, len(key), len(value)) + key + b"\0" + value
        size = (4 + len(body) + 3) & ~3
        out += struct.pack("<I", size) + body + bytes(size - 4 - len(body))
    return out


@recipe
def links(name):
    image = scratch(name)
    mkntfs(image, 3 * MIB, cluster=512, label=name)
    text = prose("linked", 5000)
    with Mounted(image, "streams_interface=windows,special_files=interix") as m:
        for d in ("one", "two", "target dir"):
            m.mkdir(d)
        m.write("one/first name.txt", text)
        m.write("one/first name.txt:stream", b"shared by all names")
        os.link(m.at("one/first name.txt"), m.at("two/second name.txt"))
        os.link(m.at("one/first name.txt"), m.at("one/third name in the same directory.txt"))
        m.write("target dir/inside.txt", b"seen through the links")
        os.symlink("target dir/inside.txt", m.at("interix symlink"))
        os.mkfifo(m.at("interix fifo"))
        os.mknod(m.at("interix device"), 0o600 | 0o020000, os.makedev(1, 3))
        sets = [("junction", True, mount_point("\\??\\C:\\target dir", "C:\\target dir")),
                ("volume mount point", True, mount_point("\\??\\Volume{01234567-89ab-cdef-0123-456789abcdef}\\", "")),
                ("file symlink", False, symlink("target dir\\inside.txt", "target dir\\inside.txt", 1)),
                ("directory symlink", True, symlink("\\??\\C:\\target dir", "C:\\target dir", 0)),
                ("dangling symlink", False, symlink("nowhere", "nowhere", 1)),
                ("wof file", False, reparse(0x80000017, struct.pack("<IIII", 1, 2, 1, 0))),
                ("dedup file", False, reparse(0x80000013, bytes(120))),
                ("cloud file", False, reparse(0x9000001A, stamped("cloud", 200))),
                ("third-party tag", False, third_party(0x00001234, bytes(range(16)), b"payload!"))]
        for path, is_dir, data in sets:
            if is_dir:
                m.mkdir(path)
            else:
                m.write(path, b"")
            os.setxattr(m.at(path), "system.ntfs_reparse_data", data, follow_symlinks=False)
        m.write("with-ea.txt", b"extended attributes")
        os.setxattr(m.at("with-ea.txt"), "system.ntfs_ea", ea_list((b"FIRST", b"value"), (b"SECOND.EA", bytes(range(200)))))
        m.write("with-big-ea.txt", b"extended attributes that do not fit the record")
        os.setxattr(m.at("with-big-ea.txt"), "system.ntfs_ea", ea_list((b"BIG", stamped("ea", 6000))))
        m.write("with-object-id.txt", b"object id")
        os.setxattr(m.at("with-object-id.txt"), "system.ntfs_object_id", bytes(range(16)))
        m.write("with-birth-ids.txt", b"object id and three birth ids")
        os.setxattr(m.at("with-birth-ids.txt"), "system.ntfs_object_id", bytes(range(100, 164)))
        m.mkdir("dir-with-object-id")
        os.setxattr(m.at("dir-with-object-id"), "system.ntfs_object_id", bytes(range(16, 32)))
        births = m.number("with-birth-ids.txt")
    with nt.Volume(image) as v:      # ntfs-3g keeps the birth ids in the index only
        rec = v.record(births)
        rec.replace(rec.find(nt.OBJECT_ID), nt.resident_attr(nt.OBJECT_ID, bytes(range(100, 164))))
        rec.save()
    with Mounted(image, "streams_interface=windows,special_files=wsl") as m:
        os.symlink("target dir/inside.txt", m.at("wsl symlink"))
    expect = {"/one/first name.txt": text, "/two/second name.txt": text, "/one/third name in the same directory.txt": text,
              "/two/second name.txt:stream": b"shared by all names", "/with-ea.txt": b"extended attributes",
              "/with-ea.txt::$EA": ea_list((b"FIRST", b"value"), (b"SECOND.EA", bytes(range(200)))),
              "/with-big-ea.txt::$EA": ea_list((b"BIG", stamped("ea", 6000))),
              "/with-object-id.txt::$OBJECT_ID": bytes(range(16)),
              "/with-birth-ids.txt::$OBJECT_ID": bytes(range(100, 164))}
    expect |= {f"/{path}::$REPARSE_POINT": data for path, _, data in sets}
    finish(name, image, expect=expect, skip={"/interix symlink", "/interix fifo", "/interix device"})


@recipe
def deleted(name):
    """Live files in the golden list; what was deleted, in deleted.gone.tsv, read by The Sleuth Kit."""
    image = scratch(name)
    mkntfs(image, 3 * MIB, cluster=512, label=name)
    gone = {"resident.txt": b"a deleted file that lay in its record", "whole.bin": stamped("whole", 20_000),
            "dir/inner.txt": prose("inner", 3000), "dir/empty.txt": b""}
    live = {"kept.txt": b"still here", "kept.bin": stamped("kept", 9000)}
    with Mounted(image) as m:
        for path, data in (gone | live).items():
            m.write(path, data)
        m.write("whole.bin:stream", b"a deleted stream")
    with nt.Volume(image) as v:
        mask = nt.masked(v, lambda lcn: lcn % 4 == 0)
    with Mounted(image) as m:
        gone["fragmented.bin"] = stamped("fragmented", 10_000)
        m.write("fragmented.bin", gone["fragmented.bin"], 512)
    with nt.Volume(image) as v:
        nt.unmask(v, mask)
    with Mounted(image) as m:
        numbers = {path: m.number(path) for path in [*gone, "dir"]}
        for path in gone:
            os.unlink(m.at(path))
        os.rmdir(m.at("dir"))
    lines = ["path\tsize\tsha256\tflags\n"]
    for path, number in sorted(numbers.items()):
        with nt.Volume(image) as v:
            rec = v.record(number)
            assert not rec.in_use
        data = b"" if path == "dir" else subprocess.run(["icat", "-f", "ntfs", image, str(number)], stdout=subprocess.PIPE).stdout
        ok = path != "dir" and data == gone[path]
        print(f"    deleted {path}: record {number}, {'content recoverable' if ok else 'content not recoverable: ' + str(len(data))}")
        lines.append(f"/{path}\t{len(data) if ok else '-'}\t{hashlib.sha256(data).hexdigest() if ok else '-'}\t"
                     f"mft={number},deleted{',dir' if path == 'dir' else ''}\n")
    with open(os.path.join(OUT, "deleted.gone.tsv"), "w") as fh:
        fh.writelines(lines)
    found = finish(name, image, expect={"/" + p: d for p, d in live.items()})
    assert not set(found) & {"/" + p for p in gone}


# ---- encrypted -----------------------------------------------------------------------

@recipe
def efs(name):
    """Ciphertext is noise here; nothing holds a key.  Sizes, flags and padding are as a restore of EFS data makes them."""
    image = scratch(name)
    mkntfs(image, 3 * MIB, cluster=1024, label=name)
    info = struct.pack("<IIIII", 0x300, 0, 2, 0, 0) + noise("efs key", 16) + stamped("user keys", 300)
    info = struct.pack("<I", len(info)) + info[4:]
    sizes = {"secret.txt": 700, "secret.bin": 20_000, "exact.bin": 4096, "vault/inner.bin": 3000}
    raw = {}
    with Mounted(image, "streams_interface=windows,efs_raw") as m:
        for path, size in sizes.items():
            padded = -(-size // 512) * 512
            raw[path] = noise(path, 512) * (padded // 512)
            m.write(path, raw[path] + struct.pack("<H", padded - size))
            os.setxattr(m.at(path), "system.ntfs_efsinfo", info)
        m.write("plain.txt", b"not encrypted")
        m.mkdir("vault")
        numbers = {p: m.number(p) for p in sizes}
        directory = m.number("vault")
    with nt.Volume(image) as v:       # a directory that is marked, so that new files are encrypted
        rec = v.record(directory)
        std = rec.find(nt.STANDARD_INFORMATION)
        flags, = struct.unpack_from("<I", rec.data, std.value_off + 32)
        struct.pack_into("<I", rec.data, std.value_off + 32, flags | 0x4000)
        rec.insert(nt.resident_attr(nt.LOGGED_UTILITY_STREAM, info, "$EFS"))
        rec.save()
        for path, number in numbers.items():
            rec = v.record(number)
            for attr in rec.attrs():
                if attr.type in (nt.DATA, nt.LOGGED_UTILITY_STREAM):
                    print("   ", path, hex(attr.type), attr.name, hex(attr.flags), "resident" if attr.resident else
                          (attr.allocated, attr.size, attr.valid, rec.runs(attr)))
    expect = {f"/{p}": raw[p][:size] for p, size in sizes.items()}
    expect |= {f"/{p}:$EFS:$LOGGED_UTILITY_STREAM": info for p in (*sizes, "vault")}
    found = finish(name, image, expect=expect)
    for path in sizes:
        need(found, "/" + path, "encrypted")


# ---- dirty, hibernated, page files, shadow storage -------------------------------------------

SHADOW = "3808876b-c176-4e48-b7ae-04046e6cc752"


def skip_volume(image, label, hiber):
    mkntfs(image, 5 * MIB, cluster=1024, label=label)
    shadow = f"System Volume Information/{{aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee}}{{{SHADOW}}}"
    files = {"hiberfil.sys": hiber, "pagefile.sys": stamped("page", 300_000), "swapfile.sys": stamped("swap", 60_000),
             "System Volume Information/tracking.log": prose("tracking", 2000),
             f"System Volume Information/{{{SHADOW}}}": stamped("catalog", 4000), shadow: stamped("shadow", 200_000),
             "Windows/explorer.txt": prose("explorer", 9000),
             "data/pagefile.sys": b"not at the root: an ordinary file", "data/hiberfil.sys": stamped("ordinary", 2000)}
    with Mounted(image) as m:
        for path, data in files.items():
            m.write(path, data)
        for path in ("pagefile.sys", "swapfile.sys", "hiberfil.sys", "System Volume Information"):
            m.attribs(path, 0x6 | (0x10 if " " in path else 0x20))
    return {"/" + p: d for p, d in files.items()}


def set_dirty(image):
    with nt.Volume(image) as v:
        rec = v.record(3)
        attr = rec.find(nt.VOLUME_INFORMATION)
        flags, = struct.unpack_from("<H", rec.data, attr.value_off + 10)
        struct.pack_into("<H", rec.data, attr.value_off + 10, flags | 1)
        rec.save()


@recipe
def dirty_hibernated(name):
    image = scratch(name)
    expect = skip_volume(image, name, b"hibr".ljust(4096, b"\0") + stamped("memory image", 400_000))
    set_dirty(image)
    finish(name, image, expect=expect)


@recipe
def hibernation_wiped(name):
    """Clean, and hiberfil.sys has lost its header page: Windows resumed or gave up, the rest is stale."""
    image = scratch(name)
    expect = skip_volume(image, name, bytes(4096) + stamped("memory image", 400_000))
    finish(name, image, expect=expect)
