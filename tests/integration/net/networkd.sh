# Runs systemd-networkd on the files in $1 with the machine-id $2, in namespaces of its own, until the command $3 holds.
# The wire's other end is srv0; cli0 and cli1 are the host's NICs. dnsmasq there writes its leases and log into $1.
set -e
mount --make-rprivate /
ip link set lo up
ip link add name lan0 type bridge
for number in 0 1; do
    ip link add srv$number type veth peer name cli$number address 52:54:00:00:00:0$((number + 7))
    ip link set srv$number master lan0 up
done
ip addr add 2001:db8:20::1/64 dev lan0 nodad
ip addr add 10.20.0.1/16 dev lan0
ip link set lan0 up
# On a machine without a running systemd it may be missing.
mkdir -p /run/systemd
mount -t tmpfs -o mode=0755 none /run/systemd
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
cp "$1"/*.net* /run/systemd/network/
chown -R systemd-network: /run/systemd/netif
# Without a writable /sys systemd expects no udev.
mount -o remount,bind,ro /sys
printf '%s\n' "$2" >"$1/machine-id"
mount --bind "$1/machine-id" /etc/machine-id
dnsmasq --conf-file=/dev/null --keep-in-foreground --port=0 --interface=lan0 --bind-dynamic --enable-ra --user=root \
    --dhcp-range=2001:db8:20::100,2001:db8:20::1ff,64,1h --dhcp-range=10.20.200.1,10.20.200.9,1h \
    --dhcp-leasefile="$1/leases" --pid-file --log-facility="$1/dnsmasq.log" &
served=$!
SYSTEMD_LOG_TARGET=console /lib/systemd/systemd-networkd >"$1/networkd.log" 2>&1 &
networkd=$!
trap 'kill $served $networkd; wait' EXIT
tries=300
until (cd "$1" && eval "$3"); do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { cat "$1/networkd.log" >&2; exit 1; }
    sleep 0.1
done
