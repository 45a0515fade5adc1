package config

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Limits is what the machine may take of its host, and how that is divided between its virtual CPUs and the rest. They are
// those of a cgroup (v2) that is made for the machine; a key that is 0 or empty sets nothing, and without any there is no cgroup.
type Limits struct {
	CPUWeight  int       `toml:"cpu_weight,omitzero"`  // 1 to 10000, against the cgroups beside it: cpu.weight
	CPUMax     Percent   `toml:"cpu_max,omitzero"`     // of one CPU: cpu.max
	CPUSet     CPUSet    `toml:"cpuset,omitempty"`     // cpuset.cpus
	MemoryMax  Size      `toml:"memory_max,omitzero"`  // beyond it the host ends the machine: memory.max
	MemoryHigh Size      `toml:"memory_high,omitzero"` // beyond it the host slows the machine down and takes pages away: memory.high
	PIDsMax    int       `toml:"pids_max,omitzero"`    // threads, the kernel's workers included: pids.max
	IOWeight   int       `toml:"io_weight,omitzero"`   // 1 to 10000, on all devices: io.weight
	IO         []IOLimit `toml:"io,omitempty"`         // device by device: io.weight and io.max
	VCPUShare  int       `toml:"vcpu_share,omitzero"`  // 1 to 10000: cpu.weight of the virtual CPUs' threads
	IOShare    int       `toml:"io_share,omitzero"`    // 1 to 10000: cpu.weight of the workers and all other threads
}

// Shared says whether the machine's threads are to be in two cgroups of their own.
func (l *Limits) Shared() bool { return l.VCPUShare != 0 || l.IOShare != 0 }

// Rlimits are resource limits of the machine's process, setrlimit(2). 0 leaves what it was started with.
type Rlimits struct {
	NProc   int  `toml:"nproc,omitzero"`   // threads of this user on the host, the kernel's workers included: RLIMIT_NPROC
	NoFile  int  `toml:"nofile,omitzero"`  // open files: RLIMIT_NOFILE
	Memlock Size `toml:"memlock,omitzero"` // locked memory: RLIMIT_MEMLOCK
}

const (
	maxWeight  = 10000   // CGROUP_WEIGHT_MAX
	maxTasks   = 1 << 22 // PID_MAX_LIMIT
	minFiles   = 64      // below it no machine starts
	maxFiles   = 1 << 30
	maxIO      = 64
	ownMemory  = 16 << 20 // of minivmm and of the kernel for it, beside the guest's memory
	maxPercent = 100 * (maxCPU + 1)
)

// Percent is a share of one CPU's time, written "150%".
type Percent int

// UnmarshalText reads a whole number with a percent sign.
func (p *Percent) UnmarshalText(b []byte) error {
	digits, ok := strings.CutSuffix(string(b), "%")
	n, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil {
		return fmt.Errorf(`%s is not a share of CPU time: write "50%%" for half a CPU, "200%%" for two`, quote(string(b)))
	}
	if n < 1 || n > maxPercent {
		return fmt.Errorf("%s is not in 1%% to %d%%", b, maxPercent)
	}
	*p = Percent(n)
	return nil
}

// String is the form that UnmarshalText reads.
func (p Percent) String() string { return strconv.Itoa(int(p)) + "%" }

// MarshalText is String.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

func (Percent) sample() string { return "150%" }

// IOLimit is what the machine may take of one disk of the host, written "/dev/vda weight=50 read_bps=10M write_iops=100".
// What is 0 is not set.
type IOLimit struct {
	Path                string // a block device, or a file on it
	Weight              int    // 1 to 10000
	ReadBPS, WriteBPS   Size   // bytes a second
	ReadIOPS, WriteIOPS int    // requests a second
}

