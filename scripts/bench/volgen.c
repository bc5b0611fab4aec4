/* volgen: fills NTFS volumes for the benchmark, straight through libntfs-3g.
 *
 *   volgen noise IMAGE MIB SEED             an image of random bytes (dirty free space)
 *   volgen mixed IMAGE PERMILLE SEED        everything a lived-in volume has
 *   volgen small IMAGE PERMILLE SEED        200,000 small files, directories to depth 12
 *   volgen scan  IMAGE RECORDS SEED         RECORDS tiny files: what an MFT walk sees
 *
 * IMAGE is formatted between `noise` and the rest (bench.sh does it). The same
 * arguments give the same bytes when the clock is fixed (clock.c, preloaded):
 * nothing else here depends on the day. What was made goes to stdout as JSON.
 *
 * One rule of libntfs-3g decides the shape of this file: no inode may be open
 * twice, and closing a file opens its parent unless it is told that the parent
 * is open already. So at most one directory is open at any time.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <ntfs-3g/types.h>
#include <ntfs-3g/volume.h>
#include <ntfs-3g/inode.h>
#include <ntfs-3g/dir.h>
#include <ntfs-3g/attrib.h>
#include <ntfs-3g/unistr.h>
#include <ntfs-3g/logging.h>
#include <ntfs-3g/reparse.h>

#define KIB 1024u
#define MIB (1024u * 1024u)

static void fail(const char *fmt, ...)
{
	int e = errno;
	va_list ap;
	va_start(ap, fmt);
	fputs("volgen: ", stderr);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, ": %s\n", strerror(e));
	exit(1);
}

/* ---- random numbers: xoshiro256++ ------------------------------------ */

typedef struct { uint64_t s[4]; } rng;
static rng R; /* decides names, sizes, places; bodies have their own */

static inline uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }
static inline uint64_t next(rng *r)
{
	uint64_t *s = r->s, out = rotl(s[0] + s[3], 23) + s[0], t = s[1] << 17;
	s[2] ^= s[0]; s[3] ^= s[1]; s[1] ^= s[2]; s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return out;
}
static rng seeded(uint64_t seed)
{
	rng r;
	for (int i = 0; i < 4; i++) { /* splitmix64 */
		uint64_t z = (seed += 0x9e3779b97f4a7c15ull);
		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ z >> 27) * 0x94d049bb133111ebull;
		r.s[i] = z ^ z >> 31;
	}
	return r;
}
static uint32_t upto(uint32_t n) { return (uint32_t)((next(&R) >> 32) * n >> 32); } /* 0 .. n-1 */
static uint32_t between(uint32_t lo, uint32_t hi) { return lo + upto(hi - lo); }
static double uniform(void) { return ((next(&R) >> 11) + 0.5) * 0x1p-53; }
static uint64_t lognormal(double mu, double sigma, uint64_t cap)
{
	double g = sqrt(-2 * log(uniform())) * cos(2 * M_PI * uniform());
	double v = exp(mu + sigma * g);
	return v > (double)cap ? cap : (uint64_t)v;
}

/* ---- bodies: what files hold ------------------------------------------ */

enum body { NOISE, PROSE, RECORDS, MACHINE, BLANK };

static char word[2048][16];
static uint8_t word_len[2048];
static uint8_t snippet[256][12];

static void dictionaries(void)
{
	static const char *const head[] = { "b", "br", "c", "d", "dr", "f", "g", "h", "l", "m",
		"n", "p", "pl", "r", "s", "st", "t", "tr", "v", "w" };
	static const char *const core[] = { "a", "e", "i", "o", "u", "ea", "ou", "ai" };
	static const char *const tail[] = { "", "n", "r", "st", "l", "ck", "m", "d" };
	for (int i = 0; i < 2048; i++) {
		char b[64] = "";
		for (unsigned k = 0, n = 1 + upto(i < 128 ? 1 : 3); k < n; k++) {
			strcat(b, head[upto(20)]);
			strcat(b, core[upto(8)]);
			strcat(b, tail[upto(8)]);
		}
		b[15] = 0;
		strcpy(word[i], b);
		word_len[i] = strlen(b);
	}
	for (int i = 0; i < 256; i++)
		for (int k = 0; k < 12; k++)
			snippet[i][k] = next(&R) >> 13;
}

