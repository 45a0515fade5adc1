package vmm_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"minivmm/internal/testbed/testenv"
	"minivmm/vmm/cgroup"
)

// TestConcurrentCgroups creates and removes machines' cgroups at the same time in one parent. Each
// needs controllers that the last one to stop disables.
func TestConcurrentCgroups(t *testing.T) {
	testenv.Need(t, "guests", "root") // a host that is used only by the tests
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), childEnv+"=cgroups")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%.1000s", err, out)
			}
		})
	}
	all.Wait()
	if left, _ := filepath.Glob("/sys/fs/cgroup/minivmm.race*"); len(left) > 0 {
		t.Errorf("%v are left behind", left)
	}
}

// cgroupsChild creates a cgroup, checks that its limits are set, and removes it, many times.
func cgroupsChild() error {
	cfg := cgroup.Config{
		Name:     "race",
		Settings: []cgroup.Setting{{Key: "limits.cpu_max", File: "cpu.max", Value: "90000 100000"}, {Key: "limits.pids_max", File: "pids.max", Value: "500"}},
	}
	for i := range 40 {
		g, err := cgroup.Make(cfg)
		if err != nil {
			return fmt.Errorf("cgroup %d: %w", i, err)
		}
		b, err := os.ReadFile(g.Path() + "/pids.max")
		if err == nil && strings.TrimSpace(string(b)) != "500" {
			err = fmt.Errorf("pids.max is %q", b)
		}
		if err := errors.Join(err, g.Close()); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
	}
	return nil
}