// UnmarshalText reads a path and at least one key with a value.
func (l *IOLimit) UnmarshalText(b []byte) error {
	words := strings.Fields(string(b))
	if len(words) < 2 {
		return fmt.Errorf(`%s is no limit for a disk: write a path and limits, like "/dev/vda weight=50 read_bps=10M write_iops=100"`, quote(string(b)))
	}
	v := IOLimit{Path: words[0]}
	if !filepath.IsAbs(v.Path) {
		return fmt.Errorf("path %s is not absolute", quote(v.Path))
	}
	set := map[string]func(string) error{
		"weight":     func(s string) (err error) { v.Weight, err = count(s, maxWeight); return err },
		"read_bps":   func(s string) error { return v.ReadBPS.UnmarshalText([]byte(s)) },
		"write_bps":  func(s string) error { return v.WriteBPS.UnmarshalText([]byte(s)) },
		"read_iops":  func(s string) (err error) { v.ReadIOPS, err = count(s, 1<<31-1); return err },
		"write_iops": func(s string) (err error) { v.WriteIOPS, err = count(s, 1<<31-1); return err },
	}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		f, ok := set[key]
		if !ok {
			return fmt.Errorf("%s is none of weight, read_bps, write_bps, read_iops and write_iops, or is there twice", quote(key))
		}
		if err := f(value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		delete(set, key)
	}
	if v.ReadBPS == 0 && set["read_bps"] == nil || v.WriteBPS == 0 && set["write_bps"] == nil {
		return fmt.Errorf("%s: 0 bytes a second would be no disk", quote(string(b)))
	}
	*l = v
	return nil
}

func count(s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s is not in 1 to %d", quote(s), most)
	}
	return n, nil
}

// String is the form that UnmarshalText reads.
func (l IOLimit) String() string {
	var b strings.Builder
	b.WriteString(l.Path)
	word := func(key string, on bool, v any) {
		if on {
			fmt.Fprintf(&b, " %s=%v", key, v)
		}
	}
	word("weight", l.Weight != 0, l.Weight)
	word("read_bps", l.ReadBPS != 0, l.ReadBPS)
	word("write_bps", l.WriteBPS != 0, l.WriteBPS)
	word("read_iops", l.ReadIOPS != 0, l.ReadIOPS)
	word("write_iops", l.WriteIOPS != 0, l.WriteIOPS)
	return b.String()
}

// MarshalText is String.
func (l IOLimit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

func (IOLimit) sample() string { return "/dev/vda weight=50 read_bps=10M" }

func (c *checker) limits(l *Limits, m *Machine) {
	c.ifGiven("limits.cpu_weight", l.CPUWeight, 1, maxWeight)
	c.ifGiven("limits.io_weight", l.IOWeight, 1, maxWeight)
	c.ifGiven("limits.vcpu_share", l.VCPUShare, 1, maxWeight)
	c.ifGiven("limits.io_share", l.IOShare, 1, maxWeight)
	c.ifGiven("limits.pids_max", l.PIDsMax, 1, maxTasks)
	if c.set("limits.memory_max") && l.MemoryMax < m.Memory+ownMemory {
		c.add(c.at("limits.memory_max"), "limits.memory_max: %s is too small: the guest's memory is %s, and minivmm with what the kernel needs for it takes up to %s more",
			l.MemoryMax, m.Memory, Size(ownMemory))
	}
	switch at := c.at("limits.memory_high"); {
	case c.set("limits.memory_high") && l.MemoryHigh == 0:
		c.add(at, "limits.memory_high: no machine runs in 0 bytes")
	case l.MemoryMax != 0 && l.MemoryHigh > l.MemoryMax:
		c.add(at, "limits.memory_high: %s is more than limits.memory_max, %s", l.MemoryHigh, l.MemoryMax)
	}
	c.atMost("limits.io", len(l.IO), maxIO)
	paths := map[string]int{}
	for i, d := range l.IO {
		if first, twice := taken(paths, d.Path, i); twice && d.Path != "" {
			c.add(c.at(path("limits.io").index(i)), "limits.io[%d]: %s is in limits.io[%d] already", i, quote(d.Path), first)
		}
	}
}

func (c *checker) rlimits(r *Rlimits) {
	c.ifGiven("rlimits.nproc", r.NProc, 1, maxTasks)
	c.ifGiven("rlimits.nofile", r.NoFile, minFiles, maxFiles)
}

// ifGiven is between for a key that may be absent.
func (c *checker) ifGiven(p path, n, lo, hi int) {
	if c.set(p) {
		c.between(p, n, lo, hi)
	}
}

// set says whether p was given and could be read.
func (c *checker) set(p path) bool { return c.given[p] && !c.unread(p) }
