package lio

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestRescanOfAResizedImage(t *testing.T) {
	f, tr := newFake(t)
	path := newImage(t, "disk.img")
	tg, err := tr.create(Config{Name: "a", LUNs: []LUN{{Path: path, BlockSize: 4096}, {Path: newImage(t, "other.img")}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		size, want int64
		changed    []uint16
		bad        bool
	}{
		{1 << 20, 1 << 20, nil, false},
		{2<<20 + 4095, 2 << 20, []uint16{0}, false},
		{1 << 20, 1 << 20, []uint16{0}, false},
		{4095, 1 << 20, nil, true},
	} {
		if err := os.Truncate(path, tc.size); err != nil {
			t.Fatal(err)
		}
		f.log = nil
		changed, err := tg.Rescan()
		if !slices.Equal(changed, tc.changed) || (err != nil) != tc.bad || tg.SizeBytes(0) != uint64(tc.want) || tg.SizeBytes(1) != 1<<20 {
			t.Errorf("%d bytes: changed %v, %v; %d and %d bytes", tc.size, changed, err, tg.SizeBytes(0), tg.SizeBytes(1))
		}
		if told := strings.Join(f.log, "\n"); (tc.changed != nil) != strings.Contains(told, "/control <- fd_dev_size=") {
			t.Errorf("%d bytes: the kernel got %q", tc.size, told)
		}
	}
	if err := tg.Remove(); err != nil {
		t.Fatal(err)
	}
	if changed, err := tg.Rescan(); changed != nil || err != nil {
		t.Errorf("after Remove: %v, %v", changed, err)
	}
}
