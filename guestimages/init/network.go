package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// netInterface is a network interface and its configuration.
type netInterface struct {
	name        string
	address     netip.Prefix // IPv4; invalid: the interface is only brought up
	gateway     string       // "": no default route
	nameservers []string
	dhcp        bool // all settings come from a DHCP server
}

// configure brings up an interface and writes its name servers to /etc.
func configure(i netInterface, e etc) error {
	if i.dhcp {
		return askDHCP(i.name, e)
	}
	return errors.Join(e.writeResolvConf(i.nameservers, nil), bringUp(i))
}

// bringUp gives an interface its address and route, netdevice(7). It waits for the interface,
// because drivers find their devices asynchronously.
func bringUp(i netInterface) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	poll(3*time.Second, func() bool {
		_, err = os.Stat("/sys/class/net/" + i.name)
		return err == nil
	})
	if err != nil {
		return err
	}
	request, err := unix.NewIfreq(i.name)
	if err != nil {
		return err
	}
	if i.address.IsValid() {
		for _, set := range []struct {
			name  string
			ioctl uint
			value []byte
		}{
			{"SIOCSIFADDR", unix.SIOCSIFADDR, i.address.Addr().AsSlice()},
			{"SIOCSIFNETMASK", unix.SIOCSIFNETMASK, net.CIDRMask(i.address.Bits(), 32)},
		} {
			err := request.SetInet4Addr(set.value)
			if err == nil {
				err = unix.IoctlIfreq(fd, set.ioctl, request)
			}
			if err != nil {
				return os.NewSyscallError(set.name, err)
			}
		}
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return os.NewSyscallError("SIOCGIFFLAGS", err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return os.NewSyscallError("SIOCSIFFLAGS", err)
	}
	if i.gateway == "" {
		return nil
	}
	gateway, err := netip.ParseAddr(i.gateway)
	if err != nil || !gateway.Is4() {
		return fmt.Errorf("gateway %q is not an IPv4 address", i.gateway)
	}
	return os.NewSyscallError("RTM_NEWROUTE", addDefaultRoute(gateway.As4()))
}

// addDefaultRoute sends one RTM_NEWROUTE, rtnetlink(7), and reads the answer.
func addDefaultRoute(gateway [4]byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, defaultRoute(gateway), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	// struct nlmsghdr is followed by the negative errno of struct nlmsgerr, 0 for success.
	if n < unix.NLMSG_HDRLEN+4 {
		return errors.New("short answer")
	}
	if errno := -int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); errno != 0 {
		return unix.Errno(errno)
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
