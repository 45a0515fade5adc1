package vmm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// TestEveryLimitOfTasksIsReported starts machines under limits from far too low to sufficient, each
// in a new process. Whatever the value, the result is a machine whose vCPU has run, or an error
// with the limit, its value and its use; never the Go runtime's "failed to create new OS thread".
func TestEveryLimitOfTasksIsReported(t *testing.T) {
	testenv.Need(t, "kvm", "vhost-net", "guests", "root")
	nobody := syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: 65534, Gid: 65534},
		// Capabilities to create a tap and to open the devices and the kernel regardless of their
		// owner, but not those that lift the limit.
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_DAC_OVERRIDE},
	}
	for _, tt := range []struct {
		key, named string
		attr       syscall.SysProcAttr
		threads    bool // the limit is the host's and includes minivmm's own threads
	}{
		{"limits.pids_max", "pids.max %d of cgroup /minivmm.test-0: it has ", syscall.SysProcAttr{}, false},
		{"rlimits.nproc", "RLIMIT_NPROC %d: uid 65534 has ", nobody, false},
		{outsideLimit, "RLIMIT_NPROC %d: uid 65534 has ", nobody, true},
	} {
		start := func(limit int) (tasks int, refusal string) {
			tasks, refusal = tryMachine(t, fmt.Sprintf("%s = %d\n", tt.key, limit), 2, tt.attr)
			if want := fmt.Sprintf(tt.named, limit); refusal != "" && !strings.Contains(refusal, want) {
				t.Errorf("%s = %d: %s\nwant it to contain %q", tt.key, limit, refusal, want)
			}
			return tasks, refusal
		}
		all, refusal := start(1000)
		if refusal != "" {
			t.Fatalf("%s = 1000: %s", tt.key, refusal)
		}
		refused, worked := 0, 1000
		limits := []int{1, all, all + 1, all + 2}
		if tt.threads {
			limits = []int{25, all, all + 30} // a Go program starts with about a dozen
		}
		for _, limit := range limits {
			if _, refusal := start(limit); refusal != "" {
				refused = max(refused, limit)
				t.Logf("%s = %d: %s", tt.key, limit, refusal)
			} else {
				worked = min(worked, limit)
			}
		}
		t.Logf("%s: a machine with %d tasks is refused up to a limit of %d, and works from %d", tt.key, all, refused, worked)
		// Before Linux 6.4 the workers are kernel threads, and no limit counts them.
		if threads := threadWorkers(t) || tt.threads; threads && (refused >= worked || refused == 0) || !threads && refused != 0 {
			t.Errorf("%s: refused up to %d, worked from %d", tt.key, refused, worked)
		}
	}
}

// tryMachine starts a machine in a new process. It returns the number of its tasks, or why it did
// not start.
func tryMachine(t *testing.T, limit string, cards int, attr syscall.SysProcAttr) (tasks int, refusal string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"=tasks", fmt.Sprintf("%s_CONFIG=%sname = \"test-0\"\nmachine.memory = \"128M\"\nmachine.vcpus = 2\nboot.kernel = %q\n%s",
		childEnv, limit, vmmtest.Vmlinux(t, vmmtest.Kernels(t)[0]), strings.Repeat("[[net]]\n", cards)))
	cmd.Dir, cmd.SysProcAttr = "/", &attr
	var said strings.Builder // the guest's console, and the Go runtime's message if it crashes
	cmd.Stderr = &said
	out, err := cmd.Output()
	text := strings.TrimSpace(string(out))
	if n, ok := strings.CutPrefix(text, "tasks "); ok && err == nil {
		tasks, err = strconv.Atoi(n)
	} else if r, ok := strings.CutPrefix(text, "refused: "); ok && err == nil {
		refusal = r
	} else {
		t.Fatalf("%s: %v %q\n%.3000s", limit, err, out, said.String())
	}
	return tasks, refusal
}

// TestTooFewFiles checks that the smallest limit that the configuration allows is enough for a
// machine with one card, and not for one with many.
func TestTooFewFiles(t *testing.T) {
	testenv.Need(t, "kvm", "vhost-net", "guests", "root")
	for cards, refused := range map[int]bool{1: false, 12: true} {
		_, refusal := tryMachine(t, "rlimits.nofile = 64\n", cards, syscall.SysProcAttr{})
		t.Logf("%d cards: %s", cards, refusal)
		if refused != strings.Contains(refusal, "too many open files (RLIMIT_NOFILE 64 is too low") {
			t.Errorf("%d cards and 64 files: %q", cards, refusal)
		}
	}
}

// outsideLimit, in place of a key, is a limit that the process is started with.
const outsideLimit = "# nproc"

// tasksChild starts a machine and reports the result.
func tasksChild(text string) error {
	first, _, _ := strings.Cut(text, "\n")
	if n, ok := strings.CutPrefix(first, outsideLimit+" = "); ok {
		limit, err := strconv.ParseUint(n, 10, 32)
		if err != nil {
			return err
		}
		if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	m, err := newFromText(text)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		_, err = m.Run(ctx)
		if err == nil {
			threads, _ := os.ReadDir("/proc/self/task")
			fmt.Println("tasks", len(threads))
		}
		if cerr := m.Close(); cerr != nil {
			return cerr
		}
	}
	if err != nil && !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EMFILE) {
		return err
	}
	if err != nil {
		fmt.Println("refused:", err)
	}
	if taps, err := filepath.Glob("/sys/class/net/mvm*"); err != nil || len(taps) > 0 {
		return fmt.Errorf("taps %v are left behind, %v", taps, err)
	}
	return nil
}
