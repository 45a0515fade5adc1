package virtio

import "minivmm/devices/guestmem"

// RingState is the state of a queue, observed without changing the queue.
type RingState struct {
	Index int
	Size  int  // number of entries that the driver set; until then, the maximum
	Live  bool // a device serves the queue

	// Available and Used are the idx fields of a live ring, which count modulo 65536 (virtio 1.2
	// §2.7.6, §2.7.8). Both are read from guest memory and may have any value.
	Available, Used uint16

	// Kicks is how often the driver has signalled Kick since the last reset. Kicks is valid only if
	// Counted is true, because /proc may not report the count.
	Kicks   uint64
	Counted bool

	// Interrupts is how often this process has signalled the driver since the last reset. If
	// InProcess is true, a goroutine of this process serves the queue, and Interrupts counts all
	// interrupts. Otherwise the kernel serves the queue.
	Interrupts uint64
	InProcess  bool
}

// RingStates returns the state of every queue. RingStates waits until an Activate or Reset in
// progress has ended. After Close it returns nil. It must not be called while guest memory is being
// unmapped.
func (f *Frontend) RingStates() []RingState {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	states := make([]RingState, len(f.queues))
	for i, q := range f.queues {
		s := &states[i]
		*s = RingState{Index: i, Size: int(q.size)}
		s.Kicks, s.Counted = f.bells[i].kick.count()
		s.Interrupts, s.InProcess = f.bells[i].call.signals.Load()-q.signalled, !f.dev.InKernel(i)
		// Read only rings whose addresses were checked. After a failed activation, no ring may be
		// read.
		if a := f.live.Load(); a == nil || a.failed.Load() || !q.enabled {
			continue
		}
		available, ok1 := f.ringIndex(q.driver)
		used, ok2 := f.ringIndex(q.device)
		s.Available, s.Used, s.Live = available, used, ok1 && ok2
	}
	return states
}

// ringIndex reads the idx field of the driver ring or device ring at the address named by ring.
func (f *Frontend) ringIndex(ring guestmem.GPA) (idx uint16, ok bool) {
	const idxOff = 2 // after flags, in struct virtq_avail and virtq_used
	w, err := f.mem.Window(ring+idxOff, 2)
	if err != nil {
		return 0, false
	}
	return guestmem.Load16(w, 0), true
}
