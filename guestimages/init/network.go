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
	address     netip.Prefix // IPv4; invalid: the interface comes up without an address
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

// bringUp gives an interface its address and default route (netdevice(7)). It waits for the
// interface, because drivers find their devices asynchronously.
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

// addDefaultRoute sends one RTM_NEWROUTE message (rtnetlink(7)) and reads the answer.
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
	// After struct nlmsghdr comes struct nlmsgerr, which starts with the negative errno, or 0 for
	// success.
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
	message := struct {
		unix.NlMsghdr
		unix.RtMsg
		unix.RtAttr
		Gateway [4]byte
	}{
		unix.NlMsghdr{Type: unix.RTM_NEWROUTE, Flags: unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_ACK, Seq: 1},
		unix.RtMsg{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_BOOT, Type: unix.RTN_UNICAST},
		unix.RtAttr{Len: unix.SizeofRtAttr + 4, Type: unix.RTA_GATEWAY},
		gateway,
	}
	message.NlMsghdr.Len = uint32(binary.Size(message))
	b, _ := binary.Append(nil, binary.NativeEndian, message) // cannot fail: message has a fixed size
	return b
}
