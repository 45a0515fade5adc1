package target

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/diskimage"
)

// provisions is what a disk frees at a time, in bytes, 0 if it does not say,
// and what freed blocks read as. A file has holes where its file system has them;
// a block device has what its driver tells (Documentation/ABI/stable/sysfs-block).
func provisions(img diskimage.Image) (granularity int, how Unmap) {
	var st unix.Stat_t
	if unix.Fstat(int(img.File.Fd()), &st) != nil {
		return 0, UnmapNothing
	}
	if !img.BlockDevice {
		// Zeros in place of holes would fill the host's disk at a guest's mkfs.
		if !img.PunchesHoles() {
			return 0, UnmapNothing
		}
		if st.Blksize > 0 && st.Blksize <= 1<<20 {
			granularity = int(st.Blksize)
		}
		return granularity, UnmapZeroes
	}
	device := fmt.Sprintf("/sys/dev/block/%d:%d/", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	limit := func(name string) int {
		text, err := os.ReadFile(device + "queue/" + name)
		if err != nil { // a partition has its disk's
			text, err = os.ReadFile(device + "../queue/" + name)
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(text))) // 0: nothing is known
		return n
	}
	granularity = limit("discard_granularity")
	switch {
	case limit("discard_max_bytes") == 0:
		return 0, UnmapNothing
	case limit("write_zeroes_max_bytes") > 0:
		return granularity, UnmapZeroes
	}
	return granularity, UnmapAnything
}
