package target

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/diskimage"
	"minivmm/internal/testbed/testenv"
)

// TestAFileThatChangesItsSize uses a disk whose file is enlarged and truncated by another process.
func TestAFileThatChangesItsSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	size := func(n int64) {
		t.Helper()
		if err := os.Truncate(path, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	size(1 << 20)
	tg, err := Open([]Disk{{Path: path}})
	if err != nil {
		t.Fatal(err)
	}
	defer tg.Close()
	want := func(what, cdb string, in int, sense, data string) {
		t.Helper()
		reply, got := do(t, tg, 0, unhex(t, cdb), nil, in)
		if senseHex(reply) != sense || sense == "" && !slices.Equal(got[:min(len(got), 8)], unhex(t, data)) {
			t.Fatalf("%s: sense %q, data % x; want %q, %s", what, senseHex(reply), got[:min(len(got), 8)], sense, data)
		}
	}
	const ready, capacity, capacity16, last = "00", "25", "9e10 0000000000000000 00000020", "2800 00000fff 00 0001 00"
	want("power on", ready, 0, "062900", "")
	size(2 << 20)
	want("a block beyond the known size", last, 512, "052100:00000fff", "")
	want("unit attention", ready, 0, "062a09", "")
	want("no second unit attention", ready, 0, "", "")
	want("the new size", capacity, 8, "", "00000fff00000200")
	want("the new last block", last, 512, "", "0000000000000000")
	size(3<<20 + 100)
	want("unit attention on READ CAPACITY", capacity16, 32, "062a09", "")
	want("an incomplete block does not count", capacity16, 32, "", "00000000000017ff")
	size(1 << 20)
	if changed, err := tg.Rescan(); err != nil || !slices.Equal(changed, []uint16{0}) || tg.SizeBytes(0) != 1<<20 {
		t.Fatalf("changed %v, %v; %d bytes", changed, err, tg.SizeBytes(0))
	}
	if changed, err := tg.Rescan(); err != nil || changed != nil {
		t.Fatalf("changed again: %v, %v", changed, err)
	}
	want("unit attention after shrinking", last, 512, "062a09", "")
	want("a truncated block", last, 512, "052100:00000fff", "")
	size(0)
	if changed, err := tg.Rescan(); err == nil || changed != nil {
		t.Fatalf("an empty file: changed %v", changed)
	}
	want("the size stays the same", capacity, 8, "", "000007ff00000200")
	want("but there is no data", "2800 00000000 00 0001 00", 512, "031100:00000000", "")
}

// TestTheGuestCanDisableTheCache writes with and without WCE.
func TestTheGuestCanDisableTheCache(t *testing.T) {
	b := &broken{Store: newFile(t, 1<<20)}
	tg := newTarget(t, Unit{Store: b, Serial: "1"})
	write := func() int64 {
		t.Helper()
		b.flags.Store(0)
		if reply, _ := do(t, tg, 0, unhex(t, "2a00 00000000 00 0001 00"), make([]byte, 512), 0); senseHex(reply) != "" {
			t.Fatal(senseHex(reply))
		}
		return b.flags.Load() & unix.RWF_DSYNC
	}
	if write() != 0 {
		t.Error("durable although the cache is on")
	}
	do(t, tg, 0, unhex(t, "151000001800"), modeList(4, 0x08, 0), 0)
	if write() == 0 || b.syncs.Load() != 1 {
		t.Errorf("cache off: not durable, %d flushes", b.syncs.Load())
	}
	for what, reset := range map[string]func(){"unit": func() { tg.ResetUnit(0) }, "I_T nexus": tg.ResetNexus} {
		reset()
		tg.units[0].attention.Store(0)
		if write() == 0 {
			t.Errorf("not durable after a reset of the %s, which the guest's file system does not notice", what)
		}
	}
	tg.PowerOn()
	tg.units[0].attention.Store(0)
	if write() != 0 {
		t.Error("the next initiator has the first one's setting")
	}
}

// TestContentsOfFreedBlocks tests the two kinds of stores that are not files.
func TestContentsOfFreedBlocks(t *testing.T) {
	b := &discards{Store: newFile(t, 1<<20)}
	tg := newTarget(t, Unit{Store: b, Serial: "1", Unmap: UnmapAnything, Physical: 4096}, Unit{Serial: "2", Unmap: UnmapNothing})
	list := unhex(t, "0016 0010 00000000 0000000000000007 00000003 00000000")
	for _, tc := range []struct {
		name  string
		lun   uint16
		cdb   string
		out   []byte
		data  string
		sense string
	}{
		{"READ CAPACITY (16), anything", 0, "9e10 0000000000000000 00000020", nil, "00000000000007ff 00000200 0003 8000", ""},
		{"READ CAPACITY (16), nothing", 1, "9e10 0000000000000000 00000020", nil, "00000000000007ff 00000200 0000 0000", ""},
		{"VPD B2, anything", 0, "1201b200ff00", nil, "00b20004 00800200", ""},
		{"VPD B2, nothing", 1, "1201b200ff00", nil, "00b20004 00000000", ""},
		{"UNMAP, anything", 0, "4200 00000000 00 0018 00", list, "", ""},
		{"UNMAP, nothing", 1, "4200 00000000 00 0018 00", list, "", "052000@c00000"},
		{"UNMAP is supported, anything", 0, "a30c 01 42 0000 00000004 0000", nil, "0003000a", ""},
		{"UNMAP is supported, nothing", 1, "a30c 01 42 0000 00000004 0000", nil, "00010000", ""},
		{"how much is supported, anything", 0, "a30c 00 00 0000 00000004 0000", nil, "000000e0", ""},
		{"how much is supported, nothing", 1, "a30c 00 00 0000 00000004 0000", nil, "000000d8", ""},
		{"VPD B0, nothing", 1, "1201b0004000", nil, "00b0003c 0100 0000 00004000 00000000 00000000 00000000 00000000 00000000", ""},
		{"WRITE SAME (16) with UNMAP, anything", 0, "9309 0000000000000007 00000003 0000", nil, "", "052400@c00001"},
		{"WRITE SAME (16) with UNMAP, nothing", 1, "9309 0000000000000007 00000003 0000", nil, "", "052400@c00001"},
		{"WRITE SAME (16), nothing", 1, "9301 0000000000000007 00000003 0000", nil, "", ""},
	} {
		reply, got := do(t, tg, tc.lun, unhex(t, tc.cdb), tc.out, 64)
		if want := unhex(t, tc.data); senseHex(reply) != tc.sense || !slices.Equal(got[:min(len(got), len(want))], want) {
			t.Errorf("%s: sense %q, % x", tc.name, senseHex(reply), got)
		}
	}
	if want := [][2]int64{{7 * 512, 3 * 512}}; !slices.Equal(b.ranges, want) {
		t.Errorf("discarded %v, want %v", b.ranges, want)
	}
}

// TestUnmapFreesSpace uses file systems with and without holes. Open must not change the file to
// find out which.
func TestUnmapFreesSpace(t *testing.T) {
	for _, tc := range []struct {
		fs    string
		holes bool
	}{{"tmpfs", true}, {"ramfs", false}} {
		t.Run(tc.fs, func(t *testing.T) {
			testenv.Need(t, "root")
			dir := t.TempDir()
			if err := unix.Mount("none", dir, tc.fs, 0, ""); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(dir, unix.MNT_DETACH)
			path := filepath.Join(dir, "disk.img")
			whole := bytes.Repeat([]byte{0xab}, 1<<20-512) // ends in the middle of a page
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			room := func() int64 {
				t.Helper()
				var st unix.Stat_t
				if err := unix.Stat(path, &st); err != nil {
					t.Fatal(err)
				}
				return st.Blocks * 512
			}
			before := room()
			tg, err := Open([]Disk{{Path: path}})
			if err != nil {
				t.Fatal(err)
			}
			defer tg.Close()
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, whole) || room() != before {
				t.Fatalf("opening it: %v, %d bytes that use %d, before %d that use %d", err, len(got), room(), len(whole), before)
			}
			tg.units[0].attention.Store(0)
			_, capacity := do(t, tg, 0, unhex(t, "9e10 0000000000000000 00000020"), nil, 32)
			if offered := capacity[14]&0x80 != 0; offered != tc.holes {
				t.Errorf("LBPME %v, want %v", offered, tc.holes)
			}
			want, freed := "052000@c00000", int64(0)
			if tc.holes {
				want, freed = "", 512<<10
				clear(whole[256<<10 : 768<<10])
			}
			list := unhex(t, "0016 0010 00000000 0000000000000200 00000400 00000000")
			if reply, _ := do(t, tg, 0, unhex(t, "4200 00000000 00 0018 00"), list, 0); senseHex(reply) != want {
				t.Errorf("UNMAP: sense %q, want %q", senseHex(reply), want)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, whole) {
				t.Errorf("wrong data, or freed blocks do not read as zero: %v", err)
			}
			if after := room(); after != before-freed {
				t.Errorf("%d bytes used, %d before, want %d less", after, before, freed)
			}
		})
	}
}

