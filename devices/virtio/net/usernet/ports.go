package usernet

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/flock"
)

// Port is a port of the host that is forwarded to a port of the guest.
type Port struct {
	UDP  bool
	Host netip.AddrPort // unspecified address: all addresses of its family; "::": all addresses of both families
	To   uint16         // the port of the guest
}

// String returns the port in the syntax of the configuration.
func (p Port) String() string {
	proto := "tcp"
	if p.UDP {
		proto = "udp"
	}
	return fmt.Sprintf("%s:%d/%s", p.Host, p.To, proto)
}

// listener is the socket of a Port.
type listener struct {
	socket interface {
		SetDeadline(time.Time) error
		io.Closer
	}
	serve func(*session)
}

// listen binds the port. On a host without IPv6, "::" means all IPv4 addresses.
func (p Port) listen() (listener, error) {
	l, err := p.bind()
	if errors.Is(err, unix.EAFNOSUPPORT) && p.Host.Addr() == netip.IPv6Unspecified() {
		p.Host = netip.AddrPortFrom(netip.IPv4Unspecified(), p.Host.Port())
		return p.bind()
	}
	return l, err
}

func (p Port) bind() (listener, error) {
	family := ""
	if p.Host.Addr().Is4() {
		family = "4" // otherwise 0.0.0.0 would also bind "::"
	}
	if p.UDP {
		l, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(p.Host))
		return listener{l, func(s *session) { s.publishUDP(l, p.To) }}, err
	}
	l, err := net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(p.Host))
	return listener{l, func(s *session) { s.publishTCP(l, p.To) }}, err
}

// publish serves the ports until the session ends.
func (s *session) publish(ports []listener) {
	for _, l := range ports {
		l.socket.SetDeadline(time.Time{})
		s.start(func() {
			defer context.AfterFunc(s.ctx, func() { l.socket.SetDeadline(time.Unix(1, 0)) })()
			l.serve(s)
		})
	}
}

// publishTCP forwards connections to a port of the guest.
func (s *session) publishTCP(host *net.TCPListener, port uint16) {
	for s.ctx.Err() == nil {
		c, err := host.AcceptTCP()
		if err != nil {
			if !s.again(host.SetDeadline, err) {
				return
			}
			continue
		}
		if !s.start(func() { s.connectIn(c, port) }) {
			c.Close()
		}
	}
}

// acceptPause is how long a published port pauses after an error, such as one for too many open
// file descriptors.
const acceptPause = 100 * time.Millisecond

// again reports whether a published port continues after an error. It may pause first.
func (s *session) again(setDeadline func(time.Time) error, err error) bool {
	switch {
	case s.ctx.Err() != nil, errors.Is(err, net.ErrClosed):
		return false
	case errors.Is(err, os.ErrDeadlineExceeded): // left over from the end of the previous session
		return setDeadline(time.Time{}) == nil
	}
	select {
	case <-time.After(acceptPause):
		return true
	case <-s.ctx.Done():
		return false
	}
}

// holder returns a description, in parentheses, of the process that uses the port on the host, or
// "". It looks for the socket in /proc/net (proc(5)), and then for a process that has the socket
// open. It finds only what this user may see.
func (p Port) holder() string {
	proto := "tcp"
	if p.UDP {
		proto = "udp"
	}
	inodes := map[string]bool{}
	for _, family := range []string{"", "6"} {
		f, err := os.Open("/proc/net/" + proto + family)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if inode, ok := p.takenBy(lines.Text()); ok {
				inodes["socket:["+inode+"]"] = true
			}
		}
		f.Close()
	}
	if len(inodes) == 0 {
		return ""
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // unreadable entries are skipped
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && inodes[to] {
			process := filepath.Dir(filepath.Dir(fd))
			return " (" + flock.ProcessName(filepath.Base(process)) + ")"
		}
	}
	return " (a process of another user)"
}

const (
	stateListen = "0A" // TCP_LISTEN
	stateClose  = "07" // TCP_CLOSE: a UDP socket that is not connected
)

// takenBy parses a line of /proc/net/tcp or a similar file. ok reports whether the socket in that
// line keeps other sockets from using the port. inode is the socket's inode.
func (p Port) takenBy(line string) (inode string, ok bool) {
	// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
	w := strings.Fields(line)
	if len(w) < 10 {
		return "", false
	}
	local, ok := procAddr(w[1])
	a := local.Addr()
	switch {
	case !ok, local.Port() != p.Host.Port(), w[3] != stateListen && !(p.UDP && w[3] == stateClose):
		return "", false
	case a == p.Host.Addr(), a.IsUnspecified() && (a.Is6() || p.Host.Addr().Is4()), p.Host.Addr().IsUnspecified() && (p.Host.Addr().Is6() || a.Is4()):
		return w[9], true
	}
	return "", false
}

// procAddr parses an address such as "0100007F:1F90": 32-bit words in the host's byte order.
func procAddr(s string) (ap netip.AddrPort, ok bool) {
	address, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(address)
	n, perr := strconv.ParseUint(port, 16, 16)
	if err != nil || perr != nil || len(b)%4 != 0 {
		return ap, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}

// firstPort returns the first port of the host that any user may bind (ip_unprivileged_port_start
// in the kernel's networking/ip-sysctl), or 0 if it cannot be read.
func firstPort() int {
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// privileged returns the fix for the error, in parentheses, if the port is below first, the first
// port that any user may bind. Otherwise it returns "".
func (p Port) privileged(first int) string {
	port := int(p.Host.Port())
	if port >= first {
		return ""
	}
	return fmt.Sprintf(" (ports below %d require privileges: publish a higher port, or lower the limit for all users with \"sysctl net.ipv4.ip_unprivileged_port_start=%d\")", first, port)
}
