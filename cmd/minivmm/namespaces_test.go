package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/kerneltest"
	"minivmm/internal/testbed/testenv"
)

// whereabouts describes the namespaces of this process, for the fake guest "where".
func whereabouts() string {
	var words []string
	for _, ns := range []string{"net", "mnt", "uts", "ipc", "user", "pid"} {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			return err.Error()
		}
		words = append(words, link)
	}
	host, _ := os.Hostname()
	lo, err := net.InterfaceByName("lo")
	up := err == nil && lo.Flags&net.FlagUp != 0
	// The process ID in /proc must be the one that system calls use.
	self, _ := os.Readlink("/proc/self")
	return fmt.Sprintf("%s host=%s uid=%d pid=%d proc=%s lo=%v env=%q", strings.Join(words, " "), host, os.Getuid(), os.Getpid(), self, up, os.Getenv("MINIVMM_OUTER_NAMESPACES"))
}

// inNamespaces returns the program with a fake guest and a [namespaces] table.
func inNamespaces(t *testing.T, guest, table string) *exec.Cmd {
	t.Helper()
	testenv.Need(t, "root")
	cmd := program(t, guest, "run", "ns.toml")
	text := "name = '" + uniqueName() + "'\n[boot]\nkernel = 'vmlinuz'\n[machine]\nshutdown_timeout = '1h'\n[namespaces]\n" + table
	if err := os.WriteFile(filepath.Join(cmd.Dir, "ns.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestNamespacesAreTheMachinesOwn checks from the inside that the configured namespaces differ from
// the test's, and that all others are the test's.
func TestNamespacesAreTheMachinesOwn(t *testing.T) {
	name := fmt.Sprintf("mvmtest%d", os.Getpid())
	named := clitest.NetNS(t, name)
	ours := strings.Fields(whereabouts())
	host, _ := os.Hostname()
	for _, tt := range []struct {
		table string
		own   string // kinds that differ
		rest  string // the output after the links; PID is the program's process ID
	}{
		{"", "", "host=HOST uid=0 pid=PID proc=PID"},
		{"net = 'new'", "net", "host=HOST uid=0 pid=PID proc=PID lo=true"},
		{"net = 'mvmtest'", "net", "host=HOST uid=0 pid=PID proc=PID lo=false"},
		{"mount = true\nuts = true\nipc = true", "mnt uts ipc", "host=NAME uid=0 pid=PID proc=PID"},
		{"pid = true", "mnt pid", "host=HOST uid=0 pid=1 proc=1"},
		{"user = true\nnet = 'new'\nuts = true", "net uts user", "host=NAME uid=0 pid=[0-9]+ proc=[0-9]+ lo=true"},
		{"user = true\npid = true\nnet = 'mvmtest'\nipc = true\nuts = true", "net mnt uts ipc user pid", "host=NAME uid=0 pid=1 proc=1 lo=false"},
	} {
		cmd := inNamespaces(t, "where", strings.ReplaceAll(tt.table, "mvmtest", name))
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out := bufio.NewReader(pipe)
		out.ReadString('\n') // "ready"
		line, err := out.ReadString('\n')
		if err != nil {
			cmd.Process.Kill()
			t.Errorf("%s: %q, %v; stderr %s", tt.table, line, err, &errs)
			cmd.Wait()
			continue
		}
		cmd.Process.Signal(syscall.SIGTERM)
		theirs := strings.Fields(line)
		var own []string
		for i := range 6 {
			kind, _, _ := strings.Cut(theirs[i], ":")
			if theirs[i] != ours[i] {
				own = append(own, kind)
			}
		}
		if got := strings.Join(own, " "); got != tt.own {
			t.Errorf("%s: own namespaces are %q, want %q", tt.table, got, tt.own)
		}
		if strings.Contains(tt.table, "mvmtest") && theirs[0] != named {
			t.Errorf("%s: the network namespace is %s, want %s", tt.table, theirs[0], named)
		}
		want := strings.NewReplacer("NAME", fmt.Sprintf("test-%d-%d", os.Getpid(), programs), "HOST", regexp.QuoteMeta(host), "PID", fmt.Sprint(cmd.Process.Pid)).Replace(tt.rest)
		rest := strings.Join(theirs[6:], " ")
		if !regexp.MustCompile("^" + want + `( lo=\w+)? env=""$`).MatchString(rest) {
			t.Errorf("%s: %s, want %s", tt.table, rest, want)
		}
		if got := clitest.Code(cmd); got != 0 {
			t.Errorf("%s: exit code %d; stderr %s", tt.table, got, &errs)
		}
	}
	if now, _ := os.Hostname(); now != host {
		t.Errorf("the host's name was %s and is %s", host, now)
	}
}

// TestTheOuterProcessStandsForTheMachine checks the process outside the namespaces: it passes
// signals and exit codes through, and when it dies the machine dies.
func TestTheOuterProcessStandsForTheMachine(t *testing.T) {
	const table = "user = true\npid = true"
	for _, tt := range []struct {
		guest  string
		signal syscall.Signal
		code   int
	}{
		{"off", 0, 0},
		{"reboot", 0, 10},
		{"crash", 0, 11},
		{"polite", syscall.SIGTERM, 0},
		{"polite", syscall.SIGINT, 0},
		{"polite", syscall.SIGHUP, 0},
	} {
		cmd := inNamespaces(t, tt.guest, table)
		// Without the test's terminal, so that only the test sends signals.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		_, errs := begin(t, cmd)
		if tt.signal != 0 {
			cmd.Process.Signal(tt.signal)
		}
		if got := clitest.Code(cmd); got != tt.code {
			t.Errorf("%s, %v: exit code %d, want %d; stderr %s", tt.guest, tt.signal, got, tt.code, errs)
		}
	}
	insist(t, inNamespaces(t, "deaf", table))
	cmd := inNamespaces(t, "deaf", table)
	begin(t, cmd)
	child := childOf(t, cmd)
	cmd.Process.Kill()
	cmd.Wait()
	if !clitest.Eventually(func() bool { _, err := os.Stat("/proc/" + child); return err != nil }) {
		t.Errorf("process %s outlives its parent", child)
	}
}

// childOf returns the child process of cmd.
func childOf(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
	for _, task := range tasks {
		if pids, _ := os.ReadFile(task); len(pids) > 0 {
			return strings.Fields(string(pids))[0]
		}
	}
	t.Fatal("cmd has no child process")
	return ""
}

// TestAnEarlySignalStopsTheProgram sends a signal before the first process of a pid namespace has
// installed its handlers.
func TestAnEarlySignalStopsTheProgram(t *testing.T) {
	for _, table := range []string{"user = true\npid = true", "pid = true", "user = true"} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
			cmd := inNamespaces(t, "early", table)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			in, err1 := cmd.StdinPipe() // kept open: at end of input the program would proceed
			out, err2 := cmd.StdoutPipe()
			if err := errors.Join(err1, err2, cmd.Start()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill() })
			clitest.Expect(t, out, "early\n")
			cmd.Process.Signal(sig)
			if got := clitest.Code(cmd); got != 128+int(sig) {
				t.Errorf("%s, %v: exit code %d", table, sig, got)
			}
			in.Close()
		}
	}
}

