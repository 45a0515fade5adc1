package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"syscall"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
)

// ErrBadRing is wrapped by every error for which the driver is responsible.
var ErrBadRing = errors.New("the driver broke the ring")

// Flags of descriptors and rings (uapi/linux/virtio_ring.h).
const (
	descNext         = 1 // VRING_DESC_F_NEXT
	descWrite        = 2 // VRING_DESC_F_WRITE
	descIndirect     = 4 // VRING_DESC_F_INDIRECT
	descSize         = 16
	availNoInterrupt = 1 // VRING_AVAIL_F_NO_INTERRUPT
	usedNoNotify     = 1 // VRING_USED_F_NO_NOTIFY
)

// The available ring and the used ring both start with flags and idx, followed by the elements and
// one event index.
const (
	flagsOff = 0
	idxOff   = 2
	ringOff  = 4
)

// Queue is the device side of a split ring that is in use.
type Queue struct {
	mem      *guestmem.Memory
	index    uint16
	size     uint16 // a power of two
	indirect bool   // VIRTIO_F_INDIRECT_DESC negotiated
	eventIdx bool   // VIRTIO_F_EVENT_IDX negotiated
	kick     *os.File
	kickConn syscall.RawConn // the raw connection of kick
	call     *virtio.Notifier

	desc, avail, used    []byte // the parts of the ring
	usedEvent, availEvnt int    // offsets of the event indexes in avail and used

	nextAvail uint16                // index of the next available entry to take
	availIdx  uint16                // value of avail.idx when it was last read
	nextUsed  uint16                // index of the next used entry to write
	signalled uint16                // value of nextUsed at the last Signal
	inflight  []bool                // inflight[head]: the chain at head was returned by Next but not yet passed to Done
	waitedFor <-chan struct{}       // Done channel of the context that ends a Wait
	mayReturn func(uintptr) bool    // checkOnce, which kickConn calls
	checked   bool                  // the current Wait has checked the ring
	err       atomic.Pointer[error] // the error that stopped the queue
}

// Chain is one request: the data that the driver wrote for the device, and the buffer for the
// answer. Both are slices of guest memory, not copies.
type Chain struct {
	Readable, Writable Buffers

	head uint16
	room uint32 // initial size of Writable in bytes
	r, w [][]byte
}

// Open opens q with the negotiated features. Open relies on the frontend's checks of the ring. The
// caller must close the Queue.
func Open(mem *guestmem.Memory, q virtio.Queue, features virtio.Features) (*Queue, error) {
	o := &Queue{
		mem: mem, index: q.Index, size: q.Size, call: q.Call,
		indirect: features.Has(virtio.FeatureRingIndirectDesc),
		eventIdx: features.Has(virtio.FeatureRingEventIdx),
		inflight: make([]bool, q.Size),
	}
	if q.Size == 0 || q.Size&(q.Size-1) != 0 {
		return nil, fmt.Errorf("queue %d: size %d is not a power of two", q.Index, q.Size)
	}
	for i, r := range q.Ranges() {
		w, err := mem.Window(r.GPA, r.SizeBytes)
		if err != nil {
			return nil, fmt.Errorf("queue %d: %s: %w", q.Index, r.Name, err)
		}
		*[]*[]byte{&o.desc, &o.avail, &o.used}[i] = w
	}
	o.usedEvent = ringOff + 2*int(q.Size)
	o.availEvnt = ringOff + 8*int(q.Size)
	var err error
	if o.kick, err = q.Kick.Reader(); err != nil {
		return nil, fmt.Errorf("queue %d: %w", q.Index, err)
	}
	if o.kickConn, err = o.kick.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("queue %d: %w", q.Index, err), o.kick.Close())
	}
	o.mayReturn = o.checkOnce
	return o, nil
}

// Close closes the file descriptor. A Wait in progress returns an error.
func (q *Queue) Close() error { return q.kick.Close() }

// fail stops the queue: it stores an error, which all later calls return.
func (q *Queue) fail(format string, args ...any) error {
	err := fmt.Errorf("queue %d: %w", q.index, fmt.Errorf(format, args...))
	q.err.Store(&err)
	return err
}

