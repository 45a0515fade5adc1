package vhosttest

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// KernelSince reports whether this kernel's version is at least major.minor.
func KernelSince(t testing.TB, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var x, y int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &x, &y); err != nil {
		t.Fatal(err)
	}
	return x > major || x == major && y >= minor
}

// ThreadWorkers reports whether this kernel's vhost workers are threads of the process by default,
// as they are since Linux 6.4.
func ThreadWorkers(t testing.TB) bool {
	t.Helper()
	return KernelSince(t, 6, 4)
}
