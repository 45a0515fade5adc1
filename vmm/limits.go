package vmm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/vmm/cgroup"
	"minivmm/vmm/config"
)

// addLimits creates the machine's cgroup with this process in it, and sets the process's resource
// limits. It must run before anything that counts towards the limits is created: guest memory, vCPU
// threads, workers.
//
// Before it sets a limit, addLimits creates threads in advance (see [reserveThreads]), because a
// limit on tasks affects only tasks that are created later.
func (m *VM) addLimits() error {
	limits, err := cgroupConfig(&m.plan.Config)
	if err != nil {
		return err
	}
	release, err := kernelRelease()
	if err == nil {
		err = m.plan.cpuMaxHoldsOn(release)
	}
	if err != nil && m.plan.Limits.Strict {
		return err
	}
	if err != nil {
		m.opt.Logf("warning: %v", err)
	}
	if err := m.plan.reserveThreads(); err != nil {
		return err
	}
	if len(limits.Settings)+len(limits.VCPU) > 0 {
		if m.cgroup, err = cgroup.Make(limits); err != nil {
			return err
		}
		m.closers.push("cgroup "+m.cgroup.Path(), m.cgroup.Close)
		if unit := m.cgroup.Scope(); unit != "" {
			m.opt.Logf("limits: systemd created %s and moved this machine into it, out of the cgroup that it was started in", unit)
		}
	}
	return setRlimits(m.plan.Rlimits)
}

// cgroupConfig converts the configuration's limits to settings of the kernel's cgroup files.
func cgroupConfig(cfg *config.Config) (cgroup.Config, error) {
	l, c := cfg.Limits, cgroup.Config{Name: string(cfg.Name)}
	set := func(on bool, key, file, format string, args ...any) {
		if on {
			c.Settings = append(c.Settings, cgroup.Setting{Key: "limits." + key, File: file, Value: fmt.Sprintf(format, args...)})
		}
	}
	set(l.CPUWeight != 0, "cpu_weight", "cpu.weight", "%d", l.CPUWeight)
	set(l.CPUMax != 0, "cpu_max", "cpu.max", "%d %d", int(l.CPUMax)*cpuPeriod/100, cpuPeriod)
	set(len(l.CPUSet) > 0, "cpuset", "cpuset.cpus", "%v", l.CPUSet)
	set(l.MemoryHigh != 0, "memory_high", "memory.high", "%d", uint64(l.MemoryHigh))
	set(l.MemoryMax != 0, "memory_max", "memory.max", "%d", uint64(l.MemoryMax))
	set(l.IOWeight != 0, "io_weight", "io.weight", "default %d", l.IOWeight)
	paths := map[string]string{}
	for _, d := range l.IO {
		dev, err := diskOf(string(d.Path))
		if err != nil {
			return c, fmt.Errorf("limits.io: %w", err)
		}
		if other, twice := paths[dev]; twice {
			return c, fmt.Errorf("limits.io: %s and %s are on the same disk, %s: %w", other, d.Path, dev, unix.EINVAL)
		}
		paths[dev] = string(d.Path)
		set(d.Weight != 0, "io", "io.weight", "%s %d", dev, d.Weight)
		most := ioMax(d)
		set(most != "", "io", "io.max", "%s%s", dev, most)
	}
	set(l.PIDsMax != 0, "pids_max", "pids.max", "%d", l.PIDsMax)
	if l.Shared() {
		share := func(key string, n int) []cgroup.Setting {
			if n == 0 {
				n = defaultShare
			}
			return []cgroup.Setting{{Key: "limits." + key, File: "cpu.weight", Value: strconv.Itoa(n)}}
		}
		c.VCPU, c.IO = share("vcpu_share", l.VCPUShare), share("io_share", l.IOShare)
	}
	return c, nil
}

const (
	cpuPeriod    = 100_000 // µs, the kernel's default
	defaultShare = 100     // CGROUP_WEIGHT_DFL
)

// ioMax returns a line of io.max without the device.
func ioMax(d config.IOLimit) string {
	var b strings.Builder
	for _, w := range []struct {
		key string
		n   uint64
	}{
		{"rbps", uint64(d.ReadBPS)}, {"wbps", uint64(d.WriteBPS)}, {"riops", uint64(d.ReadIOPS)}, {"wiops", uint64(d.WriteIOPS)},
	} {
		if w.n != 0 {
			fmt.Fprintf(&b, " %s=%d", w.key, w.n)
		}
	}
	return b.String()
}

// diskOf returns the whole disk of a block device, or of the file system that a file is on, as
// MAJOR:MINOR. It returns the whole disk because the io controller does not know partitions.
func diskOf(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	dev := st.Dev
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		dev = st.Rdev
	}
	number := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	sys := "/sys/dev/block/" + number
	if _, err := os.Stat(sys); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s is not on a disk of this host, but on device %s: %w", path, number, unix.ENODEV)
	}
	if _, err := os.Stat(sys + "/partition"); err != nil {
		return number, nil
	}
	dir, err := filepath.EvalSymlinks(sys)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Dir(dir) + "/dev")
	return strings.TrimSpace(string(b)), err
}

// setRlimits sets the soft and hard limits of this process.
func setRlimits(r config.Rlimits) error {
	for _, l := range []struct {
		key   string
		which int
		value uint64
	}{
		{"nproc", unix.RLIMIT_NPROC, uint64(r.NProc)},
		{"nofile", unix.RLIMIT_NOFILE, uint64(r.NoFile)},
		{"memlock", unix.RLIMIT_MEMLOCK, uint64(r.Memlock)},
	} {
		if l.value == 0 {
			continue
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(l.which, &now); err != nil {
			return fmt.Errorf("rlimits.%s: %w", l.key, os.NewSyscallError("getrlimit", err))
		}
		if err := unix.Setrlimit(l.which, &unix.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("rlimits.%s: %d is more than the hard limit of minivmm, %d: %w", l.key, l.value, now.Max, os.NewSyscallError("setrlimit", err))
		}
	}
	return nil
}
