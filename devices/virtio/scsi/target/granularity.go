package target

import (
	"os"

	"golang.org/x/sys/unix"
)

// granularity is what a file's file system frees at a time, in bytes; 0 if it
// does not say.
func granularity(f *os.File) int {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Blksize <= 0 || st.Blksize > 1<<20 {
		return 0
	}
	return int(st.Blksize)
}
