"""A small NTFS editor for making test data: changes what ntfs-3g cannot write.

It is deliberately plain and checks almost nothing: it only ever sees volumes
that mkntfs and ntfs-3g have just made.
"""
import mmap
import struct

STANDARD_INFORMATION, ATTRIBUTE_LIST, FILE_NAME, OBJECT_ID = 0x10, 0x20, 0x30, 0x40
VOLUME_INFORMATION, DATA, INDEX_ROOT, INDEX_ALLOCATION, BITMAP = 0x70, 0x80, 0x90, 0xA0, 0xB0
REPARSE_POINT, EA_INFORMATION, EA, LOGGED_UTILITY_STREAM = 0xC0, 0xD0, 0xE0, 0x100
END = 0xFFFFFFFF
STRIDE = 512   # update sequence numbers protect 512 bytes each, whatever the sector size


def unfix(raw):
    """The record or index block with its update sequence numbers taken out."""
    raw = bytearray(raw)
    off, count = struct.unpack_from("<HH", raw, 4)
    for i in range(1, count):
        end = i * STRIDE
        assert raw[end - 2:end] == raw[off:off + 2], "torn record"
        raw[end - 2:end] = raw[off + 2 * i:off + 2 * i + 2]
    return raw


def refix(plain):
    """The reverse of unfix, with the next update sequence number."""
    raw = bytearray(plain)
    off, count = struct.unpack_from("<HH", raw, 4)
    usn = struct.unpack_from("<H", raw, off)[0] + 1
    if usn > 0xFFFE:
        usn = 1
    struct.pack_into("<H", raw, off, usn)
    for i in range(1, count):
        end = i * STRIDE
        raw[off + 2 * i:off + 2 * i + 2] = raw[end - 2:end]
        raw[end - 2:end] = raw[off:off + 2]
    return raw


def decode_runs(raw):
    """[(lcn or None, clusters)] of mapping pairs."""
    runs, lcn, i = [], 0, 0
    while raw[i]:
        size_len, size_off = raw[i] & 15, raw[i] >> 4
        i += 1
        length = int.from_bytes(raw[i:i + size_len], "little", signed=True)
        i += size_len
        if size_off:
            lcn += int.from_bytes(raw[i:i + size_off], "little", signed=True)
            i += size_off
            runs.append((lcn, length))
        else:
            runs.append((None, length))
    return runs


def signed(value):
    """The fewest little-endian two's complement bytes that hold value."""
    n = 1
    while not -(1 << 8 * n - 1) <= value < 1 << 8 * n - 1:
        n += 1
    return value.to_bytes(n, "little", signed=True)


def encode_runs(runs):
    out, last = bytearray(), 0
    for lcn, length in runs:
        size = signed(length)
        if lcn is None:
            out += bytes([len(size)]) + size
        else:
            delta = signed(lcn - last)
            last = lcn
            out += bytes([len(size) | len(delta) << 4]) + size + delta
    return bytes(out) + b"\0"


class Attr:
    """Where an attribute stands in a record, and its header fields."""

    def __init__(self, data, off):
        self.off = off
        self.type, self.length = struct.unpack_from("<II", data, off)
        self.resident = not data[off + 8]
        count, name_off = struct.unpack_from("<xBH", data, off + 8)
        self.flags, self.instance = struct.unpack_from("<HH", data, off + 12)
        self.name = bytes(data[off + name_off:off + name_off + 2 * count]).decode("utf-16-le")
        if self.resident:
            size, value_off = struct.unpack_from("<IH", data, off + 16)
            self.value_off, self.size = off + value_off, size
        else:
            (self.lowest, self.highest, self.pairs_off, self.unit) = struct.unpack_from("<QQHB", data, off + 16)
            self.allocated, self.size, self.valid = struct.unpack_from("<QQQ", data, off + 40)


