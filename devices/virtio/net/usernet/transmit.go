package usernet

import (
	"context"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"

	"minivmm/devices/virtio/queue"
)

// inbound is a frame of the guest's: its Ethernet header, and the rest as the
// stack will keep it.
type inbound struct {
	eth     [ethBytes]byte
	offload offload
	view    *buffer.View
}

// sender serves the transmit queue: it copies what there is, gives the buffers
// back, and then gives the frames to deliver, which does not touch the ring.
//
// One small frame is mostly a question. That its buffers are back is told a
// moment later: a guest that has its answer by then has looked for them itself
// and needs no interrupt, or has sent more.
type sender struct {
	deliver func(*inbound)
	later   func() // has signal called in a moment
	mayHold int    // chains: maxHeld, or less of a small ring

	mu    sync.Mutex
	q     *queue.Queue
	chain queue.Chain
	held  int // chains given back of which the guest was not told
}

// The guest is told at once of a frame that is larger, and of more of them: it may
// wait for room in the ring or in its socket.
const (
	heldFrame = 512
	maxHeld   = 16
)

// mayHold is for a ring of size entries.
func mayHold(size uint16) int { return min(maxHeld, int(size)/4) }

// run serves the queue until ctx ends or the guest breaks it.
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

// take takes frames from the ring and says how many chains it gave back.
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

// signal tells the guest what it was not told yet.
func (s *sender) signal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 {
		s.held = 0
		s.q.Signal() // run hears of an error from Next
	}
}

// take copies a frame out of guest memory. What is none is dropped.
func take(b *queue.Buffers) (f inbound, ok bool) {
	var hdr [hdrBytes]byte
	if b.Read(hdr[:]) < hdrBytes || !sendable(&hdr) {
		return f, false
	}
	n := b.Len()
	if n <= ethBytes || n > maxFrame {
		return f, false
	}
	b.Read(f.eth[:])
	f.offload = offload(hdr[:])
	f.view = buffer.NewViewSize(n - ethBytes)
	b.Read(f.view.AsSlice())
	return f, true
}
