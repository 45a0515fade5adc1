package account

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"minivmm/internal/procfs"
)

// Memory is the host memory that a machine uses, in bytes.
type Memory struct {
	Guest uint64 `json:"guest_bytes"` // size of the guest's memory

	// Resident is the process's resident memory, including guest memory that was touched.
	// PageTables is the size of the process's page tables. Both are charged to the process's
	// cgroup.
	Resident   uint64 `json:"resident_bytes"`
	PageTables uint64 `json:"page_tables_bytes"`

	// NotCharged estimates the kernel memory that is charged to no cgroup, see [VhostBuffers].
	NotCharged []Estimate `json:"not_charged"`
}

// Estimate is a computed size, for memory that the kernel does not report.
type Estimate struct {
	Device string `json:"device"`
	Bytes  uint64 `json:"bytes"`
	How    string `json:"how"`
}

// ReadMemory returns Resident and PageTables of this process. The caller fills in the other fields.
func ReadMemory() (Memory, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return Memory{}, err
	}
	return parseMemory(string(b)), nil
}

func parseMemory(status string) Memory {
	const kiB = 1 << 10 // "kB" in /proc
	return Memory{Resident: numberField(status, "VmRSS") * kiB, PageTables: numberField(status, "VmPTE") * kiB}
}

// numberField returns the value of a field as a number, see procfs.Field.
func numberField(text, name string) uint64 { return number(procfs.Field(text, name)) }

// number parses a number that may be followed by a unit; it returns 0 if the text has no number.
func number(text string) uint64 {
	digits, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	n, _ := strconv.ParseUint(digits, 10, 64)
	return n
}

// Sizes of vhost's allocations in Linux 6.12 (drivers/vhost/vhost.c, scsi.c). Each ring has its
// struct and, after VHOST_SET_OWNER, three tables of 1024 entries. After VHOST_SCSI_SET_ENDPOINT,
// each descriptor of a vhost-scsi request ring has two scatter lists of 2048 entries, 2048 page
// addresses and the segments of the response. Linux 6.15 needs less for a descriptor.
const (
	ringBytes    = 19 << 10
	tablesBytes  = 40 << 10
	commandBytes = 160 << 10
)

// VhostBuffers estimates how much kernel memory of a vhost device is charged to no cgroup. rings is
// the device's number of rings; requests holds the size of each vhost-scsi request ring that a
// driver set up.
func VhostBuffers(rings int, requests []int) uint64 {
	n := uint64(rings) * (ringBytes + tablesBytes)
	for _, size := range requests {
		n += uint64(size) * commandBytes
	}
	return n
}

// Cgroup is the usage of the process's cgroup, including all other processes in it.
type Cgroup struct {
	Path   string `json:"path"`
	CPU    uint64 `json:"cpu_ns"`
	Memory uint64 `json:"memory_bytes"`
	Tasks  uint64 `json:"tasks"`
}

// ReadCgroup reads a cgroup's counters. Memory and Tasks are 0 if their controllers are not
// enabled; CPU time needs no controller.
func ReadCgroup(path string) (*Cgroup, error) {
	mount, below, err := procfs.FindCgroup(path)
	if err != nil {
		return nil, err
	}
	return readCgroup(filepath.Join(mount, below), path)
}

func readCgroup(dir, path string) (*Cgroup, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return nil, err
	}
	c := &Cgroup{Path: path}
	for line := range strings.Lines(string(b)) {
		if usec, ok := strings.CutPrefix(line, "usage_usec "); ok {
			c.CPU = number(usec) * 1000
		}
	}
	memory, _ := os.ReadFile(filepath.Join(dir, "memory.current"))
	tasks, _ := os.ReadFile(filepath.Join(dir, "pids.current"))
	c.Memory, c.Tasks = number(string(memory)), number(string(tasks))
	return c, nil
}

// CommonCgroup returns the innermost cgroup that contains all of the threads; "/" if unknown.
func CommonCgroup(threads []Thread) string {
	var common []string
	live := slices.DeleteFunc(slices.Clone(threads), func(t Thread) bool { return t.State == "gone" })
	for i, t := range live {
		parts := strings.Split(strings.Trim(t.Cgroup, "/"), "/")
		if i == 0 {
			common = parts
		}
		n := 0
		for n < len(parts) && n < len(common) && parts[n] == common[n] {
			n++
		}
		common = common[:n]
	}
	return "/" + strings.Join(common, "/")
}
