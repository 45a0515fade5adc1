package vmm

import (
	"errors"
	"fmt"
	"sync"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/scsi"
	"minivmm/devices/virtio/scsi/target"
	"minivmm/internal/diskimage"
	"minivmm/vhost"
	"minivmm/vhost/lio"
	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// newSCSI creates the SCSI host adapter. Each disk is a LUN of the adapter.
func (m *VM) newSCSI() (virtio.Device, error) {
	open := m.vhostSCSI
	if m.plan.DiskBackend() == config.DiskInProcess {
		open = m.inProcessSCSI
	}
	backend, err := open()
	if unusable := (*diskimage.Error)(nil); errors.As(err, &unusable) {
		return nil, &ConfigError{err}
	}
	if err != nil {
		return nil, err
	}
	device, err := scsi.New(scsi.Config{
		RequestQueues: int(m.plan.SCSI.Queues),
		QueueSize:     uint16(m.plan.SCSI.QueueSize),
		MaxLUN:        uint32(len(m.plan.Disk) - 1),
	}, backend)
	if err != nil {
		return nil, errors.Join(err, backend.Close())
	}
	return device, nil
}

// inProcessSCSI serves the disks with goroutines in this process.
func (m *VM) inProcessSCSI() (virtio.Backend, error) {
	var disks []target.Disk
	for _, d := range m.plan.Disk {
		disks = append(disks, target.Disk{
			Path: string(d.Path), ReadOnly: d.ReadOnly, Serial: string(d.Serial),
			BlockSize: d.BlockSize, Writethrough: d.Cache == config.CacheWritethrough,
		})
	}
	t, err := target.Open(disks)
	if err != nil {
		return nil, err
	}
	backend := scsi.NewInProcess(t)
	m.disks.sizes = backend
	return backend, nil
}

// vhostSCSI serves the disks with the kernel's vhost-scsi, from an LIO target.
func (m *VM) vhostSCSI() (virtio.Backend, error) {
	removed, err := lio.Recover()
	for _, r := range removed {
		m.opt.Logf("removed %s, which a killed minivmm left behind", r)
	}
	if err != nil {
		m.opt.Logf("scsi0: cannot remove what a killed minivmm left behind: %v", err)
	}
	target := lio.Config{Name: string(m.plan.Name)}
	for _, d := range m.plan.Disk {
		target.LUNs = append(target.LUNs, lio.LUN{
			Path: string(d.Path), ReadOnly: d.ReadOnly, Serial: string(d.Serial),
			BlockSize: d.BlockSize, Cache: lio.Cache(d.Cache),
		})
	}
	t, err := lio.Create(target)
	if err != nil {
		return nil, err
	}
	m.disks.target, m.disks.sizes = t, t
	m.closers.push("disks", m.disks.remove)
	for _, note := range t.Notes() {
		m.opt.Logf("%s", note)
	}
	dev, err := vhost.OpenScsi()
	if err != nil {
		return nil, err
	}
	if err := m.scsiWorkers(dev); err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	backend, err := scsi.NewVhost("scsi0", dev, t.WWPN())
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return backend, nil
}

// disks holds the disks of a VM; the zero value has none.
type disks struct {
	mu     sync.Mutex  // guards the fields below: the kernel's target is used by one goroutine at a time
	target *lio.Target // nil if the disks are served in process
	sizes  interface {
		Rescan() (luns []uint16, err error)
		SizeBytes(lun uint16) uint64
	}
}

// Rescan checks whether files or block devices behind the disks have changed size, resizes the
// disks and returns the disks that changed. A disk served in process also detects a change by
// itself within a second of being used. Rescan does not return a disk that has already detected its
// change. Any goroutine may call Rescan, between New and Close.
func (m *VM) Rescan() (changed []account.DiskSize, err error) {
	d := &m.disks
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sizes == nil {
		return nil, nil
	}
	luns, err := d.sizes.Rescan()
	for _, lun := range luns {
		changed = append(changed, account.DiskSize{ID: string(m.plan.Disk[lun].ID), SizeBytes: d.sizes.SizeBytes(lun), Told: d.target == nil})
	}
	return changed, err
}

func (d *disks) remove() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.target.Remove()
}

// diskCounters returns the kernel's counters of the disks.
func (m *VM) diskCounters() (disks []account.Disk, err error) {
	switch {
	case len(m.plan.Disk) == 0:
		return nil, nil
	case m.disks.target == nil:
		return nil, fmt.Errorf("disks are served in process (backend %q)", config.DiskInProcess)
	}
	m.disks.mu.Lock()
	defer m.disks.mu.Unlock()
	counters, err := m.disks.target.Counters()
	for i, c := range counters {
		disks = append(disks, account.Disk{
			ID: string(m.plan.Disk[i].ID), Device: scsiName,
			Commands: c.Commands, ReadMiB: c.ReadMiB, WriteMiB: c.WriteMiB, Resets: c.Resets,
		})
	}
	return disks, err
}
