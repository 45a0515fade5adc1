package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// cmdline holds the words of the kernel command line before "--"; the words after it are init's
// arguments.
type cmdline []string

// kernelWords reads the command line. It mounts /proc first; a second mount does no harm.
func kernelWords() cmdline {
	if mount(kernelMounts[0]) != nil {
		return nil
	}
	return splitWords(readWord("/proc/cmdline"))
}

func splitWords(line string) cmdline {
	before, _, _ := strings.Cut(line, " -- ")
	return strings.Fields(before)
}

// value returns VALUE of the last word "key=VALUE", or "".
func (c cmdline) value(key string) string {
	found := ""
	for _, word := range c {
		if v, ok := strings.CutPrefix(word, key+"="); ok {
			found = v
		}
	}
	return found
}

// parameters returns the words "MODULE.NAME=VALUE" as the module's parameters. The kernel itself
// sets only the parameters of built-in modules; modprobe or this program must set the parameters of
// a loaded module. Dashes and underscores are equivalent in a module's name.
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

// interfaces returns the interfaces that the ip= words describe. The error names the malformed
// words.
func (c cmdline) interfaces() (all []netInterface, err error) {
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
// alone. The server and the host name are ignored. The default device is eth0. Without CLIENT, the
// AUTOCONF values dhcp, on and any select DHCP; otherwise CLIENT must be an address.
func parseIP(v string) (netInterface, error) {
	var fields [9]string
	copy(fields[:], strings.Split(v, ":"))
	if !strings.Contains(v, ":") {
		fields = [9]string{6: v}
	}
	i := netInterface{name: cmp.Or(fields[5], "eth0"), gateway: fields[2]}
	if auto := fields[6]; fields[0] == "" && (auto == "dhcp" || auto == "on" || auto == "any") {
		i.dhcp = true
		return i, nil
	}
	addr, err := netip.ParseAddr(fields[0])
	if err != nil || !addr.Is4() {
		return i, fmt.Errorf("%q is not an IPv4 address: want CLIENT::GATEWAY:NETMASK::DEVICE:off, or dhcp", fields[0])
	}
	mask, err := netip.ParseAddr(fields[3])
	bits, size := net.IPMask(mask.AsSlice()).Size() // 0, 0 if a one bit follows a zero bit
	if err != nil || size != 32 {
		return i, fmt.Errorf("%q is not a netmask", fields[3])
	}
	i.address = netip.PrefixFrom(addr, bits)
	for _, dns := range fields[7:] {
		if dns != "" {
			i.nameservers = append(i.nameservers, dns)
		}
	}
	return i, nil
}
