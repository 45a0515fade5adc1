package net

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
)

// newHost gives the test a new network namespace with one network card, lan0, that leads to the
// default gateway 192.0.2.1. Its settings are the most permissive ones that a host can have. The
// namespace ends with the test.
func newHost(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // without unlock: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
		"ipv4/conf/all/accept_redirects": "1", "ipv4/conf/default/accept_redirects": "1",
		"ipv6/conf/default/accept_ra": "1", "ipv6/conf/default/autoconf": "1",
		"ipv6/conf/default/accept_redirects": "1", "ipv6/conf/default/disable_ipv6": "0",
	} {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	lan, err := OpenTap(TapConfig{NewName: "lan0", Address: netip.MustParsePrefix("192.0.2.2/24")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lan.Close() })
	link, err := netlink.LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: []byte{192, 0, 2, 1}}); err != nil {
		t.Fatal(err)
	}
	other := &netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: []byte{192, 0, 2, 66}, HardwareAddr: []byte{2, 0, 0, 0, 0, 66}}
	if err := netlink.NeighAdd(other); err != nil {
		t.Fatal(err)
	}
}

// hostState returns all routes and addresses of the host, and its route to two destinations.
func hostState(t *testing.T) (lines []string) {
	t.Helper()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			lines = append(lines, fmt.Sprintf("route %s dev %d via %s type %d", r.Dst, r.LinkIndex, r.Gw, r.Type))
		}
		addrs, err := netlink.AddrList(nil, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			lines = append(lines, fmt.Sprintf("address %s flags %#x", a, a.Flags))
		}
	}
	for _, to := range []string{"198.51.100.7", "2001:db8:9::7"} {
		via := "nowhere"
		if r, err := netlink.RouteGet(netip.MustParseAddr(to).AsSlice()); err == nil {
			via = fmt.Sprintf("%d via %s", r[0].LinkIndex, r[0].Gw)
		}
		lines = append(lines, fmt.Sprintf("way to %s: %s", to, via))
	}
	slices.Sort(lines)
	return lines
}

// packet returns an IP packet with a correct checksum, in a frame with a virtio-net header.
func packet(src, dst string, proto byte, body []byte) []byte {
	from, to := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	frame := append(make([]byte, headerBytes), "\xff\xff\xff\xff\xff\xff\x02\x99\x99\x99\x99\x99"...)
	if from.Is4() {
		ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0}
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(body)))
		ip = append(append(ip, from.AsSlice()...), to.AsSlice()...)
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
		return append(append(append(frame, 0x08, 0x00), ip...), body...)
	}
	frame[headerBytes] = 0x33 // multicast: the host accepts it whatever its own MAC address is
	ip := append([]byte{0x60, 0, 0, 0, 0, 0, proto, 255}, append(from.AsSlice(), to.AsSlice()...)...)
	binary.BigEndian.PutUint16(ip[4:], uint16(len(body)))
	if proto == unix.IPPROTO_ICMPV6 {
		pseudo := binary.BigEndian.AppendUint32(slices.Clone(ip[8:40]), uint32(len(body)))
		binary.BigEndian.PutUint16(body[2:], checksum(append(append(pseudo, 0, 0, 0, proto), body...)))
	}
	return append(append(append(frame, 0x86, 0xdd), ip...), body...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func datagram(text string) []byte {
	b := []byte{0, 7, 0x27, 0x0f, 0, byte(8 + len(text)), 0, 0} // to port 9999, without a checksum
	return append(b, text...)
}

// advertisement returns a router advertisement that makes the guest a router and announces
// 2001:db8:666::/64.
func advertisement() []byte {
	b := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // for 1800 s
	b = append(b, 3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0)
	return append(b, netip.MustParseAddr("2001:db8:666::").AsSlice()...)
}

// redirect4 returns a redirect: 198.51.100.7 is reached through 192.0.2.66. It quotes an echo
// reply, for which no socket needs to be open.
func redirect4() []byte {
	quoted := packet("192.0.2.2", "198.51.100.7", unix.IPPROTO_ICMP, []byte{0, 0, 0xff, 0xff, 0, 0, 0, 0})[headerBytes+14:]
	b := append([]byte{5, 1, 0, 0, 192, 0, 2, 66}, quoted...)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// redirect6 returns a redirect: 2001:db8:9::7 is reached through fe80::66.
func redirect6() []byte {
	target := netip.MustParseAddr("fe80::66").AsSlice()
	return append(append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, target...), netip.MustParseAddr("2001:db8:9::7").AsSlice()...)
}

// claim returns a neighbor advertisement: another machine has fd00:99::1.
func claim() []byte {
	b := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, netip.MustParseAddr("fd00:99::1").AsSlice()...)
	return append(b, "\x02\x01\x02\x99\x99\x99\x99\x99"...)
}

