package vhosttest

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// ThreadWorkers reports whether this kernel's vhost workers are threads of the process by default:
// since Linux 6.4.
func ThreadWorkers(t testing.TB) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 4
}
