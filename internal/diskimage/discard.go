package diskimage

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Discards says whether blocks of a disk can be freed, how many bytes at a time (0 if that is not
// known) and whether they read as zeros afterwards. A file has holes where its file system has
// them; a block device has what its driver tells (Documentation/ABI/stable/sysfs-block).
func (img Image) Discards() (granularity int, zeroes, ok bool) {
	var st unix.Stat_t
	if unix.Fstat(int(img.File.Fd()), &st) != nil {
		return 0, false, false
	}
	if !img.BlockDevice {
		// Zeros in place of holes would fill the host's disk at a guest's mkfs.
		ok := img.punchesHoles(st.Size)
		if ok && st.Blksize > 0 && st.Blksize <= 1<<20 {
			granularity = int(st.Blksize)
		}
		return granularity, ok, ok
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
	if limit("discard_max_bytes") == 0 {
		return 0, false, false
	}
	return limit("discard_granularity"), limit("write_zeroes_max_bytes") > 0, true
}

// punchesHoles says whether the file system of a writable file gives room back (fallocate(2),
// FALLOC_FL_PUNCH_HOLE). It frees a byte behind the end, where there is nothing to lose.
func (img Image) punchesHoles(end int64) bool {
	for {
		err := unix.Fallocate(int(img.File.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, end, 1)
		if err != unix.EINTR {
			return err == nil
		}
	}
}
