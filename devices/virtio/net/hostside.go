package net

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// hostSettings are the sysctls below /proc/sys/net (Linux, Documentation/networking/ip-sysctl.rst)
// that are set for a tap created here. They keep a guest from changing the host's routes and
// addresses. accept_redirects is not enough for IPv4: if the host's setting for all interfaces
// allows redirects, the host honors them whatever the interface's own setting is. Therefore
// rp_filter keeps the guest from sending a redirect with a router's source address.
var hostSettings = []struct{ dir, key, value string }{
	{"ipv4", "rp_filter", "1"}, // strict
	{"ipv4", "accept_redirects", "0"},
	{"ipv6", "accept_ra", "0"},
	{"ipv6", "autoconf", "0"},
	{"ipv6", "accept_redirects", "0"},
	{"ipv6", "addr_gen_mode", "1"}, // no link-local address
}

// protectHost applies hostSettings to an interface, and disables IPv6 unless the argument ipv6 is
// true. protectHost must be called before the link goes up. A setting that already has the right
// value is not written, because these files are read-only in a container.
func protectHost(name string, ipv6 bool) error {
	disable := []byte("1")
	if ipv6 {
		disable = []byte("0")
	}
	off := setting("ipv6", name, "disable_ipv6", disable)
	for _, s := range hostSettings {
		err := setting(s.dir, name, s.key, []byte(s.value))
		if err != nil && (s.dir == "ipv4" || ipv6) {
			return err
		}
	}
	return off
}

// setting sets a sysctl. A missing IPv6 file is not an error: it means that the host has no IPv6.
func setting(dir, name, key string, value []byte) error {
	path := filepath.Join("/proc/sys/net", dir, "conf", name, key)
	got, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(bytes.TrimSpace(got), value) {
		err = os.WriteFile(path, value, 0)
	}
	switch {
	case dir == "ipv6" && errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return fmt.Errorf("protect the host from the guest: %w: make /proc/sys/net writable, or run \"sysctl -w net.%s.conf.default.%s=%s\" first", err, dir, key, value)
	}
	return nil
}
