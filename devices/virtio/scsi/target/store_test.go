package target

import (
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio/queue"
)

// broken is a store that fails.
type broken struct {
	Store
	read, write, sync, punch error
	flags                    atomic.Int64 // of all writes combined
	syncs                    atomic.Int32
}

func (b *broken) ReadV(bufs [][]byte, off int64, flags int) (int, error) {
	if b.read != nil {
		return 0, b.read
	}
	return b.Store.ReadV(bufs, off, flags)
}

func (b *broken) WriteV(bufs [][]byte, off int64, flags int) (int, error) {
	b.flags.Or(int64(flags))
	if b.write != nil {
		return 0, b.write
	}
	return b.Store.WriteV(bufs, off, flags)
}

func (b *broken) Sync() error { b.syncs.Add(1); return b.sync }

func (b *broken) Punch(off, n int64) error {
	if b.punch != nil {
		return b.punch
	}
	return b.Store.Punch(off, n)
}

func (b *broken) Zero(off, n int64) error { return b.Punch(off, n) }

func TestErrorsOfTheHost(t *testing.T) {
	block := make([]byte, 512)
	read, write, flush, unmap := "2800 00000005 00 0001 00", "2a00 00000005 00 0001 00", "35", "9309 0000000000000005 00000001 0000"
	for _, tc := range []struct {
		name  string
		store *broken
		cdb   string
		sense string
	}{
		{"read, EIO", &broken{read: unix.EIO}, read, "031100:00000005"},
		{"read, another", &broken{read: unix.EBADF}, read, "044400"},
		{"write, EIO", &broken{write: unix.EIO}, write, "030c00:00000005"},
		{"read with FUA, EIO of the flush", &broken{sync: unix.EIO}, "2808 00000005 00 0001 00", "030c00"},
		{"write, ENOSPC", &broken{write: unix.ENOSPC}, write, "072707"},
		{"write, EDQUOT", &broken{write: unix.EDQUOT}, write, "072707"},
		{"write, EFBIG", &broken{write: unix.EFBIG}, write, "072707"},
		{"write, EPERM", &broken{write: unix.EPERM}, write, "072700"},
		{"flush, EIO", &broken{sync: unix.EIO}, flush, "030c00"},
		{"flush, ENOSPC", &broken{sync: unix.ENOSPC}, flush, "072707"},
		{"discard, EIO", &broken{punch: unix.EIO}, unmap, "030c00:00000005"},
		{"discard not supported by the host", &broken{punch: unix.EOPNOTSUPP}, unmap, ""},
		{"neither discard nor write", &broken{punch: unix.EOPNOTSUPP, write: unix.ENOSPC}, unmap, "072707"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.store.Store = newFile(t, 1<<20)
			tg := newTarget(t, Unit{Store: tc.store, Serial: "1"})
			if reply, _ := do(t, tg, 0, unhex(t, tc.cdb), block, 512); senseHex(reply) != tc.sense {
				t.Errorf("sense %q, want %q", senseHex(reply), tc.sense)
			}
		})
	}
}

// scratched is a store with a bad range. Like preadv2(2), it moves the bytes before the range and
// fails on the next call.
type scratched struct {
	Store
	bad int64 // offset in bytes
}

func (s scratched) reach(bufs [][]byte, off int64) ([][]byte, error) {
	if n := s.bad - off; n <= 0 {
		return nil, unix.EIO
	} else if n < int64(queue.Buffers(bufs).Len()) {
		return first(bufs, int(n)), nil
	}
	return bufs, nil
}

func (s scratched) ReadV(bufs [][]byte, off int64, flags int) (int, error) {
	bufs, err := s.reach(bufs, off)
	if err != nil {
		return 0, err
	}
	return s.Store.ReadV(bufs, off, flags)
}

func (s scratched) WriteV(bufs [][]byte, off int64, flags int) (int, error) {
	bufs, err := s.reach(bufs, off)
	if err != nil {
		return 0, err
	}
	return s.Store.WriteV(bufs, off, flags)
}

