package proof

import (
	"encoding/binary"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/guestmem"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vhosttest"
)

// The guest's memory is a file, so that two processes can map it. It contains a ring at each
// multiple of ringSpan, followed by the data of each ring.
const (
	guestGPA  = 0x100000
	ringSpan  = 1 << 20
	ringAvail = 0x80000 // offsets in a ring's span, with room for maxRing
	ringUsed  = 0xa0000
	maxRing   = 1 << 15
	maxWait   = maxRing - 1 // most chains to wait for: 16 bits cannot distinguish more from fewer
	idleRing  = 16          // descriptors of the unused rings
	maxRings  = 6
	dataOff   = 8 << 20
	dataSpan  = 2 << 20
	guestSize = dataOff + maxRings*dataSpan

	featureEventIdx = 1 << 29 // VIRTIO_RING_F_EVENT_IDX
	featureVersion1 = 1 << 32
)

// stillness is how long a kicked ring must stay unchanged to count as not served. Serving a ring
// takes well below a millisecond.
const stillness = 300 * time.Millisecond

// guest drives one ring.
type guest struct {
	t          testing.TB
	file       *os.File
	mem        []byte
	ring       int // index of the ring in the memory
	num        int // capacity in chains, a power of two
	kick, call *os.File
	tap        *os.File // nil without a tap
	offered    uint16   // available index
}

func newGuest(t testing.TB, ring, num int) *guest {
	t.Helper()
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, file: os.NewFile(uintptr(fd), "guest memory"), ring: ring, num: num}
	t.Cleanup(func() { g.file.Close() })
	if err := g.file.Truncate(guestSize); err != nil {
		t.Fatal(err)
	}
	if g.mem, err = unix.Mmap(fd, 0, guestSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(g.mem) })
	g.hangBells()
	return g
}

// beside returns another ring of the same guest.
func (g *guest) beside(ring int) *guest {
	g.t.Helper()
	other := &guest{t: g.t, file: g.file, mem: g.mem, ring: ring, num: g.num}
	other.hangBells()
	return other
}

func (g *guest) hangBells() {
	g.t.Helper()
	for _, bell := range []**os.File{&g.kick, &g.call} {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			g.t.Fatal(err)
		}
		*bell = os.NewFile(uintptr(fd), "eventfd")
		g.t.Cleanup(func() { (*bell).Close() })
	}
}

// data returns the offset of the data of the guest's ring.
func (g *guest) data() int { return dataOff + g.ring*dataSpan }

func (g *guest) span() []byte { return g.mem[g.ring*ringSpan:][:ringSpan] }

// describe writes descriptor i.
func (g *guest) describe(i, off, sizeBytes int, flags, next uint16) {
	d := g.span()[16*i:]
	binary.LittleEndian.PutUint64(d[0:], uint64(guestGPA+off))
	binary.LittleEndian.PutUint32(d[8:], uint32(sizeBytes))
	binary.LittleEndian.PutUint16(d[12:], flags)
	binary.LittleEndian.PutUint16(d[14:], next)
}

// offer makes n more chains available and kicks. chain returns the head for each slot of the ring.
func (g *guest) offer(n int, chain func(slot int) (head uint16)) {
	g.t.Helper()
	span := g.span()
	for i := range n {
		slot := (int(g.offered) + i) % g.num
		guestmem.Store16(span, ringAvail+4+2*slot, chain(slot))
	}
	g.offered += uint16(n)
	guestmem.Store16(span, ringAvail+2, g.offered)
	if _, err := g.kick.Write(binary.NativeEndian.AppendUint64(nil, 1)); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) used() uint16 { return guestmem.Load16(g.span(), ringUsed+2) }

// served waits until all offered chains are used, at most for the given time, and reports whether
// they are.
func (g *guest) served(within time.Duration) bool {
	g.t.Helper()
	return g.servedTo(g.offered, within)
}

// servedTo waits until the used index reaches an earlier value of the available index. It asks for
// one call, at that index. At most maxWait chains may be missing.
func (g *guest) servedTo(index uint16, within time.Duration) bool {
	g.t.Helper()
	guestmem.Store16(g.span(), ringAvail+4+2*g.num, index-1) // used_event
	fds := []unix.PollFd{{Fd: int32(g.call.Fd()), Events: unix.POLLIN}}
	for end := time.Now().Add(within); int16(index-g.used()) > 0; {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if err != nil && err != unix.EINTR {
			g.t.Fatal(err)
		}
		if n > 0 {
			if _, err := g.call.Read(make([]byte, 8)); err != nil {
				g.t.Fatal(err)
			}
		}
	}
	return true
}

// frameBytes is the size of a frame after struct virtio_net_hdr_v1. The frame has an Ethernet type
// for experiments, and the host drops it.
const (
	netHeader  = 12
	frameBytes = netHeader + 60
	netTX      = 1
)

// sender is a guest that sends the same frame repeatedly.
type sender struct {
	*guest
	tap vhosttest.Tap
	// before is the tap's count when the sender started, sent the number of frames that the
	// sender has offered since.
	before, sent int
}

// newSender returns a guest with a tap of its own.
func newSender(g *guest) *sender {
	g.t.Helper()
	tap, err := vhosttest.OpenTap(g.t)
	if err != nil {
		g.t.Fatal(err)
	}
	s := &sender{guest: g, tap: tap, before: tap.FromGuest(g.t)}
	fd, err := unix.FcntlInt(uintptr(tap.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	g.tap = os.NewFile(uintptr(fd), tap.Name)
	g.t.Cleanup(func() { g.tap.Close() })
	copy(s.mem[s.data()+netHeader:], "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5")
	for i := range s.num {
		s.describe(i, s.data(), frameBytes, 0, 0)
	}
	return s
}

// send offers n frames. Together with the frames that are not sent yet, n is at most maxRing.
func (s *sender) send(n int) {
	s.t.Helper()
	s.sent += n
	s.offer(n, func(slot int) uint16 { return uint16(slot) })
}

// sendFor keeps the ring filled as long as more returns true. It does not wait for the frames that
// are offered by then.
func (s *sender) sendFor(more func() bool) {
	const part = maxRing / 8 // the ring always contains one to two parts
	for s.send(part); more(); {
		s.send(part)
		if !s.servedTo(s.offered-part, testenv.Patience) {
			s.t.Error("the worker did not send")
			return
		}
	}
}

// allArrived reports whether the host has received every offered frame exactly once.
func (s *sender) allArrived() bool {
	return s.tap.FromGuest(s.t)-s.before == s.sent
}

// busy has the worker send frames until it has used that much CPU time, and returns their number.
// The guest only waits meanwhile, so nothing else runs than the worker.
func (s *sender) busy(w worker, want time.Duration) (frames int) {
	s.t.Helper()
	const some = maxRing / 16
	for start := w.ran(s.t); w.ran(s.t)-start < want; frames += some {
		s.all(some)
	}
	return frames
}

// all sends n frames and waits for them.
func (s *sender) all(n int) {
	s.t.Helper()
	for ; n > 0; n -= maxWait {
		s.send(min(n, maxWait))
		if !s.served(testenv.Patience) {
			s.t.Fatal("the worker did not send")
		}
	}
}
