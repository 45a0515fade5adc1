package usernet

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"minivmm/devices/virtio/queue"
	"minivmm/internal/pcap"
)

// receiver writes frames into the guest's receive queue. It is safe for concurrent use.
//
// While there is a backlog, q belongs to run, which waits for buffers. Otherwise it belongs to the
// holder of mu.
type receiver struct {
	fail      func(error)
	mergeable bool
	capture   *pcap.File // nil: none

	mu      sync.Mutex
	q       *queue.Queue
	chains  []queue.Chain // the first ones were taken from q for one frame and not returned yet: see held
	held    int           // number of chains in use
	sizes   []uint32      // bytes written into each chain
	pieces  [][]byte      // the pieces of the frame being written
	backlog []frame
	bytes   int           // size of the backlog in bytes, without the frames that sending counts
	sending int           // bytes that frames of TCP connections use in the backlog: see charge
	room    chan struct{} // closed as soon as connections may continue; nil if they may now
	closed  bool
	wake    chan struct{} // has one slot; a value in it means that there is a backlog
}

// frame is either a packet of the stack with its headers, or raw bytes.
type frame struct {
	pkt     *stack.PacketBuffer
	raw     []byte
	offload offload // describes raw; for a pkt, put computes it
	// lent means that raw comes from another guest. Such frames may fill only half of the backlog.
	// After send returns, raw belongs to the caller again.
	lent bool
}

func (f frame) size() int {
	if f.pkt != nil {
		return f.pkt.Size()
	}
	return len(f.raw)
}

// fromTCP reports whether f belongs to a TCP connection. The connection's socket buffer limits how
// much of the connection's data waits here.
func (f frame) fromTCP() bool {
	return f.pkt != nil && f.pkt.TransportProtocolNumber == header.TCPProtocolNumber
}

// charge returns how many bytes f, a frame of a connection, uses in the backlog. The result
// includes overhead, because a small frame uses much more memory than its payload.
func (f frame) charge() int { return f.size() + frameOverhead }

// appendPieces appends the frame's pieces to a slice and returns the longer slice.
func (f frame) appendPieces(to [][]byte) [][]byte {
	if f.pkt == nil {
		return append(to, f.raw)
	}
	views, off := f.pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		skip := min(off, len(b))
		off -= skip
		to = append(to, b[skip:])
	}
	return to
}

func (f frame) release() {
	if f.pkt != nil {
		f.pkt.DecRef()
	}
}

func newReceiver(q *queue.Queue, mergeable bool, fail func(error)) *receiver {
	return &receiver{q: q, mergeable: mergeable, fail: fail, wake: make(chan struct{}, 1)}
}

// send sends frames to the guest and returns how many of them it accepted. The caller keeps its
// references to the packets.
func (r *receiver) send(frames ...frame) (taken int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0
	}
	for _, f := range frames {
		if len(r.backlog) == 0 {
			ok, err := r.put(f)
			if err != nil {
				r.broken(err)
				return taken
			}
			if ok {
				taken++
				continue
			}
		}
		if !r.place(f) {
			break
		}
		if f.lent {
			f.raw = bytes.Clone(f.raw)
		}
		if f.pkt != nil {
			f.pkt = f.pkt.Clone()
		}
		r.backlog = append(r.backlog, f)
		taken++
	}
	if err := r.q.Signal(); err != nil {
		r.broken(err)
		return taken
	}
	if len(r.backlog) > 0 {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return taken
}

// place reports whether the backlog has room for f. If so, place adds f to the backlog's byte
// counts. r.mu must be held.
func (r *receiver) place(f frame) bool {
	if f.fromTCP() {
		if r.sending+f.charge() > maxSending {
			return false
		}
		if r.sending += f.charge(); r.sending > pressure && r.room == nil {
			r.room = make(chan struct{})
		}
		return true
	}
	size := f.size()
	if r.bytes+size > maxBacklog || f.lent && r.bytes+size > maxBacklog/2 {
		return false
	}
	r.bytes += size
	return true
}

