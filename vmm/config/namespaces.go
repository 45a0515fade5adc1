package config

import (
	"fmt"
	"strings"
)

// Namespaces selects the private namespaces of the machine's process, namespaces(7). The kernel's
// workers run in the same ones.
type Namespaces struct {
	Net   NetNS `toml:"net,omitempty"` // empty: the host's
	Mount bool  `toml:"mount"`         // later mounts of the host are visible here, mounts made here are not visible on the host
	UTS   bool  `toml:"uts"`           // the host name is the machine's name
	IPC   bool  `toml:"ipc"`
	User  bool  `toml:"user"` // minivmm's user is root in it; no other user is mapped
	PID   bool  `toml:"pid"`  // includes a mount namespace, for a private /proc
}

// NetNS is a network namespace: NetNew, or the name of one created by `ip netns add`.
type NetNS string

// NetNew is a network namespace created for the machine.
const NetNew NetNS = "new"

// UnmarshalText checks the name, which is a file name in /run/netns.
func (n *NetNS) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "" || s == "." || s == ".." || len(s) > 255 || strings.ContainsRune(s, '/') || !isPrintable(b) {
		return fmt.Errorf(`%s is not a network namespace: write "new", or the NAME given to ip netns add NAME`, quote(s))
	}
	*n = NetNS(s)
	return nil
}
