package lio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// remove removes what exists of a target and its backstores, in the reverse order of Create. It
// finds the objects in configfs, so it works after a crash at any point. EBUSY, and nothing is
// removed, if the target is the endpoint of a vhost device.
func (t tree) remove(id identity) error {
	target := t.path("vhost", wwpn(id))
	tpgs, err := list(target, "tpgt_")
	if err != nil {
		return err
	}
	for _, name := range tpgs {
		if err := t.removeTPG(filepath.Join(target, name)); err != nil {
			return err
		}
	}
	for _, plugin := range []string{pluginFile, pluginBlock} {
		hba := t.path("core", id.hba(plugin))
		stores, err := list(hba, id.String()+".")
		if err != nil {
			return err
		}
		for _, name := range stores {
			if err := t.rm(filepath.Join(hba, name)); err != nil {
				return err
			}
		}
		if err := t.rm(hba); err != nil {
			return err
		}
	}
	return t.rm(target)
}

// removePatiently is like remove, but retries while a vhost device still has the target: a child
// that has not yet called exec, or a killed process that is exiting, may hold the device for a
// short time.
func (t tree) removePatiently(id identity) error {
	const attempts, pause = 100, 10 * time.Millisecond
	err := t.remove(id)
	for i := 0; i < attempts && errors.Is(err, unix.EBUSY); i++ {
		time.Sleep(pause)
		err = t.remove(id)
	}
	return err
}

// rm removes a link or an object. It is not an error if it does not exist.
func (t tree) rm(path string) error {
	if err := t.fs.remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (t tree) removeTPG(tpg string) error {
	// The kernel checks for an endpoint before it checks for children (configfs_rmdir).
	if err := t.rm(tpg); !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	acls, err := list(filepath.Join(tpg, "acls"), "naa."+prefix)
	if err != nil {
		return err
	}
	for _, name := range acls {
		if err := t.removeLUNs(filepath.Join(tpg, "acls", name)); err != nil {
			return err
		}
	}
	if err := t.removeLUNs(filepath.Join(tpg, "lun")); err != nil {
		return err
	}
	// The session must be removed before its ACL, and only after its LUNs. ENODEV: there is no
	// session.
	err = t.fs.write(filepath.Join(tpg, "nexus"), "NULL")
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, name := range acls {
		if err := t.rm(filepath.Join(tpg, "acls", name)); err != nil {
			return err
		}
	}
	return t.rm(tpg)
}

// removeLUNs removes the folders lun_* in a folder, each with its link.
func (t tree) removeLUNs(dir string) error {
	luns, err := list(dir, "lun_")
	if err != nil {
		return err
	}
	for _, name := range luns {
		lun := filepath.Join(dir, name)
		paths, err := links(lun)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, path := range paths {
			if err := t.rm(path); err != nil {
				return err
			}
		}
		if err := t.rm(lun); err != nil {
			return err
		}
	}
	return nil
}

// Recover removes the targets below root whose owner no longer runs, and returns their names. If a
// target cannot be removed, it continues with the others and returns an error that names all
// failures. Without LIO on the host it does nothing.
func Recover(root string) (removed []string, err error) {
	return newTree(root).recover()
}

func (t tree) recover() (removed []string, err error) {
	targets, err := list(t.path("vhost"), "naa."+prefix)
	errs := []error{err}
	for _, name := range targets {
		id, ok := parseWWPN(name)
		if !ok {
			continue
		}
		lock, err := t.claim(id)
		if errors.Is(err, errOwned) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = t.removePatiently(id)
			lock.Close()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("target %s, whose owner has exited: %w", name, err))
			continue
		}
		removed = append(removed, name)
	}
	return removed, errors.Join(errs...)
}