static unsigned common_word(uint64_t r) /* small numbers far more often */
{
	double u = (double)(r & 0xffffff) * 0x1p-24;
	return (unsigned)(u * u * u * 2047.99);
}

static size_t piece(rng *r, enum body kind, uint8_t *out) /* at most 128 bytes */
{
	uint64_t x = next(r);
	switch (kind) {
	case PROSE: {
		unsigned w = common_word(x);
		memcpy(out, word[w], 16);
		size_t n = word_len[w];
		if ((x >> 24 & 15) == 0) out[n++] = ',';
		if ((x >> 28 & 15) == 0) { out[n++] = '.'; out[n++] = '\r'; out[n++] = '\n'; }
		else out[n++] = ' ';
		return n;
	}
	case RECORDS: /* a line of a log: a counter, few-valued fields, one number */
		return sprintf((char *)out, "%010u;%s;%s/%s;code=%u;%llu us\n", (unsigned)(r->s[0] >> 44) + 4000000000u / 4,
			word[x & 7], word[x >> 3 & 31], word[x >> 8 & 63], (unsigned)(200 + (x >> 14 & 3)),
			(unsigned long long)(x >> 20 & 0xffff));
	case MACHINE: { /* like object code: a small set of openings, varying operands */
		const uint8_t *s = snippet[(x & 0xff) * (x >> 8 & 0xff) >> 8];
		size_t n = 2 + (x >> 16 & 7);
		memcpy(out, s, 12);
		if (x >> 20 & 1) { memcpy(out + n, (uint8_t *)&x + 4, 2); out[n + 2] = out[n + 3] = 0; n += 4; }
		return n;
	}
	default:
		memcpy(out, &x, 8);
		return 8;
	}
}
static void compose(rng *r, enum body kind, uint8_t *p, size_t n)
{
	uint8_t tmp[160];
	if (kind == BLANK) { memset(p, 0, n); return; }
	while (n >= 160) { size_t k = piece(r, kind, p); p += k; n -= k; }
	while (n) {
		size_t k = piece(r, kind, tmp);
		if (k > n) k = n;
		memcpy(p, tmp, k);
		p += k;
		n -= k;
	}
}
/* by bytes: about half does not compress */
static enum body any_body(void)
{
	uint32_t d = upto(20);
	return d < 9 ? NOISE : d < 13 ? PROSE : d < 16 ? RECORDS : MACHINE;
}

/* ---- names ------------------------------------------------------------ */

static ntfschar NAME[256];
static int NAME_LEN;
static void name(const char *fmt, ...)
{
	char b[256];
	va_list ap;
	va_start(ap, fmt);
	NAME_LEN = vsnprintf(b, sizeof b, fmt, ap);
	for (int i = 0; i < NAME_LEN; i++) NAME[i] = cpu_to_le16((uint8_t)b[i]);
}
static void file_name(unsigned i)
{
	static const char *const ext[] = { "txt", "doc", "png", "dll", "cfg", "cpp", "xml", "log", "bin", "zip" };
	if (i % 160) { name("%s-%s-%u.%s", word[upto(400)], word[upto(2048)], i, ext[upto(10)]); return; }
	/* long, of other scripts, some beyond the basic plane */
	name("%u ", i);
	for (int n = NAME_LEN + between(30, 200); NAME_LEN < n && NAME_LEN < 250;) {
		uint16_t c;
		switch (upto(5)) {
		case 0: c = 0x0410 + upto(64); break;  /* Cyrillic */
		case 1: c = 0x3042 + upto(80); break;  /* Hiragana */
		case 2: c = 0x5000 + upto(4000); break; /* Han */
		case 3: c = 0x05d0 + upto(27); break;  /* Hebrew */
		default:
			NAME[NAME_LEN++] = cpu_to_le16(0xd83d); /* a pair of surrogates */
			c = 0xde00 + upto(64);
		}
		NAME[NAME_LEN++] = cpu_to_le16(c);
	}
}

