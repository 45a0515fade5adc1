package procfs

import (
	"fmt"
	"os"
	"strings"
)

// UserAbove returns a user's id in the parent of this process's user namespace. For the root user of
// a machine with its own namespace, this is the user who started it. initial reports that there is
// no parent; the id is then the same.
func UserAbove(uid int) (above int, initial bool) {
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
