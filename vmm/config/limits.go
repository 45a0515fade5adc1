package config

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Limits are the host resources that the machine may use, and how they are divided between its
// virtual CPUs and its other threads. They are set on a cgroup (v2) created for the machine. A key
// that is 0 or empty sets no limit. If no key sets a limit, no cgroup is created.
type Limits struct {
	CPUWeight  int       `toml:"cpu_weight,omitzero"`  // 1 to 10000, relative to sibling cgroups: cpu.weight
	CPUMax     Percent   `toml:"cpu_max,omitzero"`     // percent of one CPU: cpu.max
	CPUSet     CPUSet    `toml:"cpuset,omitempty"`     // cpuset.cpus
	MemoryMax  Size      `toml:"memory_max,omitzero"`  // above it the host kills the machine: memory.max
	MemoryHigh Size      `toml:"memory_high,omitzero"` // above it the host throttles the machine and reclaims its pages: memory.high
	PIDsMax    int       `toml:"pids_max,omitzero"`    // threads, including kernel workers: pids.max
	IOWeight   int       `toml:"io_weight,omitzero"`   // 1 to 10000, for all devices: io.weight
	IO         []IOLimit `toml:"io,omitempty"`         // per device: io.weight and io.max
	VCPUShare  int       `toml:"vcpu_share,omitzero"`  // 1 to 10000: cpu.weight of the virtual CPUs' threads
	IOShare    int       `toml:"io_share,omitzero"`    // 1 to 10000: cpu.weight of the workers and all other threads
	Strict     bool      `toml:"strict,omitzero"`      // a limit that this host's kernel does not enforce is an error, not a warning
}

// Shared reports whether the machine's threads are split between two child cgroups.
func (l *Limits) Shared() bool { return l.VCPUShare != 0 || l.IOShare != 0 }

// Rlimits are resource limits of the machine's process (setrlimit(2)). A field that is 0 keeps the
// inherited limit.
type Rlimits struct {
	NProc   int  `toml:"nproc,omitzero"`   // threads of this user on the host, including kernel workers: RLIMIT_NPROC
	NoFile  int  `toml:"nofile,omitzero"`  // open files: RLIMIT_NOFILE
	Memlock Size `toml:"memlock,omitzero"` // locked memory: RLIMIT_MEMLOCK
}

const (
	maxWeight  = 10000 // CGROUP_WEIGHT_MAX
	maxIO      = 64
	ownMemory  = 16 << 20 // for minivmm and the kernel, in addition to the guest's memory
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
		return fmt.Errorf("%s is out of range: want 1%% to %d%%", b, maxPercent)
	}
	*p = Percent(n)
	return nil
}

// String returns the form that UnmarshalText reads.
func (p Percent) String() string { return strconv.Itoa(int(p)) + "%" }

// MarshalText returns the same text as String.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// IOLimit limits the machine's use of one host disk, written "/dev/vda weight=50 read_bps=10M
// write_iops=100". A field that is 0 sets no limit.
type IOLimit struct {
	Path                string // a block device, or a file on it
	Weight              int    // 1 to 10000
	ReadBPS, WriteBPS   Size   // bytes per second
	ReadIOPS, WriteIOPS int    // requests per second
}

// UnmarshalText reads a path and at least one key with a value.
func (l *IOLimit) UnmarshalText(b []byte) error {
	words := strings.Fields(string(b))
	if len(words) < 2 {
		return fmt.Errorf(`%s is not a disk limit: write a path and limits, like "/dev/vda weight=50 read_bps=10M write_iops=100"`, quote(string(b)))
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
			return fmt.Errorf("%s is not one of weight, read_bps, write_bps, read_iops and write_iops, or is set twice", quote(key))
		}
		if err := f(value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		delete(set, key)
	}
	if v.ReadBPS == 0 && set["read_bps"] == nil || v.WriteBPS == 0 && set["write_bps"] == nil {
		return fmt.Errorf("%s: a disk cannot work at 0 bytes per second", quote(string(b)))
	}
	*l = v
	return nil
}

func count(s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s is out of range: want 1 to %d", quote(s), most)
	}
	return n, nil
}

// String returns the form that UnmarshalText reads.
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

// MarshalText returns the same text as String.
func (l IOLimit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

func (c *checker) limits(l *Limits, m *Machine) {
	if c.set("limits.memory_max") && l.MemoryMax < m.Memory+ownMemory {
		c.bad("limits.memory_max", "%s is too small: the guest's memory is %s, and minivmm and the kernel need up to %s more",
			l.MemoryMax, m.Memory, Size(ownMemory))
	}
	switch {
	case c.set("limits.memory_high") && l.MemoryHigh == 0:
		c.bad("limits.memory_high", "a machine cannot run in 0 bytes")
	case l.MemoryMax != 0 && l.MemoryHigh > l.MemoryMax:
		c.bad("limits.memory_high", "%s is more than limits.memory_max, %s", l.MemoryHigh, l.MemoryMax)
	}
	c.atMost("limits.io", len(l.IO), maxIO)
	paths := map[string]int{}
	for i, d := range l.IO {
		if first, twice := taken(paths, d.Path, i); twice && d.Path != "" {
			c.add(c.at(path("limits.io").index(i)), "limits.io[%d]: %s is already in limits.io[%d]", i, quote(d.Path), first)
		}
	}
}

// set reports whether a key was given and its value could be read.
func (c *checker) set(p path) bool { return c.given[p] && !c.unread(p) }
