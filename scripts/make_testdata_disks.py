"""Disks with partitions: MBR, GPT, 4096-byte sectors, and the demonstration disk."""
import os
import struct

from make_testdata_tools import (
    MIB, Mounted, finish, mkntfs, need, noise, prose, recipe, run, scratch, stamped, whole)


# ---- the demonstration disk -----------------------------------------------

@recipe
def quick(name):
    disk, part = scratch(name), scratch("quick.part")
    start, sectors = 2048, 22 * MIB // 512
    mkntfs(part, sectors * 512, label="Demo", start=start)
    letter = prose("letter", 6000)
    table = b"day,files,bytes\n" + b"".join(b"2024-%02d-%02d,%d,%d\n" % (m, d, 37 * d + m, 4099 * d * m)
                                            for m in range(1, 13) for d in range(1, 29))
    logs = prose("log", 180_000)
    bmp = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54 + 128 * 128 * 3, 0, 0, 54, 40, 128, 128, 1, 24, 0,
                      128 * 128 * 3, 2835, 2835, 0, 0) + bytes(
        v for y in range(128) for x in range(128) for v in (255 - y // 8 * 8, x // 8 * 16, 64))
    sparse = [(0, prose("boot area", 4096)), (3 * MIB, noise("guest", 4096)), (8 * MIB - 512, b"end of disk".ljust(512))]
    expect = {
        "p1:/Welcome.txt": b"This is a small NTFS volume to try things on.\r\n",
        "p1:/Documents/Letter.txt": letter,
        "p1:/Documents/Letter copy (hard link).txt": letter,
        "p1:/Documents/Letter.txt:Zone.Identifier": b"[ZoneTransfer]\r\nZoneId=3\r\n",
        "p1:/Documents/Table.csv": table,
        "p1:/Logs/service.log": logs,
        "p1:/Pictures/gradient.bmp": bmp,
        "p1:/Virtual machines/disk.raw": whole(8 * MIB, *sparse),
    }
    # the second name shows the streams too
    expect["p1:/Documents/Letter copy (hard link).txt:Zone.Identifier"] = expect["p1:/Documents/Letter.txt:Zone.Identifier"]
    with Mounted(part, "streams_interface=windows,compression") as m:
        m.write("deleted.tmp", stamped("deleted", 300_000))
        m.mkdir("Logs")
        m.attribs("Logs", 0x810)
        for path in ("Welcome.txt", "Documents/Letter.txt", "Documents/Letter.txt:Zone.Identifier",
                     "Documents/Table.csv", "Logs/service.log", "Pictures/gradient.bmp"):
            m.write(path, expect["p1:/" + path])
        m.pieces("Virtual machines/disk.raw", 8 * MIB, *sparse)
        os.link(m.at("Documents/Letter.txt"), m.at("Documents/Letter copy (hard link).txt"))
        os.unlink(m.at("deleted.tmp"))
    with open(disk, "wb") as fh:
        fh.truncate(24 * MIB)
    run("sgdisk", "-o", "-U", "11111111-2222-3333-4444-555555555555", "-n", f"1:{start}:{start + sectors - 1}",
        "-t", "1:0700", "-c", "1:Basic data partition", "-u", "1:66666666-7777-8888-9999-aaaaaaaaaaaa", disk)
    place(disk, part, start * 512)
    found = finish(name, disk, [(1, start * 512, sectors * 512)], expect, plain=True)
    need(found, "p1:/Logs/service.log", "compressed")
    need(found, "p1:/Virtual machines/disk.raw", "sparse")


def place(disk, part, offset):
    with open(part, "rb") as src, open(disk, "r+b") as dst:
        pos = 0
        while block := src.read(1 << 16):
            if block.count(0) != len(block):
                dst.seek(offset + pos)
                dst.write(block)
            pos += len(block)


# ---- disks ------------------------------------------------------------------

def plain_volume(image, size, tag, prefix, **kw):
    """A volume with a few files; what was written, keyed by golden path."""
    mkntfs(image, size, label=tag, **kw)
    files = {"hello.txt": f"hello from {tag}\n".encode(), f"{tag}/big.txt": prose(tag, 50_000),
             f"{tag}/noise.bin": noise(tag, 3000), f"{tag}/big.txt:note": b"a stream"}
    with Mounted(image) as m:
        for path, data in files.items():
            m.write(path, data)
    return {prefix + "/" + path: data for path, data in files.items()}


@recipe
def disk_mbr(name):
    disk = scratch(name)
    with open(disk, "wb") as fh:
        fh.truncate(16 * MIB)
    table = "\n".join(["label: dos", "label-id: 0x4e544241", "unit: sectors",
                       "1 : start=63, size=8000, type=7, bootable",       # not aligned, as XP did
                       "2 : start=8192, size=8192, type=6",               # FAT
                       "3 : start=16384, size=16321, type=5",             # extended, to the last but few sectors
                       "5 : start=16447, size=8001, type=7",              # NTFS, logical
                       "6 : start=24576, size=4096, type=da"]) + "\n"     # unknown data
    run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", disk, input=table.encode())
    one, two, five = scratch("p1"), scratch("p2"), scratch("p5")
    expect = plain_volume(one, 8000 * 512, "first", "p1:", start=63, cluster=1024)
    expect |= plain_volume(five, 8001 * 512, "fifth", "p5:", start=63, cluster=512)
    with open(two, "wb") as fh:
        fh.truncate(8192 * 512)
    run("mkfs.fat", "-F", "12", "-i", "0badcafe", "-n", "FATPART", two, frozen=True)
    place(disk, one, 63 * 512)
    place(disk, two, 8192 * 512)
    place(disk, five, 16447 * 512)
    with open(disk, "r+b") as fh:
        fh.write(b"\xfa\x33\xc0" + stamped("boot code", 437, 64))      # the first 440 bytes
        for lba, text in ((1, b"loader stage two in sector 1 "), (62, b"last sector of the gap "),
                          (8063 + 60, b"gap between partitions 1 and 2 "), (28672, b"unpartitioned inside the extended "),
                          (32767, b"last sector of the disk ")):
            fh.seek(lba * 512)
            fh.write((text * 32)[:512])
        fh.seek(24576 * 512)
        fh.write(stamped("raw partition 6", 4096 * 512))
    finish(name, disk, [(1, 63 * 512, 8000 * 512), (5, 16447 * 512, 8001 * 512)], expect)


@recipe
def disk_gpt(name):
    disk = scratch(name)
    with open(disk, "wb") as fh:
        fh.truncate(12 * MIB)
    # number 4 lies before number 2 on the disk, and there is no number 3
    run("sgdisk", "-a", "8", "-o", "-U", "00112233-4455-6677-8899-aabbccddeeff",
        "-n", "1:2048:8191", "-t", "1:0700", "-c", "1:first NTFS", "-u", "1:01010101-0101-0101-0101-010101010101",
        "-n", "2:18432:20479", "-t", "2:8300", "-c", "2:raw \u00e4\u00f6\u00fc data", "-u", "2:02020202-0202-0202-0202-020202020202",
        "-n", "4:10240:16383", "-t", "4:0700", "-c", "4:second NTFS", "-u", "4:04040404-0404-0404-0404-040404040404",
        "-A", "4:set:60", disk)
    one, four = scratch("p1"), scratch("p4")
    expect = plain_volume(one, 6144 * 512, "alpha", "p1:", start=2048, cluster=2048)
    expect |= plain_volume(four, 6144 * 512, "beta", "p4:", start=10240, cluster=4096)
    place(disk, one, 2048 * 512)
    place(disk, four, 10240 * 512)
    with open(disk, "r+b") as fh:
        fh.seek(18432 * 512)
        fh.write(stamped("raw partition 2", 2048 * 512))
        fh.seek(9000 * 512)
        fh.write(stamped("data in the gap between partitions 1 and 4", 512))
        fh.seek(40 * 512)
        fh.write(stamped("data between the partition entries and partition 1", 512))
    finish(name, disk, [(1, 2048 * 512, 6144 * 512), (4, 10240 * 512, 6144 * 512)], expect)


@recipe
def disk_gpt_4kn(name):
    disk = scratch(name)
    with open(disk, "wb") as fh:
        fh.truncate(8 * MIB)
    loop = run("losetup", "-f", "--show", "-b", "4096", disk).stdout.decode().strip()
    try:
        run("sgdisk", "-a", "1", "-o", "-U", "4096aaaa-4455-6677-8899-aabbccddeeff",
            "-n", "1:256:1279", "-t", "1:0700", "-c", "1:4Kn NTFS", "-u", "1:11010101-0101-0101-0101-010101010101",
            "-n", "2:1280:1535", "-t", "2:8300", "-c", "2:raw", "-u", "2:12020202-0202-0202-0202-020202020202", loop)
    finally:
        run("sync")
        run("losetup", "-d", loop)
    one = scratch("p1")
    expect = plain_volume(one, 4 * MIB, "native", "p1:", start=256, cluster=4096, sector=4096)
    place(disk, one, 256 * 4096)
    with open(disk, "r+b") as fh:
        fh.seek(1280 * 4096)
        fh.write(stamped("raw partition of a 4Kn disk", 256 * 4096, 4096))
    finish(name, disk, [(1, 256 * 4096, 4 * MIB)], expect)
