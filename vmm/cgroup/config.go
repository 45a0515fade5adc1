package cgroup

import (
	"slices"
	"strings"
)

// Setting is one write to a file of the cgroup.
type Setting struct {
	Key   string // what asked for it, for errors: "limits.cpu_max"
	File  string // "cpu.max"
	Value string // as the kernel reads it
}

// controller is the one whose file it is.
func (s Setting) controller() string {
	c, _, _ := strings.Cut(s.File, ".")
	return c
}

// Config says what is wanted.
type Config struct {
	Name     string    // of the machine: a-z, 0-9 and '-'
	Settings []Setting // in the order to write them

	// VCPU and IO are for the two children, which are made if there are any. Of
	// threaded controllers only: cpu, cpuset.
	VCPU, IO []Setting
}

// controllers are those that the settings need, each once.
func controllers(cfg Config) (all []string) {
	for _, s := range slices.Concat(cfg.Settings, cfg.VCPU, cfg.IO) {
		if c := s.controller(); !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// keys names what asks for the cgroup.
func keys(cfg Config) string {
	var all []string
	for _, s := range slices.Concat(cfg.Settings, cfg.VCPU, cfg.IO) {
		if !slices.Contains(all, s.Key) {
			all = append(all, s.Key)
		}
	}
	return strings.Join(all, ", ")
}