// TestSenseDataNamesTheFirstBadBlock makes block 300 bad, from its middle on.
func TestSenseDataNamesTheFirstBadBlock(t *testing.T) {
	tg := newTarget(t, Unit{Store: scratched{newFile(t, 1<<20), 300*512 + 100}, Serial: "1"})
	for _, tc := range []struct {
		name, cdb string
		out, in   int // bytes
		sense     string
	}{
		{"READ (10)", "2800 00000100 00 0080 00", 0, 128 * 512, "031100:0000012c"},
		{"READ (16)", "8800 0000000000000000 00000200 0000", 0, 512 * 512, "031100:0000012c"},
		{"WRITE (10)", "2a00 00000100 00 0080 00", 128 * 512, 0, "030c00:0000012c"},
		{"WRITE (12) with FUA", "aa08 00000100 00000080 0000", 128 * 512, 0, "030c00:0000012c"},
		{"VERIFY (10)", "2f00 00000000 00 0200 00", 0, 0, "031100:0000012c"},
		{"VERIFY (16)", "8f00 0000000000000100 00000080 0000", 0, 0, "031100:0000012c"},
		{"VERIFY (10) up to it", "2f00 00000000 00 012c 00", 0, 0, ""},
		{"VERIFY (10) with data", "2f02 00000000 00 0200 00", 512 * 512, 0, "031100:0000012c"},
		{"WRITE SAME (10)", "4100 00000000 00 0200 00", 512, 0, "030c00:0000012c"},
		{"READ (10) up to it", "2800 00000000 00 012c 00", 0, 300 * 512, ""},
		{"READ (10) across the end", "2800 000007fe 00 0004 00", 0, 4 * 512, "052100:00000800"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := make([]byte, tc.out)
			if tc.out == 512 {
				out[0] = 1 // otherwise WRITE SAME of zeros would not write
			}
			if reply, _ := do(t, tg, 0, unhex(t, tc.cdb), out, tc.in); senseHex(reply) != tc.sense {
				t.Errorf("sense %q, want %q", senseHex(reply), tc.sense)
			}
		})
	}
}

// TestAFileThatEndsEarly truncates the file while the guest uses it.
func TestAFileThatEndsEarly(t *testing.T) {
	tg := newTarget(t, Unit{Store: newFile(t, 1<<19), Serial: "1"})
	if reply, _ := do(t, tg, 0, unhex(t, "2800 00000400 00 0001 00"), nil, 512); senseHex(reply) != "031100:00000400" {
		t.Errorf("sense %q", senseHex(reply))
	}
	if reply, _ := do(t, tg, 0, unhex(t, "2800 000003f0 00 0020 00"), nil, 32*512); senseHex(reply) != "031100:00000400" {
		t.Errorf("across the end: sense %q", senseHex(reply))
	}
}

// TestWhatIsDurable checks which writes are made durable.
func TestWhatIsDurable(t *testing.T) {
	block := make([]byte, 512)
	for _, tc := range []struct {
		name    string
		through bool
		cdb     string
		dsync   bool
		syncs   int32
	}{
		{"a write", false, "2a00 00000005 00 0001 00", false, 0},
		{"FUA", false, "2a08 00000005 00 0001 00", true, 0},
		{"write-through", true, "2a00 00000005 00 0001 00", true, 0},
		{"a read", false, "2800 00000005 00 0001 00", false, 0},
		{"a read with FUA", false, "2808 00000005 00 0001 00", false, 1},
		{"READ (12) with FUA", false, "a808 00000005 00000001 0000", false, 1},
		{"READ (16) with FUA", false, "8808 0000000000000005 00000001 0000", false, 1},
		{"flush", false, "35", false, 1},
		{"stop", false, "1b", false, 1},
		{"WRITE SAME", false, "4100 00000005 00 0001 00", false, 0},
		{"WRITE SAME, write-through", true, "4100 00000005 00 0001 00", false, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &broken{Store: newFile(t, 1<<20)}
			tg := newTarget(t, Unit{Store: b, Writethrough: tc.through, Serial: "1"})
			if reply, _ := do(t, tg, 0, unhex(t, tc.cdb), block, 512); senseHex(reply) != "" {
				t.Fatal(senseHex(reply))
			}
			if dsync := b.flags.Load()&unix.RWF_DSYNC != 0; dsync != tc.dsync || b.syncs.Load() != tc.syncs {
				t.Errorf("RWF_DSYNC %v, %d flushes, want %v, %d", dsync, b.syncs.Load(), tc.dsync, tc.syncs)
			}
		})
	}
}
