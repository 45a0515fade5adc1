package diskimage

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limits reads the block sizes of a block device (BLKSSZGET, BLKPBSZGET) and checks that it is
// writable (BLKROGET). The check is necessary because even a read-only device can be opened for
// writing.
func (img *Image) limits(readOnly bool) error {
	var logical, protected int
	for _, ask := range []struct {
		request uint
		name    string
		to      *int
	}{
		{unix.BLKSSZGET, "BLKSSZGET", &logical},
		{unix.BLKPBSZGET, "BLKPBSZGET", &img.Physical},
		{unix.BLKROGET, "BLKROGET", &protected},
	} {
		n, err := unix.IoctlGetInt(int(img.File.Fd()), ask.request)
		if err != nil {
			return &os.PathError{Op: ask.name, Path: img.File.Name(), Err: err}
		}
		*ask.to = n
	}
	img.BlockSize = max(img.BlockSize, logical)
	if protected != 0 && !readOnly {
		return errorf("%s: the device is read-only (set readonly = true, or run blockdev --setrw %s)", img.File.Name(), img.File.Name())
	}
	return nil
}

// hostUse describes the host's use of a block device, of one of its partitions, or of the disk that
// contains it, such as "sda1 is mounted at /home". It returns "" if no use is visible in this
// namespace.
func hostUse(rdev uint64) string {
	device, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(rdev), unix.Minor(rdev)))
	if err != nil {
		return ""
	}
	family := []string{device}
	if _, err := os.Stat(device + "/partition"); err == nil {
		family = append(family, filepath.Dir(device))
	}
	parts, _ := filepath.Glob(device + "/*/partition")
	for _, part := range parts {
		family = append(family, filepath.Dir(part))
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	swaps, _ := os.ReadFile("/proc/swaps")
	for _, dir := range family {
		name := filepath.Base(dir)
		number, _ := os.ReadFile(dir + "/dev")
		for line := range strings.Lines(string(mounts)) {
			// 36 35 98:0 ROOT MOUNT OPTIONS... - TYPE SOURCE OPTIONS; btrfs shows another device
			// number here, so the source is compared too
			mount, source, _ := strings.Cut(line, " - ")
			f := strings.Fields(mount)
			if len(f) > 4 && (f[2] == strings.TrimSpace(string(number)) || strings.Contains(source, " /dev/"+name+" ")) {
				return name + " is mounted at " + f[4]
			}
		}
		if above, _ := filepath.Glob(dir + "/holders/*"); len(above) > 0 {
			return name + " is part of " + filepath.Base(above[0])
		}
		if strings.Contains("\n"+string(swaps), "\n/dev/"+name+" ") {
			return name + " is swap space"
		}
	}
	return ""
}

// Discards reports whether blocks of a disk can be freed (ok), the granularity in bytes (0 if
// unknown), and whether freed blocks read as zeros (zeroes). For a file, this depends on whether
// the file system supports holes; for a block device, on what its driver reports
// (Documentation/ABI/stable/sysfs-block).
func (img Image) Discards() (granularity int, zeroes, ok bool) {
	var st unix.Stat_t
	if unix.Fstat(int(img.File.Fd()), &st) != nil {
		return 0, false, false
	}
	if !img.BlockDevice {
		// Writing zeros instead of punching holes would fill the host's disk when a guest runs
		// mkfs.
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
// FALLOC_FL_PUNCH_HOLE). It tries this on a byte beyond the end of the file, so no data is lost.
func (img Image) punchesHoles(end int64) bool {
	for {
		err := unix.Fallocate(int(img.File.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, end, 1)
		if err != unix.EINTR {
			return err == nil
		}
	}
}
