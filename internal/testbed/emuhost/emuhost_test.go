package emuhost

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/testenv"
)

// needHost returns a prepared host. It skips the test unless MINIVMM_REQUIRE lists emuhost.
func needHost(t *testing.T, change func(*Config)) *Host {
	t.Helper()
	testenv.NeedAsked(t, "emuhost", "starts the emulated host, which takes minutes to build the first time")
	c, err := cache.Open(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	config := DefaultConfig()
	if change != nil {
		change(&config)
	}
	h, err := Prepare(t.Context(), c, config)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// shell runs a shell script in the host and returns its exit status and output.
func shell(t *testing.T, h *Host, stdin []byte, script string) (exit agent.Exit, stdout, stderr []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var o, e bytes.Buffer
	exit, err := h.Run(ctx, agent.Command{Argv: []string{"/bin/sh", "-c", script}, Env: os.Environ(), Dir: "/"},
		agent.Streams{Stdin: bytes.NewReader(stdin), Stdout: &o, Stderr: &e})
	if err != nil {
		t.Fatalf("%v\nstdout: %s\nstderr: %s", err, &o, &e)
	}
	return exit, o.Bytes(), e.Bytes()
}

func TestHostHasWhatMinivmmNeeds(t *testing.T) {
	for _, name := range []string{"6.12", "6.1"} {
		t.Run(name, func(t *testing.T) {
			h := needHost(t, func(c *Config) { c.Kernel = name })
			exit, out, errs := shell(t, h, nil, `
				uname -r; hostname
				for d in kvm vhost-net vhost-scsi vhost-vsock net/tun ptmx; do test -c /dev/$d || echo no $d; done
				for d in /sys/kernel/config/target /sys/fs/cgroup/cgroup.procs /sys/kernel/debug/kvm /sys/kernel/tracing/events /dev/shm /dev/pts; do
					test -e $d || echo no $d; done
				test -e /lib/modules/$(uname -r)/modules.dep || echo no modules.dep
				modprobe dummy || echo no modprobe
				test -d /proc/self/fd -a -e /dev/fd/0 || echo no fd
				cat /sys/class/net/lo/operstate; cat /sys/class/net/lo/flags
				cat /sys/fs/cgroup/cgroup.subtree_control
				unshare -U true || echo no user namespaces
				echo x > /etc/hostname && echo x > /tmp/emuhost-test-file && rm /etc/hostname || echo cannot write
			`)
			want := h.kernel.Release + "\nemuhost\nunknown\n0x9\ncpuset cpu io memory pids\n"
			if exit.Code() != 0 || string(out) != want {
				t.Errorf("exit %+v, got\n%s\nwant\n%s\nstderr: %s", exit, out, want, errs)
			}
			if _, err := os.Stat("/tmp/emuhost-test-file"); err == nil {
				t.Error("a file that the host wrote outside a share appeared on this machine")
			}
		})
	}
}

func TestStreamsAreCleanAndUnmixed(t *testing.T) {
	h := needHost(t, nil)
	in := make([]byte, 3<<20)
	for i := range in {
		in[i] = byte(i * i >> 7)
	}
	exit, out, errs := shell(t, h, in, "tee /dev/stderr; exit 42")
	if exit.Status != 42 || exit.Signal != 0 {
		t.Errorf("exit %+v, want status 42", exit)
	}
	if !bytes.Equal(out, in) {
		t.Errorf("stdout differs from stdin: %d bytes of output, %d of input", len(out), len(in))
	}
	if !bytes.Equal(errs, in) {
		t.Errorf("stderr differs from stdin: %d bytes of output, %d of input", len(errs), len(in))
	}
}

func TestSignalAndMissingProgramAreReported(t *testing.T) {
	h := needHost(t, nil)
	exit, _, _ := shell(t, h, nil, "kill -9 $$")
	if exit.Signal != 9 || exit.Code() != 137 {
		t.Errorf("exit %+v, want signal 9", exit)
	}
	exit, err := h.Run(t.Context(), agent.Command{Argv: []string{"no-such-program"}, Env: os.Environ(), Dir: "/"}, agent.Streams{})
	if exit.Code() != 127 || err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("missing program: got %+v, %v, want status 127 and its name", exit, err)
	}
}

func TestUnreadInputDoesNotBlock(t *testing.T) {
	h := needHost(t, nil)
	exit, out, _ := shell(t, h, make([]byte, 8<<20), "sleep 1; echo done")
	if exit.Code() != 0 || string(out) != "done\n" {
		t.Errorf("exit %+v, output %q", exit, out)
	}
}

func TestLeftoverProcessesDoNotKeepTheHostRunning(t *testing.T) {
	h := needHost(t, nil)
	exit, out, _ := shell(t, h, nil, "sleep 1000 & setsid sleep 1000 & echo done")
	if exit.Code() != 0 || string(out) != "done\n" {
		t.Errorf("exit %+v, output %q", exit, out)
	}
}

func TestChangesToSharesPersist(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("from outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := needHost(t, func(c *Config) { c.Shares = []string{dir} })
	exit, _, errs := shell(t, h, nil, "cd "+dir+" && cp in out && mkdir sub && dd if=/dev/zero of=sub/big bs=64k count=64 2>/dev/null && mv in moved")
	if exit.Code() != 0 {
		t.Fatalf("exit %+v: %s", exit, errs)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || string(b) != "from outside" {
		t.Errorf("out: %q, %v", b, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "sub/big")); err != nil || info.Size() != 4<<20 {
		t.Errorf("sub/big: %v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "moved")); err != nil {
		t.Error(err)
	}
}

func TestTerminalHasItsSize(t *testing.T) {
	h := needHost(t, nil)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	var out bytes.Buffer
	if _, err := w.WriteString("exit 7\n"); err != nil {
		t.Fatal(err)
	}
	exit, err := h.Run(t.Context(), agent.Command{
		Argv: []string{"/bin/sh", "-c", "stty size; test -t 0 -a -t 1 -a -t 2 && echo tty; tty > /dev/tty; exec /bin/sh"}, Env: os.Environ(), Dir: "/",
		Terminal: &agent.Terminal{Rows: 33, Cols: 101},
	}, agent.Streams{Stdin: r, Stdout: &out})
	if err != nil || exit.Code() != 7 {
		t.Errorf("exit %+v, %v, want status 7", exit, err)
	}
	for _, want := range []string{"33 101\r\n", "tty\r\n", "/dev/pts/0\r\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q: %q", want, out.String())
		}
	}
}

func TestPanicIsShownWithTheKernelLog(t *testing.T) {
	h := needHost(t, nil)
	_, err := h.Run(t.Context(), agent.Command{Argv: []string{"/bin/sh", "-c", "echo c > /proc/sysrq-trigger; sleep 100"}, Env: os.Environ(), Dir: "/"}, agent.Streams{})
	var d *Death
	if !errors.As(err, &d) {
		t.Fatalf("got %v, want a Death", err)
	}
	if d.Cause.Error() != "kernel panic" || !strings.Contains(d.Log, "Kernel panic - not syncing: sysrq triggered crash") {
		t.Errorf("got %v, want a kernel panic and its log", d)
	}
}

func TestTimeLimitStopsQEMU(t *testing.T) {
	h := needHost(t, nil)
	over := errors.New("time limit exceeded")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, over)
	defer cancel()
	start := time.Now()
	_, err := h.Run(ctx, agent.Command{Argv: []string{"/bin/sleep", "1000"}, Env: os.Environ(), Dir: "/"}, agent.Streams{})
	var d *Death
	if !errors.As(err, &d) || !errors.Is(err, over) {
		t.Errorf("got %v, want a Death caused by the time limit", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("Run took %v after a limit of 2s", took)
	}
	// QEMU is this process's child, and Run waits for it.
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("a child process is left: pid %d, %v", pid, err)
	}
}

func TestInstructionClockIsCountedInInstructions(t *testing.T) {
	h := needHost(t, func(c *Config) { c.Icount, c.CPUs = true, 1 })
	exit, out, _ := shell(t, h, nil, "nproc; cat /sys/devices/system/clocksource/clocksource0/current_clocksource")
	if exit.Code() != 0 || !strings.HasPrefix(string(out), "1\n") {
		t.Errorf("exit %+v, output %q", exit, out)
	}
}

func TestArgumentsOfQEMU(t *testing.T) {
	h := &Host{config: Config{Kernel: "6.12", CPUs: 1, MemoryMiB: 512, Icount: true, Shares: []string{"/a", "/b c"}}}
	h.qemu.Folders = []string{"/roms"}
	h.vmlinux, h.initrd = "/vmlinux", "/initrd"
	args := h.arguments()
	for _, want := range [][]string{
		{"-L", "/roms"},
		{"-accel", "tcg,thread=single", "-cpu", "max,+svm", "-smp", "1", "-m", "512", "-icount", "shift=0,sleep=off"},
		{"-kernel", "/vmlinux", "-initrd", "/initrd"},
		{"-fsdev", "local,id=root,path=/,readonly=on,security_model=none,multidevs=remap"},
		{"-fsdev", "local,id=share1,path=/b c,security_model=none,multidevs=remap", "-device", "virtio-9p-pci,fsdev=share1,mount_tag=share1"},
	} {
		if !containsRun(args, want) {
			t.Errorf("arguments lack %q:\n%q", want, args)
		}
	}
	if slices.Contains(args, "-no-reboot") == false {
		t.Error("-no-reboot is missing: a panic would reboot the host")
	}
}

func containsRun(all, run []string) bool {
	for i := range all {
		if len(all)-i >= len(run) && slices.Equal(all[i:i+len(run)], run) {
			return true
		}
	}
	return false
}

func TestConfigIsChecked(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no cpus":        func(c *Config) { c.CPUs = 0 },
		"icount smp":     func(c *Config) { c.Icount = true },
		"no memory":      func(c *Config) { c.MemoryMiB = 0 },
		"relative share": func(c *Config) { c.Shares = []string{"x"} },
		"root share":     func(c *Config) { c.Shares = []string{"/"} },
		"absent share":   func(c *Config) { c.Shares = []string{dir + "/absent"} },
		"file share":     func(c *Config) { c.Shares = []string{file} },
		"comma":          func(c *Config) { c.Shares = []string{dir + "/a,readonly=off"} },
	} {
		c := DefaultConfig()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: Validate returned no error", name)
		}
	}
	c := DefaultConfig()
	c.Shares = []string{dir}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestOnlyOutermostFoldersAreShared(t *testing.T) {
	got := outermost([]string{"/b/c", "/a/", "/b", "/a/x/..", "/bc", "/b/c/d"})
	if want := []string{"/a", "/b", "/bc"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFoldersThatGoTestWritesTo(t *testing.T) {
	tests := []struct {
		name      string
		args, env []string
		want      []string
	}{
		{"plain", []string{"-test.paniconexit0", "-test.timeout=10m0s"}, nil, nil},
		{"test log", []string{"-test.testlogfile=/w/b001/testlog.txt"}, nil, []string{"/w/b001"}},
		{"coverage", []string{"-test.coverprofile=/w/b001/_cover_.out", "-test.gocoverdir=/w/b001/gocoverdir"}, nil, []string{"/w/b001"}},
		{"profile in the output folder", []string{"-test.outputdir=/out", "-test.cpuprofile=cpu.prof"}, nil, []string{"/out"}},
		{"profile in the package's folder", []string{"-test.memprofile", "sub/mem.prof"}, nil, []string{"/pkg/sub"}},
		{"fuzzing", []string{"-test.fuzz=FuzzX", "-test.fuzzcachedir=/cache/fuzz"}, nil, []string{"/cache/fuzz", "/pkg"}},
		{"cover folder by environment", nil, []string{"GOCOVERDIR=/cov"}, []string{"/cov"}},
		{"arguments of the test itself", []string{"-args", "-test.trace=/x/trace"}, nil, nil},
		{"a word that only looks like a flag", []string{"test.trace=/x/trace"}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := TestShares(tt.args, tt.env, "/pkg"); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestKernelLogKeepsItsEnd(t *testing.T) {
	l := &kernelLog{}
	for range 5 * logBytes / 10 {
		if _, err := l.Write([]byte("123456789\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Write([]byte("one\r\ntwo\r\n")); err != nil {
		t.Fatal(err)
	}
	if len(l.kept) > 2*logBytes {
		t.Errorf("the log keeps %d bytes, want at most %d", len(l.kept), 2*logBytes)
	}
	if got := l.tail(3); got != "123456789\none\ntwo" {
		t.Errorf("got %q", got)
	}
	if !l.contains("two") || l.contains("three") {
		t.Error("contains does not find \"two\", or finds \"three\"")
	}
}
