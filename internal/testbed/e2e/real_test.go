package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// The variables with which a test's child prepares its environment and then becomes the program in
// it.
const (
	realVar = "MINIVMM_TEST_REAL" // set in such a child
	devVar  = "MINIVMM_TEST_DEV"  // "kvm=0600 net/tun=0666": a /dev with only these nodes; requires a mount namespace
	uidVar  = "MINIVMM_TEST_UID"  // the user id to switch to
	bindVar = "MINIVMM_TEST_BIND" // "FROM=TO FROM=TO": bind mounts; requires a mount namespace
)

// nobody is a user without any rights.
const nobody = 65534

// furnish prepares the process's environment and then becomes the program. It opens the program
// first, because the user may not be allowed to enter the program's folder.
func furnish() {
	dev, uid := os.Getenv(devVar), os.Getenv(uidVar)
	exe, err := os.Open(minivmm())
	err = errors.Join(err, bind(strings.Fields(os.Getenv(bindVar))), furnishDev(strings.Fields(dev)))
	if n, uerr := strconv.Atoi(uid); err == nil && uerr == nil {
		err = errors.Join(syscall.Setgroups(nil), syscall.Setgid(n), syscall.Setuid(n))
	}
	if err == nil {
		env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MINIVMM_TEST_") })
		err = syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", exe.Fd()), os.Args, env)
	}
	fmt.Fprintln(os.Stderr, "furnish:", err)
	os.Exit(99)
}

// bind mounts files and folders at other places, so that every user who can enter the new place can
// read them.
func bind(all []string) error {
	for _, word := range all {
		from, to, _ := strings.Cut(word, "=")
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s to %s: %w", from, to, err)
		}
	}
	return nil
}

func furnishDev(nodes []string) error {
	if len(nodes) == 0 {
		return nil
	}
	type node struct {
		path string
		mode uint32
		rdev uint64
	}
	var all []node
	for _, word := range nodes {
		name, mode, _ := strings.Cut(word, "=")
		n, err := strconv.ParseUint(mode, 8, 12)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat("/dev/"+name, &st); err != nil {
			return &os.PathError{Op: "stat", Path: "/dev/" + name, Err: err}
		}
		all = append(all, node{"/dev/" + name, uint32(n), st.Rdev})
	}
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	for _, n := range all {
		err := errors.Join(os.MkdirAll(filepath.Dir(n.path), 0o755),
			unix.Mknod(n.path, unix.S_IFCHR|n.mode, int(n.rdev)), unix.Chmod(n.path, n.mode))
		if err != nil {
			return fmt.Errorf("node %s: %w", n.path, err)
		}
	}
	return nil
}

// minivmm returns the program under test: the one that MINIVMM_BINARY names, or else the one that
// "make build" built.
func minivmm() string {
	path, err := filepath.Abs(cmp.Or(os.Getenv("MINIVMM_BINARY"), "../../../build/minivmm"))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		panic(fmt.Sprintf("%v: run make build first, or set MINIVMM_BINARY", err))
	}
	return path
}

// inPlaceOf has this test's executable start the command, after furnish has prepared the
// environment that the variables describe.
func inPlaceOf(t *testing.T, cmd *exec.Cmd, variables ...string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = exe
	cmd.Env = append(append(cmd.Env, realVar+"=1", "MINIVMM_BINARY="+minivmm()), variables...)
}

