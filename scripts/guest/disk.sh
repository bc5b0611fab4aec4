# Disks, an NTFS driver and EXTENDED COPY from disk to disk: disk.sh ADDRESS:PORT IQN LUN LUN
. ./common.sh
login "$1" "$2" || exit 1
within 10 node "$4" block || { fail "no disk units"; exit 1; }
a=$(node "$3" block) b=$(node "$4" block)
ga=$(node "$3" scsi_generic) gb=$(node "$4" scsi_generic)
within 10 test -b "$b"
modprobe ntfs3
mkdir -p /mnt/a /mnt/b
try mkntfs -- mkntfs -Q -F "$a"
try mount by ntfs3 -- mount -i -t ntfs3 "$a" /mnt/a
mkdir -p /mnt/a/files/deep
for n in 1 2 3 4 5 6 7 8; do head -c $((n * n * 50000 + n)) /dev/urandom >/mnt/a/files/f$n; done
for n in $(seq 300); do echo "$n" >/mnt/a/files/deep/s$n; done
(cd /mnt/a && find . -type f -exec sha256sum {} + | sort) >/tmp/sums
same files written -- 308 "$(wc -l </tmp/sums)"
try unmount -- umount /mnt/a
blockdev --flushbufs "$a"
try mount again -- mount -i -t ntfs3 -o ro "$a" /mnt/a
(cd /mnt/a && sha256sum --quiet -c /tmp/sums) && ok "every file reads back" || fail "files differ"
umount /mnt/a
try ntfsfix finds nothing -- ntfsfix -n "$a"

try copy manager: parameters -- sg_copy_results --params "$ga"
grep -E 'Maximum|Supports|type|Type|block' /tmp/said | sed 's/^ */          /' | head -40
for d in "$ga" "$gb"; do sg_turs "$d" >/dev/null 2>&1; try unit ready -- sg_turs "$d"; done
sectors=$(blockdev --getsz "$a")
try sg_xcopy of the whole disk -- sg_xcopy if="$ga" of="$gb" bs=512 count="$sectors" bpt=32768 list_id=7 id_usage=hold
tail -3 /tmp/said | sed 's/^/          /'
try copy status -- sg_copy_results --status --list_id=7 "$ga"
sed 's/^/          /' /tmp/said | head -8
sg_copy_results --failed --list_id=7 "$ga" >/tmp/said 2>&1
echo "          --failed, of a copy that did not fail (status $?): $(head -2 /tmp/said | tr '\n' ' ')"
blockdev --flushbufs "$b"
try both disks are equal -- cmp "$a" "$b"
try mount the copy -- mount -i -t ntfs3 -o ro "$b" /mnt/b
(cd /mnt/b && sha256sum --quiet -c /tmp/sums) && ok "every file of the copy" || fail "files of the copy differ"
umount /mnt/b
# a copy that must fail: beyond the end of the second disk
if sg_xcopy if="$ga" of="$gb" bs=512 count=64 seek=$((sectors - 8)) list_id=8 id_usage=hold >/tmp/said 2>&1; then
  fail "a copy beyond the end was accepted"
else
  ok "a copy beyond the end is refused: $(grep -iE 'sense|abort|failed|range' /tmp/said | head -1)"
fi
try failed segment details -- sg_copy_results --failed --list_id=8 "$ga"
sed 's/^/          /' /tmp/said | head -8
try discard of the second disk -- blkdiscard "$b"
try it reads zeros -- cmp -n 4194304 "$b" /dev/zero
try write same by the block layer -- blkdiscard --zeroout --offset 1048576 --length 1048576 "$a"
try capacity -- sg_readcap --16 "$ga"
for page in sv sn di bl bdc lbpv; do try page $page -- sg_vpd --page=$page "$ga"; done
try third-party copy page -- sg_vpd --page=0x8f "$ga"
# the kernel's own calls, which always ask for a registration that survives (APTPL)
cat >/tmp/pr.py <<'PY'
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
def call(number, *fields):
    form = "QQII" if len(fields) == 4 else "QII"
    fcntl.ioctl(fd, 1 << 30 | struct.calcsize(form) << 16 | ord("p") << 8 | number, struct.pack(form, *fields))
if sys.argv[2] == "take":
    call(200, 0, 0xabc, 0, 0)  # IOC_PR_REGISTER
    call(201, 0xabc, 1, 0)     # IOC_PR_RESERVE, write exclusive
else:
    call(202, 0xabc, 1, 0)     # IOC_PR_RELEASE
    call(200, 0xabc, 0, 0, 0)
PY
try reserve by the kernel -- python3 /tmp/pr.py "$a" take
try reservation keys -- sg_persist --in --read-keys "$ga"
same one key -- 1 "$(grep -c 0xabc /tmp/said)"
try what reservations can do -- sg_persist --in --report-capabilities "$ga"
same they survive the end of the target -- 2 "$(grep -cE 'PTPL_[CA]\): 1' /tmp/said)"
try release by the kernel -- python3 /tmp/pr.py "$a" give
finish
