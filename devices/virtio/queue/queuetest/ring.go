// Package queuetest is the driver side of a split virtqueue (virtio 1.2 §2.7) over real guest
// memory. It is for tests of a device side, which is package queue or the kernel. A test can also
// break the rules for drivers, because the Set methods of Ring write any value anywhere in the
// ring.
package queuetest

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
)

// Descriptor flags (uapi/linux/virtio_ring.h).
const (
	Next     = 1 // VRING_DESC_F_NEXT
	Write    = 2 // VRING_DESC_F_WRITE: the device writes to the buffer
	Indirect = 4 // VRING_DESC_F_INDIRECT
)

// Desc is struct vring_desc.
type Desc struct {
	GPA         guestmem.GPA
	Len         uint32
	Flags, Next uint16
}

// Used is struct vring_used_elem: the head of a returned chain and the number of bytes that the
// device wrote.
type Used struct{ ID, Len uint32 }

// Layout places a ring with the given number of entries at the address base, which must be 16-byte
// aligned. It also returns the end of the ring. The caller sets the notifiers and the index of the
// returned queue.
func Layout(base guestmem.GPA, size uint16) (q virtio.Queue, end guestmem.GPA) {
	q = virtio.Queue{Size: size, Desc: base}
	r := q.Ranges()
	q.Driver = q.Desc + guestmem.GPA(r[0].SizeBytes)
	q.Device = (q.Driver + guestmem.GPA(r[1].SizeBytes) + 3) &^ 3
	return q, (q.Device + guestmem.GPA(r[2].SizeBytes) + 15) &^ 15
}

// Ring is the driver side of one queue. It must be used by one goroutine only.
type Ring struct {
	t        testing.TB
	mem      *guestmem.Memory
	q        virtio.Queue
	eventIdx bool

	desc, avail, used []byte
	free              []uint16
	next              map[uint16][]uint16 // for each head, the descriptors of the chain
	availIdx, usedIdx uint16
	kicked            uint16 // availIdx at the last Kick
}

// New creates the empty, zeroed ring that q describes. q.Kick and q.Call may be nil if the test
// calls none of Kick, ForceKick and WaitUsed.
func New(t testing.TB, mem *guestmem.Memory, q virtio.Queue, features virtio.Features) *Ring {
	r := &Ring{t: t, mem: mem, q: q, eventIdx: features.Has(virtio.FeatureRingEventIdx), next: map[uint16][]uint16{}}
	for i, part := range q.Ranges() {
		w, err := mem.Window(part.GPA, part.SizeBytes)
		if err != nil {
			t.Fatalf("%s: %v", part.Name, err)
		}
		clear(w)
		*[]*[]byte{&r.desc, &r.avail, &r.used}[i] = w
	}
	for i := range q.Size {
		r.free = append(r.free, q.Size-1-i)
	}
	return r
}

// Queue returns the addresses, size and notifiers of the ring.
func (r *Ring) Queue() virtio.Queue { return r.q }

// Add makes a chain available to the device and returns the chain's head. The caller sets the
// addresses, lengths and Write flags of the descriptors.
func (r *Ring) Add(chain ...Desc) uint16 {
	if len(chain) == 0 || len(chain) > len(r.free) {
		r.t.Fatalf("chain of %d descriptors, but only %d are free", len(chain), len(r.free))
	}
	at := len(r.free) - len(chain)
	ids := append([]uint16(nil), r.free[at:]...)
	r.free = r.free[:at]
	for i, d := range chain {
		if i < len(chain)-1 {
			d.Flags, d.Next = d.Flags|Next, ids[i+1]
		}
		r.SetDesc(ids[i], d)
	}
	r.next[ids[0]] = ids
	r.offer(ids[0])
	return ids[0]
}

// AddIndirect is Add for a chain in an indirect table at guest physical address gpa.
func (r *Ring) AddIndirect(gpa guestmem.GPA, chain ...Desc) uint16 {
	for i, d := range chain {
		if i < len(chain)-1 {
			d.Flags, d.Next = d.Flags|Next, uint16(i+1)
		}
		r.PutDesc(gpa+guestmem.GPA(16*i), d)
	}
	return r.Add(Desc{GPA: gpa, Len: uint32(16 * len(chain)), Flags: Indirect})
}