/* ---- the volume -------------------------------------------------------- */

static ntfs_volume *V;
static struct { uint64_t files, dirs, links, streams, compressed, sparse, fragmented, deleted, bytes; } made;
static uint8_t buf[MIB];

static void mount_image(const char *image)
{
	V = ntfs_mount(image, 0);
	if (!V) fail("mount %s", image);
	NVolSetCompression(V);
}
static uint64_t ref_of(ntfs_inode *ni) { return ni->mft_no; }
static ntfs_inode *open_ref(uint64_t ref)
{
	ntfs_inode *ni = ntfs_inode_open(V, ref);
	if (!ni) fail("open record %llu", (unsigned long long)ref);
	return ni;
}
static void close_inode(ntfs_inode *ni)
{
	if (ntfs_inode_close(ni)) fail("close inode");
}
static ntfs_inode *create(ntfs_inode *dir, mode_t type) /* called NAME */
{
	ntfs_inode *ni = ntfs_create(dir, const_cpu_to_le32(0), NAME, NAME_LEN, type);
	if (!ni) fail("create in record %llu", (unsigned long long)dir->mft_no);
	if (type == S_IFDIR) made.dirs++; else made.files++;
	return ni;
}
static void close_child(ntfs_inode *ni, ntfs_inode *dir)
{
	if (ntfs_inode_close_in_dir(ni, dir)) fail("close file");
}
static uint64_t make_dir(ntfs_inode *parent)
{
	ntfs_inode *d = create(parent, S_IFDIR);
	uint64_t ref = ref_of(d);
	close_child(d, parent);
	return ref;
}
static uint64_t top_dir(const char *n)
{
	ntfs_inode *root = open_ref(FILE_root);
	name("%s", n);
	uint64_t ref = make_dir(root);
	close_inode(root);
	return ref;
}

static ntfs_attr *stream(ntfs_inode *ni, const char *sname)
{
	ntfschar *n = AT_UNNAMED;
	ntfschar b[64];
	int len = 0;
	if (sname) {
		for (; sname[len]; len++) b[len] = cpu_to_le16(sname[len]);
		n = b;
		if (ntfs_attr_add(ni, AT_DATA, n, len, NULL, 0)) fail("add stream %s", sname);
		made.streams++;
	}
	ntfs_attr *na = ntfs_attr_open(ni, AT_DATA, n, len);
	if (!na) fail("open stream");
	return na;
}
static void write_at(ntfs_attr *na, s64 at, uint64_t size, rng *r, enum body kind)
{
	while (size) {
		size_t n = size < sizeof buf ? size : sizeof buf;
		compose(r, kind, buf, n);
		if (ntfs_attr_pwrite(na, at, n, buf) != (s64)n) fail("write at %lld", (long long)at);
		at += n;
		size -= n;
		made.bytes += n;
	}
}
static void write_stream(ntfs_inode *ni, const char *sname, uint64_t size, enum body kind)
{
	rng r = seeded(next(&R));
	if (!size && !sname) return;
	ntfs_attr *na = stream(ni, sname);
	write_at(na, 0, size, &r, kind);
	if (NAttrCompressed(na)) {
		made.compressed++;
		if (ntfs_attr_pclose(na)) fail("end of compressed stream");
	}
	ntfs_attr_close(na);
}
static uint64_t make_file(ntfs_inode *dir, uint64_t size, enum body kind) /* called NAME */
{
	ntfs_inode *ni = create(dir, S_IFREG);
	uint64_t ref = ref_of(ni);
	write_stream(ni, NULL, size, kind);
	close_child(ni, dir);
	return ref;
}

/* a tree of n directories below `top`, at most `depth` deep */
static uint64_t *tree(uint64_t top, unsigned n, unsigned depth)
{
	uint64_t *ref = calloc(n, sizeof *ref);
	uint8_t *level = calloc(n, 1);
	for (unsigned i = 0; i < n; i++) {
		uint64_t parent = top;
		level[i] = 1;
		if (i && upto(10)) { /* near relatives: chains grow deep */
			unsigned p = i - 1 - upto(i < 24 ? i : 24);
			if (level[p] < depth) { parent = ref[p]; level[i] = level[p] + 1; }
		}
		ntfs_inode *d = open_ref(parent);
		name("%s%u", word[upto(2048)], i);
		ref[i] = make_dir(d);
		close_inode(d);
	}
	free(level);
	return ref;
}

