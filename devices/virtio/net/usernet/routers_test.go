package usernet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"minivmm/internal/testbed/testenv"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// routersEnv selects the role of a process of this test binary in TestTracerouteIsTrue: the host of
// a guest, or a router.
const routersEnv = "MINIVMM_TEST_ROUTERS"

// The network of the test: there is one router between the host and a far machine, which has
// no route to farNowhere.
//
//	host h0 --- r0 router r1 --- f0 far machine
var (
	hostAddrs    = []string{"10.77.1.1/24", "fd77:1::1/64"}
	routerNear   = []string{"10.77.1.2/24", "fd77:1::2/64"}
	routerFar    = []string{"10.77.2.2/24", "fd77:2::2/64"}
	farAddrs     = []string{"10.77.2.3/24", "fd77:2::3/64"}
	farLoopback  = []string{"10.77.3.3/32", "fd77:3::3/128"}
	farNowhere   = []string{"10.77.4.0/24", "fd77:4::/64"}
	everywhere   = []string{"0.0.0.0/0", "::/0"}
	farMachine   = []netip.Addr{netip.MustParseAddr("10.77.3.3"), netip.MustParseAddr("fd77:3::3")}
	noMachine    = []netip.Addr{netip.MustParseAddr("10.77.4.4"), netip.MustParseAddr("fd77:4::4")}
	routersGuest = []netip.Addr{guestAddr, guestAddr6}
)

// The guest gets the ICMP errors for its packets with their original sender and reason. The outside
// consists of separate network namespaces.
func TestTracerouteIsTrue(t *testing.T) {
	switch os.Getenv(routersEnv) {
	case "host":
		traceFromAGuest(t)
		return
	case "router", "far":
		beRouter(t, os.Getenv(routersEnv))
		return
	}
	cmd := again("host", unix.CLONE_NEWUSER|unix.CLONE_NEWNET)
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) {
		testenv.NeedNil(t, "userns", fmt.Errorf("unprivileged users may not create namespaces on this machine: %w", err))
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// again runs this test in another process.
func again(role string, flags uintptr) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestTracerouteIsTrue$", "-test.v")
	cmd.Env = append(os.Environ(), routersEnv+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: unix.SIGKILL}
	return cmd
}

// beRouter waits for its interfaces, configures itself as a router, and routes until its standard
// input is closed.
func beRouter(t *testing.T, role string) {
	in := bufio.NewReader(os.Stdin)
	in.ReadString('\n')
	if role == "router" {
		up(t, "r0", routerNear)
		up(t, "r1", routerFar)
		route(t, "r1", unix.RTN_UNICAST, []string{"10.77.0.0/16", "fd77::/16"}, farAddrs)
	} else {
		up(t, "f0", farAddrs)
		up(t, "lo", farLoopback)
		route(t, "f0", unix.RTN_UNICAST, everywhere, routerFar)
		route(t, "", unix.RTN_UNREACHABLE, farNowhere, nil)
	}
	for _, name := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
		set(t, name, "1")
	}
	set(t, "/proc/sys/net/ipv4/icmp_ratemask", "0") // no rate limit for errors
	set(t, "/proc/sys/net/ipv6/icmp/ratelimit", "0")
	os.Stdout.WriteString("ready\n")
	io.Copy(io.Discard, in)
}

