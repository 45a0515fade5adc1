package diskimage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockHolder names the process that has the flock of a file. It asks the
// processes for their open files, because /proc/locks numbers the files of
// overlayfs and btrfs otherwise than stat(2) does.
func lockHolder(st unix.Stat_t) string {
	infos, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*") // what cannot be read is just not named
	for _, path := range infos {
		info, err := os.ReadFile(path)
		if err != nil || !hasFlock(string(info)) {
			continue
		}
		process := filepath.Dir(filepath.Dir(path))
		var held unix.Stat_t
		if unix.Stat(filepath.Join(process, "fd", filepath.Base(path)), &held) != nil || held.Dev != st.Dev || held.Ino != st.Ino {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join(process, "comm"))
		return fmt.Sprintf("process %s, %s", filepath.Base(process), strings.TrimSpace(string(comm)))
	}
	return "another process"
}

// hasFlock says whether an open file, by its text in /proc/PID/fdinfo, has a
// flock: "lock:	1: FLOCK  ADVISORY  WRITE 3937 08:01:1966 0 EOF".
func hasFlock(info string) bool {
	for line := range strings.Lines(info) {
		f := strings.Fields(line)
		if len(f) > 2 && f[0] == "lock:" && f[2] == "FLOCK" {
			return true
		}
	}
	return false
}