/* ---- profile small ------------------------------------------------------ */

static void fill_small(unsigned permille)
{
	unsigned files = 200000ull * permille / 1000, dirs = files / 32 + 1, done = 0;
	uint64_t *d = tree(top_dir("tree"), dirs, 12), flat = top_dir("flat");
	for (unsigned k = 0; k <= dirs; k++) { /* one file in twelve goes to one huge directory */
		unsigned want = k == dirs ? files : (unsigned)((uint64_t)(files - files / 12) * (k + 1) / dirs);
		ntfs_inode *dir = open_ref(k == dirs ? flat : d[k]);
		for (; done < want; done++) {
			double u = uniform();
			uint64_t size = u < .36 ? between(40, 680) : u < .88 ? between(700, 8 * KIB)
				: u < .985 ? between(8 * KIB, 32 * KIB) : between(32 * KIB, 128 * KIB);
			file_name(done);
			make_file(dir, size, any_body());
		}
		close_inode(dir);
	}
	free(d);
}

/* ---- profile scan ------------------------------------------------------- */

static void fill_scan(unsigned records)
{
	const unsigned per = 400;
	uint64_t top = 0;
	records -= records > 64 ? 32 : 0; /* the system's own are in use too */
	for (unsigned left = records, group = 0; left > 1; group++) {
		if (group % 60 == 0) {
			char t[32];
			sprintf(t, "region%03u", group / 60);
			top = top_dir(t);
			left--;
		}
		ntfs_inode *t = open_ref(top);
		name("%s-%u", word[upto(2048)], group);
		uint64_t ref = make_dir(t);
		close_inode(t);
		left--;
		ntfs_inode *dir = open_ref(ref);
		for (unsigned i = 0; i < per && left; i++, left--) {
			file_name(group * per + i);
			make_file(dir, i % 16 == 0 ? 0 : between(8, 360), PROSE);
		}
		close_inode(dir);
	}
}

/* ---- profile mixed ------------------------------------------------------ */

static void junction(ntfs_inode *ni)
{
	static const char *const where[] = { "\\??\\C:\\ProgramData", "C:\\ProgramData" };
	uint8_t b[256] = { 0 };
	uint16_t sub = strlen(where[0]) * 2, print = strlen(where[1]) * 2;
	uint32_t tag = 0xa0000003;
	uint16_t f[6] = { 8 + sub + 2 + print + 2, 0, 0, sub, sub + 2, print };
	memcpy(b, &tag, 4);
	memcpy(b + 4, f, 12);
	for (int i = 0; where[0][i]; i++) b[16 + 2 * i] = where[0][i];
	for (int i = 0; where[1][i]; i++) b[16 + sub + 2 + 2 * i] = where[1][i];
	if (ntfs_set_ntfs_reparse_data(ni, (char *)b, 8 + f[0], 0)) fail("junction");
}

static void drop(uint64_t dir, uint64_t ref, unsigned i) /* closes both */
{
	name("old%u", i);
	if (ntfs_delete(V, NULL, open_ref(ref), open_ref(dir), NAME, NAME_LEN)) fail("delete");
	made.deleted++;
}

