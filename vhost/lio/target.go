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

// TargetID is the SCSI target id of the LUNs in the guest: the number of the target portal group.
const TargetID = 0

// tpgName is the folder of the target portal group.
const tpgName = "tpgt_0"

// Target is a vhost-scsi target that exists in the kernel.
type Target struct {
	tree   tree
	id     identity
	lock   *os.File // see claim
	images []image
	notes  []string
	gone   bool // Remove has succeeded
}

// Create creates the backstores and the target that c describes. On error, Create removes what it
// created. Recover removes later what Create cannot remove. If the host lacks something, the error
// says how to fix it. The caller must call Remove.
func Create(c Config) (*Target, error) { return kernelTree.create(c) }

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
		tg.lock.Close() // Recover removes what Remove could not
		return nil, err
	}
	return tg, nil
}

// WWPN returns the target's name for vhost.Scsi.Start.
func (tg *Target) WWPN() string { return wwpn(tg.id) }

// wwpn returns the name of a target's folder. The kernel requires a protocol prefix and accepts any
// text after it.
func wwpn(id identity) string { return "naa." + id.String() }

// initiator is the name of the only initiator, the guest.
func initiator(id identity) string { return wwpn(id) + ".guest" }

// Notes returns texts for the user that name the kernel modules that Create loaded on the host.
func (tg *Target) Notes() []string { return tg.notes }

// Remove removes the target and its backstores and unlocks the images. The vhost device must
// release the endpoint first. Remove waits up to a second for a child process that holds the
// device's descriptor until it calls exec. If Remove cannot remove the backstores, the images stay
// locked. After Remove has succeeded, a second Remove does nothing.
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

// build creates the contents of the reserved folder, and the backstores.
func (tg *Target) build(c Config) error {
	t, tpg := tg.tree, tg.tree.path("vhost", wwpn(tg.id), tpgName)
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
	// last: the nexus takes its access rights from the existing LUNs and ACLs
	return t.fs.write(filepath.Join(tpg, "nexus"), initiator(tg.id))
}

// backstore creates the backstore of disk i and returns its folder.
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
		// informational, because the kernel shows /proc/self/fd/N as the file
		if err := t.fs.write(filepath.Join(dir, "udev_path"), l.Path); err != nil {
			return "", err
		}
	}
	if err := t.fs.write(filepath.Join(dir, "enable"), "1"); err != nil {
		return "", err
	}
	for _, a := range attributes(img, l) {
		err := t.fs.write(filepath.Join(dir, a.name), a.value)
		if a.name == submitType && errors.Is(err, os.ErrNotExist) {
			continue // before Linux 6.7
		}
		if err != nil {
			return "", err
		}
	}
	return dir, nil
}

// control returns the text that sets the image of a backstore. The text is for the backstore's
// control file.
func control(img image, l LUN) string {
	if img.plugin == pluginBlock {
		s := "udev_path=" + img.kernelPath()
		if l.ReadOnly {
			s += ",readonly=1"
		}
		return s
	}
	s := fmt.Sprintf("fd_dev_name=%s,fd_dev_size=%d", img.kernelPath(), img.SizeBytes)
	if l.Cache != Writethrough {
		s += ",fd_buffered_io=1"
	}
	return s
}

// submitType is the attribute that selects the thread that executes requests: 1 is the vhost
// worker, a thread of the VM in the VM's cgroup, and 2 is a kernel worker on the same CPU. Kernels
// before Linux 6.7 lack it and always use kernel workers.
const submitType = "attrib/submit_type"

// attribute is a file in a backstore's folder and the value to write to it.
type attribute struct{ name, value string }

// attributes returns the attributes to write. They must be written after the backstore is enabled,
// because enabling a backstore sets some attributes. They must be written before the backstore is
// linked, because linking makes some attributes read-only.
func attributes(img image, l LUN) []attribute {
	a := []attribute{
		{"attrib/emulate_3pc", "0"}, // EXTENDED COPY, with which a guest could access other guests' disks
		{"attrib/emulate_caw", "0"}, // COMPARE AND WRITE, only for clusters
		{"attrib/emulate_pr", "0"},  // persistent reservations, only for clusters
		{"attrib/is_nonrot", "1"},   // no I/O scheduler in the guest
		{submitType, "1"},
		{"wwn/vpd_unit_serial", img.serial},
		{"wwn/product_id", "minivmm disk"},
	}
	if _, _, ok := img.Discards(); ok && !l.ReadOnly {
		a = append(a, attribute{"attrib/emulate_tpu", "1"}) // UNMAP
	}
	if img.plugin == pluginFile && l.BlockSize > diskimage.DefaultBlockSize {
		a = append(a, attribute{"attrib/block_size", strconv.Itoa(l.BlockSize)})
	}
	return a
}

// needsACL reports whether c has a read-only fileio disk. Such a disk requires an ACL with write
// protection, because fileio has no read-only mode.
func (tg *Target) needsACL(c Config) bool {
	for i, l := range c.LUNs {
		if l.ReadOnly && tg.images[i].plugin == pluginFile {
			return true
		}
	}
	return false
}

// acl creates an ACL with all LUNs and write-protects the read-only LUNs. An initiator that has an
// ACL sees only the LUNs in this ACL.
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

// Names of LIO's backstore plugins.
const (
	pluginFile  = "fileio"
	pluginBlock = "iblock"
)

// image is a disk image that is open, checked and locked.
type image struct {
	diskimage.Image
	plugin string
	serial string
	dir    string // folder of the backstore
}

// openImage opens and locks the image of the LUN l. The image stays locked as long as its File is
// open.
func openImage(l LUN) (image, error) {
	opened, err := diskimage.Open(diskimage.Options{Path: l.Path, ReadOnly: l.ReadOnly, BlockSize: l.BlockSize, Kernel: true})
	if err != nil {
		return image{}, err
	}
	img := image{Image: opened, plugin: pluginFile, serial: l.Serial}
	if img.BlockDevice {
		img.plugin = pluginBlock
	}
	if img.serial == "" {
		img.serial = diskimage.Serial(l.Path)
	}
	return img, nil
}

// kernelPath returns a path with which the kernel opens the same image. The path is valid only in a
// system call of this process.
func (img image) kernelPath() string {
	return fmt.Sprintf("/proc/self/fd/%d", img.File.Fd())
}
