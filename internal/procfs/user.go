package procfs

import (
	"fmt"
	"os"
	"strings"
)

// UserAbove is this process's effective user as the user namespace above calls it: who began a machine that has a user
// namespace of its own, in which everybody is root. Without such a namespace it is the effective user.
func UserAbove() int {
	uid, _ := above(os.Geteuid())
	return uid
}

// RealUserAbove is UserAbove for the real user, and whether there is no user namespace above.
func RealUserAbove() (uid int, initial bool) { return above(os.Getuid()) }

func above(uid int) (int, bool) {
	text, _ := os.ReadFile("/proc/self/uid_map") // "" for a kernel without user namespaces
	return outer(string(text), uid)
}

// outer is what a uid is in the user namespace above, by uid_map's text
// (user_namespaces(7)): lines of first uid here, first uid there, and length. initial says that there is none above.
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
