package procfs

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

func TestOuter(t *testing.T) {
	for _, test := range []struct {
		uidMap  string
		uid     int
		above   int
		initial bool
	}{
		{"         0          0 4294967295\n", 0, 0, true},
		{"         0          0 4294967295\n", 1000, 1000, true},
		{"         0       1000          1\n", 0, 1000, false},
		{"         0          0          1\n", 0, 0, false},
		{"         0       1000          1\n         1     100000      65536\n", 5, 100004, false},
		{"1 5 6\n 0 1001 1\n", 0, 1001, false},
		{"", 7, 7, true},
	} {
		if above, initial := outer(test.uidMap, test.uid); above != test.above || initial != test.initial {
			t.Errorf("%q, %d: %d, %v", test.uidMap, test.uid, above, initial)
		}
	}
}

// userVar makes this binary print its user in the parent namespace.
const userVar = "PROCFS_TEST_USER"

func TestMain(m *testing.M) {
	if os.Getenv(userVar) != "" {
		above, _ := UserAbove(os.Geteuid())
		os.Stdout.WriteString(strconv.Itoa(os.Geteuid()) + " " + strconv.Itoa(above))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestUserAbove runs a process in a user namespace, where its uid is 5.
func TestUserAbove(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), userVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{ContainerID: 5, HostID: os.Geteuid(), Size: 1}}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := "5 " + strconv.Itoa(os.Geteuid()); string(out) != want {
		t.Errorf("the child printed %q, want %q", out, want)
	}
}
