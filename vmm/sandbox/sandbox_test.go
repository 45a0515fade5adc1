package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain runs the test's child process: it protects itself and prints what became of it.
func TestMain(m *testing.M) {
	if os.Getenv("MINIVMM_SANDBOX_CHILD") != "" {
		child()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// statusOf returns the lines of a task's status file that describe rights.
func statusOf(task string) string {
	b, err := os.ReadFile(task + "/status")
	if err != nil {
		return err.Error()
	}
	return strings.Join(regexp.MustCompile(`(?m)^(Cap|NoNewPrivs).*$`).FindAllString(string(b), -1), "\n")
}

func child() {
	if err := Process(); err != nil {
		fmt.Println(err)
	}
	dropped, later := make(chan string), make(chan string)
	go func() {
		runtime.LockOSThread()
		if err := Thread(); err != nil {
			fmt.Println(err)
		}
		// A goroutine that needs a thread of its own, started from the locked one.
		go func() {
			runtime.LockOSThread()
			later <- statusOf("/proc/thread-self")
		}()
		dropped <- statusOf("/proc/thread-self")
		select {}
	}()
	fmt.Printf("later: %s\nthread: %s\n", <-later, <-dropped)
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, task := range tasks {
		if s := statusOf(task); !strings.Contains(s, "NoNewPrivs:\t1") {
			fmt.Printf("%s may gain privileges: %s\n", task, s)
		}
	}
	dumpable, _, _ := unix.Syscall(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0)
	var core unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_CORE, &core)
	fmt.Printf("dumpable %d, core %d of %d\n", dumpable, core.Cur, core.Max)
}

func TestRightsAreGone(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MINIVMM_SANDBOX_CHILD=1")
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	out := string(b)
	t.Log(out)
	if !strings.Contains(out, "dumpable 0, core 0 of 0\n") {
		t.Error("the process is dumpable, or leaves a core file")
	}
	if strings.Contains(out, "may gain privileges") && !withCgo() {
		t.Error("a thread may gain privileges")
	}
	_, thread, _ := strings.Cut(out, "thread: ")
	thread, _, _ = strings.Cut(thread, "dumpable")
	sets := regexp.MustCompile(`Cap(Inh|Prm|Eff|Bnd|Amb):\t0{16}`).FindAllString(thread, -1)
	want := 5
	if os.Getuid() != 0 {
		want = 4 // the bounding set needs CAP_SETPCAP
	}
	if len(sets) < want {
		t.Errorf("the thread has capabilities: %s", thread)
	}
	// Threads started later have what the process has.
	if os.Getuid() == 0 && regexp.MustCompile(`later: .*\n.*\nCapEff:\t0{16}`).MatchString(out) {
		t.Error("a thread that was started later has no capabilities")
	}
}

// withCgo reports whether the test was built with cgo: then Process reaches only the calling thread.
func withCgo() bool {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0)
	return errno == unix.ENOTSUP
}