class Record:
    def __init__(self, volume, number, data):
        self.volume, self.number, self.data = volume, number, data

    @property
    def in_use(self):
        return bool(struct.unpack_from("<H", self.data, 0x16)[0] & 1)

    @property
    def sequence(self):
        return struct.unpack_from("<H", self.data, 0x10)[0]

    @property
    def ref(self):
        return self.number | self.sequence << 48

    def attrs(self):
        off = struct.unpack_from("<H", self.data, 0x14)[0]
        out = []
        while struct.unpack_from("<I", self.data, off)[0] != END:
            attr = Attr(self.data, off)
            out.append(attr)
            off += attr.length
        return out

    def find(self, code, name="", after=0):
        for attr in self.attrs():
            if attr.type == code and attr.name == name and attr.off >= after:
                return attr
        raise KeyError(f"record {self.number}: no attribute {code:#x} {name!r}")

    def value(self, attr):
        return bytes(self.data[attr.value_off:attr.value_off + attr.size])

    def runs(self, attr):
        return decode_runs(self.data[attr.off + attr.pairs_off:attr.off + attr.length])

    def replace(self, attr, raw):
        """Puts raw (a whole attribute, length a multiple of 8) where attr was, under its instance number."""
        if attr.type != END and raw:
            raw = raw[:14] + struct.pack("<H", attr.instance) + raw[16:]
        used = struct.unpack_from("<I", self.data, 0x18)[0]
        end = attr.off + (attr.length if attr.type != END else 0)
        body = bytes(self.data[:attr.off]) + raw + bytes(self.data[end:used])
        assert len(body) <= len(self.data) - 2, "record full"
        self.data = bytearray(body + bytes(len(self.data) - len(body)))
        struct.pack_into("<I", self.data, 0x18, len(body))

    def insert(self, raw):
        """Adds an attribute in type order (after all of the same type); gives it a new instance number."""
        raw = bytearray(raw)
        instance = struct.unpack_from("<H", self.data, 0x28)[0]
        struct.pack_into("<H", self.data, 0x28, instance + 1)
        struct.pack_into("<H", raw, 14, instance)
        code = struct.unpack_from("<I", raw, 0)[0]
        off = struct.unpack_from("<H", self.data, 0x14)[0]
        while struct.unpack_from("<I", self.data, off)[0] <= code:
            off += struct.unpack_from("<I", self.data, off + 4)[0]
        place = type("Place", (), {"off": off, "length": 0, "type": END})
        self.replace(place, bytes(raw))

    def set_runs(self, attr, runs):
        """New mapping pairs for a non-resident attribute of one piece."""
        head = bytes(self.data[attr.off:attr.off + attr.pairs_off])
        raw = bytearray(head + encode_runs(runs))
        raw += bytes(-len(raw) % 8)
        struct.pack_into("<I", raw, 4, len(raw))
        struct.pack_into("<Q", raw, 24, attr.lowest + sum(n for _, n in runs) - 1)
        self.replace(attr, bytes(raw))

    def set_sizes(self, attr, allocated=None, size=None, valid=None):
        for off, value in ((40, allocated), (48, size), (56, valid)):
            if value is not None:
                struct.pack_into("<Q", self.data, attr.off + off, value)

    def save(self):
        self.volume.put_record(self.number, self.data)


def resident_attr(code, value, name="", flags=0, indexed=0):
    label = name.encode("utf-16-le")
    value_off = (24 + len(label) + 7) & ~7
    total = (value_off + len(value) + 7) & ~7
    raw = bytearray(total)
    struct.pack_into("<IIBBHHH", raw, 0, code, total, 0, len(name), 24, flags, 0)
    struct.pack_into("<IHBB", raw, 16, len(value), value_off, indexed, 0)
    raw[24:24 + len(label)] = label
    raw[value_off:value_off + len(value)] = value
    return bytes(raw)


def nonresident_attr(code, runs, cluster, size, valid=None, name="", flags=0, unit=0):
    label = name.encode("utf-16-le")
    head = 72 if flags & 0x8001 else 64
    pairs_off = (head + len(label) + 7) & ~7
    pairs = encode_runs(runs)
    total = (pairs_off + len(pairs) + 7) & ~7
    raw = bytearray(total)
    clusters = sum(n for _, n in runs)
    struct.pack_into("<IIBBHHH", raw, 0, code, total, 1, len(name), head, flags, 0)
    struct.pack_into("<QQHB", raw, 16, 0, clusters - 1, pairs_off, unit)
    struct.pack_into("<QQQ", raw, 40, clusters * cluster, size, size if valid is None else valid)
    if flags & 0x8001:
        struct.pack_into("<Q", raw, 64, sum(n for lcn, n in runs if lcn is not None) * cluster)
    raw[head:head + len(label)] = label
    raw[pairs_off:pairs_off + len(pairs)] = pairs
    return bytes(raw)


