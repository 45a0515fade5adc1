package virtio

// steps is the way up (virtio 1.2 §3.1.1): each bit may be set once the one
// before it is, and enter says whether the device agrees. There is no way down
// but reset.
var steps = [...]struct {
	bit, after Status
	enter      func(*Frontend) bool
}{
	{bit: StatusAcknowledge},
	{bit: StatusDriver, after: StatusAcknowledge},
	{bit: StatusFeaturesOK, after: StatusDriver, enter: (*Frontend).acceptFeatures},
	{bit: StatusDriverOK, after: StatusFeaturesOK, enter: (*Frontend).activate},
}

// Status is the status register as the driver reads it.
func (f *Frontend) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current()
}

// current is the driver's bits and the device's own. f.mu is held.
func (f *Frontend) current() Status {
	if a := f.live.Load(); a != nil && a.failed.Load() {
		return f.status | StatusNeedsReset
	}
	return f.status
}

// writeStatus is the driver's write of s. 0 is reset. Several steps at once are
// taken in order, up to the first that is refused; then the bit that stays
// clear tells the driver. A write that takes a bit back, as a driver must not
// do, changes nothing. f.mu is held.
func (f *Frontend) writeStatus(s Status) {
	if s == 0 {
		// The cause was logged; the driver finds out at FEATURES_OK.
		_ = f.reset()
		return
	}
	if f.closed || f.status&^s != 0 {
		return
	}
	if s&StatusFailed != 0 {
		f.status |= StatusFailed
	}
	if f.current()&(StatusFailed|StatusNeedsReset) != 0 {
		return
	}
	for _, step := range steps {
		if s&step.bit == 0 || f.status&step.bit != 0 {
			continue
		}
		if f.status&step.after != step.after {
			return
		}
		if step.enter != nil && !step.enter(f) {
			return
		}
		f.status |= step.bit
	}
}

// acceptFeatures is the step to FEATURES_OK (virtio 1.2 §2.2.2, §6.2): no more
// than was offered, and no legacy driver. f.mu is held.
func (f *Frontend) acceptFeatures() bool {
	return !f.broken && f.offered.Has(f.driver) && f.driver.Has(FeatureVersion1)
}
