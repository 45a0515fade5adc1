package config

import (
	"fmt"
	"strings"
)

// Namespaces selects the private namespaces (namespaces(7)) of the process that runs the machine.
// The kernel's workers for that process run in the same namespaces.
type Namespaces struct {
	Net   NetNS `toml:"net,omitempty"` // empty: the host's
	Mount bool  `toml:"mount"`         // later mounts on the host are visible in the namespace; mounts made in the namespace are not visible on the host
	UTS   bool  `toml:"uts"`           // the host name is the machine's name
	IPC   bool  `toml:"ipc"`
	User  bool  `toml:"user"` // the user who runs minivmm is root in this namespace; no other user is mapped
	PID   bool  `toml:"pid"`  // includes a mount namespace, for a private /proc
}

// NetNS names a network namespace: NetNew, or a namespace created by `ip netns add`.
type NetNS string

// NetNew is a network namespace created for the machine.
const NetNew NetNS = "new"

// UnmarshalText checks that b is a valid file name, because a namespace's name is a file name in
// /run/netns.
func (n *NetNS) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "" || s == "." || s == ".." || len(s) > 255 || strings.ContainsRune(s, '/') || !isPrintable(b) {
		return fmt.Errorf(`%s is not a network namespace: write "new", or the NAME given to ip netns add NAME`, quote(s))
	}
	*n = NetNS(s)
	return nil
}