// discards is a store that records its discards.
type discards struct {
	Store
	ranges [][2]int64
}

func (d *discards) Discard(off, n int64) error {
	d.ranges = append(d.ranges, [2]int64{off, n})
	return nil
}

// TestBlockDevice tests everything specific to block devices: their sizes, discard and zeroing.
func TestBlockDevice(t *testing.T) {
	for _, logical := range []int{512, 4096} {
		device, resize := loop(t, 1<<20, logical)
		tg, err := Open([]Disk{{Path: device}})
		if err != nil {
			t.Fatal(err)
		}
		if tg.units[0].BlockSize != logical || tg.SizeBytes(0) != 1<<20 || tg.units[0].Unmap != UnmapZeroes {
			t.Errorf("%+v", tg.units[0].Unit)
		}
		tg.units[0].attention.Store(0)
		pattern := make([]byte, 8*logical)
		for i := range pattern {
			pattern[i] = byte(i>>8) | 1
		}
		ok := func(cdb string, out []byte, in int) []byte {
			t.Helper()
			reply, data := do(t, tg, 0, unhex(t, cdb), out, in)
			if senseHex(reply) != "" {
				t.Fatalf("%s: %s", cdb, senseHex(reply))
			}
			return data
		}
		ok("2a00 00000000 00 0008 00", pattern, 0)
		ok("3500 00000000 00 0000 00", nil, 0)
		ok("4200 00000000 00 0018 00", unhex(t, "0016 0010 00000000 0000000000000001 00000002 00000000"), 0)
		ok("9301 0000000000000004 00000002 0000", nil, 0) // WRITE SAME (16), NDOB
		clear(pattern[logical : 3*logical])
		clear(pattern[4*logical : 6*logical])
		if got := ok("2800 00000000 00 0008 00", nil, len(pattern)); !slices.Equal(got, pattern) {
			t.Errorf("blocks of %d: data differs after write, unmap and zeroing", logical)
		}
		resize(2 << 20)
		if changed, err := tg.Rescan(); err != nil || len(changed) != 1 || tg.SizeBytes(0) != 2<<20 {
			t.Errorf("blocks of %d: changed %v, %v, %d bytes", logical, changed, err, tg.SizeBytes(0))
		}
		if err := tg.units[0].Store.Discard(0, int64(logical)); err != nil {
			t.Errorf("BLKDISCARD: %v", err)
		}
		if _, err := diskimage.Open(diskimage.Options{Path: device}); err == nil {
			t.Error("a block device in use was opened again")
		}
		if err := tg.Close(); err != nil {
			t.Error(err)
		}
	}
}