class Volume:
    def __init__(self, path):
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 0)
        boot = self.map[:512]
        self.sector, per = struct.unpack_from("<HB", boot, 11)
        per = per if per <= 0x80 else 1 << 256 - per
        self.cluster = self.sector * per
        self.sectors, self.mft_lcn, self.mirror_lcn = struct.unpack_from("<QQQ", boot, 40)
        self.clusters = self.sectors // per
        code = struct.unpack_from("<b", boot, 64)[0]
        self.record_size = 1 << -code if code < 0 else code * self.cluster
        code = struct.unpack_from("<b", boot, 68)[0]
        self.index_size = 1 << -code if code < 0 else code * self.cluster
        at = self.mft_lcn * self.cluster
        raw = self.map[at:at + self.record_size]
        zero = Record(self, 0, unfix(raw))
        data = zero.find(DATA)
        self.mft_runs = zero.runs(data)
        self.mft_size = data.size
        # a fragmented $MFT: follow the attribute list as the runs become known
        for attr in zero.attrs():
            if attr.type == ATTRIBUTE_LIST:
                for entry in self.attr_list(zero, attr):
                    if entry["type"] == DATA and entry["lowest"]:
                        ext = self.record(entry["ref"] & (1 << 48) - 1)
                        self.mft_runs = self.mft_runs + ext.runs(ext.find(DATA))
        self.records = self.mft_size // self.record_size

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.map.flush()
        self.map.close()
        self.file.close()

    def attr_list(self, rec, attr):
        raw = rec.value(attr) if attr.resident else self.read_runs(rec.runs(attr), 0, attr.size)
        out, off = [], 0
        while off < len(raw):
            code, length, count, name_off, lowest, ref, instance = struct.unpack_from("<IHBBQQH", raw, off)
            name = raw[off + name_off:off + name_off + 2 * count].decode("utf-16-le")
            out.append(dict(off=off, type=code, length=length, name=name, lowest=lowest, ref=ref, instance=instance))
            off += length
        return out

    def spans(self, runs, pos, length):
        """[(image offset or None, length)] of a byte range of a run list."""
        out = []
        for lcn, count in runs:
            size = count * self.cluster
            if pos >= size:
                pos -= size
                continue
            if not length:
                break
            step = min(size - pos, length)
            out.append((None if lcn is None else lcn * self.cluster + pos, step))
            length -= step
            pos = 0
        assert not length, "beyond the runs"
        return out

    def read_runs(self, runs, pos, length):
        return b"".join(bytes(n) if at is None else self.map[at:at + n] for at, n in self.spans(runs, pos, length))

    def write_runs(self, runs, pos, data):
        for at, n in self.spans(runs, pos, len(data)):
            self.map[at:at + n] = bytes(data[:n])
            data = data[n:]

    def record_spans(self, number):
        return self.spans(self.mft_runs, number * self.record_size, self.record_size)

    def record(self, number):
        return Record(self, number, unfix(self.read_runs(self.mft_runs, number * self.record_size, self.record_size)))

    def put_record(self, number, plain):
        raw = refix(plain)
        self.write_runs(self.mft_runs, number * self.record_size, raw)
        mirrored = max(4, self.cluster // self.record_size)
        if number < mirrored:
            at = self.mirror_lcn * self.cluster + number * self.record_size
            self.map[at:at + self.record_size] = bytes(raw)

    def all_runs(self, number, code=DATA, name=""):
        """Runs of a stream over base and extension records."""
        rec = self.record(number)
        for attr in rec.attrs():
            if attr.type == ATTRIBUTE_LIST:
                runs = []
                for e in self.attr_list(rec, attr):
                    if e["type"] == code and e["name"] == name:
                        ext = self.record(e["ref"] & (1 << 48) - 1)
                        for a in ext.attrs():
                            if a.type == code and a.name == name and a.lowest == e["lowest"]:
                                runs += ext.runs(a)
                return runs
        return rec.runs(rec.find(code, name))

    # $Bitmap
    def bitmap_runs(self):
        return self.all_runs(6)

    def bit_at(self, lcn):
        at, _ = self.spans(self.bitmap_runs(), lcn // 8, 1)[0]
        return at

    def bit(self, lcn):
        return self.map[self.bit_at(lcn)] >> lcn % 8 & 1

    def mark(self, lcn, count=1, used=True):
        for n in range(lcn, lcn + count):
            at = self.bit_at(n)
            if used:
                self.map[at] |= 1 << n % 8
            else:
                self.map[at] &= ~(1 << n % 8)

    def read_bitmap(self):
        size = (self.clusters + 7) // 8
        return bytearray(self.read_runs(self.bitmap_runs(), 0, size))

    def write_bitmap(self, bits):
        self.write_runs(self.bitmap_runs(), 0, bits)

    def free_span(self, count, start=0):
        """First free run of that many clusters at or after start."""
        bits = self.read_bitmap()
        have = 0
        for lcn in range(start, self.clusters):
            have = 0 if bits[lcn // 8] >> lcn % 8 & 1 else have + 1
            if have == count:
                return lcn - count + 1
        raise RuntimeError("no room")


def masked(volume, keep):
    """Marks every free cluster for which keep(lcn) is false as used; returns the bits that were set.

    ntfs-3g then allocates exactly where it is allowed to: the way to fragment or place files.
    """
    bits = volume.read_bitmap()
    mask = bytearray(len(bits))
    for lcn in range(volume.clusters):
        if not bits[lcn // 8] >> lcn % 8 & 1 and not keep(lcn):
            mask[lcn // 8] |= 1 << lcn % 8
    volume.write_bitmap(bytes(a | b for a, b in zip(bits, mask)))
    return mask


def unmask(volume, mask):
    bits = volume.read_bitmap()
    volume.write_bitmap(bytes(a & ~b for a, b in zip(bits, mask)))


# ---- directory indexes ----------------------------------------------------------------

INDEX = "$I30"


def index_entries(volume, number):
    """[(file reference, key)] of a directory's index, in order."""
    rec = volume.record(number)
    root = rec.value(rec.find(INDEX_ROOT, INDEX))
    size, = struct.unpack_from("<I", root, 8)
    unit = volume.cluster if size >= volume.cluster else STRIDE
    out = []

    def node(raw, head):
        at = head + struct.unpack_from("<I", raw, head)[0]
        while True:
            ref, length, key, flags = struct.unpack_from("<QHHH", raw, at)
            if flags & 1:
                vcn, = struct.unpack_from("<Q", raw, at + length - 8)
                runs = volume.all_runs(number, INDEX_ALLOCATION, INDEX)
                node(unfix(volume.read_runs(runs, vcn * unit, size)), 24)
            if flags & 2:
                return
            out.append((ref, bytes(raw[at + 16:at + 16 + key])))
            at += length
    node(root, 16)
    return out


def index_entry(ref, key, child=None, last=False):
    length = (16 + len(key) + 7 & ~7) + (8 if child is not None else 0)
    flags = (1 if child is not None else 0) | (2 if last else 0)
    raw = bytearray(length)
    struct.pack_into("<QHHH", raw, 0, ref, length, len(key), flags)
    raw[16:16 + len(key)] = key
    if child is not None:
        struct.pack_into("<Q", raw, length - 8, child)
    return bytes(raw)


def set_index(volume, number, entries, size=4096, each=3):
    """Gives a directory a new index: blocks of `size` bytes that hold `each` entries, in two runs.

    Few entries a block make a tree of several levels out of few files, whatever the size. Returns the levels.
    """
    rec = volume.record(number)
    for attr in rec.attrs():
        if attr.type == INDEX_ALLOCATION and attr.name == INDEX:
            for lcn, count in rec.runs(attr):
                volume.mark(lcn, count, used=False)
                volume.map[lcn * volume.cluster:(lcn + count) * volume.cluster] = bytes(count * volume.cluster)
    unit = volume.cluster if size >= volume.cluster else STRIDE
    blocks, levels, row = [], 1, [(ref, key, None) for ref, key in entries]
    last_child = None
    while len(row) > each:
        above = []
        while row:
            # never leave nothing for the last block of a row
            take = each if len(row) > each + 1 or len(row) <= each else each - 1
            node, row = row[:take], row[take:]
            vcn = len(blocks) * size // unit
            if row:
                ref, key, child = row.pop(0)
                blocks.append((vcn, node, child))
                above.append((ref, key, vcn))
            else:
                blocks.append((vcn, node, last_child))
        last_child = blocks[-1][0]
        row, levels = above, levels + 1

    def packed(node, child):
        return b"".join(index_entry(*e) for e in node) + index_entry(0, b"", child, last=True)
    image = bytearray()
    for vcn, node, child in blocks:
        count = size // STRIDE + 1
        first = (40 + 2 * count + 7 & ~7) - 24
        body = packed(node, child)
        raw = bytearray(size)
        struct.pack_into("<4sHHQQ", raw, 0, b"INDX", 40, count, 0, vcn)
        struct.pack_into("<IIII", raw, 24, first, first + len(body), size - 24, 0 if child is None else 1)
        assert 24 + first + len(body) <= size, "block full"
        raw[24 + first:24 + first + len(body)] = body
        image += refix(raw)
    for code in (INDEX_ROOT, INDEX_ALLOCATION, BITMAP):
        for attr in rec.attrs():
            if attr.type == code and attr.name == INDEX:
                rec.replace(attr, b"")
    body = packed(row, last_child)
    per = size // unit
    root = struct.pack("<IIIB3xIIII", FILE_NAME, 1, size, per, 16, 16 + len(body), 16 + len(body), 1 if blocks else 0)
    rec.insert(resident_attr(INDEX_ROOT, root + body, INDEX))
    if blocks:
        clusters = -(-len(image) // volume.cluster)
        runs, start = [], 0
        for count in (clusters // 2, clusters - clusters // 2):
            if count:
                lcn = volume.free_span(count, start)
                volume.mark(lcn, count)
                runs.append((lcn, count))
                start = lcn + count + 1
        volume.write_runs(runs, 0, image)
        rec.insert(nonresident_attr(INDEX_ALLOCATION, runs, volume.cluster, len(image), name=INDEX))
        bits = (1 << len(blocks)) - 1
        rec.insert(resident_attr(BITMAP, bits.to_bytes(-(-len(blocks) // 64) * 8, "little"), INDEX))
    rec.save()
    return levels
