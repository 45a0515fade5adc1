package usernet

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holder names who has a port of the host, in brackets, as far as this user may
// see it; else it is empty. It looks for the socket in /proc/net (proc(5)), and for
// the process that has it open.
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
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // what cannot be read is just not named
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && inodes[to] {
			process := filepath.Dir(filepath.Dir(fd))
			name, _ := os.ReadFile(filepath.Join(process, "comm"))
			// A process may call itself anything, and this goes to a terminal.
			return fmt.Sprintf(" (process %s, %s)", filepath.Base(process), strings.Trim(strconv.QuoteToASCII(strings.TrimSuffix(string(name), "\n")), `"`))
		}
	}
	return " (a process of another user's)"
}

const (
	stateListen = "0A" // TCP_LISTEN
	stateClose  = "07" // TCP_CLOSE, which is any UDP socket that is not connected
)

// takenBy says whether a line of /proc/net/tcp and its siblings is a socket that
// keeps others from having the port, and its inode.
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

// procAddr reads "0100007F:1F90": words of 32 bits in the host's byte order.
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

// firstPort is the first port of the host that any user may bind (ip_unprivileged_port_start
// in the kernel's networking/ip-sysctl); 0 where it cannot be read.
func firstPort() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return n
}

// privileged says what helps, in brackets, if the port is below the first that any
// user may bind; else it is empty.
func (p Port) privileged(first int) string {
	port := int(p.Host.Port())
	if port >= first {
		return ""
	}
	return fmt.Sprintf(" (ports below %d are not for every user: publish a higher one, or let users have it with \"sysctl net.ipv4.ip_unprivileged_port_start=%d\")", first, port)
}
