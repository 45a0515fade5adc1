package emuhost

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Config is the machine to emulate.
type Config struct {
	Kernel    string // "6.12" or "6.1"
	CPUs      int    // 1 to 64
	MemoryMiB int
	Icount    bool     // the clock counts instructions, 1 ns each; one CPU
	Shares    []string // absolute paths of folders that are writable inside, and whose changes stay
	Restarts  int      // how often a host is started again that dies before the first instruction of its command
}

// DefaultConfig is a host for tests.
func DefaultConfig() Config {
	return Config{Kernel: "6.12", CPUs: 2, MemoryMiB: 4096, Restarts: 2}
}

// ClockEnv names the environment variable that tells a program in the emulated host how its clock goes: ClockWall, unsteady because
// the host's CPUs are emulated faster or slower as this machine has time, or ClockInstructions.
const (
	ClockEnv          = "MINIVMM_HOST_CLOCK"
	ClockWall         = "wall"
	ClockInstructions = "instructions"
)

// Clock is ClockEnv's value in this host.
func (c Config) Clock() string {
	if c.Icount {
		return ClockInstructions
	}
	return ClockWall
}

// Validate reports what cannot be emulated.
func (c Config) Validate() error {
	switch {
	case c.CPUs < 1 || c.CPUs > 64:
		return fmt.Errorf("emuhost: %d cpus: want 1 to 64", c.CPUs)
	case c.Icount && c.CPUs != 1:
		return fmt.Errorf("emuhost: %d cpus with the instruction clock: want 1", c.CPUs)
	case c.MemoryMiB < 512:
		return fmt.Errorf("emuhost: %d MiB of memory: want 512 at least", c.MemoryMiB)
	}
	for _, dir := range c.Shares {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
			return fmt.Errorf("emuhost: share %q: want an absolute path below /", dir)
		}
		// QEMU's option syntax.
		if strings.Contains(dir, ",") {
			return fmt.Errorf("emuhost: share %q: no comma, please", dir)
		}
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("emuhost: share: %w", err)
		}
		if !info.IsDir() {
			return fmt.Errorf("emuhost: share %s: not a folder", dir)
		}
	}
	return nil
}

// outermost returns the folders that lie in no other of the list, sorted: sharing a folder shares those below it.
func outermost(dirs []string) []string {
	all := make([]string, 0, len(dirs))
	for _, dir := range dirs {
		all = append(all, filepath.Clean(dir))
	}
	slices.Sort(all)
	var kept []string
	for _, dir := range all {
		inside := slices.ContainsFunc(kept, func(k string) bool {
			return dir == k || strings.HasPrefix(dir, k+"/")
		})
		if !inside {
			kept = append(kept, dir)
		}
	}
	return kept
}
