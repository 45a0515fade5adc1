package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// staySmall calls keepSmall now, and again after 30 seconds, when guests have usually set up their
// devices.
func staySmall(ctx context.Context) {
	keepSmall()
	select {
	case <-time.After(30 * time.Second):
		keepSmall()
	case <-ctx.Done():
	}
}

// keepSmall tries to release memory that was needed to start a machine and is not needed to run it.
func keepSmall() {
	// A quarter of the runtime's minimum heap of 4 MiB is enough.
	debug.SetGCPercent(25)
	maps, err1 := os.ReadFile("/proc/self/maps")
	self, err2 := os.Readlink("/proc/self/exe")
	if err1 != nil || err2 != nil {
		return
	}
	var program []mapping
	heap := reflect.ValueOf(new([64]byte)).Pointer()
	for line := range strings.Lines(string(maps)) {
		m, ok := parseMapping(line)
		switch {
		case !ok:
		case m.start <= heap && heap < m.end:
			// Otherwise a heap of about 100 KiB occupies two huge pages.
			madvise(m, unix.MADV_NOHUGEPAGE)
		case m.path == self && !m.writable:
			program = append(program, m)
		}
	}
	runtime.GC() // a sync.Pool is emptied by the second collection, in FreeOSMemory
	debug.FreeOSMemory()
	for _, m := range program {
		// Pages that are used again are read from the page cache.
		madvise(m, unix.MADV_DONTNEED)
	}
}

// mapping is a line of /proc/PID/maps.
type mapping struct {
	start, end uintptr
	writable   bool
	path       string
}

func parseMapping(line string) (m mapping, ok bool) {
	// address perms offset dev inode path
	var perms string
	if n, _ := fmt.Sscanf(line, "%x-%x %4s", &m.start, &m.end, &perms); n != 3 {
		return mapping{}, false
	}
	if at := strings.IndexByte(line, '/'); at >= 0 {
		m.path = strings.TrimSuffix(line[at:], "\n")
	}
	m.writable = strings.Contains(perms, "w")
	return m, true
}

func madvise(m mapping, advice uintptr) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, advice)
}
