package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// cmdline is the kernel command line, split into words. The kernel passes the words after "--" to
// init as arguments.
type cmdline []string

// kernelWords reads the command line. /proc is not mounted yet, so kernelWords mounts it; mounting
// it again later does no harm.
func kernelWords() cmdline {
	if err := os.MkdirAll("/proc", 0o555); err != nil {
		return nil
	}
	// A second mount is refused with EBUSY.
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil && err != unix.EBUSY {
		return nil
	}
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil
	}
	return splitWords(string(b))
}

func splitWords(line string) cmdline {
	before, _, _ := strings.Cut(line, " -- ")
	return strings.Fields(before)
}

// value returns the last word "key=value" of that key.
func (c cmdline) value(key string) string {
	found := ""
	for _, word := range c {
		if v, ok := strings.CutPrefix(word, key+"="); ok {
			found = v
		}
	}
	return found
}

// parameters returns the words "MODULE.NAME=VALUE" as the module's parameters. The kernel does this
// only for built-in modules; for a loaded module, modprobe or this program must do it. Dashes and
// underscores are equivalent in a module's name.
func (c cmdline) parameters(module string) string {
	var all []string
	for _, word := range c {
		name, parameter, ok := strings.Cut(word, ".")
		if ok && !strings.Contains(name, "=") && strings.ReplaceAll(name, "-", "_") == module {
			all = append(all, parameter)
		}
	}
	return strings.Join(all, " ")
}

// interfaces returns the interfaces of the ip= words. The error names the words that cannot be
// parsed; the others still count.
func (c cmdline) interfaces() (all []agent.Interface, err error) {
	for _, word := range c {
		v, ok := strings.CutPrefix(word, "ip=")
		if !ok {
			continue
		}
		i, bad := parseIP(v)
		if bad != nil {
			err = errors.Join(err, fmt.Errorf("ip=%s: %w", v, bad))
			continue
		}
		all = append(all, i)
	}
	return all, err
}

// parseIP parses CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1, or AUTOCONF
// alone. The server and the host name are ignored. The default device is eth0. AUTOCONF is dhcp, on
// or any for DHCP; any other value requires an address.
func parseIP(v string) (agent.Interface, error) {
	fields := strings.Split(v, ":")
	if len(fields) == 1 {
		fields = []string{6: v}
	}
	field := func(i int) string {
		if i >= len(fields) {
			return ""
		}
		return fields[i]
	}
	i := agent.Interface{Name: "eth0"}
	if field(5) != "" {
		i.Name = field(5)
	}
	if auto := field(6); field(0) == "" && (auto == "dhcp" || auto == "on" || auto == "any") {
		i.DHCP = true
		return i, nil
	}
	addr, err := netip.ParseAddr(field(0))
	if err != nil || !addr.Is4() {
		return agent.Interface{}, fmt.Errorf("%q is not an IPv4 address: want CLIENT::GATEWAY:NETMASK::DEVICE:off, or dhcp", field(0))
	}
	mask, err := netip.ParseAddr(field(3))
	if err != nil || !mask.Is4() {
		return agent.Interface{}, fmt.Errorf("%q is not a netmask", field(3))
	}
	bits, ok := maskBits(mask.As4())
	if !ok {
		return agent.Interface{}, fmt.Errorf("%q is not a netmask", field(3))
	}
	i.Address, i.Gateway = netip.PrefixFrom(addr, bits).String(), field(2)
	for _, dns := range []string{field(7), field(8)} {
		if dns != "" {
			i.Nameservers = append(i.Nameservers, dns)
		}
	}
	return i, nil
}

// maskBits counts the leading ones. It returns false for a mask with a one after a zero.
func maskBits(mask [4]byte) (int, bool) {
	v := uint32(mask[0])<<24 | uint32(mask[1])<<16 | uint32(mask[2])<<8 | uint32(mask[3])
	n := 0
	for v&(1<<31) != 0 {
		n++
		v <<= 1
	}
	return n, v == 0
}