static void fill_mixed(unsigned permille)
{
	/* 1. litter, every other piece of which goes at once: free space in crumbs */
	unsigned litter = 12000u * permille / 1000;
	uint64_t *old = calloc(litter + 1, sizeof *old), heap = top_dir("litter");
	ntfs_inode *dir = open_ref(heap);
	for (unsigned i = 0; i < litter; i++) {
		name("old%u", i);
		old[i] = make_file(dir, between(1, 4) * 4096 - upto(900), any_body());
	}
	close_inode(dir);
	for (unsigned i = 0; i < litter; i += 2) drop(heap, old[i], i);

	/* 2. databases filled in from the end, turn by turn: each extent is placed by
	 * itself, as nothing before it is there yet. Long attribute lists. */
	enum { MOST = 24 };
	ntfs_inode *db[MOST];
	ntfs_attr *na[MOST];
	rng body[MOST];
	s64 at[MOST];
	int dbs = 4 + 20 * permille / 1000;
	unsigned turns = 400 + 200u * permille / 1000;
	uint64_t frag = top_dir("fragmented");
	dir = open_ref(frag);
	for (int i = 0; i < dbs; i++) {
		name("table%02d.db", i);
		db[i] = create(dir, S_IFREG);
		na[i] = stream(db[i], NULL);
		body[i] = seeded(next(&R));
		at[i] = (s64)(i % 6 == 5 ? turns / 4 : turns) * 8192;
		if (ntfs_attr_truncate(na[i], at[i])) fail("make room");
		made.fragmented++;
	}
	for (unsigned k = 0; k < turns; k++)
		for (int i = 0; i < dbs; i++) {
			unsigned len = 4096 * between(1, 4);
			if (i % 6 == 5 && k % 4) continue; /* some have a few hundred extents only */
			if (len > at[i] || k + 4 > turns) len = at[i] < 64 * KIB ? at[i] : 64 * KIB;
			at[i] -= len;
			write_at(na[i], at[i], len, &body[i], i % 3 ? MACHINE : NOISE);
		}
	for (int i = 0; i < dbs; i++) {
		if (at[i]) write_at(na[i], 0, at[i], &body[i], NOISE);
		ntfs_attr_close(na[i]);
		close_child(db[i], dir);
	}
	close_inode(dir);

	/* 3. people's files */
	unsigned files = 18000u * permille / 1000, dirs = files / 16 + 1, done = 0;
	uint64_t *d = tree(top_dir("Users"), dirs, 10);
	uint64_t *linked = calloc(files / 24 + 2, sizeof *linked);
	unsigned nlinked = 0;
	for (unsigned k = 0; k < dirs; k++) {
		dir = open_ref(d[k]);
		for (unsigned want = (uint64_t)files * (k + 1) / dirs; done < want; done++) {
			file_name(done);
			ntfs_inode *ni = create(dir, S_IFREG);
			write_stream(ni, NULL, lognormal(8.8, 1.9, 24 * MIB), any_body());
			if (done % 12 == 1) write_stream(ni, "Zone.Identifier", 26, PROSE);
			if (done % 96 == 13) write_stream(ni, "thumbnail", between(2 * KIB, 90 * KIB), NOISE);
			if (done % 24 == 3) linked[nlinked++] = ref_of(ni);
			close_child(ni, dir);
			if (done % 240 == 7) {
				name("junction%u", done);
				ni = create(dir, S_IFDIR);
				junction(ni);
				close_child(ni, dir);
			}
		}
		close_inode(dir);
	}
	uint64_t links = top_dir("links"); /* second and third names elsewhere */
	for (unsigned i = 0; i < nlinked; i++)
		for (unsigned k = 0; k <= (i % 5 == 0); k++) {
			dir = open_ref(links);
			ntfs_inode *ni = open_ref(linked[i]);
			name("link%u-%u", i, k);
			if (ntfs_link(ni, dir, NAME, NAME_LEN)) fail("link");
			close_inode(dir); /* first: closing the file looks its new name up there */
			close_inode(ni);
			made.links++;
		}

	/* 4. large ones */
	uint64_t unit = (uint64_t)MIB * permille / 1000;
	dir = open_ref(top_dir("large"));
	name("film.mp4");    make_file(dir, 160 * unit, NOISE);
	name("mailbox.pst"); make_file(dir, 120 * unit, PROSE);
	name("service.log"); make_file(dir, 60 * unit, RECORDS);
	name("program.exe"); make_file(dir, 60 * unit, MACHINE);
	name("machine.vhd");
	ntfs_inode *ni = create(dir, S_IFREG);
	ntfs_attr *a = stream(ni, NULL);
	for (s64 at = 0, step = unit < 64 * KIB ? 64 * KIB : unit; at < (s64)(120 * unit); at += step) {
		rng r = seeded(next(&R));
		write_at(a, at, step, &r, upto(3) ? any_body() : BLANK);
	}
	ntfs_attr_close(a);
	write_stream(ni, "snapshot", 12 * unit, RECORDS);
	close_child(ni, dir);
	close_inode(dir);

	/* 5. LZNT1: the directory's flag is handed down */
	uint64_t lz = top_dir("compressed");
	dir = open_ref(lz);
	dir->flags |= FILE_ATTR_COMPRESSED;
	NInoFileNameSetDirty(dir);
	ntfs_inode_mark_dirty(dir);
	for (unsigned i = 0, n = 300u * permille / 1000 + 6; i < n; i++) {
		file_name(i * 2 + 1);
		make_file(dir, between(200, 256 * KIB), i % 6 == 5 ? NOISE : i % 2 ? PROSE : RECORDS);
	}
	name("archive.log"); make_file(dir, 40 * unit, RECORDS);
	close_inode(dir);

	/* 6. sparse: islands in holes */
	dir = open_ref(top_dir("sparse"));
	for (unsigned i = 0; i < 16; i++) {
		uint64_t size = i ? 16ull * MIB : 256ull * MIB;
		rng r = seeded(next(&R));
		name("disk%u.img", i);
		ni = create(dir, S_IFREG);
		a = stream(ni, NULL);
		if (ntfs_attr_truncate(a, size)) fail("make a hole");
		for (int k = 0; k < 10; k++)
			write_at(a, (s64)(uniform() * (size - MIB)), between(100, 400 * KIB), &r, k & 1 ? NOISE : PROSE);
		made.sparse++;
		ntfs_attr_close(a);
		close_child(ni, dir);
	}
	close_inode(dir);

	/* 7. more of the litter goes; its records and clusters stay behind as they were */
	for (unsigned i = 1; i < litter; i += 4) drop(heap, old[i], i);
	free(old);
	free(linked);
	free(d);
}

