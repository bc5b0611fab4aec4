"""How data lies on the volume: holes, valid length, attribute lists, record and cluster sizes, very many clusters."""
import os
import struct

import make_testdata_ntfs as nt
from make_testdata_tools import (
    KIB, MIB, Mounted, OUT, finish, mkntfs, need, noise, pack_sparse, prose, recipe, scratch, stamped,
    whole)


# ---- holes ---------------------------------------------------------------

@recipe
def sparse(name):
    image = scratch(name)
    mkntfs(image, 4 * MIB, cluster=1024, label=name)
    k = KIB
    shapes = {   # path: size, pieces in the order they are written
        "hole-begin.bin": (100 * k, [(60 * k, stamped("begin", 40 * k))]),
        "hole-middle.bin": (120 * k, [(0, stamped("m0", 20 * k)), (100 * k, stamped("m1", 20 * k))]),
        "hole-end.bin": (200 * k + 3, [(0, stamped("end", 10 * k))]),
        "all-hole.bin": (300 * k + 1, []),
        "many-holes.bin": (640 * k, [(n * 20 * k, stamped(f"n{n}", 3 * k)) for n in range(32)]),
        # written from the end to the beginning: runs jump down and up
        "backwards.bin": (400 * k, [(n * 100 * k + 50 * k, stamped(f"b{n}", 5 * k)) for n in (3, 2, 1, 0)]),
    }
    with Mounted(image) as m:
        for path, (size, pieces) in shapes.items():
            m.pieces(path, size, *pieces)
        m.pieces("all-hole.bin:named", 100 * k, (50 * k, stamped("named", 2 * k)))
        backwards = m.number("backwards.bin")
        # run - hole - run at a lower LCN, written here with the editor so that it does not hang on an allocator
        m.write("run-hole-lower-run.bin", stamped("down", 48 * k))
        down = m.number("run-hole-lower-run.bin")
    expect = {"/" + p: whole(s, *d) for p, (s, d) in shapes.items()}
    expect["/all-hole.bin:named"] = whole(100 * k, (50 * k, stamped("named", 2 * k)))
    with nt.Volume(image) as v:
        rec = v.record(down)
        attr = rec.find(nt.DATA)
        (lcn, count), = rec.runs(attr)
        assert count == 48
        # second half first, then a hole, then the first half
        runs = [(lcn + 24, 24), (None, 300), (lcn, 24)]
        raw = nt.nonresident_attr(nt.DATA, runs, v.cluster, 348 * k - 10, flags=0x8000)
        rec.replace(attr, raw)
        std = rec.find(nt.STANDARD_INFORMATION)
        struct.pack_into("<I", rec.data, std.value_off + 32, 0x220)
        rec.save()
        text = stamped("down", 48 * k)
        expect["/run-hole-lower-run.bin"] = (text[24 * k:] + bytes(300 * k) + text[:24 * k])[:-10]
        rec = v.record(backwards)
        lcns = [lcn for lcn, _ in rec.runs(rec.find(nt.DATA)) if lcn is not None]
        print("    backwards.bin at", lcns)
    found = finish(name, image, expect=expect)
    for path in expect:
        need(found, path, "sparse")


# ---- valid data length -----------------------------------------------------------

@recipe
def vdl(name):
    image = scratch(name)
    mkntfs(image, 3 * MIB, cluster=1024, label=name)
    cases = {"vdl-3000-of-20000.bin": (20_000, 3000), "vdl-0.bin": (10_000, 0), "vdl-cluster.bin": (9000, 4096),
             "vdl-odd-end.bin": (5001, 4999), "fragmented.bin": (30_000, 11_111), "host.txt:stream": (8000, 1)}
    with Mounted(image) as m:
        m.write("host.txt", b"the stream is what counts")
        for path, (size, _) in cases.items():
            if path != "fragmented.bin":
                m.write(path, stamped("STALE " + path, size))
    with nt.Volume(image) as v:
        free = v.free_span(200)
        mask = nt.masked(v, lambda lcn: lcn >= free and lcn % 7 < 4)
    with Mounted(image) as m:
        m.write("fragmented.bin", stamped("STALE fragmented.bin", 30_000))
        m.write("full.bin", stamped("full", 30_000))
        numbers = {p: m.number(p) for p in cases if ":" not in p} | {"host.txt:stream": m.number("host.txt")}
    expect = {}
    with nt.Volume(image) as v:
        nt.unmask(v, mask)
        for path, (size, valid) in cases.items():
            rec = v.record(numbers[path])
            attr = rec.find(nt.DATA, path.partition(":")[2])
            rec.set_sizes(attr, valid=valid)
            rec.save()
            expect["/" + path] = stamped("STALE " + path, size)[:valid].ljust(size, b"\0")
            # the slack of the last cluster is stale too
            lcn, count = rec.runs(attr)[-1]
            at = (lcn + count) * v.cluster
            slack = attr.allocated - size
            v.map[at - slack:at] = b"\xee" * slack
    found = finish(name, image, expect=expect)
    for path in expect:
        need(found, path, "vdl=")
    need(found, "/fragmented.bin", "runs=")


