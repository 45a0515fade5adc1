package cgroup

import (
	"slices"
	"strings"
)

// Setting is one write to a file of the cgroup.
type Setting struct {
	Key   string // the configuration key that sets it, for errors: "limits.cpu_max"
	File  string // "cpu.max"
	Value string // in the format the kernel reads
}

// controller returns the controller that the file belongs to.
func (s Setting) controller() string {
	c, _, _ := strings.Cut(s.File, ".")
	return c
}

// Config describes the cgroup to create.
type Config struct {
	Name     string    // the machine's name: a-z, 0-9 and '-'
	Settings []Setting // written in this order

	// VCPU and IO are the settings of the two children, which are created if either is not
	// empty. Threaded controllers only: cpu, cpuset.
	VCPU, IO []Setting
}

// controllers returns the controllers that the settings need, each once.
func controllers(cfg Config) (all []string) {
	for _, s := range slices.Concat(cfg.Settings, cfg.VCPU, cfg.IO) {
		if c := s.controller(); !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// keys returns the configuration keys that need the cgroup, for errors.
func keys(cfg Config) string {
	var all []string
	for _, s := range slices.Concat(cfg.Settings, cfg.VCPU, cfg.IO) {
		if !slices.Contains(all, s.Key) {
			all = append(all, s.Key)
		}
	}
	return strings.Join(all, ", ")
}