/* ---- noise --------------------------------------------------------------- */

static void noise(const char *image, unsigned mib, uint64_t seed)
{
	rng r = seeded(~seed);
	int fd = open(image, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	if (fd < 0) fail("create %s", image);
	for (unsigned i = 0; i < mib; i++) {
		for (size_t k = 0; k < MIB; k += 8) { uint64_t x = next(&r); memcpy(buf + k, &x, 8); }
		if (write(fd, buf, MIB) != MIB) fail("write %s", image);
	}
	if (close(fd)) fail("close %s", image);
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fputs("usage: volgen noise|mixed|small|scan IMAGE MIB|PERMILLE|RECORDS SEED\n", stderr);
		return 2;
	}
	const char *what = argv[1], *image = argv[2];
	unsigned n = strtoul(argv[3], NULL, 10);
	uint64_t seed = strtoull(argv[4], NULL, 10);
	if (!strcmp(what, "noise")) { noise(image, n, seed); return 0; }

	ntfs_log_set_handler(ntfs_log_handler_stderr);
	R = seeded(seed);
	dictionaries();
	mount_image(image);
	if (!strcmp(what, "mixed")) fill_mixed(n);
	else if (!strcmp(what, "small")) fill_small(n);
	else if (!strcmp(what, "scan")) fill_scan(n);
	else { fprintf(stderr, "volgen: no profile %s\n", what); return 2; }
	if (ntfs_umount(V, FALSE)) fail("unmount %s", image);
#define J(x) #x, (unsigned long long)made.x
	printf("{\"profile\":\"%s\",\"seed\":%llu,\"%s\":%llu,\"%s\":%llu,\"%s\":%llu,\"%s\":%llu,\"%s\":%llu,"
		"\"%s\":%llu,\"%s\":%llu,\"%s\":%llu,\"%s\":%llu}\n", what, (unsigned long long)seed,
		J(files), J(dirs), J(links), J(streams), J(compressed), J(sparse), J(fragmented), J(deleted), J(bytes));
	return 0;
}