// TestAGuestCannotChangeTheHostsNetwork acts as the guest's side of a tap. It sends packets that
// change the routes and addresses of a host that trusts its networks, some of them with foreign
// source addresses.
func TestAGuestCannotChangeTheHostsNetwork(t *testing.T) {
	testenv.Need(t, "root", "tun")
	for _, tc := range []struct {
		name, address, host, guest string
	}{
		{"no address", "", "192.0.2.2", ""},
		{"IPv4", "10.99.7.1/24", "10.99.7.1", "10.99.7.2"},
		{"IPv6", "fd00:99::1/64", "fd00:99::1", "fd00:99::2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			newHost(t)
			cfg := TapConfig{NewName: "mvmtest%d"}
			if tc.address != "" {
				cfg.Address = netip.MustParsePrefix(tc.address)
			}
			tap, err := OpenTap(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer tap.Close()
			link, err := netlink.LinkByName(tap.name)
			if err != nil {
				t.Fatal(err)
			}
			if tc.name == "IPv6" {
				behind := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: netip.MustParseAddr("fe80::2").AsSlice()}
				if behind.Dst, err = netlink.ParseIPNet("2001:db8:9::/64"); err != nil {
					t.Fatal(err)
				}
				if err := netlink.RouteAdd(behind); err != nil {
					t.Fatal(err)
				}
			}
			before := hostState(t)
			for deadline := time.Now().Add(testenv.Patience); !strings.Contains(strings.Join(before, " "), "route "+tc.host+"/"); before = hostState(t) {
				if time.Now().After(deadline) {
					t.Fatalf("the host has no address %s: %q", tc.host, before)
				}
			}
			if got := strings.Join(before, "\n"); strings.Contains(got, "fe80::/64") || strings.Count(got, "fd00:99::1/64") != strings.Count(tc.address, "fd00:") {
				t.Errorf("unexpected addresses:\n%s", got)
			}
			heard := listen(t)
			send := func(src, dst string, proto byte, body []byte) {
				t.Helper()
				if _, err := unix.Write(tap.fds[0], packet(src, dst, proto, body)); err != nil {
					t.Fatal(err)
				}
			}
			send("fe80::66", "ff02::1", unix.IPPROTO_ICMPV6, claim())
			send("fe80::66", "ff02::1", unix.IPPROTO_ICMPV6, advertisement())
			send("fe80::2", "fd00:99::1", unix.IPPROTO_ICMPV6, redirect6())
			send("192.0.2.1", "192.0.2.2", unix.IPPROTO_ICMP, redirect4())
			send("192.0.2.77", "192.0.2.2", unix.IPPROTO_UDP, datagram("spoofed"))
			if tc.guest != "" {
				send(tc.guest, tc.host, unix.IPPROTO_UDP, datagram("honest"))
			}
			for text := range heard {
				if text == "honest" {
					break
				}
				t.Errorf("the host accepted a datagram: %s", text)
			}
			if after := hostState(t); !slices.Equal(before, after) {
				t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
		})
	}
}

// listen yields the datagrams that arrive on port 9999. It stops when none arrives for 200 ms.
func listen(t *testing.T) func(func(string) bool) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: 9999}); err != nil {
		t.Fatal(err)
	}
	wait := unix.NsecToTimeval(int64(200 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	return func(yield func(string) bool) {
		b := make([]byte, 64)
		for {
			n, err := unix.Read(fd, b)
			if err != nil || !yield(string(b[:n])) {
				return
			}
		}
	}
}