// TestNotesAppearOnce has a cache that cannot be created, outside the namespaces and inside.
func TestNotesAppearOnce(t *testing.T) {
	cmd := inNamespaces(t, "off", "uts = true")
	cmd.Env = append(cmd.Env, cache.Env+"=/proc/none")
	if err := os.WriteFile(filepath.Join(cmd.Dir, "vmlinuz"), kerneltest.BzImage("6.12.3"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := clitest.Finish(t, cmd)
	if code != 0 || strings.Count(errs, "the unpacked kernel cannot be cached") != 1 {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
}

// TestATerminalPassesThrough checks that the machine's process uses the terminal of the outer
// process.
func TestATerminalPassesThrough(t *testing.T) {
	far, near := clitest.PTY(t)
	cmd := inNamespaces(t, "echo", "user = true\npid = true")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = near, near, near
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	clitest.Expect(t, far, "ready\r\n")
	io.WriteString(far, "hello\x03") // not a signal: the terminal is raw
	clitest.Expect(t, far, "hello\x03")
	io.WriteString(far, "\x01x")
	if got := clitest.Code(cmd); got != 14 {
		t.Errorf("exit code %d after Ctrl-A x", got)
	}
}

// TestNamespaceErrorsNameTheRemedy checks that each error names the namespaces and what to do.
func TestNamespaceErrorsNameTheRemedy(t *testing.T) {
	for _, tt := range []struct {
		name, table string
		uid         uint32
		nproc       int    // RLIMIT_NPROC to start with, with uid
		before      string // shell command, in a new user namespace
		code        int
		want        []string
	}{
		{name: "an unknown name", table: "net = 'mvm-nowhere'", code: 4,
			want: []string{`namespaces.net: open /run/netns/mvm-nowhere: no such device`, "ip netns add mvm-nowhere"}},
		{name: "no privileges", table: "uts = true\nnet = 'new'", uid: 65534, code: 5,
			want: []string{"namespaces (net, uts): unshare: operation not permitted", "namespaces.user = true"}},
		{name: "no room for another process", table: "user = true\npid = true", uid: 65534, nproc: 60, code: 4,
			want: []string{"minivmm needs up to ", "RLIMIT_NPROC 60: uid 65534 has "}},
		{name: "a limit", table: "uts = true\nnet = 'new'", before: "echo 0 > /proc/sys/user/max_net_namespaces", code: 4,
			want: []string{"namespaces (net, uts): unshare: no space left on device", "user.max_net_namespaces is 0: the host has "}},
		{name: "a limit for a child", table: "user = true", before: "echo 0 > /proc/sys/user/max_user_namespaces", code: 4,
			want: []string{"namespaces (user): clone: ", "no space left on device", "user.max_user_namespaces is 0: the host has "}},
	} {
		cmd := inNamespaces(t, "off", tt.table)
		if tt.uid != 0 {
			if err := errors.Join(os.Chmod(filepath.Dir(cmd.Dir), 0o755), os.Chmod(cmd.Dir, 0o755), os.Chmod(filepath.Join(cmd.Dir, "ns.toml"), 0o644), os.Chmod(filepath.Join(cmd.Dir, "vmlinuz"), 0o644)); err != nil {
				t.Fatal(err)
			}
			// Other users cannot enter the directory of the test's executable.
			exe, err := os.Open(cmd.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer exe.Close()
			cmd.Path, cmd.ExtraFiles = "/proc/self/fd/3", []*os.File{exe}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tt.uid, Gid: tt.uid}}
		}
		if tt.nproc != 0 {
			limited := exec.Command("prlimit", append([]string{fmt.Sprintf("--nproc=%d", tt.nproc), cmd.Path}, cmd.Args[1:]...)...)
			limited.Env, limited.Dir, limited.ExtraFiles, limited.SysProcAttr = cmd.Env, cmd.Dir, cmd.ExtraFiles, cmd.SysProcAttr
			cmd = limited
		}
		if tt.before != "" {
			sh := exec.Command("unshare", append([]string{"--user", "--map-root-user", "sh", "-c", tt.before + ` && exec "$@"`, "sh"}, cmd.Args...)...)
			sh.Env, sh.Dir = cmd.Env, cmd.Dir
			cmd = sh
		}
		code, _, errs := clitest.Finish(t, cmd)
		if code != tt.code {
			t.Errorf("%s: exit code %d, want %d", tt.name, code, tt.code)
		}
		for _, want := range tt.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: stderr %q, want it to contain %q", tt.name, errs, want)
			}
		}
	}
}
