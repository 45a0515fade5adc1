package procfs

import (
	"fmt"
	"os"
	"strings"
)

// UserAbove returns this process's effective user id in the parent user namespace. For a machine
// with its own user namespace, in which it is root, this is the user who started it. Without a user
// namespace it is the effective user id.
func UserAbove() int {
	uid, _ := above(os.Geteuid())
	return uid
}

// RealUserAbove is like UserAbove, for the real user. initial reports whether the process is in the
// initial user namespace.
func RealUserAbove() (uid int, initial bool) { return above(os.Getuid()) }

func above(uid int) (int, bool) {
	text, _ := os.ReadFile("/proc/self/uid_map") // "" for a kernel without user namespaces
	return outer(string(text), uid)
}

// outer maps a uid to the parent user namespace by the text of uid_map (user_namespaces(7)): lines
// of first uid here, first uid there, and length. initial reports whether there is no parent.
func outer(uidMap string, uid int) (above int, initial bool) {
	for line := range strings.Lines(uidMap) {
		var here, there, length int
		if n, _ := fmt.Sscan(line, &here, &there, &length); n == 3 && uid >= here && uid-here < length {
			const all = 1<<32 - 1
			return uid - here + there, here == 0 && there == 0 && length == all
		}
	}
	return uid, uidMap == ""
}
