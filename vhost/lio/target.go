package lio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"minivmm/internal/diskimage"
)

// TargetID is the SCSI target id under which a guest finds the LUNs: the number
// of the target portal group.
const TargetID = 0

// Target is a vhost-scsi target that exists in the kernel.
type Target struct {
	tree   tree
	id     identity
	lock   *os.File // see claim
	images []image
	notes  []string
	gone   bool // removed; its name may be another's by now
}

// Create makes the backstores and the target that c describes, below root,
// which is DefaultRoot if it is "". On an error nothing is left. The errors of
// a host that lacks something say what to do.
func Create(root string, c Config) (*Target, error) {
	return newTree(root).create(c)
}

func (t tree) create(c Config) (_ *Target, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	tg := &Target{tree: t}
	for i, l := range c.LUNs {
		img, err := openImage(l)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("disk %d: %w", i, err), tg.closeImages())
		}
		tg.images = append(tg.images, img)
	}
	tg.notes, err = t.prepare()
	if err != nil {
		return nil, errors.Join(err, tg.closeImages())
	}
	if tg.id, tg.lock, err = t.reserve(); err != nil {
		return nil, errors.Join(hint(err), tg.closeImages())
	}
	if err := tg.build(c); err != nil {
		err = errors.Join(err, tg.Remove())
		tg.lock.Close() // what Remove has left is for a recovery
		return nil, err
	}
	return tg, nil
}

// WWPN is the target's name for vhost.Scsi.Start.
func (tg *Target) WWPN() string { return wwpn(tg.id) }

// wwpn is the name of a target's folder. The kernel wants a protocol in front
// and takes the rest as it is.
func wwpn(id identity) string { return "naa." + id.String() }

// initiator is the name of the one initiator, the guest.
func initiator(id identity) string { return wwpn(id) + ".guest" }

// Notes says what Create did to the host beside the target, for the user to
// know: the modules it loaded.
func (tg *Target) Notes() []string { return tg.notes }

// Remove removes the target and its backstores and unlocks the images. The
// vhost device has let go of the endpoint before; a descriptor of it that a
// child holds until it execs is waited for. Images stay locked as long as their
// backstores could not be removed. A second Remove does nothing.
func (tg *Target) Remove() error {
	if tg.gone {
		return nil
	}
	if err := tg.tree.removePatiently(tg.id); err != nil {
		return err
	}
	tg.gone = true
	return errors.Join(tg.lock.Close(), tg.closeImages())
}

func (tg *Target) closeImages() error {
	var errs []error
	for _, img := range tg.images {
		errs = append(errs, img.File.Close())
	}
	tg.images = nil
	return errors.Join(errs...)
}

// build makes what is in the reserved folder, and the backstores.
func (tg *Target) build(c Config) error {
	t, tpg := tg.tree, tg.tree.path("vhost", wwpn(tg.id), "tpgt_"+strconv.Itoa(TargetID))
	if err := t.fs.mkdir(tpg); err != nil {
		return err
	}
	for i, l := range c.LUNs {
		store, err := tg.backstore(i, l, c.Name)
		if err != nil {
			return fmt.Errorf("disk %d, %s: %w", i, l.Path, err)
		}
		tg.images[i].dir = store
		lun := filepath.Join(tpg, "lun", "lun_"+strconv.Itoa(i))
		if err := t.fs.mkdir(lun); err != nil {
			return err
		}
		if err := t.fs.link(store, filepath.Join(lun, "backstore")); err != nil {
			return err
		}
	}
	if tg.needsACL(c) {
		if err := tg.acl(c, tpg); err != nil {
			return err
		}
	}
	// last: the nexus takes its access rights from what is there
	return t.fs.write(filepath.Join(tpg, "nexus"), initiator(tg.id))
}

