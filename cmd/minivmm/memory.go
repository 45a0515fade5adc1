package main

import (
	"context"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// startTime is how long a machine's start may take the program's attention: its
// guest finds and sets up its devices.
const startTime = 30 * time.Second

// staySmall is keepSmall now, and once more when the start is over, until ctx
// ends.
func staySmall(ctx context.Context) {
	keepSmall()
	select {
	case <-time.After(startTime):
		keepSmall()
	case <-ctx.Done():
	}
}

// keepSmall gives back the memory that starting a machine took and running it
// does not need. A host runs many machines for long, and each start once.
//
// Nothing here can fail in a way that matters: what is not given back stays.
func keepSmall() {
	// A quarter of the runtime's least heap, 4 MiB, is plenty.
	debug.SetGCPercent(25)
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	var program []mapping
	heap := reflect.ValueOf(new([64]byte)).Pointer()
	for line := range strings.Lines(string(maps)) {
		m, ok := parseMapping(line)
		switch {
		case !ok:
		case m.start <= heap && heap < m.end:
			// Else a heap of some 100 KiB is two huge pages.
			madvise(m, unix.MADV_NOHUGEPAGE)
		case m.path == self && !m.writable:
			program = append(program, m)
		}
	}
	runtime.GC() // a sync.Pool lets go at the second
	debug.FreeOSMemory()
	for _, m := range program {
		// It comes back from the page cache where it is used.
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
	f := strings.Fields(line)
	if len(f) < 5 || len(f[1]) < 2 {
		return m, false
	}
	from, to, _ := strings.Cut(f[0], "-")
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	if err1 != nil || err2 != nil {
		return m, false
	}
	if at := strings.Index(line, "/"); at >= 0 {
		m.path = strings.TrimSuffix(line[at:], "\n")
	}
	m.start, m.end, m.writable = uintptr(start), uintptr(end), f[1][1] == 'w'
	return m, true
}

func madvise(m mapping, advice uintptr) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, advice)
}
