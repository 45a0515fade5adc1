package virtiotest

import (
	"sync"

	"minivmm/devices/virtio"
)

// Recorder is a Device that has no data path and records the calls to its methods. The exported
// fields must be set before use. Activations, Closes and Running return the records.
type Recorder struct {
	Type    virtio.DeviceID
	Offers  virtio.Features
	Sizes   []uint16
	Config  []byte
	Kernel  bool  // result of InKernel
	Refuses error // result of Activate
	Sticks  error // result of Reset

	mu          sync.Mutex
	activations []virtio.Activation
	closes      int
	running     bool
}

var _ virtio.Device = (*Recorder)(nil)

// ID returns Type.
func (r *Recorder) ID() virtio.DeviceID { return r.Type }

// Features returns Offers.
func (r *Recorder) Features() virtio.Features { return r.Offers }

// QueueSizes returns Sizes.
func (r *Recorder) QueueSizes() []uint16 { return r.Sizes }

// ReadConfig reads Config.
func (r *Recorder) ReadConfig(p []byte, off uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if uint64(off) < uint64(len(r.Config)) {
		copy(p, r.Config[off:])
	}
}

// WriteConfig writes Config.
func (r *Recorder) WriteConfig(p []byte, off uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if uint64(off) < uint64(len(r.Config)) {
		copy(r.Config[off:], p)
	}
}

// InKernel returns Kernel.
func (r *Recorder) InKernel(int) bool { return r.Kernel }

// Activate records its argument and returns Refuses.
func (r *Recorder) Activate(a virtio.Activation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.activations = append(r.activations, a)
	r.running = r.Refuses == nil
	return r.Refuses
}

// Reset ends the activation and returns Sticks.
func (r *Recorder) Reset() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	return r.Sticks
}

// Close counts the call.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closes++
	r.running = false
	return nil
}

// Activations returns the argument of every Activate, in order.
func (r *Recorder) Activations() []virtio.Activation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]virtio.Activation(nil), r.activations...)
}

// Closes returns how often the device was closed.
func (r *Recorder) Closes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closes
}

// Running reports whether an activation is running.
func (r *Recorder) Running() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}