// latched returns the error that stopped the queue, or nil.
func (q *Queue) latched() error {
	if err := q.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (q *Queue) bad(format string, args ...any) error {
	return q.fail("%w: "+format, append([]any{ErrBadRing}, args...)...)
}

// Next stores the next available chain in c, reusing c's slices, and reports whether there was one.
// The caller must pass each chain to Done once; the order does not matter.
func (q *Queue) Next(c *Chain) (bool, error) {
	if err := q.latched(); err != nil {
		return false, err
	}
	if q.nextAvail == q.availIdx {
		// The load of avail.idx must precede the loads of the entries that avail.idx publishes.
		q.availIdx = guestmem.Load16(q.avail, idxOff)
		waiting := q.availIdx - q.nextAvail
		if waiting == 0 {
			return false, nil
		}
		if waiting > q.size {
			return false, q.bad("avail.idx %d is %d entries ahead, but the ring has only %d", q.availIdx, waiting, q.size)
		}
	}
	head := guestmem.Load16(q.avail, ringOff+2*int(q.nextAvail&(q.size-1)))
	if head >= q.size {
		return false, q.bad("head %d is out of range: the table has %d descriptors", head, q.size)
	}
	if q.inflight[head] {
		return false, q.bad("head %d is already in use by the device", head)
	}
	if err := q.walk(c, head); err != nil {
		return false, err
	}
	q.nextAvail++
	q.inflight[head] = true
	return true, nil
}

// descriptor is a copy of struct vring_desc.
type descriptor struct {
	gpa         guestmem.GPA
	len         uint32
	flags, next uint16
}

// fetch copies descriptor i of a table, reading guest memory only once.
func fetch(table []byte, i uint16) descriptor {
	p := [descSize]byte(table[int(i)*descSize:])
	return descriptor{
		gpa:   guestmem.GPA(binary.LittleEndian.Uint64(p[0:])),
		len:   binary.LittleEndian.Uint32(p[8:]),
		flags: binary.LittleEndian.Uint16(p[12:]),
		next:  binary.LittleEndian.Uint16(p[14:]),
	}
}

// walk collects the buffers of the chain whose first descriptor is head. The limit on the number of
// descriptors, including those of an indirect table, also ends every loop.
func (q *Queue) walk(c *Chain, head uint16) error {
	c.head, c.room, c.r, c.w = head, 0, c.r[:0], c.w[:0]
	table, entries := q.desc, q.size
	indirect := false
	var total uint64
	for i, count := head, uint16(1); ; count++ {
		if count > q.size {
			return q.bad("chain at %d: more than %d descriptors", head, q.size)
		}
		if i >= entries {
			return q.bad("chain at %d: descriptor %d is out of range: the table has %d", head, i, entries)
		}
		d := fetch(table, i)
		if d.flags&descIndirect != 0 {
			if err := q.mayIndirect(head, d, indirect); err != nil {
				return err
			}
			w, err := q.mem.Window(d.gpa, uint64(d.len))
			if err != nil {
				return q.bad("chain at %d: indirect table: %w", head, err)
			}
			// The descriptors in the indirect table count. The descriptor that refers to the table
			// does not.
			table, entries, indirect = w, uint16(d.len/descSize), true
			i, count = 0, count-1
			continue
		}
		if total += uint64(d.len); total > math.MaxUint32 {
			return q.bad("chain at %d: more than 4 GiB", head)
		}
		if d.flags&descWrite == 0 && len(c.w) > 0 {
			return q.bad("chain at %d: a readable buffer follows a writable one", head)
		}
		if d.len > 0 {
			b, err := q.mem.Window(d.gpa, uint64(d.len))
			if err != nil {
				return q.bad("chain at %d: descriptor %d: %w", head, i, err)
			}
			if d.flags&descWrite != 0 {
				c.w, c.room = append(c.w, b), c.room+d.len
			} else {
				c.r = append(c.r, b)
			}
		}
		if d.flags&descNext == 0 {
			c.Readable, c.Writable = c.r, c.w
			return nil
		}
		i = d.next
	}
}

// mayIndirect checks a descriptor that refers to an indirect table (virtio 1.2 §2.7.5.3).
func (q *Queue) mayIndirect(head uint16, d descriptor, nested bool) error {
	if !q.indirect {
		return q.bad("chain at %d: indirect table, but the feature was not negotiated", head)
	}
	if nested {
		return q.bad("chain at %d: indirect table inside another indirect table", head)
	}
	if d.flags&descNext != 0 {
		return q.bad("chain at %d: indirect table with a next descriptor", head)
	}
	if d.len == 0 || d.len%descSize != 0 || d.len/descSize > uint32(q.size) {
		return q.bad("chain at %d: indirect table has %d bytes", head, d.len)
	}
	return nil
}

// Done returns the chain c to the driver. The argument written is the number of bytes that the
// device wrote at the start of c.Writable. Done does not notify the driver: see Signal.
func (q *Queue) Done(c *Chain, written uint32) error {
	if err := q.use(c, q.nextUsed, written); err != nil {
		return err
	}
	q.publish(1)
	return nil
}

// DoneTogether is like Done, for chains that the driver must see at the same time, such as those of
// one packet (virtio 1.2 §5.1.6.4.1). written[i] is the number of bytes written to chains[i].
func (q *Queue) DoneTogether(chains []Chain, written []uint32) error {
	for i := range chains {
		if err := q.use(&chains[i], q.nextUsed+uint16(i), written[i]); err != nil {
			return err
		}
	}
	q.publish(uint16(len(chains)))
	return nil
}

// use writes the used ring's element with index at, for the chain c.
func (q *Queue) use(c *Chain, at uint16, written uint32) error {
	if err := q.latched(); err != nil {
		return err
	}
	if !q.inflight[c.head] {
		return q.fail("chain at %d is already done", c.head)
	}
	if written > c.room {
		return q.fail("chain at %d: %d bytes written, but the buffers hold %d", c.head, written, c.room)
	}
	q.inflight[c.head] = false
	e := q.used[ringOff+8*int(at&(q.size-1)):]
	binary.LittleEndian.PutUint64(e, uint64(c.head)|uint64(written)<<32)
	return nil
}

// publish makes n more elements visible to the driver. The store to used.idx must come after the
// stores to the elements and the buffers.
func (q *Queue) publish(n uint16) {
	q.nextUsed += n
	guestmem.Store16(q.used, idxOff, q.nextUsed)
}

// Signal interrupts the driver if chains were passed to Done since the last Signal and the driver
// requested an interrupt for them (virtio 1.2 §2.7.7).
func (q *Queue) Signal() error {
	old := q.signalled
	q.signalled = q.nextUsed
	if err := q.latched(); err != nil || old == q.nextUsed {
		return err
	}
	// A driver that enables interrupts reads used.idx again afterwards. Therefore Signal reads the
	// driver's request only after used.idx has been stored: at least one side sees the other side's
	// store.
	if q.eventIdx {
		event := guestmem.Load16(q.avail, q.usedEvent)
		if q.nextUsed-event-1 >= q.nextUsed-old {
			return nil
		}
	} else if guestmem.Load16(q.avail, flagsOff)&availNoInterrupt != 0 {
		return nil
	}
	if err := q.call.Signal(); err != nil {
		return q.fail("%w", err)
	}
	return nil
}
