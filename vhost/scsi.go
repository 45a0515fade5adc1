package vhost

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Rings of a Scsi. Request rings follow ScsiRequest; the module parameter
// max_io_vqs of vhost_scsi says how many there can be.
const (
	ScsiControl = 0
	ScsiEvent   = 1
	ScsiRequest = 2
)

// Scsi is /dev/vhost-scsi: rings that the kernel connects to the targets of a
// WWPN, which package lio makes.
type Scsi struct{ *Device }

// OpenScsi opens /dev/vhost-scsi. The caller closes it.
func OpenScsi() (*Scsi, error) {
	d, err := Open(ScsiPath)
	if err != nil {
		return nil, err
	}
	return &Scsi{d}, nil
}

// setEndpoint connects the device to the targets of wwpn that have a nexus,
// VHOST_SCSI_SET_ENDPOINT. After setMemTable and the rings' addresses, else
// EFAULT, and for memory's sake with only the rings in use set up: the kernel
// takes some 160 KiB per descriptor of a request ring. ENODEV if there is no
// such target or another device has it, EEXIST if this one has an endpoint.
//
// It does not look at the rings: a kick that came before is lost. Set the kicks
// after it.
func (s *Scsi) setEndpoint(wwpn string) error {
	return s.endpoint(scsiSetEndpoint, wwpn)
}

// clearEndpoint disconnects the device and waits for all its requests,
// VHOST_SCSI_CLEAR_ENDPOINT. No endpoint is no error; EINVAL for the wrong
// wwpn.
func (s *Scsi) clearEndpoint(wwpn string) error {
	return s.endpoint(scsiClearEndpoint, wwpn)
}

func (s *Scsi) endpoint(id requestID, wwpn string) error {
	var arg scsiTarget
	if len(wwpn) >= len(arg.wwpn) {
		return fmt.Errorf("wwpn %q: %w", wwpn, &os.PathError{Op: requests[id].name, Path: ScsiPath, Err: unix.ENAMETOOLONG})
	}
	copy(arg.wwpn[:], wwpn)
	err := ioctlPtr(s.Device, id, &arg)
	switch {
	case err == nil:
		return nil
	case id == scsiSetEndpoint && errors.Is(err, unix.ENODEV):
		return fmt.Errorf("wwpn %s: %w (no such target, or another device has it)", wwpn, err)
	}
	return fmt.Errorf("wwpn %s: %w", wwpn, err)
}

// Start serves the rings from the targets of wwpn. SetOwner comes first. The
// kicks come last, see setEndpoint. On an error nothing is connected.
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

// Stop disconnects the rings: the kicks first, so that a later Start does not
// look at them too early. On return the kernel does not touch them.
func (s *Scsi) Stop(wwpn string, rings []Vring) error {
	var errs []error
	for _, v := range rings {
		errs = append(errs, s.SetVringKick(v.Index, -1))
	}
	return errors.Join(append(errs, s.clearEndpoint(wwpn))...)
}
