package target

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// cut splits p into pieces of random length, as a driver may.
func cut(r *rand.Rand, p []byte) (bufs [][]byte) {
	for len(p) > 0 {
		n := 1 + r.IntN(len(p))
		bufs, p = append(bufs, p[:n]), p[n:]
	}
	return bufs
}

// TestRandomCommandsAgreeWithAModel applies thousands of commands to a file and to a byte slice.
func TestRandomCommandsAgreeWithAModel(t *testing.T) {
	for _, blockSize := range []int{512, 4096} {
		for seed := range uint64(2) {
			r := rand.New(rand.NewPCG(seed, uint64(blockSize)))
			const blocks = 97
			b := &broken{Store: newFile(t, int64(blocks*blockSize))}
			if seed%2 == 1 {
				b.punch = unix.EOPNOTSUPP
			}
			tg := newTarget(t, Unit{Store: b, SizeBytes: uint64(blocks * blockSize), BlockSize: blockSize, Serial: "1"})
			model := make([]byte, blocks*blockSize)
			for step := range 300 {
				lba := r.IntN(blocks)
				n := 1 + r.IntN(blocks-lba)
				part := model[lba*blockSize : (lba+n)*blockSize]
				q := &Request{}
				place := func(opcode, flags byte) {
					q.CDB[0], q.CDB[1] = opcode, flags
					switch opcode >> 5 {
					case 0:
						be.PutUint32(q.CDB[0:], uint32(opcode)<<24|uint32(lba))
						q.CDB[4] = byte(n)
					case 1, 2:
						be.PutUint32(q.CDB[2:], uint32(lba))
						be.PutUint16(q.CDB[7:], uint16(n))
					case 4:
						be.PutUint64(q.CDB[2:], uint64(lba))
						be.PutUint32(q.CDB[10:], uint32(n))
					case 5:
						be.PutUint32(q.CDB[2:], uint32(lba))
						be.PutUint32(q.CDB[6:], uint32(n))
					}
				}
				data := make([]byte, n*blockSize)
				check := func() {}
				switch kind := r.IntN(10); kind {
				case 0, 1, 2:
					place([]byte{0x08, 0x28, 0x88, 0xa8}[r.IntN(4)], 0)
					q.In = cut(r, data)
					check = func() {
						if !bytes.Equal(data, part) {
							t.Fatalf("step %d: % x: read different data", step, q.CDB)
						}
					}
				case 3, 4, 5:
					place([]byte{0x0a, 0x2a, 0x8a, 0xaa}[r.IntN(4)], 0)
					for i := range data {
						data[i] = byte(r.Uint32())
					}
					q.Out = cut(r, data)
					copy(part, data)
				case 6:
					one := data[:blockSize]
					if r.IntN(2) == 0 {
						one[r.IntN(blockSize)] = byte(r.Uint32())
					}
					place([]byte{0x41, 0x93}[r.IntN(2)], byte(r.IntN(2))<<3)
					q.Out = cut(r, one)
					copy(part, bytes.Repeat(one, n))
				case 7:
					place(0x93, 0x01|byte(r.IntN(2))<<3)
					clear(part)
				case 8:
					list := make([]byte, 24)
					be.PutUint16(list[0:], 22)
					be.PutUint16(list[2:], 16)
					be.PutUint64(list[8:], uint64(lba))
					be.PutUint32(list[16:], uint32(n))
					q.CDB[0] = 0x42
					be.PutUint16(q.CDB[7:], 24)
					q.Out = cut(r, list)
					clear(part)
				case 9:
					place([]byte{0x2f, 0x8f}[r.IntN(2)], 2)
					copy(data, part)
					q.Out = cut(r, data)
				}
				reply, done := tg.Serve(q, false)
				if !done {
					reply, _ = tg.Serve(q, true)
				}
				if reply.Status != Good || reply.Overrun {
					t.Fatalf("step %d: % x: %s", step, q.CDB, senseHex(reply))
				}
				check()
			}
		}
	}
}

