# ntbak by SG_IO: serverless.sh ADDRESS:PORT IQN DISK-LUN DISK-LUN TAPE-LUN
. ./common.sh
login "$1" "$2" || exit 1
within 10 node "$5" scsi_tape || { fail "no tape unit"; exit 1; }
within 10 node "$4" block
a=$(node "$3" block) b=$(node "$4" block) tape=$(node "$5" scsi_tape)
ga=$(node "$3" scsi_generic) gb=$(node "$4" scsi_generic) gt=$(node "$5" scsi_generic)
within 10 test -c "$tape"
ntbak=$shared/ntbak
export XDG_STATE_HOME=/tmp/state
try version -- "$ntbak" --version
modprobe ntfs3
mkdir -p /mnt/a /mnt/b
try mkntfs -- mkntfs -Q -F "$a"
mount -i -t ntfs3 "$a" /mnt/a
mkdir -p /mnt/a/files
for n in $(seq 20); do head -c $((n * n * 20000 + n)) /dev/urandom >/mnt/a/files/f$n; done
for n in $(seq 100); do echo "$n" >/mnt/a/files/s$n; done
(cd /mnt/a && find . -type f -exec sha256sum {} + | sort) >/tmp/sums
echo "          by the kernel: $(grep -c . /tmp/sums) files"
umount /mnt/a
blockdev --flushbufs "$a"

try probe "$ga" "$gb" "$tape" -- "$ntbak" probe "$ga" "$gb" "$tape"
sed 's/^/          /' /tmp/said
try probe of one block to tape and back -- "$ntbak" probe --write-test --yes "$ga" "$gt"
try label -- "$ntbak" tape label "$tape" --name LINUX1 --force
try image "$a" "$tape" by the copy manager -- "$ntbak" image "$a" "$tape" --mover copy-manager --progress never
sed 's/^/          /' /tmp/said
try status -- "$ntbak" tape status "$tape"
try ls -- "$ntbak" ls -l "$tape" /files
same files in the listing -- 120 "$(grep -cE ' (f|s)[0-9]+$|/files/(f|s)[0-9]+$' /tmp/said)"
"$ntbak" cat "$gt" /files/f20 2>/tmp/err | sha256sum | cut -d' ' -f1 >/tmp/one
same one file by cat -- "$(sed -n 's/ .*files\/f20$//p' /tmp/sums)" "$(cat /tmp/one)"
try restore to "$gb" by the copy manager -- "$ntbak" restore "$tape" "$gb" --mover copy-manager --yes --progress never
sed 's/^/          /' /tmp/said
blockdev --flushbufs "$b"
try verify the tape against the disk -- "$ntbak" verify "$tape" --against "$b" --progress never
try mount the restored disk -- mount -i -t ntfs3 -o ro "$b" /mnt/b
(cd /mnt/b && sha256sum --quiet -c /tmp/sums) && ok "every file of the restored disk" || fail "files differ"
umount /mnt/b
try wipe -- blkdiscard "$b"
try restore to "$b" by the host -- "$ntbak" restore "$gt" "$b" --mover host --yes --verify --progress never
blockdev --flushbufs "$b"
try mount it -- mount -i -t ntfs3 -o ro "$b" /mnt/b
(cd /mnt/b && sha256sum --quiet -c /tmp/sums) && ok "every file of the restored disk" || fail "files differ"
# a mounted disk is no target
if "$ntbak" restore "$tape" "$gb" --yes --progress never >/tmp/said 2>&1; then
  fail "a mounted disk was overwritten"
else
  same a mounted disk is refused with -- 5 $?
fi
umount /mnt/b
try scan the tape -- "$ntbak" tape scan "$tape"
try eject -- "$ntbak" tape eject "$tape"
finish
