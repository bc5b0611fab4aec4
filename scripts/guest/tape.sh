# The kernel's tape driver: tape.sh ADDRESS:PORT IQN LUN
. ./common.sh
login "$1" "$2" digests || exit 1
within 10 node "$3" scsi_tape || { fail "no tape unit"; exit 1; }
export TAPE; TAPE=$(node "$3" scsi_tape)
place() { mt tell | grep -oE '[0-9]+'; }
file() { mt status | sed -n 's/^File number=\([-0-9]*\).*/\1/p'; }
cd /tmp
try mt status -- mt status
try block limits -- sg_raw -r 6 "$(node "$3" scsi_generic)" 05 00 00 00 00 00
mkdir -p tree/deep && head -c 3000000 /dev/urandom >tree/a && cp /bin/bash tree/deep/b && head -c 777 /dev/urandom >tree/c
try rewind -- mt rewind
try variable blocks -- mt setblk 0
try tar writes -- tar -b 128 -cf "$TAPE" tree
try tar writes a second file -- tar -b 128 -cf "$TAPE" tree/deep
end=$(place)
try rewind -- mt rewind
same tell at the beginning -- 0 "$(place)"
try tar compares -- tar -b 128 -df "$TAPE" tree
try rewind -- mt rewind
try fsf 1 -- mt fsf 1
second=$(place)
try tar compares the second file -- tar -b 128 -df "$TAPE" tree/deep
try eod -- mt eod
same tell at the end of the data -- "$end" "$(place)"
try seek to the second file -- mt seek "$second"
same tell after seek -- "$second" "$(place)"
try tar compares after seek -- tar -b 128 -df "$TAPE" tree/deep
try rewind -- mt rewind
try fsf 2 -- mt fsf 2
try bsf 1 -- mt bsf 1
same tell after bsf, before the filemark -- $((end - 1)) "$(place)"
try bsfm back to the second file -- mt bsfm 1
same tell after bsfm -- "$second" "$(place)"
try fsr 3 -- mt fsr 3
same tell after fsr -- $((second + 3)) "$(place)"
try bsr 2 -- mt bsr 2
same tell after bsr -- $((second + 1)) "$(place)"
try asf 1 -- mt asf 1
same tell after asf -- "$second" "$(place)"
try eod -- mt eod
try weof 2 -- mt weof 2
same tell behind two filemarks -- $((end + 2)) "$(place)"
# fixed blocks
try eod -- mt eod
try blocks of 4096 bytes -- mt setblk 4096
fixed=$(place)
try dd writes 64 blocks in 8 -- dd if=tree/a of="$TAPE" bs=32768 count=8 status=none
same tell counts blocks, not calls, and the filemark -- $((fixed + 65)) "$(place)"
try seek -- mt seek "$fixed"
try dd reads them -- dd if="$TAPE" of=back bs=16384 status=none
try the bytes are the same -- cmp -n 262144 tree/a back
same and no more of them -- 262144 "$(stat -c %s back)"
try variable blocks -- mt setblk 0
try seek -- mt seek "$fixed"
try dd reads one block into a larger buffer -- dd if="$TAPE" of=back bs=65536 count=1 status=none
same its length -- 4096 "$(stat -c %s back)"
try rewind -- mt rewind
try eject -- mt offline
try the drive is empty -- sh -c 'mt status | grep -q DR_OPEN'
try load -- mt load
try rewind -- mt rewind
same file number after load and rewind -- 0 "$(file)"
try tar compares after load -- tar -b 128 -df "$TAPE" tree
pages=$(sg_logs --page=0 --hex "$(node "$3" scsi_generic)" 2>/dev/null | tail -n +2 | cut -c9-56 | tr -s ' ' '\n' | sed '/^$/d' | tail -n +5)
for page in $pages; do
  try log page "${page}h" -- sg_logs --page="0x$page" "$(node "$3" scsi_generic)"
done
try operation codes -- sg_opcodes "$(node "$3" scsi_generic)"
try attributes of the medium -- sg_read_attr "$(node "$3" scsi_generic)"
finish
