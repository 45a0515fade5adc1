package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// bringUp gives an interface its address and route, netdevice(7). It waits for the interface,
// because drivers find their devices asynchronously.
func bringUp(i agent.Interface) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := waitInterface(i.Name, 3*time.Second); err != nil {
		return err
	}
	if i.Address != "" {
		prefix, err := netip.ParsePrefix(i.Address)
		if err != nil || !prefix.Addr().Is4() {
			return fmt.Errorf("%q is not an IPv4 address with its prefix length", i.Address)
		}
		if err := setAddress(fd, unix.SIOCSIFADDR, i.Name, prefix.Addr().As4()); err != nil {
			return os.NewSyscallError("SIOCSIFADDR", err)
		}
		var mask [4]byte
		binary.BigEndian.PutUint32(mask[:], ^uint32(0)<<(32-prefix.Bits()))
		if err := setAddress(fd, unix.SIOCSIFNETMASK, i.Name, mask); err != nil {
			return os.NewSyscallError("SIOCSIFNETMASK", err)
		}
	}
	ifr, err := unix.NewIfreq(i.Name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return os.NewSyscallError("SIOCGIFFLAGS", err)
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return os.NewSyscallError("SIOCSIFFLAGS", err)
	}
	if i.Gateway == "" {
		return nil
	}
	gateway, err := netip.ParseAddr(i.Gateway)
	if err != nil || !gateway.Is4() {
		return fmt.Errorf("gateway %q is not an IPv4 address", i.Gateway)
	}
	return addDefaultRoute(gateway.As4())
}

func waitInterface(name string, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(2 * time.Millisecond) {
		_, err := os.Stat("/sys/class/net/" + name)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func setAddress(fd int, request uint, name string, addr [4]byte) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := ifr.SetInet4Addr(addr[:]); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, request, ifr)
}

// addDefaultRoute sends one RTM_NEWROUTE, rtnetlink(7), and reads the answer.
func addDefaultRoute(gateway [4]byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, defaultRoute(gateway), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("RTM_NEWROUTE", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return os.NewSyscallError("RTM_NEWROUTE", err)
	}
	// struct nlmsghdr is followed by the negative errno of struct nlmsgerr, 0 for success.
	if n < unix.NLMSG_HDRLEN+4 {
		return errors.New("RTM_NEWROUTE: short answer")
	}
	if errno := -int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); errno != 0 {
		return os.NewSyscallError("RTM_NEWROUTE", unix.Errno(errno))
	}
	return nil
}

// defaultRoute returns struct nlmsghdr, struct rtmsg and the attribute RTA_GATEWAY.
func defaultRoute(gateway [4]byte) []byte {
	const size = unix.NLMSG_HDRLEN + unix.SizeofRtMsg + unix.SizeofRtAttr + len(gateway)
	e := binary.NativeEndian
	b := make([]byte, 0, size)
	b = e.AppendUint32(b, uint32(size))
	b = e.AppendUint16(b, unix.RTM_NEWROUTE)
	b = e.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_ACK)
	b = e.AppendUint32(b, 1) // sequence number
	b = e.AppendUint32(b, 0) // port: the kernel's choice
	// family, destination and source length, type of service, table, protocol, scope, type
	b = append(b, unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST)
	b = e.AppendUint32(b, 0) // flags
	b = e.AppendUint16(b, uint16(unix.SizeofRtAttr+len(gateway)))
	b = e.AppendUint16(b, unix.RTA_GATEWAY)
	return append(b, gateway[:]...)
}
