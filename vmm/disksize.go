package vmm

import (
	"sync"

	"minivmm/devices/virtio/scsi"
	"minivmm/vhost/lio"
	"minivmm/vmm/account"
)

// Rescan looks whether files or block devices behind the disks have
// changed their sizes, has the disks follow, and returns those that did. Disks
// that are served in process do so by themselves as well, within a second of
// being used, and then they are not among those returned. Any goroutine may call
// it, between New and Close.
func (m *VM) Rescan() ([]account.DiskSize, error) { return m.disks.rescan() }

// diskSizes is who knows the sizes of a VM's disks; nil: there are none.
type diskSizes struct {
	ids       []string
	inProcess *scsi.InProcess
	vhost     *vhostDisks
}

func (d *diskSizes) rescan() (changed []account.DiskSize, err error) {
	switch {
	case d == nil:
		return nil, nil
	case d.inProcess != nil:
		luns, err := d.inProcess.Rescan()
		for _, lun := range luns {
			changed = append(changed, account.DiskSize{ID: d.ids[lun], SizeBytes: d.inProcess.SizeBytes(lun), Told: true})
		}
		return changed, err
	}
	d.vhost.mu.Lock()
	defer d.vhost.mu.Unlock()
	luns, err := d.vhost.target.Rescan()
	for _, lun := range luns {
		changed = append(changed, account.DiskSize{ID: d.ids[lun], SizeBytes: d.vhost.target.SizeBytes(lun)})
	}
	return changed, err
}

// inKernel says whether there are disks that the kernel serves.
func (d *diskSizes) inKernel() bool { return d != nil && d.vhost != nil }

// vhostDisks is the kernel's target, which belongs to one goroutine at a time.
type vhostDisks struct {
	mu     sync.Mutex
	target *lio.Target
}

func (v *vhostDisks) remove() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.target.Remove()
}

func (v *vhostDisks) counters() ([]lio.Counters, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.target.Counters()
}
