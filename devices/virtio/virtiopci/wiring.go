package virtiopci

import (
	"errors"
	"fmt"
	"sync"

	"minivmm/devices/pci"
	"minivmm/devices/virtio"
)

// noVector is VIRTIO_MSI_NO_VECTOR (virtio 1.2 §4.1.5.1.2).
const noVector = 0xffff

// wiring connects every interrupt source to its vector. It implements [pci.Vectors] for the MSI-X
// table.
type wiring struct {
	name string
	logf func(format string, args ...any)

	mu      sync.Mutex
	vectors []vector
	sources []source // one for each queue, then one for configuration changes
}

type vector struct {
	msi      virtio.MSI
	unmasked bool
}

type source struct {
	call      *virtio.Notifier
	vector    uint16 // an index into wiring.vectors, or noVector
	connected bool
}

// newWiring creates n vectors and n sources. It sets the notifier of the last source, which is for
// configuration changes. The caller sets the notifiers of the other sources.
func newWiring(host virtio.Host, name string, n int) (*wiring, error) {
	w := &wiring{name: name, sources: make([]source, n)}
	for i := range w.sources {
		w.sources[i].vector = noVector
	}
	config, err := virtio.NewNotifier(name + "-config")
	if err != nil {
		return nil, err
	}
	w.sources[n-1].call = config
	for i := range n {
		msi, err := host.NewMSI()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: vector %d: %w", name, i, err), w.close())
		}
		w.vectors = append(w.vectors, vector{msi: msi})
	}
	return w, nil
}

func (w *wiring) configSource() int { return len(w.sources) - 1 }

func (w *wiring) config() *virtio.Notifier { return w.sources[w.configSource()].call }

// route routes source number s to vector number v. If there is no such vector, route chooses
// noVector instead, and the driver reads noVector back (virtio 1.2 §4.1.5.1.2.1).
func (w *wiring) route(s int, v uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if int(v) >= len(w.vectors) {
		v = noVector
	}
	if w.sources[s].vector == v {
		return
	}
	w.disconnect(s)
	w.sources[s].vector = v
	w.connect(s)
}

// routed returns the vector of source s.
func (w *wiring) routed(s int) uint16 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sources[s].vector
}

// reset routes every source to noVector and drops a pending configuration change. The MSI-X table
// keeps its masks and messages, because a virtio reset does not change PCI state.
func (w *wiring) reset() {
	for s := range w.sources {
		w.route(s, noVector)
	}
	w.config().Drain()
}

// connect makes source s raise its vector, if the vector is unmasked. w.mu is held.
func (w *wiring) connect(s int) {
	src := &w.sources[s]
	if src.vector == noVector || src.connected || !w.vectors[src.vector].unmasked {
		return
	}
	if err := w.vectors[src.vector].msi.Connect(src.call); err != nil {
		w.logf("vector %d: connect %s: %v: its interrupts are lost", src.vector, src.call.Name(), err)
		return
	}
	src.connected = true
}

// disconnect reverses connect. w.mu is held.
func (w *wiring) disconnect(s int) {
	src := &w.sources[s]
	if !src.connected {
		return
	}
	src.connected = false
	if err := w.vectors[src.vector].msi.Disconnect(src.call); err != nil {
		w.logf("vector %d: disconnect %s: %v", src.vector, src.call.Name(), err)
	}
}

// Update masks or unmasks a vector, or sets a new message: see [pci.Vectors].
func (w *wiring) Update(v int, m pci.Message, unmasked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	vec := &w.vectors[v]
	vec.unmasked = unmasked
	if unmasked {
		if err := vec.msi.Program(virtio.Message(m)); err != nil {
			w.logf("vector %d: set message %#x at %#x: %v: its interrupts are lost", v, m.Data, m.Address, err)
			vec.unmasked = false
		}
	}
	for s := range w.sources {
		switch {
		case int(w.sources[s].vector) != v:
		case vec.unmasked:
			w.connect(s)
		default:
			w.disconnect(s)
		}
	}
}

// Pending reports whether a source that is routed to the masked vector v has a pending signal: see
// [pci.Vectors].
func (w *wiring) Pending(v int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sources {
		if int(s.vector) == v && s.call.Pending() {
			return true
		}
	}
	return false
}

// interruptStatus returns the ISR bits and clears them (virtio 1.2 §4.1.4.5): bit 0 for queues, bit
// 1 for the configuration. Only signals from sources without a vector set these bits. While MSI-X
// is not in use, no source has a vector.
func (w *wiring) interruptStatus() (bits uint8) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range w.sources {
		if s.vector != noVector || !s.call.Drain() {
			continue
		}
		if i == w.configSource() {
			bits |= 2
			continue
		}
		bits |= 1
	}
	return bits
}

// close disconnects the sources and closes the MSIs and the notifier for configuration changes.
func (w *wiring) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for s := range w.sources {
		w.disconnect(s)
		w.sources[s].vector = noVector
	}
	for i, v := range w.vectors {
		if err := v.msi.Close(); err != nil {
			errs = append(errs, fmt.Errorf("%s: vector %d: %w", w.name, i, err))
		}
	}
	w.vectors = nil
	return errors.Join(append(errs, w.config().Close())...)
}
