package vhost

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"minivmm/internal/ioctl"
)

// Rings of a Scsi. Request rings start at ScsiRequest; the module parameter max_io_vqs of
// vhost_scsi limits their number.
const (
	ScsiControl = 0
	ScsiEvent   = 1
	ScsiRequest = 2
)

// Scsi is an open /dev/vhost-scsi: rings that the kernel connects to the targets of a WWPN. Package
// lio creates these targets.
type Scsi struct{ *Device }

// OpenScsi opens /dev/vhost-scsi. The caller must call Close.
func OpenScsi() (*Scsi, error) {
	d, err := Open(ScsiPath)
	if err != nil {
		return nil, err
	}
	return &Scsi{d}, nil
}

// setEndpoint connects the device to the targets of wwpn that have a nexus
// (VHOST_SCSI_SET_ENDPOINT). It returns EFAULT unless the memory table and the addresses of the
// rings are set. Only rings in use should be set up, because the kernel allocates about 160 KiB per
// descriptor of a request ring. setEndpoint returns ENODEV if no such target exists or another
// device uses the target, and EEXIST if this device already has an endpoint.
//
// VHOST_SCSI_SET_ENDPOINT does not make the kernel check the rings for requests, so an earlier kick
// is lost. Therefore the kicks must be set after the endpoint.
func (s *Scsi) setEndpoint(wwpn string) error {
	return s.endpoint(scsiSetEndpoint, wwpn)
}

// clearEndpoint disconnects the device and waits for all requests of the device
// (VHOST_SCSI_CLEAR_ENDPOINT). If the device has no endpoint, clearEndpoint does nothing. It
// returns EINVAL for the wrong wwpn.
func (s *Scsi) clearEndpoint(wwpn string) error {
	return s.endpoint(scsiClearEndpoint, wwpn)
}

func (s *Scsi) endpoint(r ioctl.Request, wwpn string) error {
	var arg scsiTarget
	if len(wwpn) >= len(arg.wwpn) {
		return fmt.Errorf("wwpn %q: %w", wwpn, r.Error(ScsiPath, unix.ENAMETOOLONG))
	}
	copy(arg.wwpn[:], wwpn)
	err := ioctlPtr(s.Device, r, &arg)
	switch {
	case err == nil:
		return nil
	case r == scsiSetEndpoint && errors.Is(err, unix.ENODEV):
		return fmt.Errorf("wwpn %s: %w (no such target, or another device uses it)", wwpn, err)
	}
	return fmt.Errorf("wwpn %s: %w", wwpn, err)
}

// Start connects the rings to the targets of wwpn. SetOwner must be called first. Start sets the
// kicks last (see setEndpoint). On error nothing is connected.
func (s *Scsi) Start(setup Setup, wwpn string) error {
	if err := s.setup(setup); err != nil {
		return err
	}
	if err := s.setEndpoint(wwpn); err != nil {
		return err
	}
	if err := s.setKicks(setup.Vrings); err != nil {
		return errors.Join(err, s.clearEndpoint(wwpn))
	}
	return nil
}

// Stop disconnects the rings. It removes the kicks first, so that the kernel does not process the
// rings too early during a later Start. After Stop returns, the kernel no longer accesses the
// rings.
func (s *Scsi) Stop(wwpn string, rings []Vring) error {
	var errs []error
	for _, v := range rings {
		errs = append(errs, s.setEventfd(setVringKick, v.Index, -1))
	}
	return errors.Join(append(errs, s.clearEndpoint(wwpn))...)
}