// FuzzCDB serves random commands with random data and buffers and checks the limits: nothing is
// written beyond the buffers, sense data is present where it must be, and a second disk is
// unchanged.
func FuzzCDB(f *testing.F) {
	for _, seed := range []string{"", "\x12\x01\x83\x00\xff", "\x28\x00\x00\x00\x00\x01\x00\x00\x02", "\x42\x00\x00\x00\x00\x00\x00\x00\x18",
		"\x93\x01\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x04", "\x8f\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x5a\x10\x3f\xff\x00\x00\x00\x00\xff"} {
		f.Add([]byte(seed), []byte("\x00\x16\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x03\x00\x00\x00\x00"), uint16(512), byte(0))
	}
	const sizeBytes = 64 << 10
	tg := newTarget(f, Unit{Serial: "1", SizeBytes: sizeBytes}, Unit{Serial: "2", SizeBytes: sizeBytes, ReadOnly: true})
	f.Fuzz(func(t *testing.T, cdb, out []byte, in uint16, lun byte) {
		q := &Request{LUN: uint16(lun)}
		copy(q.CDB[:], cdb)
		room := bytes.Repeat([]byte{0xa5}, int(in)+8)
		if in > 0 {
			q.In = [][]byte{room[:in/2], room[in/2 : in]}
		}
		if len(out) > 0 {
			q.Out = [][]byte{out[:len(out)/2], out[len(out)/2:]}
		}
		reply, done := tg.Serve(q, false)
		if !done {
			reply, done = tg.Serve(q, true)
		}
		switch {
		case !done:
			t.Fatal("would block although it may wait")
		case reply.Filled > int(in) || reply.Used > len(out):
			t.Fatalf("%+v of %d and %d bytes", reply, len(out), in)
		case reply.Status == CheckCondition && (reply.Sense[0]&0x7f != 0x70 || reply.Sense[2] == 0):
			t.Fatalf("sense data % x", reply.Sense)
		case reply.Status == CheckCondition && reply.Filled+reply.Used > 0:
			t.Fatalf("refused, but data was moved: %+v", reply)
		case !bytes.Equal(room[in:], bytes.Repeat([]byte{0xa5}, 8)):
			t.Fatal("wrote beyond the buffer")
		}
		whole := make([]byte, sizeBytes)
		if _, err := moveAll(tg.units[1].Store.ReadV, [][]byte{whole}, 0, 0); err != nil || bytes.Count(whole, []byte{0}) != sizeBytes {
			t.Fatalf("the read-only disk has changed: %v", err)
		}
	})
}

// TestAFullFileSystem writes to a sparse file on a full tmpfs.
func TestAFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.img")
	store := newFile(t, 1<<20)
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err == nil {
		defer unix.Unmount(dir, unix.MNT_DETACH)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(1 << 20); err != nil {
			t.Fatal(err)
		}
		store = NewFile(f)
	} else {
		// Without root: a resource limit of the process replaces the full file system.
		var old unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 64 << 10, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
		defer unix.Setrlimit(unix.RLIMIT_FSIZE, &old)
	}
	tg := newTarget(t, Unit{Store: store, Serial: "1"})
	data := bytes.Repeat([]byte{1}, 256<<10)
	if reply, _ := do(t, tg, 0, unhex(t, "2a00 00000100 00 0200 00"), data, 0); senseHex(reply) != "072707" {
		t.Errorf("sense %q", senseHex(reply))
	}
	if reply, _ := do(t, tg, 0, unhex(t, "2800 00000000 00 0001 00"), nil, 512); senseHex(reply) != "" {
		t.Errorf("a read afterwards: sense %q", senseHex(reply))
	}
}

// TestOpenLocks opens images as a second machine would.
func TestOpenLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	first, err := Open([]Disk{{Path: path}})
	if err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{false, true} {
		_, err = Open([]Disk{{Path: path, ReadOnly: readOnly}})
		if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "disk 0: "+path+": device or resource busy (in use by process ") {
			t.Errorf("a second use: %v", err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	both, err := Open([]Disk{{Path: path, ReadOnly: true}, {Path: path, ReadOnly: true, BlockSize: 4096}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open([]Disk{{Path: path}}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a writer in addition to readers: %v", err)
	}
	if err := both.Close(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []Disk{{Path: path + "x"}, {Path: filepath.Dir(path)}, {Path: path, BlockSize: 700}} {
		if _, err := Open([]Disk{{Path: path, ReadOnly: true}, d}); err == nil {
			t.Errorf("%+v: no error", d)
		}
	}
	again, err := Open([]Disk{{Path: path}})
	if err != nil {
		t.Fatalf("after errors: %v", err)
	}
	again.Close()
}
