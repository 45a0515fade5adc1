package stress

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// openTap creates a tap device with an address and returns the file for QEMU; the device exists as
// long as the file is open.
func openTap(name string, addr [4]byte) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	tap := os.NewFile(uintptr(fd), "/dev/net/tun")
	if err := setUp(fd, name, addr); err != nil {
		tap.Close()
		return nil, fmt.Errorf("stress: tap %s: %w", name, err)
	}
	return tap, nil
}

func setUp(tap int, name string, addr [4]byte) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(tap, unix.TUNSETIFF, ifr); err != nil {
		return os.NewSyscallError("TUNSETIFF", err)
	}
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(sock)
	for _, step := range []struct {
		name    string
		request uint
		addr    [4]byte
	}{
		{"SIOCSIFADDR", unix.SIOCSIFADDR, addr},
		{"SIOCSIFNETMASK", unix.SIOCSIFNETMASK, [4]byte{255, 255, 255, 0}},
	} {
		if err := ifr.SetInet4Addr(step.addr[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(sock, step.request, ifr); err != nil {
			return os.NewSyscallError(step.name, err)
		}
	}
	ifr.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("SIOCSIFFLAGS", unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, ifr))
}

// inFlight is how many pings may be unanswered before the flood waits.
const inFlight = 32

// flood pings the address as fast as it answers, for the duration from the first answer on, and
// counts the answers. It returns early when ctx is done. It is an error if the answers stop before
// the end.
func flood(ctx context.Context, addr [4]byte, duration time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	// A lost ping or answer costs wait; silence limits how long answers may be missing in a
	// row.
	const wait, silence = 100 * time.Millisecond, 20 * time.Second
	tv := unix.NsecToTimeval(wait.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return 0, os.NewSyscallError("SO_RCVTIMEO", err)
	}
	to := &unix.SockaddrInet4{Addr: addr}
	var first, last time.Time
	answered, open := 0, 0
	buf := make([]byte, 2048)
	for seq := uint16(0); ; {
		if ctx.Err() != nil || !first.IsZero() && time.Since(first) > duration {
			return answered, nil
		}
		if !last.IsZero() && time.Since(last) > silence {
			return answered, fmt.Errorf("stress: the guest answered %d pings and then none for %v", answered, silence)
		}
		for ; open < inFlight; open++ {
			seq++
			// The kernel refuses some pings until the guest is up, and when the queue
			// is full.
			_ = unix.Sendto(fd, echoRequest(seq), 0, to)
		}
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			open = 0
			continue
		}
		if sender, ok := from.(*unix.SockaddrInet4); ok && sender.Addr == addr && isEchoReply(buf[:n]) {
			if last = time.Now(); first.IsZero() {
				first = last
			}
			answered++
			open = max(0, open-1)
		}
	}
}

// echoRequest returns an ICMP echo request, RFC 792, with 56 bytes of zeros.
func echoRequest(seq uint16) []byte {
	b := make([]byte, 64)
	b[0] = 8
	binary.BigEndian.PutUint16(b[4:], 0x6d76)
	binary.BigEndian.PutUint16(b[6:], seq)
	sum := uint32(b[0])<<8 + 0x6d76 + uint32(seq)
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
	return b
}

// isEchoReply skips the IPv4 header, which a raw socket delivers too.
func isEchoReply(packet []byte) bool {
	if len(packet) < 20 {
		return false
	}
	header := int(packet[0]&0xf) * 4
	return len(packet) > header && packet[header] == 0
}
