package usernet

import (
	"context"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"

	"minivmm/devices/virtio/queue"
)

// inbound is a frame from the guest. After deliver has returned, the stack keeps the memory that
// the field view holds.
type inbound struct {
	eth     [ethBytes]byte
	offload offload
	view    *buffer.View
}

// sender serves the transmit queue. It copies the available frames, returns their buffers, and only
// then passes the frames to deliver, which does not use the ring.
//
// A single small frame is usually a request. The interrupt for its buffers is delayed briefly. If
// the guest receives the answer or sends more frames during this delay, it finds the returned
// buffers without an interrupt.
type sender struct {
	deliver func(*inbound)
	later   func() // schedules a call of signal
	mayHold int    // limit for held: maxHeld, or less for a small ring

	mu    sync.Mutex
	q     *queue.Queue
	chain queue.Chain
	held  int // chains returned to the guest without an interrupt
}

// The interrupt is sent immediately if the frames taken at one time exceed heldFrame bytes, or if
// the number of held chains reaches mayHold: the guest may be waiting for room in the ring or in
// its socket.
const (
	heldFrame = 512
	maxHeld   = 16
)

// mayHold returns the value of sender.mayHold for a ring with the given number of entries.
func mayHold(size uint16) int { return min(maxHeld, int(size)/4) }

// run serves the queue until ctx ends or the guest breaks the ring.
func (s *sender) run(ctx context.Context) error {
	batch := make([]inbound, 0, maxBatch)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		served, err := s.take(&batch)
		if err != nil {
			return err
		}
		for i := range batch {
			s.deliver(&batch[i])
		}
		clear(batch)
		batch = batch[:0]
		if served == 0 {
			if err := s.q.Wait(ctx); err != nil {
				return err
			}
		}
	}
}

// take moves frames from the ring to batch. served is the number of chains that it gave back to the
// guest.
func (s *sender) take(batch *[]inbound) (served int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := 0
	for ; served < maxBatch && size < maxBatchLen; served++ {
		ok, err := s.q.Next(&s.chain)
		if err != nil {
			return served, err
		}
		if !ok {
			break
		}
		size += s.chain.Readable.Len()
		if f, ok := take(&s.chain.Readable); ok {
			*batch = append(*batch, f)
		}
		if err := s.q.Done(&s.chain, 0); err != nil {
			return served, err
		}
	}
	s.held += served
	switch {
	case served == 0:
		return 0, nil
	case size <= heldFrame && s.held < s.mayHold:
		s.later()
		return served, nil
	}
	s.held = 0
	return served, s.q.Signal()
}

// signal sends the delayed interrupt, if there is one.
func (s *sender) signal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 {
		s.held = 0
		s.q.Signal() // run gets the error from Next
	}
}

// take copies a frame out of guest memory. ok is false if the chain does not contain a valid frame.
func take(b *queue.Buffers) (f inbound, ok bool) {
	var hdr [hdrBytes]byte
	if b.Read(hdr[:]) < hdrBytes {
		return f, false
	}
	f.offload = offload(hdr[:])
	n := b.Len()
	if n <= ethBytes || n > maxFrame || !f.offload.sendable() {
		return f, false
	}
	b.Read(f.eth[:])
	f.view = buffer.NewViewSize(n - ethBytes)
	b.Read(f.view.AsSlice())
	return f, true
}
