package vhosttest

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Tap is a tap in the form that vhost-net requires: headers of 12 bytes, no packet information, the
// link up.
type Tap struct {
	FD   int // not in Go's poller
	Name string
}

// OpenTap creates a tap in the calling thread's network namespace. The error names what the host
// lacks or forbids.
func OpenTap(t testing.TB) (Tap, error) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return Tap{}, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	t.Cleanup(func() { unix.Close(fd) })
	ifr, err := unix.NewIfreq("vhosttest%d")
	if err != nil {
		return Tap{}, err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return Tap{}, &os.PathError{Op: "TUNSETIFF", Path: "/dev/net/tun", Err: err}
	}
	const headerBytes = 12 // struct virtio_net_hdr_v1
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, headerBytes); err != nil {
		return Tap{}, &os.PathError{Op: "TUNSETVNETHDRSZ", Path: ifr.Name(), Err: err}
	}
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Tap{}, err
	}
	defer unix.Close(sock)
	name := ifr.Name()
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, ifr); err != nil {
		return Tap{}, &os.PathError{Op: "SIOCSIFFLAGS", Path: name, Err: err}
	}
	return Tap{FD: fd, Name: name}, nil
}

// FromGuest returns the number of packets that have arrived from the guest.
func (tap Tap) FromGuest(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/sys/class/net/" + tap.Name + "/statistics/rx_packets")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