func (r *Ring) offer(head uint16) {
	r.SetAvail(r.availIdx, head)
	r.availIdx++
	r.SetAvailIdx(r.availIdx)
}

// SetDesc writes entry i of the descriptor table.
func (r *Ring) SetDesc(i uint16, d Desc) { put(r.desc[16*int(i):], d) }

// PutDesc writes a descriptor anywhere in guest memory.
func (r *Ring) PutDesc(gpa guestmem.GPA, d Desc) {
	w, err := r.mem.Window(gpa, 16)
	if err != nil {
		r.t.Fatal(err)
	}
	put(w, d)
}

func put(w []byte, d Desc) {
	binary.LittleEndian.PutUint64(w[0:], uint64(d.GPA))
	binary.LittleEndian.PutUint32(w[8:], d.Len)
	binary.LittleEndian.PutUint16(w[12:], d.Flags)
	binary.LittleEndian.PutUint16(w[14:], d.Next)
}

// SetAvail writes head into the entry that index i selects in the available ring.
func (r *Ring) SetAvail(i, head uint16) {
	guestmem.Store16(r.avail, 4+2*int(i%r.q.Size), head)
}

// SetAvailIdx publishes the available ring's entries below index idx.
func (r *Ring) SetAvailIdx(idx uint16) { guestmem.Store16(r.avail, 2, idx) }

// UsedIdx returns used.idx as the device stored it.
func (r *Ring) UsedIdx() uint16 { return guestmem.Load16(r.used, 2) }

// Kick notifies the device of the chains that became available since the last Kick, if the device
// requested a notification. Kick reports whether it notified the device.
func (r *Ring) Kick() bool {
	old := r.kicked
	r.kicked = r.availIdx
	if r.eventIdx {
		event := guestmem.Load16(r.used, 4+8*int(r.q.Size))
		if r.availIdx-event-1 >= r.availIdx-old {
			return false
		}
	} else if guestmem.Load16(r.used, 0)&1 != 0 {
		return false
	}
	r.ForceKick()
	return true
}

// ForceKick notifies the device unconditionally.
func (r *Ring) ForceKick() {
	if err := r.q.Kick.Signal(); err != nil {
		r.t.Fatal(err)
	}
}

// Used returns the next chain that the device has returned; false means that there is none.
func (r *Ring) Used() (Used, bool) {
	if r.UsedIdx() == r.usedIdx {
		return Used{}, false
	}
	e := r.used[4+8*int(r.usedIdx%r.q.Size):]
	u := Used{binary.LittleEndian.Uint32(e[0:]), binary.LittleEndian.Uint32(e[4:])}
	r.usedIdx++
	ids, ok := r.next[uint16(u.ID)]
	if !ok || u.ID > 0xffff {
		r.t.Fatalf("the device returned chain %d, which it did not hold", u.ID)
	}
	delete(r.next, uint16(u.ID))
	r.free = append(r.free, ids...)
	return u, true
}

// WantInterrupts requests an interrupt for the next returned chain if want is true, and else no
// interrupts.
func (r *Ring) WantInterrupts(want bool) {
	if r.eventIdx {
		event := r.usedIdx
		if !want {
			event-- // the ring has passed this index, and reaches it only after 65535 more chains
		}
		guestmem.Store16(r.avail, 4+2*int(r.q.Size), event)
		return
	}
	flags := uint16(1) // VRING_AVAIL_F_NO_INTERRUPT
	if want {
		flags = 0
	}
	guestmem.Store16(r.avail, 0, flags)
}

// WaitUsed waits until the device returns a chain, and returns this chain as Used does. WaitUsed
// sleeps on the queue's Call, as a driver waits for an interrupt, so it fails if an interrupt is
// missing.
func (r *Ring) WaitUsed(timeout time.Duration) (Used, error) {
	deadline := time.Now().Add(timeout)
	for {
		if u, ok := r.Used(); ok {
			return u, nil
		}
		r.WantInterrupts(true)
		if r.UsedIdx() != r.usedIdx {
			continue
		}
		left := time.Until(deadline)
		if left <= 0 {
			return Used{}, fmt.Errorf("queue %d: used.idx %d: no interrupt in %v", r.q.Index, r.usedIdx, timeout)
		}
		fds := []unix.PollFd{{Fd: int32(r.q.Call.FD()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return Used{}, err
		}
		r.q.Call.Drain()
	}
}
