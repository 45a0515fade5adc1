package diskimage

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Discards reports whether blocks of a disk can be freed, the granularity in bytes (0 if unknown),
// and whether freed blocks read as zeros. For a file this depends on whether the file system
// supports holes, for a block device on what its driver reports
// (Documentation/ABI/stable/sysfs-block).
func (img Image) Discards() (granularity int, zeroes, ok bool) {
	var st unix.Stat_t
	if unix.Fstat(int(img.File.Fd()), &st) != nil {
		return 0, false, false
	}
	if !img.BlockDevice {
		// Writing zeros instead of holes would fill the host's disk when a guest runs mkfs.
		ok := img.punchesHoles(st.Size)
		if ok && st.Blksize > 0 && st.Blksize <= 1<<20 {
			granularity = int(st.Blksize)
		}
		return granularity, ok, ok
	}
	device := fmt.Sprintf("/sys/dev/block/%d:%d/", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	limit := func(name string) int {
		text, err := os.ReadFile(device + "queue/" + name)
		if err != nil { // a partition uses the values of its disk
			text, err = os.ReadFile(device + "../queue/" + name)
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(text))) // 0: unknown
		return n
	}
	if limit("discard_max_bytes") == 0 {
		return 0, false, false
	}
	return limit("discard_granularity"), limit("write_zeroes_max_bytes") > 0, true
}

// punchesHoles reports whether the file system of a writable file can free blocks (fallocate(2),
// FALLOC_FL_PUNCH_HOLE). It tries on a byte beyond the end of the file, so no data is lost.
func (img Image) punchesHoles(end int64) bool {
	for {
		err := unix.Fallocate(int(img.File.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, end, 1)
		if err != unix.EINTR {
			return err == nil
		}
	}
}