// realProgram is the real program with arguments, in a folder that every user may read, which
// contains a disk image of killBlocks blocks.
func realProgram(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(minivmm(), args...)
	cmd.Env = os.Environ()
	if dir := os.Getenv("MINIVMM_CACHE"); dir != "" {
		cmd.Env = append(cmd.Env, "XDG_CACHE_HOME="+dir)
	}
	cmd.Dir = t.TempDir()
	image := filepath.Join(cmd.Dir, "disk.img")
	if err := errors.Join(os.Chmod(filepath.Dir(cmd.Dir), 0o755), os.WriteFile(image, nil, 0o666), os.Chmod(image, 0o666), os.Truncate(image, killBlocks*killBlock)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// running is the real program with a guest in it.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	guest  *vmmtest.Transcript // the program's stdout
	log    *vmmtest.Transcript // the program's stderr
	stdin  io.Writer           // the guest's keyboard, if prepare created it
	ended  chan struct{}
	closed []io.Closer // closed when the program has exited
}

// prepare returns a machine whose guest obeys orders; more is appended to its configuration. Its
// stdin is a pipe and can be replaced until start.
func prepare(t *testing.T, cmdline, more string, guestArgs ...string) *running {
	t.Helper()
	testenv.Need(t, "kvm", "guests")
	k := vmmtest.Kernels(t)[0]
	cmd := realProgram(t, "run", "machine.toml")
	text := fmt.Sprintf("[boot]\nkernel = %q\ninitrd = %q\ncmdline = %q\n%s", k.Image, vmmtest.Initrd(t, k, "obey", guestArgs...), strings.TrimSpace("quiet "+cmdline), more)
	if err := os.WriteFile(filepath.Join(cmd.Dir, "machine.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &running{t: t, cmd: cmd, guest: vmmtest.NewTranscript(), log: vmmtest.NewTranscript(), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, m.stdin, cmd.Stdout, cmd.Stderr = r, w, m.guest, m.log
	m.closed = append(m.closed, r, w)
	return m
}

// onTerminal gives the program a terminal on which the test types.
func (m *running) onTerminal() (near *os.File) {
	m.t.Helper()
	far, near := clitest.PTY(m.t)
	far.SetDeadline(time.Time{})
	m.cmd.Stdin, m.cmd.Stdout, m.stdin = near, near, far
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	go io.Copy(m.guest, far) // returns when PTY's cleanup closes far
	return near
}

// start starts the program. If it still runs when the test ends, it is killed.
func (m *running) start() *running {
	m.t.Helper()
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		defer close(m.ended)
		m.cmd.Wait()
		m.guest.End()
		m.log.End()
	}()
	m.t.Cleanup(func() {
		m.cmd.Process.Kill()
		<-m.ended
		for _, c := range m.closed {
			c.Close()
		}
		if m.t.Failed() {
			m.t.Logf("console:\n%s\nstderr:\n%s", m.guest, m.log)
		}
	})
	return m
}

// expect waits for the guest to write pattern.
func (m *running) expect(pattern string) []string {
	m.t.Helper()
	match, err := m.guest.Expect(pattern)
	if err != nil {
		m.t.Fatalf("waiting for %q: %v", pattern, err)
	}
	return match
}

// order types a line and waits for the answer.
func (m *running) order(line, answer string) []string {
	m.t.Helper()
	if _, err := io.WriteString(m.stdin, line+"\n"); err != nil {
		m.t.Fatal(err)
	}
	return m.expect(answer)
}

// exits waits until the program has exited and compares its exit code; as in package os, -1 means
// that a signal killed it.
func (m *running) exits(want int) {
	m.t.Helper()
	select {
	case <-m.ended:
	case <-time.After(testenv.Patience):
		m.t.Fatal("the program did not exit")
	}
	if got := m.cmd.ProcessState.ExitCode(); got != want {
		m.t.Errorf("exit code %d, want %d", got, want)
	}
}

// says checks that stderr contains a text.
func (m *running) says(text string) {
	m.t.Helper()
	if !strings.Contains(m.log.String(), text) {
		m.t.Errorf("stderr is %q, want %q in it", m.log, text)
	}
}

func (m *running) signal(sig syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(sig); err != nil {
		m.t.Fatal(err)
	}
}

// leavesNothing fails the test if the host at the end has something that it did not have before. It
// waits for work that the kernel does on its own.
func leavesNothing(t *testing.T) {
	t.Helper()
	before := leftovers(t)
	t.Cleanup(func() {
		var after []string
		if !clitest.Eventually(func() bool { after = leftovers(t); return slices.Equal(before, after) }) {
			t.Errorf("the host had %q before and has %q after", before, after)
		}
	})
}

// leftovers lists what a machine creates outside of its process, and the processes and kernel
// threads of machines.
func leftovers(t *testing.T) []string {
	t.Helper()
	testenv.Need(t, "kvm", "guests")
	var all []string
	for _, pattern := range []string{
		"/sys/class/net/*", "/sys/kernel/config/target/core/*_[0-9]*", "/sys/kernel/config/target/core/*_[0-9]*/*",
		"/sys/kernel/config/target/vhost/naa.*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return append(all, processes(t)...)
}

// processes lists other processes of this executable, and vhost workers.
func processes(t *testing.T) (all []string) {
	t.Helper()
	exe := minivmm()
	tasks, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		comm, err := os.ReadFile(task + "/comm")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if strings.HasPrefix(string(comm), "vhost-") {
			all = append(all, task+" "+strings.TrimSpace(string(comm)))
		}
		process := filepath.Dir(filepath.Dir(task))
		if path, _ := os.Readlink(process + "/exe"); path == exe && filepath.Base(task) == filepath.Base(process) && filepath.Base(process) != strconv.Itoa(os.Getpid()) {
			all = append(all, process+" "+exe)
		}
	}
	return all
}