# ---- attribute lists ---------------------------------------------------------------

@recipe
def attrlist(name):
    image = scratch(name)
    mkntfs(image, 12 * MIB, cluster=512, label=name)
    some, many = stamped("some", 150 * KIB), stamped("many", 2600 * KIB)
    with Mounted(image) as m:
        m.mkdir("dir")      # so that no index has to grow while the volume is a chequerboard
        for path in ("dir/a", "dir/b", "dir/c"):
            m.write(path, b"")
    with nt.Volume(image) as v:
        mask = nt.masked(v, lambda lcn: lcn % 2 == 0)
    with Mounted(image) as m:
        # one cluster at a time: the driver finds one free run per zone for a request, and then gives up
        m.write("dir/c", stamped("few", 6000), 512)
        m.write("dir/a", some, 512)      # a handful of extension records
        m.write("dir/a:stream", stamped("stream", 20 * KIB), 512)
    with Mounted(image) as m:
        m.write("dir/b", many, 512)      # so many that the list itself moves out of the record
        number = m.number("dir/a"), m.number("dir/b")
    with nt.Volume(image) as v:
        nt.unmask(v, mask)
        for n in number:
            rec = v.record(n)
            al = rec.find(nt.ATTRIBUTE_LIST)
            entries = [e for e in v.attr_list(rec, al) if e["type"] == nt.DATA]
            print("    record", n, "attribute list", "resident" if al.resident else "non-resident", al.size, "bytes;",
                  [(e["name"], e["lowest"], e["ref"] & 0xFFFFFFFF) for e in entries][:4], f"... {len(entries)} pieces")
            assert not al.resident
            assert entries[0]["ref"] & 0xFFFFFFFF == n, "the first piece has left the base record"
    with Mounted(image) as m:      # hard links: $FILE_NAME attributes in extension records
        m.write("links/name 000 of a file with very many hard links, so long that they do not fit.txt", some[:3000])
        for n in range(1, 60):
            os.link(m.at("links/name 000 of a file with very many hard links, so long that they do not fit.txt"),
                    m.at(f"links/name {n:03d} of a file with very many hard links, so long that they do not fit.txt"))
        m.write("dir/resident-list.bin", stamped("resident list", 4000))
        m.write("spare", b"")
        number, spare = m.number("dir/resident-list.bin"), m.number("spare")
        os.unlink(m.at("spare"))
    with nt.Volume(image) as v:
        resident_list(v, v.record(number), v.record(spare))
    found = finish(name, image, expect={"/dir/a": some, "/dir/b": many, "/dir/c": stamped("few", 6000),
                                        "/dir/a:stream": stamped("stream", 20 * KIB),
                                        "/dir/resident-list.bin": stamped("resident list", 4000)})
    need(found, "/dir/resident-list.bin", "attrlist", "runs=2")
    need(found, "/dir/a", "attrlist", "runs=")
    need(found, "/dir/b", "attrlist", "runs=")


