package lio

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"minivmm/internal/procfs"
)

// prefix begins the name of everything that this package makes.
const prefix = "minivmm."

// owner is the process that an object was made for. The start time tells it
// from a later process with the same pid.
type owner struct {
	pid   int
	start uint64 // clock ticks after boot, /proc/PID/stat field 22
}

// identity names one target of an owner.
type identity struct {
	owner
	seq int // the owner's targets are numbered
}

func (id identity) String() string {
	return fmt.Sprintf("%s%d.%d.%d", prefix, id.pid, id.start, id.seq)
}

// parseIdentity reads the identity that a name begins with. What follows is
// after another dot.
func parseIdentity(name string) (identity, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return identity{}, false
	}
	part := strings.SplitN(rest, ".", 4)
	if len(part) < 3 {
		return identity{}, false
	}
	pid, err1 := strconv.ParseUint(part[0], 10, 31)
	start, err2 := strconv.ParseUint(part[1], 10, 64)
	seq, err3 := strconv.ParseUint(part[2], 10, 31)
	id := identity{owner{int(pid), start}, int(seq)}
	if err1 != nil || err2 != nil || err3 != nil || pid == 0 {
		return identity{}, false
	}
	return id, name == id.String() || strings.HasPrefix(name, id.String()+".")
}

// findOwner returns the process with the given pid. A zombie has let go of all
// it had, and counts as gone although its parent keeps its pid.
func findOwner(pid int) (owner, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	s, err := procfs.ReadStat(dir)
	if err != nil {
		return owner{}, err
	}
	if s.State == "Z" || s.State == "X" {
		return owner{}, &os.PathError{Op: "read", Path: dir, Err: os.ErrNotExist}
	}
	return owner{pid, s.StartTime}, nil
}

// alive says whether the owner still runs.
func (o owner) alive() bool {
	now, err := findOwner(o.pid)
	return err == nil && now == o
}

// hbaBase is added to the owner's pid to number its host bus adapters, the
// folders that hold its backstores. Numbers that people choose are small.
const hbaBase = 1_000_000_000

// hbaOf returns the folder name of the adapter of a plugin, "fileio" or
// "iblock".
func (o owner) hbaOf(plugin string) string {
	return fmt.Sprintf("%s_%d", plugin, hbaBase+o.pid)
}

// hbaPID returns the pid of the owner of an adapter, if it is one of ours.
func hbaPID(name string) (pid int, ok bool) {
	plugin, number, _ := strings.Cut(name, "_")
	if plugin != pluginFile && plugin != pluginBlock {
		return 0, false
	}
	n, err := strconv.ParseUint(number, 10, 32)
	const maxPID = 1 << 22 // PID_MAX_LIMIT
	if err != nil || n <= hbaBase || n > hbaBase+maxPID {
		return 0, false
	}
	return int(n - hbaBase), true
}
