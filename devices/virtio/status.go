package virtio

// steps are the initialization steps in order (virtio 1.2 §3.1.1). The driver may set the bit of a
// step only after the bit of the previous step. enter, if not nil, reports whether the device
// accepts the step. Only a reset clears bits.
var steps = [...]struct {
	bit, after Status
	enter      func(*Frontend) bool
}{
	{bit: StatusAcknowledge},
	{bit: StatusDriver, after: StatusAcknowledge},
	{bit: StatusFeaturesOK, after: StatusDriver, enter: (*Frontend).acceptFeatures},
	{bit: StatusDriverOK, after: StatusFeaturesOK, enter: (*Frontend).activate},
}

// current returns the status bits of the driver and of the device. f.mu is held.
func (f *Frontend) current() Status {
	if a := f.live.Load(); a != nil && a.failed.Load() {
		return f.status | StatusNeedsReset
	}
	return f.status
}

// writeStatus handles a write of the value s by the driver; 0 means reset. If s sets several bits,
// the steps are taken in order up to the first one that is refused. The bit of the refused step
// stays clear, and the driver can read this. A write that clears a bit, which a driver must not do,
// has no effect. f.mu is held.
func (f *Frontend) writeStatus(s Status) {
	if s == 0 {
		// The cause has been logged. The driver notices at FEATURES_OK.
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

// acceptFeatures performs the step to FEATURES_OK (virtio 1.2 §2.2.2, §6.2). It refuses features
// that were not offered, and legacy drivers. f.mu is held.
func (f *Frontend) acceptFeatures() bool {
	return !f.broken && f.offered.Has(f.driver) && f.driver.Has(FeatureVersion1)
}
