package main

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

func TestParseMapping(t *testing.T) {
	for _, tc := range []struct {
		line string
		want mapping
		ok   bool
	}{
		{"00400000-00656000 r-xp 00000000 00:23 2                  /usr/bin/mini vmm\n", mapping{0x400000, 0x656000, false, "/usr/bin/mini vmm"}, true},
		{"00902000-00927000 rw-p 00502000 00:23 2 /a\n", mapping{0x902000, 0x927000, true, "/a"}, true},
		{"7fd7f82be000-7fd7f8500000 rw-p 00000000 00:00 0 \n", mapping{0x7fd7f82be000, 0x7fd7f8500000, true, ""}, true},
		{"x-y r--p 00000000 00:00 0\n", mapping{}, false},
		{"\n", mapping{}, false},
	} {
		if got, ok := parseMapping(tc.line); got != tc.want || ok != tc.ok {
			t.Errorf("%q: %+v, %v", tc.line, got, ok)
		}
	}
}

// TestKeepSmall checks that keepSmall releases a garbage heap, and that the program still runs
// after its own pages were released.
func TestKeepSmall(t *testing.T) {
	const garbage = 64 << 20
	p := make([]byte, garbage)
	for i := 0; i < len(p); i += 4096 {
		p[i] = 1
	}
	before := anonymousKiB(t)
	runtime.KeepAlive(p)
	p = nil
	keepSmall()
	if after := anonymousKiB(t); before-after < garbage>>10*3/4 {
		t.Errorf("%d KiB of heap before, %d after", before, after)
	}
}

func anonymousKiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib := 0
			for _, c := range value {
				if c >= '0' && c <= '9' {
					kib = kib*10 + int(c-'0')
				}
			}
			return kib
		}
	}
	t.Fatal("no RssAnon in /proc/self/status")
	return 0
}