def resident_list(v, rec, ext):
    """Moves the second half of the $DATA of rec to ext, a record that is not in use, under a resident list.

    ntfs-3g moves every list out of the record, so this is the editor's.
    """
    data = rec.find(nt.DATA)
    (lcn, count), = rec.runs(data)
    head = count // 2
    first = struct.unpack_from("<H", ext.data, 0x14)[0]
    struct.pack_into("<HH", ext.data, 0x12, 0, first)
    struct.pack_into("<H", ext.data, 0x16, 1)
    struct.pack_into("<IIQH", ext.data, 0x18, first + 8, len(ext.data), rec.ref, 0)
    ext.data[first:] = struct.pack("<II", nt.END, 0).ljust(len(ext.data) - first, b"\0")
    piece = bytearray(nt.nonresident_attr(nt.DATA, [(lcn + head, count - head)], v.cluster, 0))
    struct.pack_into("<QQ", piece, 16, head, count - 1)
    struct.pack_into("<QQQ", piece, 40, 0, 0, 0)
    ext.insert(piece)
    ext.save()
    rec.set_runs(data, [(lcn, head)])
    entries = b""
    instance = struct.unpack_from("<H", rec.data, 0x28)[0]
    for attr in rec.attrs():
        entries += struct.pack("<IHBBQQH6x", attr.type, 32, 0, 26, 0, rec.ref, attr.instance)
    entries += struct.pack("<IHBBQQH6x", nt.DATA, 32, 0, 26, head, ext.ref, 0)
    rec.insert(nt.resident_attr(nt.ATTRIBUTE_LIST, entries))
    assert rec.find(nt.ATTRIBUTE_LIST).instance == instance
    rec.save()
    bits = v.record(0)
    bitmap = bits.find(nt.BITMAP)
    at, _ = v.spans(bits.runs(bitmap), ext.number // 8, 1)[0]
    v.map[at] |= 1 << ext.number % 8


# ---- $MFT with an attribute list --------------------------------------------------------

@recipe
def mft_attrlist(name):
    image = scratch(name)
    mkntfs(image, 12 * MIB, cluster=512, label=name)
    with nt.Volume(image) as v:
        mask = nt.masked(v, lambda lcn: lcn % 5 < 3)      # three clusters each: every other record lies in two places
    expect = {}
    with Mounted(image) as m:
        m.mkdir("d")
    n = last = 0
    while n < 1200:
        with Mounted(image) as m:
            try:
                while n < 1200:
                    path = f"d/f{n:04d}.txt"
                    data = b"file %04d\n" % n * (1 + n % 5)
                    if n % 50 == 7:
                        data = stamped(path, 2000)
                    m.write(path, data)
                    expect["/" + path] = data
                    n += 1
            except OSError:     # the driver gave up too early; it starts elsewhere after a mount
                if n == last:
                    raise
                last = n
    with nt.Volume(image) as v:
        nt.unmask(v, mask)
        rec = v.record(0)
        al = rec.find(nt.ATTRIBUTE_LIST)
        entries = v.attr_list(rec, al)
        print("    $MFT:", len(v.mft_runs), "runs, list", "resident" if al.resident else "non-resident",
              [(hex(e["type"]), e["lowest"], e["ref"] & 0xFFFFFFFF) for e in entries])
    found = finish(name, image, expect=expect)
    need(found, "/$MFT", "attrlist", "runs=")


# ---- 4 KiB file records ----------------------------------------------------------------

def rec4k_files(image):
    files = {"resident-3000.txt": prose("resident", 3000),        # does not fit a 1 KiB record, fits this one
             "big.bin": stamped("big", 200_000), "a/b/c.txt": b"c\n",
             "resident-3000.txt:stream": prose("stream", 500), "odd.bin": noise("odd", 4097)}
    files |= {f"many/file number {n:03d}.txt": b"%03d" % n * n for n in range(120)}
    with Mounted(image) as m:
        for path, data in files.items():
            m.write(path, data)
    return {"/" + p: d for p, d in files.items()}


@recipe
def rec4k_sector4096(name):
    image = scratch(name)
    mkntfs(image, 4 * MIB, cluster=4096, sector=4096, label=name)
    expect = rec4k_files(image)
    found = finish(name, image, expect=expect)
    need(found, "/resident-3000.txt", "resident")


@recipe
def rec4k_sector512(name):
    """mkntfs makes 4 KiB records for 4096-byte sectors only: the boot sector is rewritten for 512."""
    image = scratch(name)
    mkntfs(image, 4 * MIB, cluster=4096, sector=4096, label=name)
    with open(image, "r+b") as fh:
        boot = bytearray(fh.read(512))
        size, per = struct.unpack_from("<HB", boot, 11)
        sectors, = struct.unpack_from("<Q", boot, 40)
        assert (size, per) == (4096, 1)
        struct.pack_into("<HB", boot, 11, 512, 8)
        struct.pack_into("<Q", boot, 40, sectors * 8 + 7)      # all but the last sector, which is the copy
        fh.seek(0)
        fh.write(boot)
        fh.seek(sectors * 4096)
        fh.write(bytes(4096 - 512) + boot)
    expect = rec4k_files(image)
    found = finish(name, image, expect=expect)
    need(found, "/resident-3000.txt", "resident")


# ---- cluster sizes ---------------------------------------------------------------------

def clusters(name, size):
    image = scratch(name)
    mkntfs(image, max(8 * MIB, size * 40), cluster=size, label=name)
    files = {"small.txt": b"resident", "one-byte-more.bin": stamped("one", size + 1, 16 * KIB),
             "nearly-a-cluster.bin": stamped("nearly", size - 1, 16 * KIB), "kept.txt": prose("kept", 2000),
             "kept.txt:stream": stamped("stream", 3000), "dir/three.bin": stamped("three", 3 * size, 64 * KIB)}
    files |= {f"dir/entry {n:02d}": b"" for n in range(40)}        # index blocks, smaller than a cluster
    holes = size <= 64 * KIB
    with Mounted(image) as m:
        for path, data in files.items():
            m.write(path, data)
        if holes:
            m.pieces("hole.bin", 5 * size, (4 * size, stamped("hole", size, 16 * KIB)))
            files["hole.bin"] = whole(5 * size, (4 * size, stamped("hole", size, 16 * KIB)))
    with open(image, "r+b") as fh:
        fh.seek(13)
        print("    sectors-per-cluster byte", hex(fh.read(1)[0]))
    finish(name, image, expect={"/" + p: d for p, d in files.items()})


@recipe
def cluster_16k(name):
    clusters(name, 16 * KIB)


@recipe
def cluster_64k(name):
    clusters(name, 64 * KIB)


@recipe
def cluster_256k(name):
    clusters(name, 256 * KIB)


@recipe
def cluster_1024k(name):
    clusters(name, 1024 * KIB)


@recipe
def cluster_2048k(name):
    clusters(name, 2048 * KIB)


# ---- more than 2^32 clusters --------------------------------------------------------------

@recipe
def huge(name):
    """mkntfs stops at 2^32 clusters: made just below, then grown with the editor."""
    image = scratch(name)
    limit = 1 << 32
    old, new = limit - 4096, limit + 65536                 # clusters, of 512 bytes
    mkntfs(image, (old + 1) * 512, cluster=512, label=name)
    files = {"low.txt": prose("low", 3000), "high.bin": stamped("high", 6000), "across.bin": stamped("across", 16 * 512),
             "zigzag.bin": stamped("zigzag", 8 * 512 - 100)}
    with Mounted(image) as m:
        m.write("placeholder", b"")
        for path, data in files.items():
            m.write(path, data)
        numbers = {p: m.number(p) for p in files}
    # grow: boot sector and its copy, $Bitmap, $BadClus
    with open(image, "r+b") as fh:
        boot = bytearray(fh.read(512))
        assert struct.unpack_from("<Q", boot, 40)[0] == old
        struct.pack_into("<Q", boot, 40, new)
        fh.seek(old * 512)
        fh.write(bytes(512))
        fh.seek(0)
        fh.write(boot)
        fh.truncate((new + 1) * 512)
        fh.seek(new * 512)
        fh.write(boot)
    with nt.Volume(image) as v:
        rec = v.record(6)
        attr = rec.find(nt.DATA)
        runs = rec.runs(attr)
        for n in range(old, attr.size * 8):                 # what lay behind the end was marked used
            v.mark(n, used=False)
        need_bytes = (new + 63) // 64 * 8
        have = sum(n for _, n in runs)
        more = -(-need_bytes // 512) - have
        at = runs[-1][0] + runs[-1][1] + 5000                # a place of its own: a second run
        assert not any(v.bit(at + i) for i in range(more))
        v.mark(at, more)
        rec.set_runs(attr, [*runs, (at, more)])
        attr = rec.find(nt.DATA)
        rec.set_sizes(attr, (have + more) * 512, need_bytes, need_bytes)
        rec.save()
        for n in range(new, need_bytes * 8):
            v.mark(n)
        rec = v.record(8)
        attr = rec.find(nt.DATA, "$Bad")
        rec.set_runs(attr, [(None, new)])
        rec.set_sizes(rec.find(nt.DATA, "$Bad"), new * 512, new * 512)
        rec.save()
        # files above and across cluster 2^32, and one that jumps to and fro: deltas of five bytes, both signs
        moves = {"high.bin": [(limit + 12_345, 12)], "across.bin": [(limit - 8, 16)],
                 "zigzag.bin": [(limit + 50_000, 2), (at + 1000, 2), (limit + 40_000, 2), (limit - 3000, 2)]}
        for path, goal in moves.items():
            rec = v.record(numbers[path])
            attr = rec.find(nt.DATA)
            source = rec.runs(attr)
            data = v.read_runs(source, 0, attr.allocated)
            for lcn, count in source:
                v.mark(lcn, count, used=False)
                v.map[lcn * 512:(lcn + count) * 512] = bytes(count * 512)
            for lcn, count in goal:
                assert not any(v.bit(lcn + i) for i in range(count))
                v.mark(lcn, count)
            v.write_runs(goal, 0, data)
            rec.set_runs(attr, goal)
            rec.save()
    found = finish(name, image, expect={"/" + p: d for p, d in files.items()}, store=False)
    need(found, "/zigzag.bin", "runs=4")
    pieces = pack_sparse(image, "huge.sparse.zst")
    print(f"    {os.path.getsize(image)} bytes, {pieces} pieces,",
          os.path.getsize(os.path.join(OUT, "huge.sparse.zst")), "bytes compressed")
    os.unlink(image)
