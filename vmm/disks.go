package vmm

import (
	"errors"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/scsi"
	"minivmm/devices/virtio/scsi/target"
	"minivmm/internal/diskimage"
	"minivmm/vhost"
	"minivmm/vhost/lio"
	"minivmm/vmm/config"
)

// newSCSI makes one host adapter whose LUNs are all the disks.
func (m *VM) newSCSI(opt Options) (virtio.Device, error) {
	m.disks = &diskSizes{}
	for _, d := range m.plan.Disk {
		m.disks.ids = append(m.disks.ids, string(d.ID))
	}
	open := m.vhostSCSI
	if m.plan.DiskBackend() == config.DiskInProcess {
		open = m.inProcessSCSI
	}
	backend, err := open(opt)
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

// inProcessSCSI serves the disks with goroutines of this process.
func (m *VM) inProcessSCSI(Options) (virtio.Backend, error) {
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
	m.disks.inProcess = backend
	return backend, nil
}

// vhostSCSI serves the disks with the kernel's vhost-scsi, from a LIO target.
func (m *VM) vhostSCSI(opt Options) (virtio.Backend, error) {
	removed, err := lio.Recover("")
	for _, r := range removed {
		opt.Logf("removed %s, left by a minivmm that was killed", r)
	}
	if err != nil {
		opt.Logf("scsi0: the leftovers of a killed minivmm cannot be removed: %v", err)
	}
	target := lio.Config{Name: string(m.plan.Name)}
	for _, d := range m.plan.Disk {
		target.LUNs = append(target.LUNs, lio.LUN{
			Path: string(d.Path), ReadOnly: d.ReadOnly, Serial: string(d.Serial),
			BlockSize: d.BlockSize, Cache: lio.Cache(d.Cache),
		})
	}
	t, err := lio.Create("", target)
	if err != nil {
		return nil, err
	}
	m.disks.vhost = &vhostDisks{target: t}
	m.closers.push("disks", m.disks.vhost.remove)
	for _, note := range t.Notes() {
		opt.Logf("%s", note)
	}
	dev, err := vhost.OpenScsi()
	if err != nil {
		return nil, err
	}
	if err := m.scsiWorkers(dev, opt); err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	backend, err := scsi.NewVhost("scsi0", dev, t.WWPN())
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return backend, nil
}
