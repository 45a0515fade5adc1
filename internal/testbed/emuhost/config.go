package emuhost

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Config describes the machine to emulate.
type Config struct {
	Kernel    string // "6.12", "6.1" or Newest
	CPUs      int    // 1 to 64
	MemoryMiB int
	Icount    bool     // the clock counts instructions, 1 ns each; requires one CPU
	Shares    []string // absolute paths of folders that are writable in the host and keep their changes
	Restarts  int      // how often to restart a host that dies before the first instruction of its command
}

// DefaultConfig returns the configuration of a host for tests.
func DefaultConfig() Config {
	return Config{Kernel: "6.12", CPUs: 2, MemoryMiB: 4096, Restarts: 2}
}

// ClockEnv names the environment variable that tells a program in the emulated host which clock the
// host has. The value is ClockInstructions, or ClockWall for a clock that is unsteady because the
// speed of emulation depends on the load on this computer.
const (
	ClockEnv          = "MINIVMM_HOST_CLOCK"
	ClockWall         = "wall"
	ClockInstructions = "instructions"
)

// Clock returns the value of ClockEnv in this host.
func (c Config) Clock() string {
	if c.Icount {
		return ClockInstructions
	}
	return ClockWall
}

// Validate returns an error if the host cannot be emulated or a folder in Shares cannot be shared.
func (c Config) Validate() error {
	switch {
	case c.CPUs < 1 || c.CPUs > 64:
		return fmt.Errorf("emuhost: %d CPUs: want 1 to 64", c.CPUs)
	case c.Icount && c.CPUs != 1:
		return fmt.Errorf("emuhost: %d CPUs with the instruction clock: want 1", c.CPUs)
	case c.MemoryMiB < 512:
		return fmt.Errorf("emuhost: %d MiB of memory: want at least 512", c.MemoryMiB)
	}
	for _, dir := range c.Shares {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
			return fmt.Errorf("emuhost: share %q: want an absolute path below /", dir)
		}
		// A comma separates QEMU's options.
		if strings.Contains(dir, ",") {
			return fmt.Errorf("emuhost: share %q: the path must not contain a comma", dir)
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

// outermost returns the folders of the list, sorted, without those that are below another folder of
// the list: sharing a folder also shares the folders below it.
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