func set(t *testing.T, name, value string) {
	if err := os.WriteFile(name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func up(t *testing.T, name string, addrs []string) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(name, err)
	}
	for _, a := range addrs {
		p, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if p.IP.To4() == nil {
			p.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, p); err != nil {
			t.Fatal(name, a, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(name, err)
	}
}

func route(t *testing.T, name string, kind int, to, via []string) {
	for i := range to {
		_, dst, err := net.ParseCIDR(to[i])
		if err != nil {
			t.Fatal(err)
		}
		r := &netlink.Route{Dst: dst, Type: kind}
		if name != "" {
			link, err := netlink.LinkByName(name)
			if err != nil {
				t.Fatal(err)
			}
			r.LinkIndex = link.Attrs().Index
			r.Gw = netip.MustParsePrefix(via[i]).Addr().AsSlice()
		}
		if err := netlink.RouteAdd(r); err != nil {
			t.Fatal(to[i], err)
		}
	}
}

// traceFromAGuest is the test itself, in its own namespace.
func traceFromAGuest(t *testing.T) {
	var routers []*exec.Cmd
	var inputs []io.WriteCloser
	var outputs []*bufio.Reader
	for _, role := range []string{"router", "far"} {
		cmd := again(role, unix.CLONE_NEWNET)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			cmd.Wait()
		})
		routers, inputs, outputs = append(routers, cmd), append(inputs, in), append(outputs, bufio.NewReader(out))
	}
	for _, l := range []struct {
		name, peer string
		of, peerOf *exec.Cmd
	}{{"h0", "r0", nil, routers[0]}, {"r1", "f0", routers[0], routers[1]}} {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: l.name}, PeerName: l.peer, PeerNamespace: netlink.NsPid(l.peerOf.Process.Pid)}
		if l.of != nil {
			veth.Namespace = netlink.NsPid(l.of.Process.Pid)
		}
		if err := netlink.LinkAdd(veth); err != nil {
			t.Fatal(l.name, err)
		}
	}
	up(t, "lo", nil)
	up(t, "h0", hostAddrs)
	route(t, "h0", unix.RTN_UNICAST, everywhere, routerNear)
	set(t, "/proc/sys/net/ipv4/ping_group_range", "0 0")
	for i := range routers {
		inputs[i].Write([]byte("up\n"))
		for line := ""; line != "ready\n"; {
			var err error
			if line, err = outputs[i].ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}

	w := plug(t, Config{})
	gateways := []netip.Addr{gateway, gateway6}
	for f, guest := range routersGuest {
		echo, proto := byte(8), header.ICMPv4ProtocolNumber
		expired, unreachable, port, host, reply := byte(11), byte(3), byte(3), byte(1), byte(0)
		if guest.Is6() {
			echo, proto = 128, header.ICMPv6ProtocolNumber
			expired, unreachable, port, host, reply = 3, 1, 4, 0, 129 // Linux reports "no route" for an unreachable route
		}
		router := netip.MustParsePrefix(routerNear[f]).Addr()
		far := netip.MustParsePrefix(farAddrs[f]).Addr()
		probe := func(dst netip.Addr, hops uint8) []byte {
			return guestUDPFrame(netip.AddrPortFrom(guest, 40000), netip.AddrPortFrom(dst, 33434+uint16(hops)), hops, "probe")
		}
		ping := func(dst netip.Addr, hops uint8) []byte {
			return icmpFrame(guest, dst, hops, []byte{echo, 0, 0, 0, 0, 9, 0, hops, 'h', 'i'})
		}
		syn := func(dst netip.Addr) []byte {
			return fromTheGuest(ipPacket(header.TCPProtocolNumber, 64, guest, dst, tcpHeader(40000, 81, header.TCPFlagSyn)))
		}
		for name, c := range map[string]struct {
			frame     []byte
			from      netip.Addr
			typ, code byte
		}{
			"UDP, 1":       {probe(farMachine[f], 1), gateways[f], expired, 0},
			"UDP, 2":       {probe(farMachine[f], 2), router, expired, 0},
			"UDP, 3":       {probe(farMachine[f], 3), farMachine[f], unreachable, port},
			"UDP nowhere":  {probe(noMachine[f], 9), far, unreachable, host},
			"echo, 1":      {ping(farMachine[f], 1), gateways[f], expired, 0},
			"echo, 2":      {ping(farMachine[f], 2), router, expired, 0},
			"echo, 3":      {ping(farMachine[f], 3), farMachine[f], reply, 0},
			"echo nowhere": {ping(noMachine[f], 9), far, unreachable, host},
			"TCP nowhere":  {syn(noMachine[f]), gateways[f], unreachable, host},
		} {
			t.Log(guest, name)
			w.send(t, c.frame)
			src, got, m := w.ipPacket(t)
			if src != c.from || got != uint8(proto) || m[0] != c.typ || m[1] != c.code {
				t.Errorf("%s: %v sent % x", name, src, m)
				continue
			}
			sent := c.frame[ethBytes:]
			at := header.IPv4MinimumSize
			if guest.Is6() {
				at = header.IPv6MinimumSize
			}
			quoted := m[8:]
			if c.typ == reply && string(m[4:]) != string(sent[at+4:]) {
				t.Errorf("%s: % x", name, m)
			}
			// Addresses, ports, and the ID and sequence number of an echo.
			if c.typ != reply && (string(quoted[at-8:at+4]) != string(sent[at-8:at+4]) && quoted[at] != echo || quoted[at] == echo && string(quoted[at+4:at+8]) != string(sent[at+4:at+8])) {
				t.Errorf("%s: quotes % x", name, quoted)
			}
		}
	}
}
