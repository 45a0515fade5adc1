package vmm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

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
	for _, d := range m.cfg.Disk {
		m.disks.ids = append(m.disks.ids, string(d.ID))
	}
	open := m.vhostSCSI
	if m.diskBackend(opt) == config.DiskInProcess {
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
		RequestQueues: m.cfg.RequestQueues(),
		QueueSize:     uint16(m.cfg.SCSI.QueueSize),
		MaxLUN:        uint32(len(m.cfg.Disk) - 1),
	}, backend)
	if err != nil {
		return nil, errors.Join(err, backend.Close())
	}
	return device, nil
}

// diskBackend is who serves the disks. Where the configuration leaves it open,
// that is the kernel if it can; if it cannot, the log says why.
func (m *VM) diskBackend(opt Options) config.DiskBackend {
	if b := m.cfg.DiskBackend(); b != config.DiskAuto {
		return b
	}
	err := lunResetIsSafe(len(m.cfg.Disk))
	if err == nil {
		err = vhostSCSIUsable(opt)
	}
	for _, d := range m.cfg.Disk {
		if err == nil {
			err = diskimage.Options{Path: string(d.Path), ReadOnly: d.ReadOnly}.KernelCan()
		}
	}
	if err != nil {
		opt.Logf("scsi0: disks are served in process, not by vhost-scsi: %v", err)
		return config.DiskInProcess
	}
	return config.DiskVhostSCSI
}

// lunResetIsSafe refuses kernels on which a guest with several disks can crash
// the host: after a LUN's reset vhost_scsi_release_tmf_res corrupts a list of
// another LUN's (drivers/vhost/scsi.c before 6.4), and the target's removal meets
// it. Seen on 6.1.
func lunResetIsSafe(disks int) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	return lunResetIsSafeOn(unix.ByteSliceToString(u.Release[:]), disks)
}

func lunResetIsSafeOn(release string, disks int) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("kernel release %q: %w", release, err)
	}
	if disks > 1 && (major < 6 || major == 6 && minor < 4) {
		return fmt.Errorf("with several disks, a guest can crash a host on Linux %s by resetting one (mended in 6.4); backend = %q takes the risk", release, config.DiskVhostSCSI)
	}
	return nil
}

// vhostSCSIUsable says why the kernel cannot serve disks for this process.
func vhostSCSIUsable(opt Options) error {
	dev, err := vhost.OpenScsi()
	if err != nil {
		return err
	}
	if err := dev.Close(); err != nil {
		return err
	}
	notes, err := lio.Usable("")
	for _, note := range notes {
		opt.Logf("%s", note)
	}
	return err
}

// inProcessSCSI serves the disks with goroutines of this process.
func (m *VM) inProcessSCSI(Options) (virtio.Backend, error) {
	var disks []target.Disk
	for _, d := range m.cfg.Disk {
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
	target := lio.Config{Name: string(m.cfg.Name)}
	for _, d := range m.cfg.Disk {
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