// unplace undoes place when f leaves the backlog. r.mu must be held.
func (r *receiver) unplace(f frame) {
	if !f.fromTCP() {
		r.bytes -= f.size()
		return
	}
	if r.sending -= f.charge(); r.sending <= pressure/2 {
		r.relieve()
	}
}

// relieve lets connections continue. r.mu must be held.
func (r *receiver) relieve() {
	if r.room != nil {
		close(r.room)
		r.room = nil
	}
}

// congested returns a channel that is closed when connections may continue, or nil if they may
// continue now.
func (r *receiver) congested() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.room
}

// broken closes the receiver and reports err. r.mu must be held.
func (r *receiver) broken(err error) {
	if !r.closed {
		r.closed = true
		r.relieve()
		r.fail(err)
	}
}

// put writes or drops one frame and returns true. It returns false if the driver has not made
// enough buffers available. r.mu must be held.
func (r *receiver) put(f frame) (bool, error) {
	need, room := hdrBytes+f.size(), 0
	for i := range r.held {
		room += r.chains[i].Writable.Len()
	}
	for room < need {
		if r.held == len(r.chains) {
			r.chains = append(r.chains, queue.Chain{})
		}
		c := &r.chains[r.held]
		ok, err := r.q.Next(c)
		if err != nil || !ok {
			return false, err
		}
		n := c.Writable.Len()
		if n < hdrBytes && r.held == 0 {
			return false, fmt.Errorf("%w: a receive buffer of %d bytes is too small for a header", queue.ErrBadRing, n)
		}
		if !r.mergeable && n < need { // a frame must fit into one buffer, otherwise it is dropped
			return true, r.q.Done(c, 0)
		}
		r.held++
		room += n
	}
	r.sizes = append(r.sizes[:0], make([]uint32, r.held)...)
	w := scatter{chains: r.chains[:r.held], sizes: r.sizes}
	if f.pkt != nil {
		f.offload = offloadOf(f.pkt)
	}
	var hdr [hdrBytes]byte
	copy(hdr[:], f.offload[:])
	binary.LittleEndian.PutUint16(hdr[offloadBytes:], uint16(r.held))
	w.write(hdr[:])
	r.pieces = f.appendPieces(r.pieces[:0])
	for _, p := range r.pieces {
		w.write(p)
	}
	if err := r.q.DoneTogether(w.chains, w.sizes); err != nil {
		return false, err
	}
	r.held = 0
	if r.capture != nil {
		r.capture.Write(f.offload.completed(), r.pieces...)
	}
	return true, nil
}

// scatter writes across several chains.
type scatter struct {
	chains []queue.Chain
	sizes  []uint32 // bytes written into each chain
	at     int
}

func (w *scatter) write(p []byte) {
	for len(p) > 0 && w.at < len(w.chains) {
		n := w.chains[w.at].Writable.Write(p)
		w.sizes[w.at] += uint32(n)
		if p = p[n:]; len(p) > 0 {
			w.at++
		}
	}
}

// run writes the backlog whenever the driver makes buffers available.
func (r *receiver) run(ctx context.Context) error {
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
		for r.drain() {
			if err := r.q.Wait(ctx); err != nil {
				return err
			}
		}
	}
}

// drain writes as much of the backlog as it can and reports whether anything is left.
func (r *receiver) drain() (left bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	done := 0
	for !r.closed && done < len(r.backlog) {
		f := r.backlog[done]
		ok, err := r.put(f)
		if err != nil {
			r.broken(err)
			break
		}
		if !ok {
			break
		}
		r.unplace(f)
		f.release()
		done++
	}
	r.backlog = append(r.backlog[:0], r.backlog[done:]...)
	clear(r.backlog[len(r.backlog):cap(r.backlog)])
	if !r.closed {
		if err := r.q.Signal(); err != nil {
			r.broken(err)
		}
	}
	return !r.closed && len(r.backlog) > 0
}

// close drops the backlog. Every later send accepts no frames. After close returns, only run may
// still use the queue.
func (r *receiver) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, f := range r.backlog {
		f.release()
	}
	r.backlog, r.bytes, r.sending = nil, 0, 0
	r.relieve()
}
