package vmm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// outsideAddr is an address of the host that a guest reaches through its network.
var outsideAddr = netip.MustParseAddr("2001:db8:77::1")

// ipv6 tests IPv6 from the guest of an in-process network.
func (m *trafficMachine) ipv6() {
	m.t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(outsideAddr, 7700).String())
	if err != nil {
		m.t.Fatal(err)
	}
	defer l.Close()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(testenv.Patience))
	m.Expect(`next\?`)
	m.Send("ipv6 0\n")
	c, err := l.Accept()
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	var answer [5]byte
	if _, err := c.Read(answer[:]); err != nil || string(answer[:]) != "hello" {
		m.t.Errorf("%q, %v", answer, err)
	}
	m.Expect("ipv6 is whole")
}

// ipv6InGuest waits until a router has configured the guest, and tests connections and datagrams to
// the host.
func ipv6InGuest(g *vmmtest.Guest) error {
	err := g.Await("an address and a router", func() bool {
		routes, _ := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
		addrs, _ := netlink.AddrList(nil, netlink.FAMILY_V6)
		router, address := false, false
		for _, r := range routes {
			router = router || r.Gw.Equal(net.ParseIP("fe80::2"))
		}
		for _, a := range addrs {
			address = address || a.Flags&unix.IFA_F_TENTATIVE == 0 && a.IP.Mask(net.CIDRMask(64, 128)).Equal(net.ParseIP("fd00:10:0:2::"))
		}
		return router && address
	})
	if err != nil {
		return err
	}
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(outsideAddr, 7700).String(), testenv.Patience)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	if _, err := net.DialTimeout("tcp", netip.AddrPortFrom(outsideAddr, 1).String(), testenv.Patience); !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("a closed port: %w", err)
	}
	for _, probe := range []struct {
		to   netip.Addr
		hops int
		errs unix.Errno
		from netip.Addr
	}{
		{outsideAddr, 1, unix.EHOSTUNREACH, netip.MustParseAddr("fd00:10:0:2::2")},
		{outsideAddr, 2, unix.ECONNREFUSED, outsideAddr},
		{netip.MustParseAddr("10.77.0.1"), 1, unix.EHOSTUNREACH, netip.MustParseAddr("10.0.2.2")},
		{netip.MustParseAddr("10.77.0.1"), 2, unix.ECONNREFUSED, netip.MustParseAddr("10.77.0.1")},
	} {
		if from, err := traceProbe(probe.to, probe.hops); err != probe.errs || from != probe.from {
			return fmt.Errorf("a datagram to %v, %d hops: %v reports %v", probe.to, probe.hops, from, err)
		}
	}
	g.Printf("ipv6 is whole")
	return nil
}

// traceProbe sends a datagram as traceroute(8) does. It returns the error that came back, and its
// sender.
func traceProbe(to netip.Addr, hops int) (from netip.Addr, err error) {
	family, level, recverr, ttl, sa := unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR, unix.IP_TTL, unix.Sockaddr(nil)
	const port = 33434
	if to.Is4() {
		sa = &unix.SockaddrInet4{Port: port, Addr: to.As4()}
	} else {
		family, level, recverr, ttl, sa = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.IPV6_UNICAST_HOPS, &unix.SockaddrInet6{Port: port, Addr: to.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return from, err
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(int64(testenv.Patience))
	if err := errors.Join(unix.SetsockoptInt(fd, level, recverr, 1), unix.SetsockoptInt(fd, level, ttl, hops),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait), unix.Connect(fd, sa)); err != nil {
		return from, err
	}
	if _, err := unix.Write(fd, []byte("probe")); err != nil {
		return from, err
	}
	_, told := unix.Read(fd, make([]byte, 16))
	control := make([]byte, 256)
	_, n, _, _, err := unix.Recvmsg(fd, nil, control, unix.MSG_ERRQUEUE)
	if err != nil {
		return from, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 || len(messages[0].Data) < 24 {
		return from, fmt.Errorf("% x, %v", control[:n], err)
	}
	// struct sock_extended_err, then the sender's sockaddr_in or sockaddr_in6.
	if b := messages[0].Data[16:]; binary.NativeEndian.Uint16(b) == unix.AF_INET {
		from = netip.AddrFrom4([4]byte(b[4:]))
	} else {
		from = netip.AddrFrom16([16]byte(b[8:]))
	}
	return from, told
}
