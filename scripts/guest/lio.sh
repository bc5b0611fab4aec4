# ntbak asks the kernel's own copy manager, which copies from disk to disk only: lio.sh
. ./common.sh
ntbak=$shared/ntbak
modprobe -a target_core_mod target_core_file tcm_loop sd_mod sg
mkdir -p /etc/target/pr /etc/target/alua /var/target/pr /var/target/alua
config=/sys/kernel/config
mountpoint -q $config || mount -t configfs none $config
port=$config/target/loopback/naa.6001405000000abc/tpgt_1
mkdir -p $port && echo naa.6001405000000aaa >$port/nexus
for n in 0 1; do
  truncate -s 32M /tmp/lio$n.img
  store=$config/target/core/fileio_0/lio$n
  mkdir -p $store
  echo "fd_dev_name=/tmp/lio$n.img,fd_dev_size=$((32 << 20)),fd_buffered_io=1" >$store/control
  echo "${n}123456789abcdef0123456789abcdef" >$store/wwn/vpd_unit_serial 2>/dev/null
  echo 1 >$store/enable
  mkdir $port/lun/lun_$n && ln -s $store $port/lun/lun_$n/p
done
within 10 test -b /dev/sdb || { fail "no disks"; exit 1; }
try probe /dev/sg0 /dev/sg1 -- "$ntbak" probe /dev/sg0 /dev/sg1
sed 's/^/          /' /tmp/said
grep -q 'disk to disk only, no tape' /tmp/said && ok "it is said to copy from disk to disk only" || fail "nothing about disk to disk"
"$ntbak" probe --json /dev/sda >/tmp/said 2>&1 && ok "as JSON: $(wc -c </tmp/said) bytes" || fail "probe --json: $(cat /tmp/said)"
finish