// backstore makes the backstore of disk i and returns its folder.
func (tg *Target) backstore(i int, l LUN, vm string) (string, error) {
	t, img := tg.tree, tg.images[i]
	hba := t.path("core", tg.id.hba(img.plugin))
	if err := t.fs.mkdir(hba); err != nil && !errors.Is(err, os.ErrExist) {
		return "", hint(err)
	}
	dir := filepath.Join(hba, fmt.Sprintf("%s.%d.%s", tg.id, i, label(vm)))
	if err := t.fs.mkdir(dir); err != nil {
		return "", err
	}
	if err := t.fs.write(filepath.Join(dir, "control"), control(img, l)); err != nil {
		return "", err
	}
	const maxUdevPath = 511
	if len(l.Path) <= maxUdevPath && !strings.Contains(l.Path, "\n") {
		// for people: the file has an odd name in the kernel
		if err := t.fs.write(filepath.Join(dir, "udev_path"), l.Path); err != nil {
			return "", err
		}
	}
	if err := t.fs.write(filepath.Join(dir, "enable"), "1"); err != nil {
		return "", err
	}
	for _, a := range attributes(img, l) {
		err := t.fs.write(filepath.Join(dir, a.name), a.value)
		if err != nil && !(a.optional && errors.Is(err, os.ErrNotExist)) {
			return "", err
		}
	}
	return dir, nil
}

// control is what a backstore's control file takes to know its image.
func control(img image, l LUN) string {
	if img.plugin == pluginBlock {
		s := "udev_path=" + img.kernelPath()
		if l.ReadOnly {
			s += ",readonly=1"
		}
		return s
	}
	s := fmt.Sprintf("fd_dev_name=%s,fd_dev_size=%d", img.kernelPath(), img.SizeBytes)
	switch l.Cache {
	case "", Writeback:
		s += ",fd_buffered_io=1"
	case None:
		s += ",fd_async_io=1"
	}
	return s
}

// attribute is a file in a backstore's folder and what to write there.
type attribute struct {
	name, value string
	optional    bool // older kernels do not have it
}

// attributes are written after the backstore is enabled, which sets some of
// them, and before it is linked, which freezes some.
func attributes(img image, l LUN) []attribute {
	product := l.Product
	if product == "" {
		product = defaultProduct
	}
	a := []attribute{
		{name: "attrib/emulate_3pc", value: "0"},                                  // EXTENDED COPY, with which a guest named other guests' disks
		{name: "attrib/emulate_caw", value: "0"},                                  // COMPARE AND WRITE and
		{name: "attrib/emulate_pr", value: "0"},                                   // reservations are for clusters
		{name: "attrib/is_nonrot", value: "1"},                                    // no elevator in the guest
		{name: "attrib/submit_type", value: l.SubmitType.value(), optional: true}, // Linux 6.7
		{name: "wwn/vpd_unit_serial", value: img.serial},
		{name: "wwn/product_id", value: product},
	}
	if _, _, ok := img.Discards(); ok && !l.ReadOnly {
		a = append(a, attribute{name: "attrib/emulate_tpu", value: "1"}) // UNMAP
	}
	if img.plugin == pluginBlock {
		return a
	}
	if l.BlockSize > diskimage.DefaultBlockSize {
		a = append(a, attribute{name: "attrib/block_size", value: strconv.Itoa(l.BlockSize)})
	}
	if l.Cache == None {
		// O_DIRECT leaves O_DSYNC out: without this the guest would not flush
		a = append(a, attribute{name: "attrib/emulate_write_cache", value: "1"})
	}
	return a
}

// needsACL says whether a disk needs the initiator's own access rights: there
// is no read-only fileio.
func (tg *Target) needsACL(c Config) bool {
	for i, l := range c.LUNs {
		if l.ReadOnly && tg.images[i].plugin == pluginFile {
			return true
		}
	}
	return false
}

// acl gives the initiator all LUNs, the read-only ones write-protected. An
// initiator with an ACL sees nothing that is not in it.
func (tg *Target) acl(c Config, tpg string) error {
	t, acl := tg.tree, filepath.Join(tpg, "acls", initiator(tg.id))
	if err := t.fs.mkdir(acl); err != nil {
		return err
	}
	for i, l := range c.LUNs {
		name := "lun_" + strconv.Itoa(i)
		if err := t.fs.mkdir(filepath.Join(acl, name)); err != nil {
			return err
		}
		if err := t.fs.link(filepath.Join(tpg, "lun", name), filepath.Join(acl, name, "lun")); err != nil {
			return err
		}
		protect := "0"
		if l.ReadOnly {
			protect = "1"
		}
		if err := t.fs.write(filepath.Join(acl, name, "write_protect"), protect); err != nil {
			return err
		}
	}
	return nil
}
