package config

import (
	"fmt"
	"strings"
)

// Namespaces are those that the machine's process has for itself, namespaces(7). The kernel's workers are in the same ones.
type Namespaces struct {
	Net   NetNS `toml:"net,omitempty"` // empty: the host's
	Mount bool  `toml:"mount"`         // what the host mounts later is seen, what is mounted here is not the host's
	UTS   bool  `toml:"uts"`           // the host name is the machine's name
	IPC   bool  `toml:"ipc"`
	User  bool  `toml:"user"` // minivmm's user is its root, and there is nobody else
	PID   bool  `toml:"pid"`  // with a mount namespace, for its own /proc
}

// NetNS is a network namespace: NetNew, or the name of one that `ip netns add` made.
type NetNS string

// NetNew is a network namespace that is made for the machine.
const NetNew NetNS = "new"

// UnmarshalText checks the name: a file's, in /run/netns.
func (n *NetNS) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "" || s == "." || s == ".." || len(s) > 255 || strings.ContainsRune(s, '/') || !isPrintable(b) {
		return fmt.Errorf(`%s is no network namespace: write "new", or the NAME of ip netns add NAME`, quote(s))
	}
	*n = NetNS(s)
	return nil
}

func (NetNS) sample() string { return "new" }
