package usernet

import (
	"context"

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

// transmit serves the transmit queue: it copies what there is, gives the buffers
// back, and then gives the frames to deliver, which does not touch the ring.
func transmit(ctx context.Context, q *queue.Queue, deliver func(*inbound)) error {
	var c queue.Chain
	batch := make([]inbound, 0, maxBatch)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		served := 0
		for size := 0; served < maxBatch && size < maxBatchLen; served++ {
			ok, err := q.Next(&c)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			size += c.Readable.Len()
			if f, ok := take(&c.Readable); ok {
				batch = append(batch, f)
			}
			if err := q.Done(&c, 0); err != nil {
				return err
			}
		}
		if err := q.Signal(); err != nil {
			return err
		}
		for i := range batch {
			deliver(&batch[i])
		}
		clear(batch)
		batch = batch[:0]
		if served == 0 {
			if err := q.Wait(ctx); err != nil {
				return err
			}
		}
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
